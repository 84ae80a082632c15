// The HTTP client that asks for WebTransport in negotiate and reads what the answer says of it.
//
// Why: signalr hands a transport the URL and the format only (rule H3); port, certificate hashes and a redirect's access token are in the
// negotiate answer alone. The answer goes on unchanged.
// Invariant: what is remembered belongs to the last negotiate.
import type { HttpClient, HttpRequest, HttpResponse } from "@microsoft/signalr";
import type { Offer } from "./web_transport.js";

/** What is needed of an HTTP client. */
type Sender = Pick<HttpClient, "send">;

/** signalr's own default. */
const TIMEOUT_MS = 100_000;

/** Makes the one kind of request that signalr makes with a transport of ours: negotiate. Fails in the words of signalr's own client. */
const fetchSender: Sender = {
  async send({ url, headers, timeout, withCredentials }) {
    const response = await fetch(url as string, {
      method: "POST",
      credentials: withCredentials ? "include" : "same-origin",
      headers: { "X-Requested-With": "XMLHttpRequest", ...headers },
      signal: AbortSignal.timeout(timeout || TIMEOUT_MS),
    });
    const content = await response.text();
    if (!response.ok) throw new Error(`${content || response.statusText}: Status code '${response.status}'`);
    return { statusCode: response.status, content };
  },
};

/** What the last negotiate told. */
export interface Negotiated {
  /** The access token of a redirect; it replaces the application's until the next start. */
  accessToken?: string;
  /** What is offered to the connection `id`. */
  offer?: Offer;
  id?: string;
}

/** The client around `sender`, which writes what it reads to `told`; `asks` where there is WebTransport to ask for. */
export function negotiator(told: Negotiated, asks: boolean, sender: Sender = fetchSender): HttpClient {
  const send = async (request: HttpRequest): Promise<HttpResponse> => {
    if (request.headers?.["Authorization"] !== `Bearer ${told.accessToken}`) told.accessToken = undefined;
    const response = await sender.send(asks ? { ...request, url: `${request.url}&webTransport=1` } : request);
    try {
      const answer = JSON.parse(response.content as string);
      told.accessToken = answer.accessToken ?? told.accessToken;
      told.offer = answer.availableTransports.find((entry: { transport: string }) => entry.transport === "WebTransport");
      // Last, so that an answer without transports leaves nothing that is taken for its own.
      told.id = answer.connectionToken;
    } catch {
      // signalr says what is wrong with it.
    }
    return response;
  };
  // All that signalr 8 and later use.
  return { send } as HttpClient;
}
