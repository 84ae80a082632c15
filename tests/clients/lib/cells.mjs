// The rows of the matrix: client × transport × protocol.
//
// A job is what is started once: one program for one cell, or one browser for several cells.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { here, prepared, readJson, dotnet, repository } from './places.mjs';
import { runBrowser } from './browser.mjs';
import { runProgram } from './program.mjs';

const NEVER_MESSAGEPACK = 'ServerSentEvents';

/** Every transport with every protocol that it can carry. */
function pairs(transports, protocols) {
  return transports.flatMap((transport) => protocols
    .filter((protocol) => !(transport === NEVER_MESSAGEPACK && protocol === 'messagepack'))
    .map((protocol) => ({ transport, protocol })));
}

const ALL = ['WebSockets', 'ServerSentEvents', 'LongPolling'];
const BOTH = ['json', 'messagepack'];

function node(id, workspace) {
  const module = join(prepared, 'js', workspace, 'package.json');
  return {
    id, needs: 'js', cells: pairs(ALL, BOTH),
    command: () => [process.execPath, join(here, 'js/client.mjs')],
    extra: { module },
  };
}

const CLIENTS = [
  node('js10', 'v10'), node('js8', 'v8'), node('js6', 'v6'), node('js31', 'v31'),
  {
    id: 'deno', needs: 'deno', webTransport: true, only: ['gateway', 'transcoding'], cells: pairs(['WebTransport'], BOTH),
    command: () => [join(prepared, 'js/node_modules/@deno/linux-x64-glibc/deno'), 'run', '--unstable-net', '--allow-all', '--no-lock', '--quiet', join(here, 'js/client.mjs')],
    extra: { module: join(prepared, 'js/v10/package.json'), package: pathToFileURL(join(repository, 'web/demo/webtransport.js')).href },
  },
  {
    id: 'java', needs: 'java', cells: pairs(['WebSockets', 'LongPolling'], ['json']),
    command: () => ['java', '-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp',
      `${join(prepared, 'java/classes')}:${join(prepared, 'java/lib/*')}`, 'hubgate.Cell'],
  },
  {
    id: 'dotnet', needs: 'dotnet', cells: pairs(['WebSockets'], BOTH),
    command: () => [dotnet(), join(prepared, 'dotnet/out/ClientCell.dll')],
  },
  {
    id: 'signalrcore', needs: 'python', cells: pairs(['WebSockets'], BOTH),
    command: () => [join(prepared, 'python/bin/python'), join(here, 'python/signalrcore_cell.py')],
  },
  {
    id: 'pysignalr', needs: 'python', cells: pairs(['WebSockets'], BOTH),
    command: () => [join(prepared, 'python/bin/python'), join(here, 'python/pysignalr_cell.py')],
  },
  {
    id: 'go', needs: 'go', cells: pairs(['WebSockets'], BOTH),
    command: () => [join(prepared, 'go/client')],
  },
  { id: 'chromium', needs: 'chromium', browser: 'chromium', cells: pairs(ALL, BOTH) },
  { id: 'firefox', needs: 'firefox', browser: 'firefox', cells: pairs(ALL, BOTH) },
  { id: 'chromium-wt', needs: 'chromium', browser: 'chromium', webTransport: true, only: ['gateway', 'transcoding'], cells: pairs(['WebTransport'], BOTH) },
  { id: 'firefox-wt', needs: 'firefox', browser: 'firefox', webTransport: true, only: ['gateway', 'transcoding'], cells: pairs(['WebTransport'], BOTH) },
  { id: 'chromium-tls', needs: 'chromium', browser: 'chromium', tls: true, only: ['gateway'], cells: pairs(ALL, ['json']) },
];

/** Steps that a cell lacks, by reason; the list names clients or single cells. */
function lacks(...names) {
  const steps = {};
  for (const [reason, { steps: by }] of Object.entries(readJson('na.json').reasons)) {
    for (const step of names.flatMap((name) => by[name] ?? [])) {
      steps[step] = reason;
    }
  }
  return steps;
}

/** The clients that run against the Go hub: one of Microsoft's, and its own. */
const BEFORE_GO = ['js10', 'go'];

/** The jobs whose cell names (`client/transport/protocol`) match `pattern`; not those that speak what the hub alone speaks. */
export function jobs(pattern, { via, hub, hubProtocol }) {
  const wanted = new RegExp(pattern ?? '.', 'i');
  const list = [];
  for (const client of CLIENTS) {
    const cannot = (client.only && !client.only.includes(via))
      || (hub === 'go' && !BEFORE_GO.includes(client.id))
      // The gateway speaks WebTransport, so one version of the reference is enough.
      || (hub === 'aspnet8' && client.webTransport)
      // Without the gateway nobody answers the embedded hub's pre-flights.
      || (hub === 'embedded' && via === 'straight' && client.browser);
    if (cannot) {
      continue;
    }
    const cells = client.cells
      .map((cell) => ({ ...cell, client: client.id, name: `${client.id}/${cell.transport}/${cell.protocol}`,
        lacks: lacks(client.id, `${client.id}/${cell.transport}/${cell.protocol}`, `@${hub}`, `${client.id}@${hub}`), ...client.extra }))
      .filter((cell) => wanted.test(cell.name) && cell.protocol !== hubProtocol)
      // The embedded and the Go hub have no long polling; the gateway makes the other transports.
      .filter((cell) => via === 'gateway' || hub.startsWith('aspnet') || cell.transport === 'WebSockets')
      // Clients are offered what the hub offers, and this one has no long polling.
      .filter((cell) => hub !== 'go' || cell.transport !== 'LongPolling');
    if (cells.length === 0) {
      continue;
    }
    if (client.browser) {
      list.push({ client, cells, run: (run) => runBrowser(client, cells, run) });
    } else {
      list.push(...cells.map((cell) => ({ client, cells: [cell], run: (run) => runProgram(client, cell, run) })));
    }
  }
  return list;
}
