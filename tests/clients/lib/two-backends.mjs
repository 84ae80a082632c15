// Two hubs that share nothing, no cookies, no affinity: does every connect land on the hub that negotiated it?
//
// Each connect negotiates, attaches, shakes hands and asks the hub for its ConnectionId and its name. A hub refuses a connection
// that it did not negotiate, so a connect that reached the wrong one has failed; the hubs' own counts say the same from their side.
import { parseArgs } from 'node:util';
import { hasNginx, startNginx, startTcpBalancer } from './balancers.mjs';
import { connect, newAgent } from './raw-client.mjs';
import { startGateway, startHub } from './servers.mjs';
import { stop, within } from './process.mjs';

const TRANSPORTS = ['WebSockets', 'ServerSentEvents', 'LongPolling'];
const AT_ONCE = 24;
const PATH = '/contract';

/** Runs `total` connects, `AT_ONCE` at a time, each ended cleanly. */
async function connects(base, transport, total) {
  const outcome = { ok: 0, wrongId: 0, failures: new Map(), by: new Map() };
  const agent = newAgent(AT_ONCE);
  let begun = 0;
  const worker = async () => {
    while (begun < total) {
      begun += 1;
      let client;
      try {
        client = await connect(base, PATH, transport, agent);
        const id = await client.invoke('ConnectionId');
        const name = await client.invoke('Instance');
        outcome.wrongId += id === client.connectionId ? 0 : 1;
        outcome.by.set(name, (outcome.by.get(name) ?? 0) + 1);
        await within(client.end(), 10_000, () => 'the end of a connection was not answered');
        outcome.ok += 1;
      } catch (error) {
        client?.drop?.();
        outcome.failures.set(error.message, (outcome.failures.get(error.message) ?? 0) + 1);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  agent.destroy();
  return outcome;
}

const counts = async (hub) => (await fetch(`${hub.url}/api/counts`)).json();

/** Two fresh hubs and what `front` puts before them; `use` gets its URL, everything ends afterwards. */
async function withHubs(front, use) {
  const hubs = await Promise.all(['a', 'b'].map((name) => startHub('aspnet10', { args: ['--name', name] })));
  let fronts = [];
  try {
    fronts = await front(hubs.map(({ url }) => url));
    return await use(fronts[fronts.length - 1].url, hubs);
  } finally {
    for (const server of [...fronts].reverse().concat(hubs)) {
      await (server.close ? server.close() : stop(server));
    }
  }
}

const FRONTS = {
  // The client proven on the reference: no front, and only hub a is used.
  'hub a, straight': async (urls) => [{ url: urls[0], close() {} }],
  hubgate: async (urls) => [await startGateway(urls)],
  'hubgate, TCP balancer': async (urls) => {
    const balancer = await startTcpBalancer(urls);
    return [balancer, await startGateway([balancer.url])];
  },
  'nginx, round robin': async (urls) => [await startNginx(urls)],
  'hubgate, token ignored': async (urls) => [await startGateway(urls, { env: { HUBGATE_TEST_IGNORE_TOKEN_BACKEND: '1' } })],
};

function line(front, transport, total, { ok, wrongId, failures, by }) {
  const share = ['a', 'b'].map((name) => `${(((by.get(name) ?? 0) / Math.max(1, ok)) * 100).toFixed(0)} %`).join(' / ');
  const first = [...failures].sort((x, y) => y[1] - x[1]).slice(0, 2).map(([text, n]) => `${n}× ${text}`).join('; ');
  console.log(`${front.padEnd(23)} ${transport.padEnd(17)} ${`${ok} of ${total}`.padEnd(13)} ${String(wrongId).padEnd(9)} ${share.padEnd(13)} ${first}`);
}

/** All transports behind one front; gives what is wrong with them. */
async function spread(front, total, { shares = true } = {}) {
  const wrong = [];
  await withHubs(FRONTS[front], async (url, hubs) => {
    for (const transport of TRANSPORTS) {
      const outcome = await connects(url, transport, total);
      line(front, transport, total, outcome);
      const least = Math.min(...['a', 'b'].map((name) => outcome.by.get(name) ?? 0));
      if (outcome.ok !== total || outcome.wrongId > 0) {
        wrong.push(`${front}, ${transport}: ${outcome.ok} of ${total} connects, ${outcome.wrongId} with another ConnectionId`);
      } else if (shares && least < total * 0.4) {
        wrong.push(`${front}, ${transport}: one hub got ${least} of ${total}`);
      }
    }
    for (const [i, { negotiates, connected }] of (await Promise.all(hubs.map(counts))).entries()) {
      if (negotiates !== connected) {
        wrong.push(`${front}: hub ${'ab'[i]} counted ${negotiates} negotiates and ${connected} connections`);
      }
    }
  });
  return wrong;
}

/** One hub is killed while connections are open on both: those of the other must not notice, new ones must avoid it. */
async function kill(total) {
  return withHubs(FRONTS.hubgate, async (url, hubs) => {
    const agent = newAgent(AT_ONCE * 8);
    const open = { a: [], b: [] };
    for (let i = 0; i < total; i += 1) {
      const client = await connect(url, PATH, TRANSPORTS[i % 3], agent);
      open[await client.invoke('Instance')].push(client);
    }
    hubs[1].kill('SIGKILL');
    await hubs[1].ended;
    const survived = await Promise.all(open.a.map((client) => client.invoke('Echo', 'after').then((x) => x === 'after', () => false)));
    const lost = await Promise.all(open.b.map((client) => client.next('the end').then((m) => JSON.parse(m).type === 7, () => true)));
    const after = { ok: 0, errors: [] };
    for (let i = 0; i < total; i += 1) {
      const client = await connect(url, PATH, TRANSPORTS[i % 3], agent).catch((error) => after.errors.push(error.message) && null);
      after.ok += client && (await client.invoke('Instance')) === 'a' ? 1 : 0;
      client?.drop();
    }
    const disturbed = survived.filter((ok) => !ok).length;
    const noticed = lost.filter(Boolean).length;
    console.log(`hub b killed: ${open.a.length} connections of hub a, ${disturbed} disturbed; ${open.b.length} of hub b, ${noticed} told; `
      + `${after.ok} of ${total} new connects on hub a ${[...new Set(after.errors)].slice(0, 2).join('; ')}`);
    [...open.a, ...open.b].forEach((client) => client.drop());
    agent.destroy();
    const wrong = [];
    if (open.a.length === 0 || open.b.length === 0) {
      wrong.push('kill: all connections were on one hub');
    }
    if (disturbed > 0 || noticed !== open.b.length || after.ok !== total) {
      wrong.push('kill: see the line above');
    }
    return wrong;
  });
}

export async function main() {
  const { values: options } = parseArgs({ options: {
    connects: { type: 'string', default: '1000' }, only: { type: 'string' }, help: { type: 'boolean' },
  } });
  if (options.help) {
    console.error('usage: two-backends [--connects N] [--only straight|hubgate|balancer|ignored|kill|nginx]');
    return 0;
  }
  const total = Number(options.connects);
  const wanted = (name) => !options.only || options.only === name;
  console.log(`${'front'.padEnd(23)} ${'transport'.padEnd(17)} ${'connects'.padEnd(13)} ${'wrong id'.padEnd(9)} ${'hub a / hub b'.padEnd(13)} failures`);
  const wrong = [];
  if (wanted('straight')) {
    wrong.push(...await spread('hub a, straight', Math.min(200, total), { shares: false }));
  }
  if (wanted('hubgate')) {
    wrong.push(...await spread('hubgate', total));
  }
  if (wanted('balancer')) {
    wrong.push(...await spread('hubgate, TCP balancer', total));
  }
  if (wanted('nginx')) {
    if (hasNginx()) {
      // For the README: it breaks, and a run in which it did not would compare nothing.
      if ((await spread('nginx, round robin', total)).length === 0) {
        wrong.push('nginx without affinity carried every connect: the hubs are not told apart');
      }
    } else {
      console.log('nginx, round robin      skipped: nginx is not in the PATH');
      wrong.push(...(process.env.HUBGATE_CI === '1' ? ['nginx is missing'] : []));
    }
  }
  if (wanted('ignored') && (await spread('hubgate, token ignored', Math.min(200, total))).length === 0) {
    wrong.push('a gateway that ignores the token\'s backend passed: this run proves nothing');
  }
  if (wanted('kill')) {
    wrong.push(...await kill(Math.min(300, total)));
  }
  wrong.forEach((text) => console.log(`FAIL ${text}`));
  console.log(wrong.length === 0 ? 'ok' : `${wrong.length} failed`);
  return wrong.length === 0 ? 0 : 1;
}
