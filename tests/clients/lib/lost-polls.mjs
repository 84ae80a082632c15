// Answers lost on their way to official clients: which go on as if nothing had been, and which end.
//
// A proxy swallows the first answer that carries a certain message and resets both of its connections, as a middlebox does that
// forgets a connection. Browsers and OkHttp then send the same poll again by themselves, and the gateway gives the same answer
// (docs/guide/stateful-reconnect.md). Invariant: nothing is received twice or out of order, and a client that misses a message ends.
import { connect, createServer } from 'node:net';
import { createServer as createPages } from 'node:http';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { browserCommand } from './browser.mjs';
import { writeConfiguration } from './configuration.mjs';
import { here, prepared } from './places.mjs';
import { prerequisite } from './prerequisites.mjs';
import { start, stop, temporaryDirectory, within } from './process.mjs';
import { startGateway, startHub } from './servers.mjs';

const LIMIT_MS = 60_000;
const MARK = 'LOST-IN-TRANSIT';
const ALL = ['one', MARK, 'three', 'four'];
const module = join(prepared, 'js/package.json');

const CLIENTS = [
  { name: 'js10 in Node', transport: 'LongPolling', needs: 'js', ends: 'closed with an error', run: runNode },
  { name: 'js10 in Node', transport: 'ServerSentEvents', needs: 'js', ends: 'closed', run: runNode },
  { name: 'js10 in Chromium', transport: 'LongPolling', needs: 'chromium', ends: 'goes on', run: runPage('chromium') },
  { name: 'js10 in Chromium', transport: 'ServerSentEvents', needs: 'chromium', ends: 'closed', run: runPage('chromium') },
  { name: 'js10 in Firefox', transport: 'LongPolling', needs: 'firefox', ends: 'goes on', run: runPage('firefox') },
  { name: 'js10 in Firefox', transport: 'ServerSentEvents', needs: 'firefox', ends: 'closed', run: runPage('firefox') },
  { name: 'java', transport: 'LongPolling', needs: 'java', ends: 'goes on', run: runJava },
];

/** A TCP proxy that loses the first answer with the mark, together with its connection; `lost` says how many it lost. */
async function startLosing(target) {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  const proxy = { lost: 0 };
  const server = createServer((near) => {
    const far = connect({ host: hostname, port: Number(port) });
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.setNoDelay();
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    near.pipe(far);
    far.on('data', (data) => {
      if (proxy.lost === 0 && data.includes(MARK)) {
        proxy.lost += 1;
        near.resetAndDestroy();
        far.resetAndDestroy();
      } else {
        near.write(data);
      }
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(proxy, {
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.close();
      sockets.forEach((socket) => socket.destroy());
    },
  });
}

async function lastLine(command, args) {
  const lines = [];
  const child = start(command, args, { onLine: (line) => lines.push(line) });
  await within(child.ended, LIMIT_MS, () => `${command}: no end\n${child.tail.join('\n')}`).finally(() => stop(child));
  return JSON.parse(lines.at(-1) ?? `{"got":[],"ends":${JSON.stringify(child.tail.at(-1) ?? 'nothing')}}`);
}

function runNode(url, transport) {
  return lastLine('node', [join(here, 'lost/node.mjs'), module, url, transport]);
}

function runJava(url) {
  return lastLine('java', ['-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp',
    `${join(prepared, 'java/classes')}:${join(prepared, 'java/lib/*')}`, 'hubgate.Lost', url]);
}

const PAGES = {
  '/': [join(here, 'lost/page.html'), 'text/html'],
  '/scenario.mjs': [join(here, 'lost/scenario.mjs'), 'text/javascript'],
  '/signalr.js': [join(prepared, 'js/node_modules/@microsoft/signalr/dist/browser/signalr.js'), 'text/javascript'],
};

/** Serves the page; what it reports goes to `onReport`. */
async function startPages() {
  const pages = { onReport: () => {} };
  const server = createPages(async (request, response) => {
    const file = PAGES[new URL(request.url, 'http://page').pathname];
    if (request.method === 'POST') {
      let body = '';
      for await (const chunk of request) {
        body += chunk;
      }
      response.writeHead(204).end();
      pages.onReport(JSON.parse(body));
    } else if (file) {
      response.writeHead(200, { 'content-type': file[1] }).end(readFileSync(file[0]));
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(pages, {
    origin: `http://localhost:${server.address().port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  });
}

function runPage(browser) {
  return async (url, transport, pages) => {
    const reported = new Promise((resolve) => { pages.onReport = resolve; });
    const profile = temporaryDirectory();
    const page = `${pages.origin}/?hub=${encodeURIComponent(url)}&transport=${transport}`;
    const child = start(...browserCommand(browser, page, profile), { env: { HOME: profile, MOZ_HEADLESS: '1' } });
    return within(reported, LIMIT_MS, () => `${browser} reported nothing\n${child.tail.slice(-8).join('\n')}`).finally(() => stop(child));
  };
}

/** What is wrong with a result, if anything. */
function fault(client, result, lost) {
  const expected = client.ends === 'goes on' ? ALL : ALL.slice(0, 1);
  if (lost !== 1) {
    return `the proxy lost ${lost} answers`;
  }
  if (result.ends !== client.ends || result.got.join() !== expected.join()) {
    return `got ${result.got.join(', ')}; ${result.ends}`;
  }
  return null;
}

export async function main() {
  const { values: options } = parseArgs({ options: { help: { type: 'boolean' } } });
  if (options.help) {
    console.error('usage: lost-polls');
    return 0;
  }
  const pages = await startPages();
  const hub = await startHub('embedded');
  const config = writeConfiguration([hub.url], { cors: pages.origin, transports: ['ServerSentEvents', 'LongPolling'] });
  const gateway = await startGateway([], { config });
  let failed = 0;
  for (const client of CLIENTS) {
    const title = `${client.name} over ${client.transport}`.padEnd(40);
    const missing = prerequisite(client.needs) ?? prerequisite('js');
    if (missing) {
      console.log(`${title} skipped: ${missing.text}`);
      failed += missing.fails ? 1 : 0;
      continue;
    }
    const proxy = await startLosing(gateway.url);
    const result = await client.run(`${proxy.url}/contract`, client.transport, pages)
      .catch((error) => ({ got: [], ends: error.message }));
    const wrong = fault(client, result, proxy.lost);
    console.log(`${title} ${wrong ? `FAIL: ${wrong}` : `${result.got.length} of ${ALL.length} messages, ${result.ends}`}`);
    failed += wrong ? 1 : 0;
    proxy.close();
  }
  await Promise.all([stop(gateway), stop(hub)]);
  pages.close();
  console.log(failed === 0 ? 'ok' : `${failed} failed`);
  return failed === 0 ? 0 : 1;
}
