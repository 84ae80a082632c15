// A client with stateful reconnect that does what a case wants of it: JSON over the `ws` package, one socket after the other.
//
// It numbers, acknowledges, repeats and drops as the wire says; what an official client hides (statuses of upgrades, the first message
// of a socket, how a socket ended) is told. Invariant: `messages` holds each counted message once, in the order of its number.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { prepared } from './places.mjs';
import { within } from './process.mjs';

const SEPARATOR = '\u001e';
const PING = { type: 6 };
const COUNTED = new Set([1, 2, 3, 4, 5]);
const socketLibrary = () => createRequire(join(prepared, 'js/v10/package.json'))('ws');

const authorization = (jwt) => (jwt ? { authorization: `Bearer ${jwt}` } : {});

/** Opens a WebSocket and gives `{ status, socket }`; what comes on it before anybody listens is kept in `socket.early`. */
export function openSocket(url, jwt) {
  const WebSocket = socketLibrary();
  const socket = new WebSocket(url.replace(/^http/, 'ws'), { headers: authorization(jwt) });
  socket.early = [];
  socket.take = (text) => socket.early.push(text);
  socket.on('message', (data) => socket.take(data.toString()));
  socket.on('error', () => {});
  socket.lost = new Promise((resolve) => { socket.on('close', resolve); });
  const answered = new Promise((resolve, reject) => {
    socket.on('open', () => resolve({ status: 101, socket }));
    socket.on('unexpected-response', (request, response) => {
      request.destroy();
      resolve({ status: response.statusCode });
    });
    socket.lost.then((code) => reject(new Error(`the upgrade was not answered (${code})`)));
  });
  return within(answered, 10_000, () => 'the upgrade was not answered');
}

export class StatefulPeer {
  /** Negotiates with stateful reconnect, connects, shakes hands with version 2 and pings once. */
  static async connect(base, path, { jwt, acks = true } = {}) {
    const answer = await fetch(`${base}${path}/negotiate?negotiateVersion=1&useStatefulReconnect=true`,
      { method: 'POST', headers: authorization(jwt) });
    if (answer.status !== 200) {
      throw new Error(`negotiate: ${answer.status}`);
    }
    const { connectionId, connectionToken, useStatefulReconnect } = await answer.json();
    if (!useStatefulReconnect) {
      throw new Error('negotiate did not grant stateful reconnect');
    }
    const peer = new StatefulPeer(base, path, { connectionId, connectionToken, jwt, acks });
    const { status, socket } = await openSocket(peer.url(), jwt);
    if (status !== 101) {
      throw new Error(`connect: ${status}`);
    }
    peer.adopt(socket, true);
    socket.send(`{"protocol":"json","version":2}${SEPARATOR}`);
    await peer.until(() => peer.shaken, 'the handshake response');
    peer.say(PING);
    return peer;
  }

  constructor(base, path, { connectionId, connectionToken, jwt, acks }) {
    Object.assign(this, { base, path, connectionId, connectionToken, jwt, acks, shaken: false });
    Object.assign(this, { messages: [], next: 1, latest: 0, repeated: 0, sent: 0, unacknowledged: [], acknowledged: 0, waits: new Set(), lastId: 0, closed: null });
  }

  url(path = this.path, token = this.connectionToken) {
    return `${this.base}${path}?id=${token}`;
  }

  /** Takes this socket as the connection's; on all but the first, Sequence and what is unacknowledged go first. */
  adopt(socket, first = false) {
    Object.assign(this, { socket, firstMessage: null, rest: '' });
    socket.take = (text) => this.socket === socket && this.bytes(text);
    if (!first) {
      this.say({ type: 9, sequenceId: this.unacknowledged[0]?.number ?? this.sent + 1 });
      this.unacknowledged.forEach(({ text }) => socket.send(text));
    }
    socket.early.splice(0).forEach((text) => socket.take(text));
    socket.lost.then(() => this.wake());
  }

  bytes(text) {
    const parts = (this.rest + text).split(SEPARATOR);
    this.rest = parts.pop();
    parts.forEach((part) => this.message(JSON.parse(part)));
    this.wake();
  }

  message(message) {
    if (!this.shaken) {
      this.shaken = true;
      return;
    }
    this.firstMessage ??= message;
    if (message.type === 7) {
      this.closed = message;
    } else if (message.type === 8) {
      this.acknowledged = message.sequenceId;
      this.unacknowledged = this.unacknowledged.filter(({ number }) => number > message.sequenceId);
    } else if (message.type === 9) {
      this.next = message.sequenceId;
    } else if (COUNTED.has(message.type)) {
      this.counted(message);
    }
  }

  counted(message) {
    const number = this.next;
    this.next += 1;
    if (number <= this.latest) {
      this.repeated += 1;
      return;
    }
    this.latest = number;
    this.messages.push(message);
    if (this.acks) {
      this.say({ type: 8, sequenceId: number });
    }
  }

  wake() {
    this.waits.forEach((wait) => wait());
  }

  /** Until `condition` gives something; fails when the time is over. */
  until(condition, what, ms = 10_000) {
    let check;
    const happened = new Promise((resolve) => {
      check = () => {
        const found = condition();
        if (found) {
          resolve(found);
        }
      };
      this.waits.add(check);
      check();
    });
    return within(happened, ms, () => `${what}: nothing within ${ms} ms`).finally(() => this.waits.delete(check));
  }

  /** Sends without counting. */
  say(message) {
    if (this.socket.readyState === 1) {
      this.socket.send(JSON.stringify(message) + SEPARATOR);
    }
  }

  /** Sends a counted message, now or after the next resume. */
  write(message) {
    const text = JSON.stringify(message) + SEPARATOR;
    this.sent += 1;
    this.unacknowledged.push({ number: this.sent, text });
    if (this.socket.readyState === 1) {
      this.socket.send(text);
    }
  }

  send(target, ...args) {
    this.write({ type: 1, target, arguments: args });
  }

  async invoke(target, ...args) {
    this.lastId += 1;
    const invocationId = String(this.lastId);
    this.write({ type: 1, invocationId, target, arguments: args });
    const answer = await this.until(() => this.messages.find((m) => m.type === 3 && m.invocationId === invocationId), `the answer of ${target}`);
    if (answer.error) {
      throw new Error(`${target}: ${answer.error}`);
    }
    return answer.result;
  }

  /** First arguments of the calls of that target, in order. */
  calls(target) {
    return this.messages.filter((m) => m.type === 1 && m.target === target).map((m) => m.arguments[0]);
  }

  /** Loses the socket as a network does. */
  cut() {
    this.socket._socket.resetAndDestroy();
    return this.socket.lost;
  }

  /** Comes back; gives the status of the upgrade, and goes on with the new socket when that is 101. */
  async resume({ jwt = this.jwt, path, token } = {}) {
    const { status, socket } = await openSocket(this.url(path, token), jwt);
    if (socket) {
      this.adopt(socket);
    }
    return status;
  }

  drop() {
    this.socket?.terminate();
  }
}
