// MessagePack, as much of it as hub messages need: nil, booleans, numbers, texts, bytes, arrays, maps, timestamps.

const text = new TextEncoder();
const read = new TextDecoder();

/** Encodes one value. */
export function encode(value) {
  const out = [];
  write(value, out);
  return Uint8Array.from(out);
}

/** Decodes one value; throws when the bytes are not exactly one. */
export function decode(bytes) {
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes, at: 0 };
  const value = readValue(reader);
  if (reader.at !== bytes.length) throw new Error('bytes behind the value');
  return value;
}

function write(value, out) {
  if (value === null || value === undefined) out.push(0xc0);
  else if (typeof value === 'boolean') out.push(value ? 0xc3 : 0xc2);
  else if (typeof value === 'number') writeNumber(value, out);
  else if (typeof value === 'string') {
    const bytes = text.encode(value);
    head(bytes.length, out, [0xa0, 32], 0xd9, 0xda, 0xdb);
    push(out, bytes);
  } else if (value instanceof Uint8Array) {
    head(value.length, out, null, 0xc4, 0xc5, 0xc6);
    push(out, value);
  } else if (Array.isArray(value)) {
    head(value.length, out, [0x90, 16], null, 0xdc, 0xdd);
    for (const item of value) write(item, out);
  } else {
    const members = Object.entries(value);
    head(members.length, out, [0x80, 16], null, 0xde, 0xdf);
    for (const [name, member] of members) {
      write(name, out);
      write(member, out);
    }
  }
}

function writeNumber(value, out) {
  if (!Number.isSafeInteger(value)) return big(out, 0xcb, 8, (view) => view.setFloat64(0, value));
  if (value >= 0) {
    if (value < 0x80) out.push(value);
    else if (value < 0x100) out.push(0xcc, value);
    else if (value < 0x10000) big(out, 0xcd, 2, (view) => view.setUint16(0, value));
    else if (value < 0x100000000) big(out, 0xce, 4, (view) => view.setUint32(0, value));
    else big(out, 0xcf, 8, (view) => view.setBigUint64(0, BigInt(value)));
  } else if (value >= -32) out.push(value & 0xff);
  else if (value >= -0x80) out.push(0xd0, value & 0xff);
  else if (value >= -0x8000) big(out, 0xd1, 2, (view) => view.setInt16(0, value));
  else if (value >= -0x80000000) big(out, 0xd2, 4, (view) => view.setInt32(0, value));
  else big(out, 0xd3, 8, (view) => view.setBigInt64(0, BigInt(value)));
}

/** Writes a length by the shortest of the kinds there are: `short` is [first byte, number of lengths it covers]. */
function head(length, out, short, one, two, four) {
  if (short && length < short[1]) out.push(short[0] | length);
  else if (one !== null && length < 0x100) out.push(one, length);
  else if (length < 0x10000) big(out, two, 2, (view) => view.setUint16(0, length));
  else big(out, four, 4, (view) => view.setUint32(0, length));
}

function big(out, kind, size, set) {
  const view = new DataView(new ArrayBuffer(size));
  set(view);
  out.push(kind);
  push(out, new Uint8Array(view.buffer));
}

function push(out, bytes) {
  for (const byte of bytes) out.push(byte);
}

function readValue(reader) {
  const kind = readUint(reader, 1);
  if (kind < 0x80) return kind;
  if (kind < 0x90) return readMap(reader, kind & 0x0f);
  if (kind < 0xa0) return readArray(reader, kind & 0x0f);
  if (kind < 0xc0) return readText(reader, kind & 0x1f);
  if (kind >= 0xe0) return kind - 0x100;
  switch (kind) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: case 0xc5: case 0xc6: return readBytes(reader, readUint(reader, 1 << (kind - 0xc4)));
    case 0xc7: case 0xc8: case 0xc9: return readExtension(reader, readUint(reader, 1 << (kind - 0xc7)));
    case 0xca: return take(reader, 4, (view, at) => view.getFloat32(at));
    case 0xcb: return take(reader, 8, (view, at) => view.getFloat64(at));
    case 0xcc: case 0xcd: case 0xce: case 0xcf: return readUint(reader, 1 << (kind - 0xcc));
    case 0xd0: return take(reader, 1, (view, at) => view.getInt8(at));
    case 0xd1: return take(reader, 2, (view, at) => view.getInt16(at));
    case 0xd2: return take(reader, 4, (view, at) => view.getInt32(at));
    case 0xd3: return take(reader, 8, (view, at) => Number(view.getBigInt64(at)));
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return readExtension(reader, 1 << (kind - 0xd4));
    case 0xd9: case 0xda: case 0xdb: return readText(reader, readUint(reader, 1 << (kind - 0xd9)));
    case 0xdc: case 0xdd: return readArray(reader, readUint(reader, 2 << (kind - 0xdc)));
    case 0xde: case 0xdf: return readMap(reader, readUint(reader, 2 << (kind - 0xde)));
    default: throw new Error(`unknown MessagePack byte ${kind}`);
  }
}

function take(reader, size, get) {
  if (reader.at + size > reader.bytes.length) throw new Error('the value is cut off');
  reader.at += size;
  return get(reader.view, reader.at - size);
}

function readUint(reader, size) {
  return take(reader, size, (view, at) => {
    if (size === 1) return view.getUint8(at);
    if (size === 2) return view.getUint16(at);
    return size === 4 ? view.getUint32(at) : Number(view.getBigUint64(at));
  });
}

function readBytes(reader, size) {
  return take(reader, size, (_, at) => reader.bytes.slice(at, at + size));
}

function readText(reader, size) {
  return read.decode(readBytes(reader, size));
}

function readArray(reader, count) {
  const items = [];
  for (let i = 0; i < count; i++) items.push(readValue(reader));
  return items;
}

function readMap(reader, count) {
  const map = {};
  for (let i = 0; i < count; i++) {
    const name = String(readValue(reader));
    // Defined, not assigned, as a name may be "__proto__".
    Object.defineProperty(map, name, { value: readValue(reader), enumerable: true, configurable: true, writable: true });
  }
  return map;
}

function readExtension(reader, size) {
  const kind = take(reader, 1, (view, at) => view.getInt8(at));
  const data = readBytes(reader, size);
  if (kind === -1 && size === 4) return new Date(new DataView(data.buffer).getUint32(0) * 1000);
  return { extension: kind, data };
}
