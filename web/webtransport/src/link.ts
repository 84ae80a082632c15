// What the two ways to the hub have in common.

/** A connection, or a try to get one; its opener fills it in. */
export interface Link {
  /** By signalr's name for it. */
  readonly name: "WebTransport" | "WebSockets";
  /** Sends whole messages; resolves when more can be taken. There once the link is open. */
  send?(data: string | ArrayBuffer): Promise<void>;
  /** Ends it quietly, whatever it is doing and however often: what was sent arrives, and the hub sees a clean end. */
  stop?(): void;
}

/** Opens a link to the hub of that URL (http or https, with the connection token); resolves at its clean end, rejects at any other. */
export type Open = (
  url: string, isBinary: boolean, link: Link, opened: () => void, received: (data: string | ArrayBuffer) => void,
) => Promise<void>;

/** Names the global object in few bytes. */
export const here = globalThis;

/** For promises whose outcome another one tells. */
export const ignore = (): void => {};

/** Throws unless a link was closed cleanly, in the words of signalr's own WebSocket transport. */
export const checkClose = (name: string, code: number, reason?: string): void => {
  if (code !== 1000) throw new Error(`${name} closed with status code: ${code} (${reason || "no reason given"}).`);
};
