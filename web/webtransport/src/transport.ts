// The transport that signalr is given: WebTransport and a WebSocket race for each connection, and the first that is ready carries it.
//
// A connection token attaches once at the gateway. So when WebTransport was admitted but its answer is late, the WebSocket is refused while
// WebTransport still comes: `connect` fails only when both have failed.
// Invariant: everything of a `connect` lives in its closure, so nothing of an earlier one reaches a later one; `onclose` is called once for
// each `connect` that resolved, and never for one that did not.
import type { TransferFormat } from "@microsoft/signalr";
import type { RacingTransport } from "./index.js";
import { ignore, type Link, type Open } from "./link.js";

/** How long WebTransport is alone (rule H3): what a browser pays whose UDP goes nowhere. */
const HEAD_START_MS = 400;
/** How long WebTransport is waited for when the WebSocket has failed. */
const LAST_CHANCE_MS = 5000;
const BINARY = 2;

/** `webTransport` gives nothing for a URL for which WebTransport is not offered. */
export function racingTransport(webSocket: Open, webTransport: (url: string) => Open | undefined): RacingTransport {
  let current: Link | undefined;
  /** Ends the connection, or the making of it. */
  let end: ((error?: Error) => void) | undefined;

  const connect = (url: string, format: TransferFormat) => new Promise<void>((resolve, reject) => {
    const links: Link[] = [];
    let failed = 0;
    let failures = "";
    let isDecided = false;
    let timer: ReturnType<typeof setTimeout>;

    /** Ends the waiting: one link may stay. */
    const decide = (winner?: Link) => {
      isDecided = true;
      clearTimeout(timer);
      for (const link of links) {
        if (link !== winner) link.stop?.();
      }
    };
    end = (error) => {
      const wasOpen = current;
      current = end = undefined;
      decide();
      if (wasOpen) transport.onclose?.(error);
      else reject(error ?? new Error("Stopped while connecting."));
    };
    const fail = () => end?.(new Error(failures));

    const start = (name: Link["name"], open: Open, goOn: () => void) => {
      const link: Link = { name };
      const opened = () => {
        if (isDecided) return;
        current = link;
        decide(link);
        resolve();
      };
      const received = (data: string | ArrayBuffer) => {
        if (current !== link) return;
        try {
          transport.onreceive?.(data);
        } catch (thrown) {
          end?.(thrown as Error);
        }
      };
      // A task of its own, since signalr throws on an end that comes before it has seen, some microtasks late, that it is connected.
      const ended = (error?: Error) => setTimeout(() => {
        if (current === link) end?.(error);
        if (isDecided) return;
        failures += `${name} failed: ${error} `;
        goOn();
        if (++failed === links.length) fail();
      }, 0);
      links.push(link);
      open(url, format === BINARY, link, opened, received).then(() => ended(), ended);
    };

    let startWebSocket = () => {
      startWebSocket = ignore;
      clearTimeout(timer);
      start("WebSockets", webSocket, () => {
        timer = setTimeout(fail, LAST_CHANCE_MS);
      });
    };
    const open = webTransport(url);
    if (open) {
      timer = setTimeout(startWebSocket, HEAD_START_MS);
      start("WebTransport", open, () => startWebSocket());
    } else {
      startWebSocket();
    }
  });

  const transport: RacingTransport = {
    onreceive: null,
    onclose: null,
    get name() {
      return current?.name;
    },
    connect,
    async send(data: string | ArrayBuffer) {
      if (!current) throw new Error("Not connected.");
      await current.send?.(data);
    },
    async stop() {
      end?.();
    },
  };
  return transport;
}
