// A light hub client (JSON only) for runs with thousands of connects: negotiate, transport, handshake, calls one at a time, clean end.
//
// It keeps no cookies and never retries: whatever a connect meets is its outcome. Invariant: a failure names the step that failed.
import { Agent, request } from 'node:http';
import { randomBytes } from 'node:crypto';

const SEPARATOR = '\u001e';
const LIMIT_MS = 20_000;

/** Connects through `base` and `path` over `transport`; `agent` keeps plain HTTP connections. */
export async function connect(base, path, transport, agent) {
  const negotiated = await call(agent, 'POST', `${base}${path}/negotiate?negotiateVersion=1`, '');
  const answer = parse('negotiate', negotiated);
  const url = `${base}${path}?id=${answer.connectionToken}`;
  const client = new Client(answer.connectionId, url, agent);
  await { WebSockets: openSocket, ServerSentEvents: openEvents, LongPolling: openPolls }[transport](client);
  client.write('{"protocol":"json","version":1}');
  const handshake = await client.next('handshake');
  if (handshake !== '{}') {
    throw new Error(`handshake: ${handshake}`);
  }
  return client;
}

export const newAgent = (sockets) => new Agent({ keepAlive: true, maxSockets: sockets * 3 });

class Client {
  constructor(connectionId, url, agent) {
    Object.assign(this, { connectionId, url, agent, texts: [], waiting: null, rest: '', failed: null, lastId: 0 });
  }

  /** Bytes of the hub. */
  take(text) {
    this.rest += text;
    const parts = this.rest.split(SEPARATOR);
    this.rest = parts.pop();
    for (const part of parts.filter((message) => message !== '{"type":6}')) {
      this.texts.push(part);
    }
    this.wake();
  }

  /** The transport ended or failed; every later wait fails with it. */
  fail(reason) {
    this.failed ??= reason;
    this.wake();
  }

  wake() {
    this.waiting?.();
  }

  async next(what) {
    const deadline = Date.now() + LIMIT_MS;
    while (this.texts.length === 0) {
      if (this.failed) {
        throw new Error(`${what}: ${this.failed}`);
      }
      if (Date.now() >= deadline) {
        throw new Error(`${what}: nothing within ${LIMIT_MS} ms`);
      }
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, deadline - Date.now());
        this.waiting = () => { clearTimeout(timer); resolve(); };
      });
      this.waiting = null;
    }
    return this.texts.shift();
  }

  write(text) {
    this.sendText(text + SEPARATOR);
  }

  async invoke(target, ...args) {
    this.lastId += 1;
    const invocationId = String(this.lastId);
    this.write(JSON.stringify({ type: 1, invocationId, target, arguments: args }));
    while (true) {
      const message = JSON.parse(await this.next(target));
      if (message.type === 7) {
        throw new Error(`${target}: the hub closed: ${JSON.stringify(message)}`);
      }
      if (message.type === 3 && message.invocationId === invocationId) {
        if (message.error) {
          throw new Error(`${target}: ${message.error}`);
        }
        return message.result;
      }
    }
  }
}

/** One plain request; its status and body. */
function call(agent, method, url, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent, method, headers: { 'content-type': 'text/plain;charset=UTF-8', ...headers } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => { text += chunk; })
        .on('end', () => resolve({ status: response.statusCode, text })).on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

function parse(what, { status, text }) {
  if (status !== 200) {
    throw new Error(`${what}: status ${status}`);
  }
  return JSON.parse(text);
}

function frame(opcode, payload) {
  const mask = randomBytes(4);
  const head = payload.length < 126 ? Buffer.from([0x80 | opcode, 0x80 | payload.length])
    : Buffer.from([0x80 | opcode, 0x80 | 126, payload.length >> 8, payload.length & 255]);
  const masked = Buffer.from(payload);
  for (let i = 0; i < masked.length; i += 1) {
    masked[i] ^= mask[i % 4];
  }
  return Buffer.concat([head, mask, masked]);
}

/** Reads unfragmented messages below 64 KiB, which is all that these runs exchange. */
function readFrames(client, socket, first) {
  let buffer = Buffer.alloc(0);
  const read = (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    while (buffer.length >= 2) {
      const short = buffer[1] & 127;
      const start = short === 126 ? 4 : 2;
      const length = short === 126 && buffer.length >= 4 ? buffer.readUInt16BE(2) : short;
      if (short === 127 || buffer.length < start || buffer.length < start + length) {
        return;
      }
      const payload = buffer.subarray(start, start + length);
      const opcode = buffer[0] & 15;
      if (opcode === 8) {
        client.fail(`close ${length >= 2 ? payload.readUInt16BE(0) : 'without code'}`);
      } else if (opcode === 9) {
        socket.write(frame(10, payload));
      } else if (opcode !== 10) {
        client.take(payload.toString('utf8'));
      }
      buffer = buffer.subarray(start + length);
    }
  };
  socket.on('data', read);
  if (first.length > 0) {
    read(first);
  }
}

function openSocket(client) {
  return new Promise((resolve, reject) => {
    const upgrade = request(client.url, { agent: false, headers: {
      connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': randomBytes(16).toString('base64'),
    } });
    upgrade.on('upgrade', (_response, socket, first) => {
      socket.setNoDelay();
      socket.on('error', (error) => client.fail(error.code)).on('close', () => client.fail('connection lost'));
      readFrames(client, socket, first);
      client.sendText = (text) => socket.write(frame(1, Buffer.from(text)));
      client.end = () => new Promise((done) => {
        socket.once('close', done);
        socket.write(frame(8, Buffer.from([3, 232])));
        socket.once('data', () => socket.end());
      });
      client.drop = () => socket.destroy();
      resolve();
    });
    upgrade.on('response', (response) => {
      response.resume();
      reject(new Error(`upgrade: status ${response.statusCode}`));
    });
    upgrade.on('error', (error) => reject(new Error(`upgrade: ${error.code}`)));
    upgrade.end();
  });
}

/** POSTs one after the other, as the order of messages asks for. */
function posts(client) {
  let last = Promise.resolve();
  client.sendText = (text) => {
    last = last.then(async () => {
      const { status } = await call(client.agent, 'POST', client.url, text);
      if (status !== 200) {
        client.fail(`POST: status ${status}`);
      }
    }).catch((error) => client.fail(`POST: ${error.code ?? error.message}`));
    return last;
  };
}

function openEvents(client) {
  posts(client);
  return new Promise((resolve, reject) => {
    const stream = request(client.url, { agent: false, headers: { accept: 'text/event-stream' } }, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        reject(new Error(`event stream: status ${response.statusCode}`));
        return;
      }
      let rest = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        const events = (rest + chunk).split('\r\n\r\n');
        rest = events.pop();
        for (const event of events) {
          client.take(event.split('\r\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('\n'));
        }
      }).on('close', () => client.fail('event stream ended')).on('error', () => {});
      resolve();
    });
    client.end = async () => {
      stream.destroy();
    };
    client.drop = () => stream.destroy();
    stream.on('error', (error) => reject(new Error(`event stream: ${error.code}`)));
    stream.end();
  });
}

async function openPolls(client) {
  posts(client);
  const first = await call(client.agent, 'GET', client.url);
  if (first.status !== 200 || first.text !== '') {
    throw new Error(`first poll: status ${first.status}`);
  }
  let over = false;
  const polling = (async () => {
    while (!over) {
      const { status, text } = await call(client.agent, 'GET', client.url);
      if (status !== 200) {
        client.fail(`poll: status ${status}`);
        return;
      }
      client.take(text);
    }
  })().catch((error) => client.fail(`poll: ${error.code ?? error.message}`));
  client.end = async () => {
    over = true;
    const { status } = await call(client.agent, 'DELETE', client.url);
    await polling;
    if (status !== 202) {
      throw new Error(`DELETE: status ${status}`);
    }
  };
  client.drop = () => { over = true; };
}
