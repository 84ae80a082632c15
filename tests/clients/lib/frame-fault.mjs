// Tampers with a WebSocket frame of a byte stream (with a few, where frames change places): the proof that a run which finds nothing would have
// found it.

/** Pings, acks and the like are shorter than what carries a numbered message. */
const LENGTH_MIN = 40;
/** Frames that pass before the fault, so that connection and groups are set up. */
const PASSED_FIRST = 8;
/** Swaps and the frames between two: a frame may change places with one that carries no number (an answer to a call), and nothing comes late then. */
const SWAPS = 3;
const SWAPPED_EVERY = 20;

export class FrameFault {
  constructor(kind) {
    Object.assign(this, { kind, rest: Buffer.alloc(0), seen: 0, kept: null });
  }

  /** The bytes to pass on for these, in whole frames. */
  take(bytes) {
    this.rest = Buffer.concat([this.rest, bytes]);
    const out = [];
    for (let length = frameLength(this.rest); length > 0 && length <= this.rest.length; length = frameLength(this.rest)) {
      out.push(...this.frame(this.rest.subarray(0, length)));
      this.rest = this.rest.subarray(length);
    }
    return Buffer.concat(out);
  }

  frame(frame) {
    if (this.kept && frame.length >= LENGTH_MIN) {
      const swapped = [frame, this.kept];
      this.kept = null;
      return swapped;
    }
    if (frame.length < LENGTH_MIN) {
      return [frame];
    }
    this.seen += 1;
    const beyond = this.seen - PASSED_FIRST;
    const turn = beyond / SWAPPED_EVERY;
    if (!Number.isInteger(turn) || turn < 0 || turn >= (this.kind === 'swap' ? SWAPS : 1)) {
      return [frame];
    }
    if (this.kind === 'swap') {
      this.kept = Buffer.from(frame);
      return [];
    }
    return this.kind === 'double' ? [frame, frame] : [];
  }
}

/** Length of the frame at the head of `bytes`, 0 when its head is not there yet. */
function frameLength(bytes) {
  if (bytes.length < 2) {
    return 0;
  }
  const mask = bytes[1] & 0x80 ? 4 : 0;
  const short = bytes[1] & 0x7f;
  if (short < 126) {
    return 2 + mask + short;
  }
  const head = short === 126 ? 4 : 10;
  if (bytes.length < head) {
    return 0;
  }
  return head + mask + (short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2)));
}
