/**
 * SignalR over WebTransport for the official `@microsoft/signalr` client, before a hubgate gateway.
 *
 * One call makes the options of one connection: `new HubConnectionBuilder().withUrl("/chat", webTransport())`.
 */
import type { HttpClient, IHttpConnectionOptions, ITransport } from "@microsoft/signalr";
import { here } from "./link.js";
import { type Negotiated, negotiator } from "./negotiate.js";
import { racingTransport } from "./transport.js";
import { webSocketWith } from "./web_socket.js";
import { webTransportTo } from "./web_transport.js";

/** signalr's own options but the transport, and classes to use in the place of the browser's. */
export interface WebTransportOptions extends Omit<IHttpConnectionOptions, "transport" | "skipNegotiation"> {
  /** By default `globalThis.WebTransport`; null for WebSockets alone. */
  WebTransport?: typeof WebTransport | null;
  /** By default `globalThis.WebSocket`. */
  WebSocket?: typeof WebSocket;
}

/** What carries a connection. */
export interface RacingTransport extends ITransport {
  /** "WebTransport" or "WebSockets"; undefined while not connected. */
  readonly name: "WebTransport" | "WebSockets" | undefined;
}

/** Options for `withUrl`. */
export interface WebTransportConnectionOptions extends IHttpConnectionOptions {
  httpClient: HttpClient;
  transport: RacingTransport;
}

/**
 * Options for `withUrl` of one connection: WebTransport where browser and gateway have it, else a WebSocket.
 *
 * `options` are those of `withUrl`; `httpClient`, if given, makes the negotiate request. Each connection needs a call of its own.
 */
export function webTransport(options: WebTransportOptions = {}): WebTransportConnectionOptions {
  const { WebTransport: Session = here.WebTransport, WebSocket: Socket = here.WebSocket } = options;
  const told: Negotiated = {};
  return {
    ...options,
    httpClient: negotiator(told, Boolean(Session), options.httpClient),
    transport: racingTransport(
      webSocketWith(Socket, () => told.accessToken ?? options.accessTokenFactory?.()),
      (url) => (Session && told.offer && url.endsWith(`id=${told.id}`) ? webTransportTo(Session, told.offer) : undefined),
    ),
  };
}
