// A TCP proxy that cuts WebSocket connections at random: the network of the stateful-reconnect runs.
//
// A cut ends both sides without a close frame: by RST, by FIN, or one of each; at a moment, or at a byte (so inside a frame, or
// inside what is repeated after a resume). Invariants: one seed gives one sequence of plans; the answer to an upgrade is never cut,
// because a client that does not see it has no second try; what is behind a cut is never delivered.
import { connect, createServer } from 'node:net';
import { FrameFault } from './frame-fault.mjs';

/** A socket cut this early after its upgrade was cut in the repetition. */
const REPETITION_MS = 40;
/** Without a byte for so long, a connection is idle. */
const IDLE_MS = 60;
/** Half of the cuts at a byte come within the first hundred: in Sequence, or in the first message repeated. */
const BYTES_MAX = 12_000;
const HOWS = ['rst', 'fin', 'rst-fin', 'fin-rst'];
const HEAD_END = Buffer.from('\r\n\r\n');

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Listens on a free loopback port before `target`. Nothing is cut before `arm`. `fault` (`drop-up`, `double-down`, …) tampers with
 * one frame instead, to prove that a run notices.
 */
export async function startCuttingProxy(target, { seed, fault } = {}) {
  const proxy = new CuttingProxy(new URL(target), randomOf(seed ?? 1), fault);
  await proxy.listen();
  return proxy;
}

class CuttingProxy {
  constructor(target, random, fault) {
    Object.assign(this, { target, random, fault, left: 0, meanMs: 0, open: new Set(), onCut: () => {} });
    this.stats = { cuts: 0, repetition: 0, traffic: 0, idle: 0, inFrame: 0, upgrades: 0, refused: new Map() };
  }

  async listen() {
    this.server = createServer((near) => new Carried(this, near));
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  /** Cuts `cuts` times from now on, `meanMs` apart on the average while sockets come back at once. */
  arm(cuts, meanMs) {
    Object.assign(this, { left: cuts, meanMs });
    this.open.forEach((carried) => carried.plan());
  }

  /** Upgrades are not passed on until `release`. */
  hold() {
    this.held = [];
  }

  release() {
    const held = this.held ?? [];
    this.held = null;
    held.forEach((pass) => pass());
  }

  disarm() {
    this.left = 0;
  }

  /** Cuts whatever is open now; for cases that need one cut at one moment. */
  cutNow(how = 'rst') {
    [...this.open].forEach((carried) => carried.cut(how, 'told'));
  }

  close() {
    this.server.close();
    [...this.open].forEach((carried) => carried.cut('rst', 'told'));
  }
}

class Carried {
  constructor(proxy, near) {
    const far = connect({ host: proxy.target.hostname, port: Number(proxy.target.port) });
    Object.assign(this, { proxy, near, far, upgrade: null, head: Buffer.alloc(0), answered: 0, lastByte: 0, heard: false, done: false });
    for (const socket of [near, far]) {
      socket.setNoDelay();
      socket.on('error', () => {});
      socket.on('close', () => this.over());
    }
    near.on('data', (bytes) => this.up(bytes));
    far.on('data', (bytes) => this.down(bytes));
    near.on('end', () => this.done || far.end());
    far.on('end', () => this.done || near.end());
  }

  over() {
    this.proxy.open.delete(this);
    clearTimeout(this.timer);
    if (!this.done) {
      this.done = true;
      this.near.destroy();
      this.far.destroy();
    }
  }

  up(bytes) {
    if (this.done) {
      return;
    }
    this.upgrade ??= /^GET [^\r]+\r\n[^]*upgrade: websocket/i.test(bytes.toString('latin1'));
    if (this.answered === 0) {
      const pass = () => this.far.write(bytes);
      if (this.upgrade && this.proxy.held) {
        this.proxy.held.push(pass);
      } else {
        pass();
      }
      return;
    }
    this.heard = true;
    this.lastByte = Date.now();
    const passed = this.share('up', bytes);
    this.far.write(this.tamper('up', passed));
    this.cutIfDue('up', passed.length < bytes.length);
    this.release();
  }

  down(bytes) {
    if (this.done) {
      return;
    }
    if (!this.upgrade) {
      this.near.write(bytes);
      return;
    }
    if (this.answered > 0) {
      this.downFrames(bytes);
      return;
    }
    this.head = Buffer.concat([this.head, bytes]);
    const end = this.head.indexOf(HEAD_END);
    if (end < 0) {
      return;
    }
    this.answer(Number(this.head.toString('latin1', 9, 12)), end + HEAD_END.length);
  }

  /** The head of the answer to an upgrade is whole; frames may be behind it. */
  answer(status, length) {
    const [head, rest] = [this.head.subarray(0, length), this.head.subarray(length)];
    this.near.write(head);
    if (status !== 101) {
      this.proxy.stats.refused.set(status, (this.proxy.stats.refused.get(status) ?? 0) + 1);
      this.upgrade = false;
      this.near.write(rest);
      return;
    }
    this.answered = Date.now();
    this.lastByte = this.answered;
    this.proxy.stats.upgrades += 1;
    this.proxy.open.add(this);
    this.plan();
    if (rest.length > 0) {
      this.downFrames(rest);
    }
  }

  downFrames(bytes) {
    this.lastByte = Date.now();
    const passed = this.share('down', bytes);
    this.near.write(this.tamper('down', passed));
    this.cutIfDue('down', passed.length < bytes.length);
  }

  /** Draws when and how this socket will be cut: at a moment, or at a byte of one direction, soon after its upgrade. */
  plan() {
    const { proxy } = this;
    if (this.due || proxy.left === 0) {
      return;
    }
    const [kind, how, bytes, ms, inFrame] = Array.from({ length: 5 }, () => proxy.random());
    this.due = {
      direction: kind < 0.25 ? 'up' : kind < 0.5 ? 'down' : null,
      bytes: Math.floor(BYTES_MAX ** bytes),
      how: HOWS[Math.floor(how * HOWS.length)],
      inFrame: inFrame < 0.5,
      reached: false,
    };
    // Half of the cuts come at once, so the others wait twice the mean.
    this.timer = setTimeout(() => this.atMoment(), ms * 4 * proxy.meanMs);
  }

  /** The part of `bytes` before the cut, when this direction has one. */
  share(direction, bytes) {
    const { due } = this;
    if (!due || due.direction !== direction || this.proxy.left === 0) {
      return bytes;
    }
    if (bytes.length < due.bytes) {
      due.bytes -= bytes.length;
      return bytes;
    }
    due.reached = true;
    const passed = bytes.subarray(0, due.bytes);
    due.bytes = 0;
    return passed;
  }

  cutIfDue(direction, inFrame) {
    const { due } = this;
    if (!due?.reached || due.direction !== direction) {
      return;
    }
    due.torn ||= inFrame;
    // A client that has said nothing yet may not have read the answer to its upgrade.
    if (this.heard) {
      this.cut(due.how, this.moment(), due.torn);
    }
  }

  release() {
    if (!this.done && this.due?.reached) {
      this.cut(this.due.how, this.moment(), this.due.torn);
    }
  }

  /** The planned moment: now, or at a byte of what comes next. */
  atMoment() {
    const { due } = this;
    if (this.done || this.proxy.left === 0) {
      return;
    }
    if (!this.heard) {
      this.timer = setTimeout(() => this.atMoment(), 20);
      return;
    }
    if (due.inFrame && !due.waited && this.moment() !== 'idle') {
      Object.assign(due, { waited: true, direction: this.proxy.random() < 0.5 ? 'up' : 'down', bytes: 1 + Math.floor(this.proxy.random() * 200) });
      this.timer = setTimeout(() => this.atMoment(), 150);
      return;
    }
    this.cut(due.how, this.moment());
  }

  moment() {
    const now = Date.now();
    if (now - this.lastByte > IDLE_MS) {
      return 'idle';
    }
    return now - this.answered < REPETITION_MS ? 'repetition' : 'traffic';
  }

  tamper(direction, bytes) {
    const { fault } = this.proxy;
    if (!fault?.endsWith(direction) || bytes.length === 0) {
      return bytes;
    }
    this.frames ??= new FrameFault(fault.split('-')[0]);
    return this.frames.take(bytes);
  }

  cut(how, moment, torn = false) {
    if (this.done) {
      return;
    }
    this.done = true;
    this.proxy.open.delete(this);
    clearTimeout(this.timer);
    const [near, far] = { rst: ['rst', 'rst'], fin: ['fin', 'fin'], 'rst-fin': ['rst', 'fin'], 'fin-rst': ['fin', 'rst'] }[how];
    endSocket(this.near, near);
    endSocket(this.far, far);
    if (moment !== 'told') {
      const { proxy } = this;
      proxy.left -= 1;
      proxy.stats.cuts += 1;
      proxy.stats[moment] += 1;
      proxy.stats.inFrame += torn ? 1 : 0;
      proxy.onCut();
    }
  }
}

function endSocket(socket, how) {
  if (how === 'rst') {
    socket.resetAndDestroy();
    return;
  }
  socket.end();
  // Whoever does not answer a FIN is let go.
  setTimeout(() => socket.destroy(), 2000).unref();
}
