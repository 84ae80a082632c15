// The official JavaScript client through a network that fails: `node numbered.mjs CELL-JSON`, reports as JSON lines on stdout.
//
// It numbers what it sends, asks the hub for numbered messages, and tells which of those came, once and in order. It never
// reconnects as a new connection: what stateful reconnect does not carry is an end.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { Tally } from '../lib/tally.mjs';

const TICK_MS = 20;
/** Long calls are this far apart: the reference stalls when more than 64 KiB wait. */
const LONG_CALLS_MS = 400;
const cell = JSON.parse(process.argv[2]);
const require = createRequire(cell.module);
const { HubConnectionBuilder, HttpTransportType, LogLevel } = require('@microsoft/signalr');

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const end = (text) => {
  report({ ended: text, ...told() });
  process.exit(0);
};
process.on('uncaughtException', (error) => end(`uncaught ${error?.message ?? error}`));
process.on('unhandledRejection', (error) => end(`unhandled ${error?.message ?? error}`));

const received = new Tally();
const echoes = { asked: 0, wrong: 0, open: 0, at: 0 };
let sent = 0;
const told = () => ({ sent, received: received.counts(), echoes });

const builder = new HubConnectionBuilder()
  .withUrl(cell.url, { transport: HttpTransportType.WebSockets })
  .withStatefulReconnect()
  // HUBGATE_CLIENT_LOG=1 prints the client's own log on stderr.
  .configureLogging(process.env.HUBGATE_CLIENT_LOG
    ? { log: (level, text) => process.stderr.write(`${Date.now() % 100000} ${level} ${text}\n`) } : LogLevel.None);
if (cell.protocol === 'messagepack') {
  const { MessagePackHubProtocol } = require('@microsoft/signalr-protocol-msgpack');
  builder.withHubProtocol(new MessagePackHubProtocol());
}
const connection = builder.build();
let stopping = false;
connection.onclose((error) => stopping || end(String(error?.message ?? 'closed without an error')));
connection.on('Numbered', (i) => received.add(i));
connection.on('Message', (text) => report({ message: text }));

/** Sends what is due: the numbers up to `due`, a request for as many, and one call that must be answered. */
function sendUpTo(due) {
  const first = sent;
  // What a send meets is told by the connection's end and by the tallies.
  const ignore = () => {};
  for (; sent < due; sent += 1) {
    connection.send('Collect', sent).catch(ignore);
  }
  connection.send('PushFrom', first, due - first, cell.size).catch(ignore);
  if (cell.pad > 0 && Date.now() - echoes.at < LONG_CALLS_MS) {
    return;
  }
  const text = `${echoes.asked}`.padEnd(cell.pad, 'x');
  Object.assign(echoes, { asked: echoes.asked + 1, open: echoes.open + 1, at: Date.now() });
  connection.invoke('Echo', text)
    .then((answer) => { echoes.wrong += answer === text ? 0 : 1; }, () => { echoes.wrong += 1; })
    .finally(() => { echoes.open -= 1; });
}

/** Paces by the clock: `activeMs` of traffic, `idleMs` without, so that all is sent after `spanMs`. */
function pace() {
  const start = Date.now();
  const round = cell.activeMs + cell.idleMs;
  const timer = setInterval(() => {
    const elapsed = Date.now() - start;
    const active = Math.floor(elapsed / round) * cell.activeMs + Math.min(elapsed % round, cell.activeMs);
    const share = active / (cell.spanMs * (cell.activeMs / round));
    const due = Math.min(cell.total, Math.floor(share * cell.total));
    if (due > sent) {
      sendUpTo(due);
    }
    if (sent === cell.total) {
      clearInterval(timer);
    }
  }, TICK_MS);
}

const commands = {
  go: pace,
  tell: () => report({ told: told() }),
  async last() {
    const answer = await connection.invoke('Echo', 'last');
    report({ last: answer, connectionId: connection.connectionId, ...told() });
  },
  async stop() {
    stopping = true;
    await connection.stop();
    process.exit(0);
  },
};
createInterface({ input: process.stdin }).on('line', (line) => commands[line]());

await connection.start().catch((error) => end(`start: ${error.message}`));
await connection.invoke('JoinGroup', cell.group);
report({ connected: connection.connectionId });
