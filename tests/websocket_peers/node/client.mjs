// A client on the npm ws package: echoes, fragments, pings and closes with the server at the given address.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';

const url = process.argv[2];
let done = 0;

async function open() {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  await once(socket, 'open');
  return socket;
}

// Framing and limits: text and binary of lengths around every header form, whole and in fragments.
const socket = await open();
for (const length of [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20]) {
  for (const binary of [false, true]) {
    for (const pieces of [1, 2, 7]) {
      const sent = Buffer.alloc(length, binary ? 0xff : 'κ');
      const text = binary ? sent : Buffer.from(sent.toString('utf8').replaceAll('\ufffd', 'x'));
      const step = Math.ceil(text.length / pieces) || 1;
      for (let at = 0; at < Math.max(text.length, 1); at += step) {
        socket.send(text.subarray(at, at + step), { binary, fin: at + step >= text.length });
        if (pieces > 1) socket.ping(Buffer.from(`between ${at}`));
      }
      const [echo, isBinary] = await once(socket, 'message');
      assert.equal(isBinary, binary);
      assert.ok(text.equals(echo), `${length} bytes, binary ${binary}, ${pieces} pieces`);
      done += 1;
    }
  }
}
for (const payload of ['', 'Hello', 'x'.repeat(125)]) {
  socket.ping(payload);
  for (;;) {
    const [pong] = await once(socket, 'pong');
    if (pong.toString() === payload) break;
  }
  done += 1;
}
socket.close(1000, 'done');
const [code, reason] = await once(socket, 'close');
assert.deepEqual([code, reason.toString()], [1000, 'done']);

for (const sent of [1000, 1001, 1002, 1003, 1007, 1011, 3000, 3999, 4000, 4999, undefined]) {
  const closing = await open();
  closing.close(sent, sent ? 'why' : undefined);
  const [got] = await once(closing, 'close');
  assert.equal(got, sent ?? 1005);
  done += 1;
}
console.log(`${done} steps`);
