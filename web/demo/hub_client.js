// A small SignalR client: four transports, JSON and MessagePack, invocations and calls from the hub.
// It shows the protocol more than it hides it: `onWire` sees every hub message in either direction.

import { decode, encode } from './message_pack.js';
import { webTransport } from './webtransport.js';

const SEPARATOR = '\u001e';
const RETRY_DELAYS_MS = [0, 2000, 10000, 30000];
const PING_INTERVAL_MS = 15000;
const SERVER_TIMEOUT_MS = 30000;

export const TRANSPORTS = ['WebTransport', 'WebSockets', 'ServerSentEvents', 'LongPolling'];

/** JSON: objects ended by 0x1E. */
const json = {
  name: 'json',
  binary: false,
  write: (message) => JSON.stringify(message) + SEPARATOR,
  /** Cuts a chunk, which ends at a message boundary, into messages with their size in bytes. */
  read: (chunk) =>
    asText(chunk)
      .split(SEPARATOR)
      .slice(0, -1)
      .map((record) => ({ message: JSON.parse(record), bytes: byteLength(record) + 1, raw: record })),
};

/** MessagePack: arrays behind a length. */
const messagePack = {
  name: 'messagepack',
  binary: true,
  write(message) {
    const body = encode(toArray(message));
    const length = [];
    for (let left = body.length; ; ) {
      const low = left & 0x7f;
      left = Math.floor(left / 128);
      length.push(left > 0 ? low | 0x80 : low);
      if (left === 0) break;
    }
    const framed = new Uint8Array(length.length + body.length);
    framed.set(length);
    framed.set(body, length.length);
    return framed;
  },
  read(chunk) {
    const bytes = asBytes(chunk);
    const messages = [];
    for (let at = 0; at < bytes.length; ) {
      const start = at;
      let length = 0;
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++];
        length += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
      }
      const body = bytes.subarray(at, at + length);
      at += length;
      messages.push({ message: fromArray(decode(body)), bytes: at - start, raw: hex(bytes.subarray(start, at)) });
    }
    return messages;
  },
};

export const PROTOCOLS = { json, messagepack: messagePack };

/** The items of a MessagePack message, by type. */
function toArray(m) {
  switch (m.type) {
    case 1: return [1, {}, m.invocationId ?? null, m.target, m.arguments];
    case 3: return m.error ? [3, {}, m.invocationId, 1, m.error] : [3, {}, m.invocationId, 2];
    case 7: return [7, null];
    default: return [m.type];
  }
}

function fromArray(items) {
  const [type, , invocationId] = items;
  switch (type) {
    case 1: return { type, invocationId: invocationId ?? undefined, target: items[3], arguments: items[4] };
    case 3: {
      const [kind, value] = items.slice(3);
      return { type, invocationId, ...(kind === 1 && { error: value }), ...(kind === 3 && { result: value }) };
    }
    case 7: return { type, error: items[1] ?? undefined, allowReconnect: items[2] };
    default: return { type, invocationId };
  }
}

/** A connection to a hub. Its events: `state` (connecting, connected, reconnecting, disconnected) with a reason. */
export class HubClient {
  #url; #transportName; #protocol; #transport = null; #handlers = new Map(); #pending = new Map();
  #nextId = 0; #timer = null; #lastSent = 0; #lastReceived = 0; #stopped = true;

  constructor(url, { transport, protocol, onWire = () => {}, onState = () => {} }) {
    this.#url = url;
    this.#transportName = transport;
    this.#protocol = PROTOCOLS[protocol];
    this.onWire = onWire;
    this.onState = onState;
    this.connectionId = null;
  }

  /** Runs `handler` when the hub calls `target`. */
  on(target, handler) {
    this.#handlers.set(target.toLowerCase(), handler);
  }

  async start() {
    this.#stopped = false;
    this.onState('connecting');
    try {
      await this.#connect();
    } catch (error) {
      this.#stopped = true;
      this.onState('disconnected', error.message);
      throw error;
    }
    this.onState('connected', this.#fallback());
  }

  /** Calls a method and resolves with its result and the time it took in milliseconds. */
  invoke(target, ...args) {
    if (!this.#transport) return Promise.reject(new Error('not connected'));
    const invocationId = String(this.#nextId++);
    return new Promise((resolve, reject) => {
      this.#pending.set(invocationId, { resolve, reject, at: performance.now() });
      this.#send({ type: 1, invocationId, target, arguments: args }).catch((error) => {
        this.#pending.delete(invocationId);
        reject(error);
      });
    });
  }

  async stop() {
    this.#stopped = true;
    const transport = this.#transport;
    if (transport) {
      await this.#send({ type: 7 }).catch(() => {});
      this.#drop();
      await transport.stop();
    }
    this.onState('disconnected');
  }

  /** Ends the connection when the page goes and nothing can be waited for. */
  leave() {
    this.#stopped = true;
    this.#transport?.stop();
  }

  /** Drops the connection without a word, as a dead network would. */
  cut() {
    const transport = this.#transport;
    this.#lost('cut by hand');
    transport?.stop();
  }

  /** What to tell of a connection that is not carried by what was chosen. */
  #fallback() {
    const name = this.#transport?.name ?? this.#transportName;
    return name === this.#transportName ? undefined : `${this.#transportName} does not get through, ${name} carry the connection`;
  }

  async #connect() {
    // The package's HTTP client asks for WebTransport, and its transport knows what was answered.
    const options = this.#transportName === 'WebTransport' ? webTransport() : undefined;
    const negotiated = await negotiate(this.#url, options?.httpClient);
    const offered = negotiated.availableTransports.find((entry) => entry.transport === this.#transportName);
    if (!offered) throw new Error(`the server does not offer ${this.#transportName}`);
    const url = new URL(this.#url);
    url.searchParams.set('id', negotiated.connectionToken ?? negotiated.connectionId);
    let shaken;
    const handshake = new Promise((resolve, reject) => (shaken = { resolve, reject }));
    // The handshake may be refused before anybody waits for it.
    handshake.catch(() => {});
    let transport = null;
    const onData = (chunk) => {
      this.#lastReceived = performance.now();
      if (shaken) chunk = this.#takeHandshake(chunk, shaken, () => (shaken = null));
      if (chunk.length) this.#receive(chunk);
    };
    const onEnd = (reason) => {
      shaken?.reject(new Error(reason ?? 'the connection ended before the handshake'));
      if (transport && transport === this.#transport) this.#lost(reason);
    };
    transport = options
      ? await openWebTransport(options.transport, url, this.#protocol.binary, onData, onEnd)
      : await openTransport(this.#transportName, url, this.#protocol.binary, onData, onEnd);
    const request = JSON.stringify({ protocol: this.#protocol.name, version: 1 });
    this.#wire('out', 'Handshake', request.length + 1, request);
    await transport.send(request + SEPARATOR);
    await handshake;
    this.#transport = transport;
    this.connectionId = negotiated.connectionId;
    this.#lastReceived = performance.now();
    if (this.#transportName !== 'LongPolling') {
      await this.#send({ type: 6 });
      this.#timer = setInterval(() => this.#tick(), 1000);
    }
  }

  /** Reads the handshake's answer off the front of the first chunk and gives what is behind it. */
  #takeHandshake(chunk, { resolve, reject }, done) {
    const bytes = asBytes(chunk);
    const end = bytes.indexOf(0x1e);
    const answer = new TextDecoder().decode(bytes.subarray(0, end));
    this.#wire('in', 'Handshake', end + 1, answer);
    done();
    const { error } = JSON.parse(answer);
    if (error) reject(new Error(error));
    else resolve();
    return bytes.subarray(end + 1);
  }

  #receive(chunk) {
    for (const { message, bytes, raw } of this.#protocol.read(chunk)) {
      this.#wire('in', typeName(message.type), bytes, raw, message);
      if (message.type === 1) this.#called(message);
      else if (message.type === 3) this.#completed(message);
      else if (message.type === 7) {
        const transport = this.#transport;
        if (!message.allowReconnect) this.#stopped = true;
        this.#lost(message.error);
        transport?.stop();
      }
    }
  }

  #called({ target, invocationId, arguments: args }) {
    this.#handlers.get(target.toLowerCase())?.(...args);
    if (invocationId) this.#send({ type: 3, invocationId, error: "Client didn't provide a result." }).catch(() => {});
  }

  #completed({ invocationId, error, result }) {
    const pending = this.#pending.get(invocationId);
    if (!pending) return;
    this.#pending.delete(invocationId);
    if (error) pending.reject(new Error(error));
    else pending.resolve({ result, ms: performance.now() - pending.at });
  }

  async #send(message) {
    const written = this.#protocol.write(message);
    const raw = typeof written === 'string' ? written.slice(0, -1) : hex(written);
    this.#wire('out', typeName(message.type), byteLength(written), raw, message);
    this.#lastSent = performance.now();
    await this.#transport.send(written);
  }

  #wire(direction, name, bytes, raw, message) {
    this.onWire({ direction, name, bytes, raw, message, at: new Date() });
  }

  #tick() {
    const now = performance.now();
    if (now - this.#lastReceived > SERVER_TIMEOUT_MS) this.cut();
    else if (now - this.#lastSent > PING_INTERVAL_MS) this.#send({ type: 6 }).catch(() => {});
  }

  #drop() {
    clearInterval(this.#timer);
    this.#transport = null;
    this.connectionId = null;
    for (const { reject } of this.#pending.values()) reject(new Error('the connection was lost'));
    this.#pending.clear();
  }

  async #lost(reason) {
    if (!this.#transport) return;
    this.#drop();
    for (const delay of RETRY_DELAYS_MS) {
      if (this.#stopped) break;
      this.onState('reconnecting', reason);
      await new Promise((resolve) => setTimeout(resolve, delay));
      if (this.#stopped) break;
      try {
        await this.#connect();
        return this.onState('connected', this.#fallback());
      } catch (error) {
        reason = error.message;
      }
    }
    this.#stopped = true;
    this.onState('disconnected', reason);
  }
}

async function negotiate(url, httpClient) {
  const target = new URL(url);
  target.pathname += '/negotiate';
  target.searchParams.set('negotiateVersion', '1');
  const negotiated = httpClient
    ? JSON.parse((await httpClient.send({ method: 'POST', url: target.href })).content)
    : await post(target);
  if (negotiated.error) throw new Error(negotiated.error);
  return negotiated;
}

async function post(target) {
  const answer = await fetch(target, { method: 'POST', headers: { 'X-Requested-With': 'XMLHttpRequest' } });
  if (!answer.ok) throw new Error(`negotiate was answered with ${answer.status}`);
  return answer.json();
}

/** The package's transport, driven as the official client drives it. */
async function openWebTransport(transport, url, binary, onData, onEnd) {
  transport.onreceive = (data) => onData(typeof data === 'string' ? data : new Uint8Array(data));
  transport.onclose = (error) => onEnd(error?.message);
  await transport.connect(url.href, binary ? 2 : 1);
  return transport;
}

function openTransport(name, url, binary, onData, onEnd) {
  if (name === 'WebSockets') return openWebSocket(url, onData, onEnd);
  if (name === 'ServerSentEvents') return openEventStream(url, onData, onEnd);
  return openLongPolling(url, binary, onData, onEnd);
}

function openWebSocket(url, onData, onEnd) {
  return new Promise((resolve, reject) => {
    const target = new URL(url);
    target.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(target);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => resolve({ send: async (data) => socket.send(data), stop: async () => socket.close() });
    socket.onmessage = ({ data }) => onData(typeof data === 'string' ? data : new Uint8Array(data));
    socket.onclose = ({ code }) => {
      reject(new Error('the WebSocket was refused'));
      onEnd(code === 1000 ? undefined : `the WebSocket closed with ${code}`);
    };
  });
}

function openEventStream(url, onData, onEnd) {
  return new Promise((resolve, reject) => {
    const stream = new EventSource(url, { withCredentials: true });
    stream.onopen = () => resolve({ send: poster(url), stop: async () => stream.close() });
    stream.onmessage = ({ data }) => onData(data);
    stream.onerror = () => {
      // The browser would try the same token again, which cannot work.
      stream.close();
      reject(new Error('the event stream was refused'));
      onEnd('the event stream ended');
    };
  });
}

async function openLongPolling(url, binary, onData, onEnd) {
  const abort = new AbortController();
  const poll = () => {
    const target = new URL(url);
    target.searchParams.set('_', Date.now());
    return fetch(target, { signal: abort.signal, cache: 'no-store' });
  };
  const first = await poll();
  if (!first.ok) throw new Error(`the first poll was answered with ${first.status}`);
  const loop = async () => {
    try {
      for (;;) {
        const answer = await poll();
        if (answer.status === 204) return onEnd();
        if (!answer.ok) return onEnd(`a poll was answered with ${answer.status}`);
        const body = new Uint8Array(await answer.arrayBuffer());
        if (body.length) onData(binary ? body : new TextDecoder().decode(body));
      }
    } catch (error) {
      if (!abort.signal.aborted) onEnd(error.message);
    }
  };
  loop();
  const stop = async () => {
    if (abort.signal.aborted) return;
    abort.abort();
    // Kept alive, as the page may be going.
    await fetch(url, { method: 'DELETE', keepalive: true }).catch(() => {});
  };
  return { send: poster(url), stop };
}

/** Posts one after the other, so that messages keep their order. */
function poster(url) {
  let last = Promise.resolve();
  return (data) => {
    const post = async () => {
      const answer = await fetch(url, { method: 'POST', body: data });
      if (!answer.ok) throw new Error(`a message was answered with ${answer.status}`);
    };
    const sent = last.catch(() => {}).then(post);
    last = sent;
    return sent;
  };
}

function typeName(type) {
  const names = { 1: 'Invocation', 2: 'StreamItem', 3: 'Completion', 6: 'Ping', 7: 'Close' };
  return names[type] ?? `Type ${type}`;
}

function asBytes(chunk) {
  return typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk;
}

function asText(chunk) {
  return typeof chunk === 'string' ? chunk : new TextDecoder().decode(chunk);
}

function byteLength(data) {
  return asBytes(data).length;
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
