// A connection over one bidirectional stream of a WebTransport session.
//
// Invariant: every promise of the session has a handler, so that an abandoned one never becomes an unhandled rejection.
import { cutter } from "./cut.js";
import { checkClose, here, ignore, type Open } from "./link.js";

/** What negotiate says of WebTransport. */
export interface Offer {
  port: number;
  serverCertificateHashes?: { algorithm: string; value: string }[];
}

/** Time that the gateway has to answer our end of the stream before the session is closed. */
const CLOSE_MS = 2000;

/** Opens sessions beside the hub's URL, at the port that was offered. */
export const webTransportTo = (Session: typeof WebTransport, offer: Offer): Open => async (url, isBinary, link, opened, received) => {
  const target = new URL(url);
  target.protocol = "https:";
  target.port = `${offer.port}`;
  const session = new Session(target.href, {
    serverCertificateHashes: offer.serverCertificateHashes?.map((hash) => (
      { ...hash, value: Uint8Array.from(atob(hash.value), (letter) => letter.charCodeAt(0)) })) ?? [],
  });
  const closed = session.closed
    .catch((lost) => ({ closeCode: 1006, reason: lost?.message }))
    .then(({ closeCode, reason }) => checkClose("WebTransport", closeCode || 1000, reason));
  // Firefox keeps the session of a page that is gone, until it collects its garbage.
  const leave = () => session.close({ closeCode: 1001 });
  here.addEventListener?.("pagehide", leave);
  const over = closed.catch(ignore).then(() => here.removeEventListener?.("pagehide", leave));
  link.stop = () => session.close();
  try {
    await session.ready;
    const stream = await session.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    const finish = () => writer.close().catch(ignore);
    // A write resolves when there is room for the next.
    link.send = (data) => writer.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
    link.stop = () => {
      // Ending the stream lets everything sent arrive, which closing the session at once would not.
      finish();
      const late = setTimeout(() => session.close({ closeCode: 1000 }), CLOSE_MS);
      over.then(() => clearTimeout(late));
    };
    opened();
    const cut = cutter(isBinary);
    const reader = stream.readable.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const data = cut(value);
      if (data) received(data);
    }
    // The gateway closes when it has our end too; only then are code and reason known.
    finish();
  } catch (thrown) {
    // The end of the session tells why below; a stream alone that broke is a loss, and ends the session.
    if (!link.send || (thrown as WebTransportError).source !== "session") {
      session.close();
      throw thrown;
    }
  }
  return closed;
};
