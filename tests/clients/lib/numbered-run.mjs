// One numbered run: a real client with stateful reconnect, the cutting proxy, perhaps the gateway, a hub.
//
// A run has one life or several: a life is one connection from its start to its end. Invariant: a run judges nothing; it counts
// what was lost, doubled, late and ended, from the client's own tally and the hub's.
import { join } from 'node:path';
import { startCuttingProxy } from './cutting-proxy.mjs';
import { here, prepared, dotnet } from './places.mjs';
import { patience, start, stop, within } from './process.mjs';
import { connect, newAgent } from './raw-client.mjs';
import { startGateway, startHub } from './servers.mjs';

const PATH = '/contract';
const STALL_MS = 8_000;
const TICK_MS = 200;
/** 700 ms of traffic, then 300 ms in which only cuts happen. */
const RHYTHM = { activeMs: 700, idleMs: 300 };

export const CLIENTS = {
  js10: () => [process.execPath, join(here, 'js/numbered.mjs'), { module: join(prepared, 'js/v10/package.json') }],
  js8: () => [process.execPath, join(here, 'js/numbered.mjs'), { module: join(prepared, 'js/v8/package.json') }],
  dotnet: () => [dotnet(), join(prepared, 'dotnet/out/ClientCell.dll'), { run: 'numbered' }],
};

/**
 * Runs one cell: `client`, `protocol`, `hub`, `stateful` (the hub's own feature), `gateway` (`null`: straight; else gives the
 * configuration file for a hub's URL), `total` messages each way and `cuts` over `spanMs` in each of `lives`; `pad` lengthens calls. Ends that
 * match `clientsOwn` are the client's own fault.
 */
export async function numberedRun(cell) {
  const hub = await startHub(cell.hub, { args: ['--detailed', ...(cell.stateful ? ['--stateful'] : [])] });
  const gateway = cell.gateway ? await startGateway([hub.url], { config: cell.gateway(hub.url) }) : null;
  const proxy = await startCuttingProxy(gateway?.url ?? hub.url, { seed: cell.seed, fault: cell.fault });
  const agent = newAgent(2);
  const lives = [];
  const began = Date.now();
  try {
    for (let i = 0; i < cell.lives; i += 1) {
      lives.push(await oneLife(cell, { hub, proxy, agent, group: `numbered-${i}` }));
    }
  } finally {
    proxy.close();
    agent.destroy();
    await Promise.all([gateway, hub].filter(Boolean).map((server) => stop(server)));
  }
  const gatewaySaid = (gateway?.tail ?? []).filter((line) => /panick/.test(line));
  return { cell, lives, stats: proxy.stats, gatewaySaid, seconds: (Date.now() - began) / 1000 };
}

const counts = async (hub) => (await fetch(`${hub.url}/api/counts`)).json();

async function oneLife(cell, { hub, proxy, agent, group }) {
  const before = (await counts(hub)).connected;
  const client = new ClientProgram(cell, `${proxy.url}${cell.path ?? PATH}`, group);
  try {
    const life = await live(cell, client, proxy);
    life.connections = (await counts(hub)).connected - before;
    await askHub(cell, life, { hub, agent, group, client });
    return life;
  } finally {
    proxy.disarm();
    await client.end();
  }
}

/** Traffic and cuts until all has come, or the client ends, or nothing moves any more. */
async function live(cell, client, proxy) {
  await client.until('connected', 20_000);
  const cutsBefore = proxy.stats.cuts;
  proxy.arm(cell.cuts, cell.cuts > 0 ? cell.spanMs / cell.cuts : 0);
  client.say('go');
  const moved = { at: Date.now(), what: '' };
  let told = {};
  while (!client.ended) {
    told = await client.ask('tell', 'told').catch(() => told);
    const all = told.sent === cell.total && told.received[0] === cell.total && told.echoes.open === 0;
    const what = JSON.stringify([told.sent, told.received, proxy.stats.cuts]);
    if (what !== moved.what) {
      Object.assign(moved, { at: Date.now(), what });
    }
    if ((all && proxy.left === 0) || Date.now() - moved.at > (cell.stallMs ?? STALL_MS) * patience) {
      break;
    }
    await new Promise((resolve) => { setTimeout(resolve, TICK_MS); });
  }
  proxy.disarm();
  const life = { id: client.connectionId, cuts: proxy.stats.cuts - cutsBefore, ended: null, finished: false };
  const last = client.ended ? null : await client.ask('last', 'last').catch(() => null);
  if (last) {
    Object.assign(life, { finished: true, sameId: client.lastId === life.id });
  } else {
    life.ended = client.ended ?? 'silent: no answer to a last call';
  }
  return Object.assign(life, client.tallies ?? told);
}

/** What the hub saw of this life, and whether the client is still in its group. */
async function askHub(cell, life, { hub, agent, group, client }) {
  const observer = await connect(hub.url, cell.path ?? PATH, 'WebSockets', agent);
  if (life.finished) {
    const arrived = client.until('message', 10_000);
    await observer.invoke('SendToGroup', group, 'after the last cut');
    life.inGroup = await arrived.then(() => true, () => false);
    client.say('stop');
    life.left = await observer.invoke('WaitForEvent', life.id, 'disconnected', 10_000);
  }
  if (life.ended && await observer.invoke('WaitForEvent', life.id, 'disconnected', 20_000)) {
    life.hubError = await observer.invoke('DisconnectError', life.id);
  }
  life.hub = await observer.invoke('Tally', life.id);
  await within(observer.end(), 5000, () => 'observer').catch(() => observer.drop());
}

/** The client program of one life, its reports and the waits for them. */
export class ClientProgram {
  constructor(cell, url, group) {
    const [command, file, extra] = CLIENTS[cell.client]();
    const told = { ...RHYTHM, ...extra, url, group, protocol: cell.protocol, total: cell.total, size: 8, pad: cell.pad ?? 0, spanMs: cell.spanMs };
    Object.assign(this, { ended: null, tallies: null, connectionId: null, waits: new Map() });
    this.child = start(command, [file, JSON.stringify(told)], { onLine: (line) => this.take(line) });
    this.child.ended.then(({ code, signal }) => this.over(`the program ended (${signal ?? code}): ${this.child.tail.slice(-2).join(' ')}`));
  }

  take(line) {
    if (!line.startsWith('{')) {
      if (process.env.HUBGATE_CLIENT_LOG) {
        console.error(line);
      }
      return;
    }
    const report = JSON.parse(line);
    this.connectionId ??= report.connected;
    if (report.last !== undefined || report.ended !== undefined) {
      this.tallies = { sent: report.sent, received: report.received, echoes: report.echoes };
      this.lastId = report.connectionId;
    }
    if (report.ended !== undefined) {
      this.over(report.ended);
    }
    for (const [key, value] of Object.entries(report)) {
      this.waits.get(key)?.resolve(value);
      this.waits.delete(key);
    }
  }

  over(text) {
    this.ended ??= text;
    this.waits.forEach(({ reject }) => reject(new Error(this.ended)));
    this.waits.clear();
  }

  say(command) {
    this.child.stdin.write(`${command}\n`);
  }

  /** The next report with that key. */
  until(key, ms) {
    const wait = new Promise((resolve, reject) => {
      if (this.ended) {
        reject(new Error(this.ended));
      } else {
        this.waits.set(key, { resolve, reject });
      }
    });
    wait.catch(() => {});
    return within(wait, ms, () => `the client reported no ${key}`);
  }

  ask(command, key) {
    const answer = this.until(key, 10_000);
    this.say(command);
    return answer;
  }

  async end() {
    this.say('stop');
    await within(this.child.ended, 3000, () => 'slow').catch(() => this.child.kill('SIGKILL'));
    await this.child.ended;
  }
}

/** Faults of a run by kind: what was lost, doubled or late each way, failed calls, ends, and more that a hub or client must not see. */
export function faults({ cell, lives }) {
  const sum = (of) => lives.reduce((total, life) => total + of(life), 0);
  const way = (life, [distinct, , , highest]) => (life.finished ? cell.total : highest + 1) - distinct;
  const none = [0, 0, 0, -1];
  return {
    lost: sum((life) => way(life, life.received ?? none) + way(life, life.hub)),
    doubled: sum((life) => (life.received ?? none)[1] + life.hub[1]),
    late: sum((life) => (life.received ?? none)[2] + life.hub[2]),
    calls: sum((life) => (life.finished ? (life.echoes?.wrong ?? 0) + (life.echoes?.open ?? 0) : 0)),
    ended: sum((life) => (life.ended && !cell.clientsOwn?.test(life.ended) ? 1 : 0)),
    'another connection': sum((life) => (life.connections === 1 && life.sameId !== false ? 0 : 1)),
    'out of its group': sum((life) => (life.finished && !life.inGroup ? 1 : 0)),
    'end not seen': sum((life) => (life.finished && !life.left ? 1 : 0)),
  };
}
