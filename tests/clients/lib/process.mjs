// Child processes that the runners start, and the promise that none outlives them.
//
// A program is ready when a line of its output matches, never after a pause. Invariant: every child is ended by its own handle.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const children = new Set();
const directories = new Set();

/** Multiplies every time-out; for slow machines (`HUBGATE_TEST_PATIENCE`). */
export const patience = Number(process.env.HUBGATE_TEST_PATIENCE ?? 1);

function endAll() {
  for (const child of children) {
    child.kill('SIGKILL');
  }
  for (const directory of directories) {
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}
process.on('exit', endAll);

/** An empty directory that is removed when this program ends. */
export function temporaryDirectory() {
  const directory = mkdtempSync(join(tmpdir(), 'hubgate-clients-'));
  directories.add(directory);
  return directory;
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => process.exit(130));
}

/**
 * Starts a program. `onLine` gets every line of stdout; the last lines of both outputs stay in `tail` for reports.
 */
export function start(command, args, { env, cwd, onLine } = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  children.add(child);
  child.tail = [];
  const keep = (line) => {
    child.tail.push(line);
    if (child.tail.length > 40) {
      child.tail.shift();
    }
  };
  const listeners = new Set(onLine ? [onLine] : []);
  child.onLine = (listener) => listeners.add(listener);
  createInterface({ input: child.stdout }).on('line', (line) => {
    keep(line);
    listeners.forEach((listener) => listener(line));
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    keep(line);
    listeners.forEach((listener) => listener(line));
  });
  child.stdin.on('error', () => {});
  child.ended = new Promise((resolve) => {
    child.on('error', (error) => resolve({ error }));
    child.on('close', (code, signal) => {
      children.delete(child);
      resolve({ code, signal });
    });
  });
  return child;
}

/** Starts a server and waits for the line that says where it listens; gives its URL (first group of `ready`). */
export async function serve(command, args, { ready, timeoutMs = 30_000, ...rest }) {
  const child = start(command, args, rest);
  const found = new Promise((resolve) => child.onLine((line) => {
    const match = ready.exec(line);
    if (match) {
      resolve(match[1]);
    }
  }));
  const died = child.ended.then(({ code, signal, error }) => {
    throw new Error(`${command} ${args[0]} ended before it listened (${error?.message ?? signal ?? code}):\n${child.tail.join('\n')}`);
  });
  died.catch(() => {});
  child.url = await within(Promise.race([found, died]), timeoutMs, () => `${command} said no address:\n${child.tail.join('\n')}`);
  return child;
}

/** Ends a child politely, then not. */
export async function stop(child, signal = 'SIGTERM') {
  child.kill(signal);
  await within(child.ended, 5000, () => 'slow').catch(() => child.kill('SIGKILL'));
  await child.ended;
}

/** `promise`, or an error of `text()` after `ms` (times the patience). */
export function within(promise, ms, text) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(text())), ms * patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
