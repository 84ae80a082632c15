// Messages cut at every byte, and in linear time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const { outputFiles: [{ text }] } = await build({
  entryPoints: [fileURLToPath(new URL('../src/cut.ts', import.meta.url))], bundle: true, format: 'esm', write: false,
});
const { cutter } = await import(`data:text/javascript,${encodeURIComponent(text)}`);
const MIB = 1024 * 1024;

/** Length and so many bytes; bytes that look like separators and lengths among them. */
function framed(size) {
  const length = [];
  for (let left = size; ; ) {
    const low = left & 0x7f;
    left = Math.floor(left / 128);
    length.push(left ? low | 0x80 : low);
    if (!left) break;
  }
  return Buffer.concat([Buffer.from(length), Buffer.from(Array.from({ length: size }, (_, i) => [0x1e, 0xff, 0x80, 3][i % 4]))]);
}

/** Where whole messages end, by a reading of its own. */
function boundaries(messages) {
  let at = 0;
  return new Set(messages.map((message) => (at += message.length)));
}

function feed(cut, bytes, cuts) {
  const given = [];
  let at = 0;
  for (const to of [...cuts, bytes.length]) {
    const data = cut(new Uint8Array(bytes.subarray(at, to)));
    if (data !== undefined) given.push(Buffer.from(data));
    at = to;
  }
  return given;
}

const TEXTS = ['{}', '{"type":6}', '{"text":"Grüße, 世界 🦀"}', '{"type":1}'].map((text) => Buffer.from(`${text}\u001e`));
const BINARIES = [Buffer.from('{}\u001e'), ...[0, 1, 5, 127, 128, 300].map(framed)];

for (const [name, isBinary, messages] of [['text', false, TEXTS], ['binary', true, BINARIES]]) {
  const bytes = Buffer.concat(messages);
  const ends = boundaries(messages);
  const check = (cuts) => {
    const given = feed(cutter(isBinary), bytes, cuts);
    assert.deepEqual(Buffer.concat(given), bytes, `cut at ${cuts}`);
    let at = 0;
    for (const part of given) assert.ok(ends.has(at += part.length), `cut at ${cuts}: given away at ${at}`);
  };
  test(`${name}: cut at every byte, and at every pair of bytes`, () => {
    for (let first = 1; first < bytes.length; first += 1) {
      check([first]);
      for (let second = first + 1; second < bytes.length; second += 7) check([first, second]);
    }
  });
  test(`${name}: a byte at a time, each message is given as soon as it is whole`, () => {
    const cut = cutter(isBinary);
    bytes.forEach((byte, at) => {
      assert.equal(cut(Uint8Array.of(byte)) !== undefined, ends.has(at + 1), `byte ${at}`);
    });
  });
}

test('the given parts are what the hub sent: strings and exact array buffers', () => {
  assert.equal(cutter(false)(Buffer.from('{}\u001erest')), '{}\u001e');
  const whole = cutter(true)(Buffer.from([0x7b, 0x7d, 0x1e, 1, 0xc0, 9]));
  assert.deepEqual([whole instanceof ArrayBuffer, whole.byteLength], [true, 5]);
});

test('a length beyond any message fails', () => {
  const cut = cutter(true);
  cut(Buffer.from('{}\u001e'));
  assert.throws(() => cut(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)), /too long/);
});

for (const isBinary of [false, true]) {
  test(`16 MiB in chunks of 64 bytes take time in proportion: ${isBinary ? 'binary' : 'text'}`, () => {
    const seconds = (size) => {
      const body = isBinary ? framed(size) : Buffer.concat([Buffer.alloc(size, 'x'), Buffer.of(0x1e)]);
      const cut = cutter(isBinary);
      if (isBinary) cut(Buffer.from('{}\u001e'));
      const began = performance.now();
      let given = 0;
      for (let at = 0; at < body.length; at += 64) {
        const data = cut(body.subarray(at, at + 64));
        if (data !== undefined) given += isBinary ? data.byteLength : data.length;
      }
      assert.equal(given, body.length);
      return performance.now() - began;
    };
    seconds(MIB);
    const [small, large] = [Math.max(seconds(2 * MIB), 1), seconds(16 * MIB)];
    // Eight times the bytes; a copy for each chunk would make it 64 times, and minutes.
    assert.ok(large < small * 40 + 500, `2 MiB in ${small} ms, 16 MiB in ${large} ms`);
  });
}
