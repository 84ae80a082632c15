// Runs cells in a headless browser, from a page whose origin is not the gateway's.
//
// No driver: the page fetches its cells, reports by POST and is shut by ending the browser. For TLS the proof that Chromium used
// extended CONNECT is read from the browser's own net log, not from the gateway.
import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { here, prepared, repository } from './places.mjs';
import { start, stop, patience, temporaryDirectory } from './process.mjs';
import { offeredPort, startCut } from './cut.mjs';
import { told } from './program.mjs';

const BROWSER_MS = 240_000;
const modules = join(prepared, 'js/node_modules/@microsoft');
export const FILES = {
  '/': [join(here, 'browser/page.html'), 'text/html'],
  '/page.mjs': [join(here, 'browser/page.mjs'), 'text/javascript'],
  '/webtransport.js': [join(repository, 'web/demo/webtransport.js'), 'text/javascript'],
  '/scenario.mjs': [join(here, 'js/scenario.mjs'), 'text/javascript'],
  '/signalr.js': [join(modules, 'signalr/dist/browser/signalr.js'), 'text/javascript'],
  '/msgpack.js': [join(modules, 'signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.js'), 'text/javascript'],
};

/** Command line of that browser for a page and an empty profile; `webTransport` keeps QUIC, and its demands on certificates. */
export function browserCommand(browser, page, profile, { netLog, webTransport } = {}) {
  if (browser === 'firefox') {
    writeFileSync(join(profile, 'user.js'), [
      'user_pref("browser.shell.checkDefaultBrowser", false);', 'user_pref("datareporting.policy.dataSubmissionEnabled", false);',
      'user_pref("app.update.enabled", false);', 'user_pref("network.captive-portal-service.enabled", false);',
      'user_pref("network.connectivity-service.enabled", false);', 'user_pref("browser.safebrowsing.update.enabled", false);',
      'user_pref("toolkit.telemetry.enabled", false);', 'user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");',
      'user_pref("browser.aboutwelcome.enabled", false);', 'user_pref("extensions.getAddons.cache.enabled", false);',
      ...(webTransport ? ['user_pref("dom.disable_open_during_load", false);'] : []), '',
    ].join('\n'));
    return ['firefox-esr', ['--headless', '--no-remote', '--profile', profile, page]];
  }
  return ['chromium', [
    '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    ...(webTransport ? ['--disable-popup-blocking'] : ['--disable-quic', '--ignore-certificate-errors']),
    `--user-data-dir=${profile}`, ...(netLog ? [`--log-net-log=${netLog}`, '--net-log-capture-mode=Default'] : []), page,
  ]];
}

/**
 * Serves the pages of a run from one origin, which the hubs are told to admit. `mount` gives the URL of a page for some cells.
 */
export async function startPages() {
  const mounted = new Map();
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://page');
    const [, name, rest] = /^\/([^/]*)(\/.*)$/.exec(pathname) ?? [];
    const page = mounted.get(name);
    const file = FILES[rest];
    if (!page) {
      response.writeHead(404).end();
    } else if (file) {
      response.writeHead(200, { 'content-type': file[1], 'cache-control': 'no-store' }).end(readFileSync(file[0]));
    } else if (rest === '/cells') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(page.cells));
    } else if (rest === '/cut') {
      page.proxies[Number(searchParams.get('cell'))].down();
      response.writeHead(204).end();
    } else if (rest === '/restore') {
      page.proxies[Number(searchParams.get('cell'))].up();
      response.writeHead(204).end();
    } else if (rest === '/report') {
      let body = '';
      for await (const chunk of request) {
        body += chunk;
      }
      response.writeHead(204).end();
      page.onReport(JSON.parse(body));
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://localhost:${server.address().port}`;
  return {
    origin,
    mount(name, cells, proxies, onReport) {
      mounted.set(name, { cells, proxies, onReport });
      return `${origin}/${name}/`;
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Whether the net log shows a WebSocket opened by CONNECT with `:protocol`. */
function usedExtendedConnect(netLog) {
  return /":protocol: websocket"/.test(readFileSync(netLog, 'utf8'));
}

/** Runs the cells one after another in one page; resolves like `runProgram`. */
export async function runBrowser(client, cells, run) {
  const over = { ...run, url: client.tls ? run.tlsUrl : client.webTransport ? run.webTransportUrl : run.url };
  const udpPort = client.webTransport && await offeredPort(over.url);
  const proxies = await Promise.all(cells.map(() => startCut(over.url, udpPort)));
  const results = cells.map((cell) => ({ cell, reports: {}, notes: [], failed: false, began: 0, seconds: 0 }));
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  const page = run.pages.mount(client.id, cells.map((cell, i) => ({ ...told(cell, over, proxies[i]), cutPort: proxies[i].port })), proxies, ({ cell, report }) => {
    const result = results[cell];
    if (report.done) {
      finish();
    } else if (report.begin) {
      result.began = Date.now();
    } else if (report.step) {
      result.reports[report.step] = report;
      result.seconds = (Date.now() - result.began) / 1000;
    } else {
      (result ?? results[0]).notes.push(report.uncaught ?? JSON.stringify(report));
    }
  });
  const profile = temporaryDirectory();
  const netLog = client.tls ? join(profile, 'net-log.json') : undefined;
  const child = start(...browserCommand(client.browser, page, profile, { netLog, webTransport: client.webTransport }), { env: { HOME: profile, MOZ_HEADLESS: '1' } });
  const deadline = setTimeout(() => finish(`no end within ${BROWSER_MS * patience} ms`), BROWSER_MS * patience);
  const trouble = await Promise.race([finished, child.ended.then(({ code, signal, error }) => `browser ended: ${error?.message ?? signal ?? code}`)]);
  clearTimeout(deadline);
  await stop(child);
  if (trouble) {
    results[0].failed = true;
    results[0].notes.push(trouble, ...child.tail.slice(-8));
  }
  if (netLog && !usedExtendedConnect(netLog)) {
    results[0].failed = true;
    results[0].notes.push('the browser\'s net log shows no WebSocket by extended CONNECT');
  } else if (netLog) {
    results[0].proof = 'Chromium\'s net log: WebSocket by extended CONNECT (":protocol: websocket")';
  }
  proxies.forEach((proxy) => proxy.close());
  return results;
}
