// Cuts a stream's bytes where hub messages end.
//
// A WebTransport stream may hand over any part of a message, and signalr's parsers throw on what is not whole. So bytes are held back
// until the message they belong to is there.
// Invariant: every byte is looked at once and copied once, however small the chunks; what is given away ends with a whole message.

/** Takes the next bytes; gives all whole messages that are there now, undefined when none is. */
export type Cut = (chunk: Uint8Array) => string | ArrayBuffer | undefined;

const SEPARATOR = 0x1e;

/** Tells where in each next chunk the last whole message ends, 0 for nowhere. */
type EndOf = (chunk: Uint8Array) => number;

/** JSON: records that end with 0x1E. */
const endOfText: EndOf = (chunk) => chunk.lastIndexOf(SEPARATOR) + 1;

/** MessagePack: the handshake's answer, which is JSON and ends with 0x1E, then messages behind a VarInt of their length. */
function endOfBinary(): EndOf {
  /** Bytes of the current message that are still to come; negative in the handshake. */
  let left = -1;
  /** The length so far, and what its next seven bits count. */
  let length = 0;
  let scale = 1;
  return (chunk) => {
    let end = 0;
    for (let at = 0; at < chunk.length; ) {
      if (left < 0) {
        at = chunk.indexOf(SEPARATOR) + 1;
        if (!at) break;
        left = 0;
      } else if (left) {
        const taken = Math.min(left, chunk.length - at);
        at += taken;
        left -= taken;
      } else {
        const byte = chunk[at++] as number;
        length += (byte & 0x7f) * scale;
        scale *= 128;
        if (scale > 2 ** 35) throw new Error("message too long");
        if (byte < 0x80) {
          left = length;
          length = 0;
          scale = 1;
        }
      }
      if (!left && scale === 1) end = at;
    }
    return end;
  };
}

/** Cuts into strings, or into array buffers when `isBinary`. Before decoding, for a chunk may end inside a letter. */
export function cutter(isBinary: boolean): Cut {
  const endOf = isBinary ? endOfBinary() : endOfText;
  const decoder = new TextDecoder();
  let held: Uint8Array[] = [];
  return (chunk) => {
    const end = endOf(chunk);
    if (!end) {
      held.push(chunk);
      return undefined;
    }
    held.push(chunk.subarray(0, end));
    const whole = new Uint8Array(held.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of held) {
      whole.set(part, at);
      at += part.length;
    }
    held = [chunk.subarray(end)];
    return isBinary ? whole.buffer : decoder.decode(whole);
  };
}
