// The cases of lib/webtransport.mjs. Each gives a line of what was seen, and throws when that is not what must be.
//
// Functions that begin with `lib` run in the page: they know their arguments and nothing else.
import assert from 'node:assert/strict';

const ROUNDS = 7;
/** What WebSockets may take longer by way of the package, where there is no UDP (rule H3). */
const SLOWER_MS_MAX = 500;
/** A page that closes says so: the hub knows within that time. */
const TOLD_MS_MAX = 1000;
/** Beyond the idle time-out, until the hub knows. */
const NOTICE_MS = 1500;
/** Silence after which a session is lost, to both sides. */
export const IDLE_MS = 3000;

/** In the page: starts a connection, the stock client's over WebSockets or ours, and keeps it under `key`. */
async function start(lib, key, url, isStock) {
  const { HttpTransportType, HubConnectionBuilder, LogLevel } = lib.signalR;
  const options = isStock ? { transport: HttpTransportType.WebSockets } : lib.webTransport();
  const connection = new HubConnectionBuilder().configureLogging(LogLevel.None).withUrl(url, options).build();
  const closed = new Promise((resolve) => connection.onclose((error) => resolve(error ? error.message : null)));
  const began = performance.now();
  await connection.start();
  const ms = performance.now() - began;
  lib.kept[key] = { connection, closed };
  return { ms, by: isStock ? 'WebSockets' : options.transport.name, id: connection.connectionId };
}

/** In the page: the text of the error that a start fails with, and how long that takes. */
async function failingStart(lib, url, isStock, accessToken) {
  const { HttpTransportType, HubConnectionBuilder, LogLevel } = lib.signalR;
  const own = { accessTokenFactory: () => accessToken };
  const options = isStock ? { ...own, transport: HttpTransportType.WebSockets } : lib.webTransport(own);
  const began = performance.now();
  const text = await new HubConnectionBuilder().configureLogging(LogLevel.None).withUrl(url, options).build().start()
    .then(() => 'started', (error) => error.message);
  return { text, ms: performance.now() - began };
}

const invoke = (lib, key, ...call) => lib.kept[key].connection.invoke(...call);
const stopOf = (lib, key) => lib.kept[key].connection.stop();
const closeOf = (lib, key) => lib.kept[key].closed;

/** In the page: milliseconds from `act` until the hub saw the end of connection `id`, and what error it was given. */
async function untilHubKnows(lib, observer, id, act, waitMs) {
  const { connection } = lib.kept[observer];
  const seen = connection.invoke('WaitForEvent', id, 'disconnected', waitMs);
  const began = performance.now();
  await (0, eval)(`(${act})`)(lib);
  const isSeen = await seen;
  return { isSeen, ms: performance.now() - began, error: await connection.invoke('DisconnectError', id) };
}

/** In the page: negotiates, then connects again with a changed answer and URL; how that fails, how often each way was tried, and how long. */
async function attach(lib, url, path, token) {
  const first = lib.webTransport();
  const request = { method: 'POST', url: `${url}/contract/negotiate?negotiateVersion=1`, headers: {}, withCredentials: true };
  const response = await first.httpClient.send(request);
  const answer = JSON.parse(response.content);
  const used = answer.connectionToken;
  const tried = [];
  const counting = (name, of) => class extends of {
    constructor(...args) {
      super(...args);
      tried.push(name);
    }
  };
  let arrived;
  const handshaken = new Promise((resolve) => { arrived = resolve; });
  first.transport.onreceive = arrived;
  if (token === 'used') await first.transport.connect(`${url}/contract?id=${used}`, 1);
  if (token === 'unknown') answer.connectionToken = 'A'.repeat(used.length);
  const second = lib.webTransport({
    httpClient: { send: async () => ({ statusCode: 200, content: JSON.stringify(answer) }) },
    WebTransport: counting('WebTransport', WebTransport), WebSocket: counting('WebSocket', WebSocket),
  });
  await second.httpClient.send(request);
  const began = performance.now();
  const text = await second.transport.connect(`${url}${path}?id=${answer.connectionToken}`, 1).then(() => 'connected', (error) => error.message);
  const ms = performance.now() - began;
  if (token === 'used') {
    await first.transport.send('{"protocol":"json","version":1}\u001e');
    await handshaken;
    await first.transport.stop();
  }
  return { text, tried, ms };
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

const rounded = (ms) => `${ms.toFixed(0)} ms`;

/** Starts and stops in turn, stock and ours; the medians. */
async function compareStarts(page, url, expected) {
  const times = { stock: [], ours: [] };
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const who of ['stock', 'ours']) {
      const { ms, by } = await page.run(start, who, `${url}/contract`, who === 'stock');
      assert.equal(by, who === 'stock' ? 'WebSockets' : expected, 'what carries the connection');
      assert.equal(await page.run(invoke, who, 'EchoText', 'hello'), 'hello');
      await page.run(stopOf, who);
      // The first of each opens what the browser keeps open.
      if (round > 0) times[who].push(ms);
    }
  }
  const [stock, ours] = [median(times.stock), median(times.ours)];
  return { stock, ours, text: `WebSockets alone ${rounded(stock)}, the package over ${expected} ${rounded(ours)} (medians of ${ROUNDS})` };
}

async function withoutUdp({ page, url, udpPort, filter }, verdict) {
  filter.set(udpPort, verdict);
  const { stock, ours, text } = await compareStarts(page, url, 'WebSockets');
  assert.ok(ours - stock < SLOWER_MS_MAX, `${text}: ${rounded(ours - stock)} more`);
  return `${text}: ${rounded(ours - stock)} more`;
}

/** The errors of `onclose` of both, the names of the transports aside; the reason of a lost connection is the browser's own. */
const alike = (text) => text?.replace(/^(WebSocket|WebTransport) closed/, 'closed').replace(/1006 \(.*\)/, '1006') ?? null;

/** Both connections are ended by `act`; they must see the same. */
async function bothEnd(page, url, act) {
  for (const who of ['stock', 'ours']) {
    const { by } = await page.run(start, who, `${url}/contract`, who === 'stock');
    assert.equal(by, who === 'stock' ? 'WebSockets' : 'WebTransport', 'what carries the connection');
  }
  await act();
  const [stock, ours] = [await page.run(closeOf, 'stock'), await page.run(closeOf, 'ours')];
  assert.equal(alike(ours), alike(stock), `over WebSockets ${stock}, over WebTransport ${ours}`);
  return `both: ${ours === null ? 'no error' : `"${ours}"`}`;
}

async function refused(env, path, token) {
  const { text, tried, ms } = await env.page.run(attach, env.url, path, token);
  assert.match(text, /WebTransport failed: \w/);
  assert.match(text, /WebSockets failed: Error: refused or blocked/);
  assert.deepEqual(tried, ['WebTransport', 'WebSocket']);
  return `"${text.trim()}" after ${rounded(ms)}`;
}

async function sameFailure({ page, url }, path, accessToken) {
  const stock = await page.run(failingStart, `${url}${path}`, true, accessToken);
  const ours = await page.run(failingStart, `${url}${path}`, false, accessToken);
  // signalr adds a hint to its own client's 404.
  assert.ok(stock.text.startsWith(ours.text), `the stock client says "${stock.text}", ours "${ours.text}"`);
  return `"${ours.text}"`;
}

export const CASES = [
  {
    // What nobody handles in a page fails every other case; this shows that it would.
    name: 'proof: a trouble is seen',
    hubs: ['embedded'],
    async run({ page }) {
      await page.run(() => { Promise.reject(new Error('for nobody')); });
      await page.troubled();
      return page.troubles.splice(0).join().split('\n')[0];
    },
  },
  { name: 'start, with UDP', run: async ({ page, url }) => (await compareStarts(page, url, 'WebTransport')).text },
  { name: 'start, UDP refused', needsFilter: true, hubs: ['embedded'], run: (env) => withoutUdp(env, 'reject') },
  { name: 'start, UDP dropped', needsFilter: true, hubs: ['embedded'], run: (env) => withoutUdp(env, 'drop') },
  {
    name: 'last words before stop',
    // ASP.NET Core drops what it has not read yet when a client's close frame comes, if it is busy (docs/spec-notes/webtransport.md).
    hubs: ['embedded'],
    async run({ page, url }) {
      await page.run(start, 'observer', `${url}/contract`, true);
      for (const isStock of [false, true]) {
        const { id } = await page.run(start, 'leaving', `${url}/contract`, isStock);
        await page.run(async (lib) => {
          const { connection } = lib.kept.leaving;
          await Promise.all(Array.from({ length: 200 }, (_, i) => connection.send('Collect', i)));
          await connection.stop();
        });
        assert.equal(await page.run(invoke, 'observer', 'WaitForEvent', id, 'disconnected', 10_000), true);
        assert.deepEqual(await page.run(invoke, 'observer', 'Tally', id), [200, 0, 0, 199], isStock ? 'stock' : 'ours');
        assert.equal(await page.run(invoke, 'observer', 'DisconnectError', id), null);
      }
      await page.run(stopOf, 'observer');
      return 'both: 200 of 200 messages arrived, then a clean end';
    },
  },
  {
    name: 'page closed',
    async run({ page, pages, url }) {
      const child = pages.add(`child-of-${page.name ?? 'page'}-${Date.now()}`);
      assert.ok(await page.run((lib, href) => Boolean(lib.kept.child = window.open(href)), child.url), 'a window opens');
      const { id, by } = await child.page.run(start, 'ours', `${url}/contract`, false);
      assert.equal(by, 'WebTransport');
      await page.run(start, 'observer', `${url}/contract`, true);
      const { isSeen, ms } = await page.run(untilHubKnows, 'observer', id, ((lib) => lib.kept.child.close()).toString(), 10_000);
      await page.run(stopOf, 'observer');
      assert.ok(isSeen && ms < TOLD_MS_MAX, `the hub knew after ${rounded(ms)}`);
      return `the hub knew after ${rounded(ms)}`;
    },
  },
  {
    name: 'network cut',
    needsFilter: true,
    async run({ page, url, udpPort, filter }) {
      const { id, by } = await page.run(start, 'ours', `${url}/contract`, false);
      assert.equal(by, 'WebTransport');
      await page.run(start, 'observer', `${url}/contract`, true);
      filter.set(udpPort, 'drop');
      const { isSeen, ms, error } = await page.run(untilHubKnows, 'observer', id, '() => {}', 15_000);
      const seen = await page.run(closeOf, 'ours');
      await page.run(stopOf, 'observer');
      assert.ok(isSeen && ms < IDLE_MS + NOTICE_MS, `the hub knew after ${rounded(ms)}`);
      assert.match(seen, /^WebTransport closed with status code: 1006/);
      return `the hub knew after ${rounded(ms)} (${error}), the page: "${seen}"`;
    },
  },
  {
    name: 'hub aborts',
    run: ({ page, url }) => bothEnd(page, url, () => Promise.all(['stock', 'ours'].map((who) => (
      page.run((lib, key) => lib.kept[key].connection.send('Abort'), who))))),
  },
  {
    name: 'hub killed',
    async run({ page, pages, hubKind, startServers }) {
      const own = await startServers(hubKind, pages.origin);
      const text = await bothEnd(page, own.url, () => own.hub.kill('SIGKILL'));
      await own.stop();
      return text;
    },
  },
  {
    name: 'gateway drains',
    async run({ page, pages, hubKind, startServers }) {
      const own = await startServers(hubKind, pages.origin);
      const text = await bothEnd(page, own.url, () => own.gateway.kill('SIGTERM'));
      await own.stop();
      return text;
    },
  },
  { name: 'no such hub', run: (env) => sameFailure(env, '/nosuch', '') },
  { name: 'no such user', run: (env) => sameFailure(env, '/hubs/chat', 'not.a.token') },
  { name: 'bad path', run: (env) => refused(env, '/nosuch', 'fresh') },
  { name: 'unknown connection token', run: (env) => refused(env, '/contract', 'unknown') },
  { name: 'used connection token', run: (env) => refused(env, '/contract', 'used') },
  {
    name: 'certificate expired',
    async run({ page, pages, hubKind, startServers, expiredCertificate }) {
      const own = await startServers(hubKind, pages.origin, expiredCertificate());
      const { text } = await compareStarts(page, own.url, 'WebSockets');
      await own.stop();
      return text;
    },
  },
];
