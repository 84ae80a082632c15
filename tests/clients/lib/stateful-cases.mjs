// What a client and a hub see where stateful reconnect cannot, or must not, carry a connection on: one case each, with its outcome.
import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import { writeConfiguration } from './configuration.mjs';
import { startCuttingProxy } from './cutting-proxy.mjs';
import { ClientProgram } from './numbered-run.mjs';
import { prerequisite } from './prerequisites.mjs';
import { stop, within } from './process.mjs';
import { connect, newAgent } from './raw-client.mjs';
import { startGateway, startHub, tokenFor } from './servers.mjs';
import { StatefulPeer, openSocket } from './stateful-peer.mjs';

const PATH = '/contract';
const AT_ONCE = 5;
const TEXT = 'x'.repeat(1_000);
const numbered = (n) => Array.from({ length: n }, (_, i) => `${i} ${TEXT}`);

/** Hub and gateway of one case. */
class Place {
  static async open(kind, { limits, timeouts }) {
    const hub = await startHub(kind);
    const config = writeConfiguration([hub.url], { stateful: 'edge', limits, timeouts });
    const gateway = await startGateway([hub.url], { config });
    return Object.assign(new Place(), { kind, hub, gateway, url: gateway.url, agent: newAgent(4), closers: [] });
  }

  async peer({ path = PATH, ...options } = {}) {
    const peer = await StatefulPeer.connect(this.url, path, options);
    this.closers.push(() => peer.drop());
    return peer;
  }

  /** Asks the hub itself, by a connection that lives for `use`. */
  async observe(use) {
    const observer = await connect(this.hub.url, PATH, 'WebSockets', this.agent);
    try {
      return await use(observer);
    } finally {
      observer.drop();
    }
  }

  /** True once the hub saw the end of that connection. */
  disconnected(id, ms = 15_000) {
    return this.observe((observer) => observer.invoke('WaitForEvent', id, 'disconnected', ms));
  }

  disconnectError(id) {
    return this.observe((observer) => observer.invoke('DisconnectError', id));
  }

  connected() {
    return fetch(`${this.hub.url}/api/counts`).then((answer) => answer.json()).then(({ connected }) => connected);
  }

  async close() {
    this.closers.forEach((close) => close());
    this.agent.destroy();
    await stop(this.gateway);
    await stop(this.hub);
  }
}

const seconds = (since) => (Date.now() - since) / 1000;

/** What both sides see, by case. Each gives a line for the table. */
const CASES = {
  'gap shorter than the window': {
    timeouts: 'resume_window = "5s"',
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('JoinGroup', 'g');
      await peer.cut();
      await place.observe((observer) => observer.invoke('SendToGroup', 'g', 'in the gap'));
      strictEqual(await peer.resume(), 101);
      await peer.until(() => peer.calls('Message').length === 1, 'the message of the gap');
      strictEqual(peer.firstMessage.type, 9);
      strictEqual(await peer.invoke('ConnectionId'), peer.connectionId);
      return 'client: 101, Sequence first, the message of the gap; hub: noticed nothing';
    },
  },
  'gap longer than the window': {
    timeouts: 'resume_window = "1s"',
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      const since = Date.now();
      await peer.cut();
      ok(await place.disconnected(peer.connectionId), 'the hub was not told');
      const after = seconds(since);
      ok(after >= 1 && after < 5, `the hub was told after ${after} s`);
      strictEqual(await peer.resume(), 404);
      return `client: 404; hub: OnDisconnected after the window, error ${await place.disconnectError(peer.connectionId)}`;
    },
  },
  'backend killed in the gap': {
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      await peer.cut();
      place.hub.kill('SIGKILL');
      await place.hub.ended;
      strictEqual(await peer.resume(), 404);
      const again = await fetch(`${place.url}${PATH}/negotiate?negotiateVersion=1`, { method: 'POST' });
      ok(again.status >= 502 && again.status <= 504, `a new negotiate got ${again.status}`);
      return `client: 404, a new negotiate ${again.status}; hub: dead`;
    },
  },
  'hub ends the connection in the gap': {
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      peer.send('Sleep', 2_000);
      peer.send('Abort');
      // Answered at once: the hub has what was sent before it.
      await peer.until(() => peer.acknowledged >= 3, 'the acknowledgement');
      await peer.cut();
      ok(await place.disconnected(peer.connectionId), 'the hub did not end it');
      strictEqual(await peer.resume(), 404);
      return 'client: 404; hub: its own end';
    },
  },
  'buffer overflow in the gap, client stays away': {
    limits: 'stateful_buffer_bytes_max = "10KiB"',
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('JoinGroup', 'g');
      await peer.cut();
      const since = Date.now();
      await place.observe(async (observer) => {
        for (const text of numbered(40)) {
          await observer.invoke('SendToGroup', 'g', text);
        }
      });
      ok(await place.disconnected(peer.connectionId), 'the hub was not told');
      const after = seconds(since);
      ok(after > 4 && after < 10, `the hub was told after ${after} s`);
      strictEqual(await peer.resume(), 404);
      return 'client: 404; hub: OnDisconnected 5 s after the overflow';
    },
  },
  'buffer overflow in the gap, client back within 5 s': {
    limits: 'stateful_buffer_bytes_max = "10KiB"',
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('JoinGroup', 'g');
      await peer.cut();
      await place.observe(async (observer) => {
        for (const text of numbered(40)) {
          await observer.invoke('SendToGroup', 'g', text);
        }
      });
      strictEqual(await peer.resume(), 101);
      await peer.until(() => peer.calls('Message').length >= 40, '40 messages');
      await peer.invoke('Echo', 1);
      deepStrictEqual(peer.calls('Message'), numbered(40));
      return 'client: all 40 messages, in order; hub: noticed nothing';
    },
  },
  'client that does not acknowledge': {
    limits: 'stateful_buffer_bytes_max = "10KiB"',
    async run(place) {
      const peer = await place.peer({ acks: false });
      await peer.invoke('JoinGroup', 'g');
      const since = Date.now();
      await place.observe(async (observer) => {
        for (const text of numbered(40)) {
          await observer.invoke('SendToGroup', 'g', text);
        }
      });
      const close = await peer.until(() => peer.closed, 'Close', 12_000);
      const after = seconds(since);
      ok(close.error, 'Close without an error');
      ok(after > 4 && after < 9, `Close after ${after} s`);
      ok(await place.disconnected(peer.connectionId), 'the hub was not told');
      peer.drop();
      strictEqual(await peer.resume(), 404);
      return `client: Close "${close.error}" after 5 s, then 404; hub: OnDisconnected`;
    },
  },
  "resume with another user's token": {
    async run(place) {
      const peer = await place.peer({ jwt: tokenFor('ann') });
      strictEqual(await peer.invoke('User'), 'ann');
      strictEqual((await openSocket(peer.url(), tokenFor('bob'))).status, 403);
      strictEqual(await peer.invoke('Echo', 'undisturbed'), 'undisturbed');
      await peer.cut();
      strictEqual((await openSocket(peer.url(), tokenFor('bob'))).status, 403);
      strictEqual(await peer.resume(), 101);
      strictEqual(await peer.invoke('User'), 'ann');
      strictEqual(await place.connected(), 1);
      return "client: bob 403, ann's connection undisturbed, with its socket open and in the gap; hub: noticed nothing";
    },
  },
  'resume with a token that the hub refuses': {
    hubs: ['aspnet10'],
    async run(place) {
      const peer = await place.peer({ path: '/contract-auth', jwt: tokenFor('ann') });
      const forged = `${peer.jwt.slice(0, peer.jwt.lastIndexOf('.'))}.${'A'.repeat(43)}`;
      strictEqual((await openSocket(peer.url(), null)).status, 401);
      strictEqual((await openSocket(peer.url(), forged)).status, 401);
      strictEqual(await peer.invoke('Echo', 'undisturbed'), 'undisturbed');
      await peer.cut();
      strictEqual((await openSocket(peer.url(), null)).status, 401);
      strictEqual((await openSocket(peer.url(), forged)).status, 401);
      strictEqual(await peer.resume(), 101);
      strictEqual(await peer.invoke('User'), 'ann');
      return "client: nobody 401, ann by a forged token 401, ann's connection undisturbed; hub: noticed nothing";
    },
  },
  'sockets racing for one token': {
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('JoinGroup', 'g');
      await peer.cut();
      peer.send('Collect', 0);
      const racing = place.observe(async (observer) => {
        for (const text of numbered(20)) {
          await observer.invoke('SendToGroup', 'g', text);
        }
      });
      const answers = await Promise.all(Array.from({ length: 6 }, () => openSocket(peer.url())));
      await racing;
      const open = answers.filter(({ status }) => status === 101).map(({ socket }) => socket);
      let left = open.length;
      open.forEach((socket) => socket.lost.then(() => { left -= 1; peer.wake(); }));
      await peer.until(() => left <= 1, 'all but one socket closed');
      strictEqual(left, 1);
      peer.adopt(open.find((socket) => socket.readyState === 1));
      strictEqual(await peer.invoke('Echo', 'one'), 'one');
      strictEqual(peer.firstMessage.type, 9);
      await peer.until(() => peer.calls('Message').length >= 20, '20 messages');
      deepStrictEqual(peer.calls('Message'), numbered(20));
      deepStrictEqual(await peer.invoke('Collected'), [1, 0]);
      return `client: ${answers.map(({ status }) => status).join(' ')}, one stays and goes on without loss; hub: noticed nothing`;
    },
  },
  'newcomer while the old socket is open': {
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      const old = peer.socket;
      const since = Date.now();
      strictEqual(await peer.resume(), 101);
      ok(seconds(since) < 2, `101 after ${seconds(since)} s`);
      strictEqual(await within(old.lost, 3_000, () => 'the old socket stayed open'), 1006);
      strictEqual(await peer.invoke('Echo', 2), 2);
      strictEqual(peer.firstMessage.type, 9);
      return 'client: 101 at once, the old socket dropped without a close frame; hub: noticed nothing';
    },
  },
  'refused upgrades': {
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      strictEqual((await openSocket(peer.url(PATH, 'unknown'))).status, 404);
      strictEqual((await openSocket(peer.url('/contract-large'))).status, 404);
      strictEqual(await peer.invoke('Echo', 2), 2);
      peer.socket.close(1000);
      await peer.socket.lost;
      ok(await place.disconnected(peer.connectionId), 'the hub was not told');
      strictEqual(await peer.resume(), 404);
      const other = await place.peer();
      other.say({ type: 7 });
      await other.socket.lost;
      strictEqual(await other.resume(), 404);
      return 'unknown token, another path, after a close frame, after a Close: 404';
    },
  },
  'resumes without end': {
    limits: 'resumes_per_second_max = 2',
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      const statuses = [];
      while (statuses.length < 30 && !statuses.includes(404)) {
        await peer.cut();
        statuses.push(await peer.resume());
      }
      const granted = statuses.indexOf(404);
      ok(granted >= 1 && granted <= 8, `404 after ${granted} resumes`);
      await peer.until(() => true, '');
      let status = 404;
      const deadline = Date.now() + 10_000;
      while (status === 404 && Date.now() < deadline) {
        await new Promise((resolve) => { setTimeout(resolve, 250); });
        status = await peer.resume();
      }
      strictEqual(status, 101);
      strictEqual(await peer.invoke('Echo', 2), 2);
      return `client: ${granted} resumes at once, then 404, later 101 again; hub: noticed nothing`;
    },
  },
  'gateway stopped in the gap': {
    async run(place) {
      const peer = await place.peer();
      await peer.invoke('Echo', 1);
      await peer.cut();
      const since = Date.now();
      place.gateway.kill('SIGTERM');
      const { code } = await within(place.gateway.ended, 10_000, () => 'the gateway did not end');
      strictEqual(code, 0);
      ok(await place.disconnected(peer.connectionId), 'the hub was not told');
      ok(seconds(since) < 8, `after ${seconds(since)} s`);
      return 'gateway: ends at once; hub: OnDisconnected';
    },
  },
};

/** The same with the official clients: an upgrade that is held up until the connection is gone, then 404. */
const realClient = (client, part) => ({
  part,
  timeouts: 'resume_window = "1s"',
  async run(place) {
    const proxy = await startCuttingProxy(place.url);
    place.closers.push(() => proxy.close());
    const cell = { client, protocol: 'json', total: 10, spanMs: 1_000 };
    const program = new ClientProgram(cell, `${proxy.url}${PATH}`, 'g');
    place.closers.push(() => program.child.kill('SIGKILL'));
    const id = await program.until('connected', 20_000);
    proxy.hold();
    proxy.cutNow();
    ok(await place.disconnected(id), 'the hub was not told');
    ok(!program.ended, 'the client ended in the gap');
    proxy.release();
    await within(program.child.ended, 20_000, () => 'the client did not end');
    const text = program.ended;
    deepStrictEqual([...proxy.stats.refused], [[404, 1]]);
    return `client: closed ("${text}") after one attempt; hub: OnDisconnected`;
  },
});
CASES['gap longer than the window, js10'] = realClient('js10', 'js');
CASES['gap longer than the window, dotnet'] = realClient('dotnet', 'dotnet');

/** Runs the cases whose names match, before both hubs; gives what failed. */
export async function runCases(wanted) {
  const wrong = [];
  const jobs = Object.entries(CASES).flatMap(([title, run]) => (run.hubs ?? ['aspnet10', 'embedded']).map((kind) => ({ title, run, kind })))
    .map((job) => ({ ...job, name: `case/${job.kind}/${job.title}` }))
    .filter(({ name, run }) => wanted.test(name) && !prerequisite('js') && !(run.part && prerequisite(run.part)));
  const worker = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const outcome = await runCase(job);
      console.log(`${job.name}\n    ${outcome.text}`);
      wrong.push(...(outcome.failed ? [job.name] : []));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return wrong;
}

async function runCase({ run, kind }) {
  let place;
  try {
    place = await Place.open(kind, run);
    return { text: await run.run(place) };
  } catch (error) {
    return { failed: true, text: error.message.split('\n').slice(0, 4).join(' ') };
  } finally {
    await place?.close();
  }
}
