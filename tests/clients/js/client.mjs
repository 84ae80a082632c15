// One matrix cell of the official JavaScript client in Node or Deno: `node client.mjs CELL-JSON`, reports as JSON lines on stdout.
//
// The cell names the workspace of the client's version (`module`), from which the client and its MessagePack protocol are loaded, and, for
// WebTransport, which Deno has, our package (`package`).
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { runCell, through } from './scenario.mjs';

const cell = JSON.parse(process.argv[2]);
const require = createRequire(cell.module);
const answers = createInterface({ input: process.stdin });

// HUBGATE_CLIENT_LOG=1 adds the client's own log since the last step to the report of a step that failed.
const logged = [];
const logger = process.env.HUBGATE_CLIENT_LOG ? { log: (level, text) => logged.push(`${Date.now() % 100000} ${level} ${text}`) } : undefined;

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Asks the runner to reset the connections of `cutBase`; ends when it says that it did. */
function cut() {
  report({ ask: 'cut' });
  return new Promise((resolve) => answers.once('line', resolve));
}

process.on('uncaughtException', (error) => report({ uncaught: String(error?.stack ?? error) }));

const ours = cell.package ? await import(cell.package) : undefined;
await runCell({
  signalR: require('@microsoft/signalr'),
  msgpack: cell.protocol === 'messagepack' ? require('@microsoft/signalr-protocol-msgpack') : null,
  cell,
  webTransport: ours && ((options, isCut) => ours.webTransport({ ...options, WebTransport: isCut ? through(cell.cutPort) : WebTransport })),
  report(line) {
    report(line.error && logger ? { ...line, error: `${line.error}\n${logged.join('\n')}` } : line);
    logged.length = 0;
  },
  logger,
  cut,
  lacks: cell.lacks,
  hidesConnectionId: cell.hidesConnectionId,
});
report({ done: true });
process.exit(0);
