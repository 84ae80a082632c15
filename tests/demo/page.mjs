// What a visitor of the demo page does, and what must be seen then.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openBrowser } from './chromium.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const TRANSPORTS = ['WebTransport', 'WebSockets', 'ServerSentEvents', 'LongPolling'];
const NO_BROWSER = 3;

export async function main(args) {
  const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
  await checkMessagePack();
  const browser = await openBrowser();
  if (!browser) {
    console.error('skipped: there is no Chromium (set CHROMIUM)');
    return NO_BROWSER;
  }
  const demo = option('--url') ? { url: option('--url'), stop: async () => {} } : await startDemo();
  try {
    for (const [index, transport] of TRANSPORTS.entries()) {
      for (const protocol of transport === 'ServerSentEvents' ? ['json'] : ['json', 'messagepack']) {
        const other = TRANSPORTS[(index + 1) % TRANSPORTS.length];
        const figures = await talk(browser, demo.url, { transport, protocol, other, shots: option('--shots') });
        console.log(`ok  ${transport.padEnd(17)}${protocol.padEnd(12)}${figures}`);
      }
    }
  } finally {
    await browser.close();
    await demo.stop();
  }
  return 0;
}

async function startDemo() {
  const program = process.env.HUBGATE_BIN ?? join(root, 'target/debug/hubgate');
  const child = spawn(program, ['demo', '--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const url = await new Promise((resolve, reject) => {
    let text = '';
    child.once('error', reject);
    child.once('exit', () => reject(new Error('hubgate demo ended')));
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
      const found = /https?:\/\/[^\s]+/.exec(text);
      if (found) resolve(found[0]);
    });
  });
  return { url, stop: () => (child.kill(), ended) };
}

/** Two visitors, one of whom is cut off and comes back. */
async function talk(browser, url, { transport, protocol, other, shots }) {
  const ann = await openVisitor(browser, url, 'Ann', transport, protocol);
  const bob = await openVisitor(browser, url, 'Bob', other, 'json');
  const here = (names) => `${names}.every((name) => document.getElementById('users').textContent.split(', ').includes(name))`;
  await ann.until(here('["Ann", "Bob"]'));
  const said = 'hello <b>Bob</b> äöü 😀';
  await say(ann, said);
  await bob.until(shows(said));
  await say(bob, 'hello Ann');
  await ann.until(shows('hello Ann'));
  await ann.evaluate("document.getElementById('measure').click()");
  await ann.until("document.getElementById('count').textContent === '20'");
  const figures = await ann.evaluate("document.getElementById('median').textContent");
  assert.match(figures, /^\d+\.\d ms$/);
  const wire = await ann.evaluate("document.getElementById('wire').innerText");
  assert.ok(wire.includes('Handshake') && wire.includes('"target":"Say"'), 'messages are shown');
  assert.equal(/^[0-9a-f]{2}( [0-9a-f]{2})+$/m.test(wire), protocol === 'messagepack', 'MessagePack is shown as bytes');
  if (shots) {
    mkdirSync(shots, { recursive: true });
    await ann.picture(join(shots, `${transport}-${protocol}.png`), { width: 1200, height: 850, dark: false });
    await ann.picture(join(shots, `${transport}-${protocol}-phone.png`), { width: 390, height: 1500, dark: true });
  }
  await ann.evaluate("document.getElementById('cut').click()");
  await ann.until(`${stateIs('connected')} && ${shows('reconnecting')}`);
  await say(ann, 'here again');
  await bob.until(shows('here again'));
  await ann.evaluate("document.getElementById('go').click()");
  await ann.until(stateIs('disconnected'));
  await bob.until(`!${here('["Ann"]')}`);
  for (const tab of [ann, bob]) {
    assert.ok(!(await tab.evaluate(shows('does not get through'))), 'what was chosen carries the connection');
    assert.deepEqual(tab.complaints, [], 'the browser complains of nothing');
    await tab.evaluate("document.getElementById('go').textContent === 'Disconnect' && document.getElementById('go').click()");
    await tab.until(stateIs('disconnected'));
    await tab.close();
  }
  return figures;
}

async function openVisitor(browser, url, name, transport, protocol) {
  const tab = await browser.openTab(url);
  await tab.until("document.readyState === 'complete' && document.getElementById('name').value !== ''");
  await tab.evaluate(`
    document.getElementById('name').value = ${JSON.stringify(name)};
    document.querySelector('input[value="${transport}"]').click();
    document.querySelector('input[value="${protocol}"]').click();
    document.getElementById('go').click();
  `);
  await tab.until(stateIs('connected'));
  return tab;
}

function say(tab, text) {
  return tab.evaluate(`
    document.getElementById('text').value = ${JSON.stringify(text)};
    document.getElementById('send').click();
  `);
}

function shows(text) {
  return `document.getElementById('messages').innerText.includes(${JSON.stringify(text)})`;
}

function stateIs(state) {
  return `document.getElementById('state').textContent === '${state}'`;
}

/** The page's own MessagePack against known bytes (signalr-wire §9.3) and against itself. */
async function checkMessagePack() {
  // Loaded as text, so that the file needs no package around it to be a module.
  const source = readFileSync(join(root, 'web/demo/message_pack.js'), 'utf8');
  const { encode, decode } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  const hex = (value) => Buffer.from(encode(value)).toString('hex');
  assert.equal(hex([6]), '9106');
  assert.equal(hex([1, {}, 'xyz', 'method', []]), '950180a378797aa66d6574686f6490');
  assert.equal(hex([8, 42]), '92082a');
  assert.equal(hex([9, 146]), '9209cc92');
  const values = [
    0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, -1, -32, -33, -128, -129, -32768, -32769,
    -(2 ** 31), -(2 ** 31) - 1, 1.5, -0.1, null, true, false, '', 'ä😀', 'x'.repeat(31), 'x'.repeat(32), 'x'.repeat(300),
    'x'.repeat(70_000), [], Array.from({ length: 20 }, (_, i) => i), { a: { b: [1] } },
  ];
  for (const value of values) assert.deepEqual(decode(encode(value)), value);
  assert.deepEqual(decode(encode(new Uint8Array(300))), new Uint8Array(300));
  assert.deepEqual(decode(Uint8Array.from([0xd6, 0xff, 0, 0, 0, 1])), new Date(1000));
  assert.throws(() => decode(Uint8Array.from([0x92, 1])), /cut off/);
  assert.throws(() => decode(Uint8Array.from([1, 1])), /behind/);
}
