// Chromium by its debugging pipe: no driver and no package needed.
//
// Each command is a JSON text ended by a zero byte on the browser's third file, each answer and event one on its fourth.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PATIENCE_MS = 20_000 * Number(process.env.HUBGATE_TEST_PATIENCE ?? 1);
const LOOK_AGAIN_MS = 50;
const CHROMIUM = process.env.CHROMIUM ?? 'chromium';

/** Removes a directory that the browser's other processes still write to for a moment. */
async function remove(directory) {
  for (let left = 50; ; left -= 1) {
    try {
      return rmSync(directory, { recursive: true, force: true });
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Starts a browser with an empty profile; gives null when there is none. */
export async function openBrowser() {
  const profile = mkdtempSync(join(tmpdir(), 'hubgate-demo-'));
  const flags = [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--remote-debugging-pipe',
    `--user-data-dir=${profile}`, 'about:blank',
  ];
  const child = spawn(CHROMIUM, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const started = await new Promise((resolve) => child.once('spawn', () => resolve(true)).once('error', () => resolve(false)));
  if (!started) return null;
  const close = async () => {
    child.kill('SIGKILL');
    await ended;
    await remove(profile);
  };
  const { command, complaints } = speak(child);
  return { openTab: (url) => openTab(url, command, complaints), close };
}

function speak(child) {
  const [, , , input, output] = child.stdio;
  const waiting = new Map();
  const complaints = new Map();
  let nextId = 1;
  let buffered = '';
  output.setEncoding('utf8');
  output.on('data', (chunk) => {
    buffered += chunk;
    const texts = buffered.split('\0');
    buffered = texts.pop();
    for (const { id, result, error, method, params, sessionId } of texts.map((text) => JSON.parse(text))) {
      if (id) {
        const { resolve, reject } = waiting.get(id);
        waiting.delete(id);
        if (error) reject(new Error(error.message));
        else resolve(result);
      } else if (method === 'Runtime.exceptionThrown' || (method === 'Log.entryAdded' && params.entry.level === 'error')) {
        complaints.get(sessionId)?.push(JSON.stringify(params.exceptionDetails?.exception?.description ?? params.entry?.text));
      }
    }
  });
  const command = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      const id = nextId++;
      waiting.set(id, { resolve, reject });
      input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  return { command, complaints };
}

async function openTab(url, command, complaints) {
  const { targetId } = await command('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await command('Target.attachToTarget', { targetId, flatten: true });
  const tell = (method, params) => command(method, params, sessionId);
  complaints.set(sessionId, []);
  await tell('Runtime.enable');
  await tell('Log.enable');
  await tell('Page.enable');
  await tell('Page.navigate', { url });

  /** Evaluates an expression in the page. */
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await tell('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  /** Waits until an expression is true in the page. */
  const until = async (expression) => {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await evaluate(expression).catch(() => false))) {
      if (Date.now() > deadline) throw new Error(`never true: ${expression}; the page says: ${await evaluate('document.body.innerText')}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  };
  const picture = async (file, { width, height, dark }) => {
    await tell('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
    await tell('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    const { data } = await tell('Page.captureScreenshot');
    await tell('Emulation.clearDeviceMetricsOverride');
    writeFileSync(file, Buffer.from(data, 'base64'));
  };
  const close = () => command('Target.closeTarget', { targetId });
  return { evaluate, until, picture, close, complaints: complaints.get(sessionId) };
}
