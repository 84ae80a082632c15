// What the types must admit and refuse; compiled, never run.
import { HttpTransportType, HubConnectionBuilder, type IHttpConnectionOptions, LogLevel } from "@microsoft/signalr";
import { webTransport } from "../dist/index.js";

const options = webTransport({ accessTokenFactory: async () => "token", withCredentials: false, logger: LogLevel.Warning });
const accepted: IHttpConnectionOptions = options;
new HubConnectionBuilder().withUrl("/chat", webTransport()).withUrl("/chat", accepted).withAutomaticReconnect().build();
const name: "WebTransport" | "WebSockets" | undefined = options.transport.name;
webTransport({ WebTransport: null });
// @ts-expect-error The transport is what the call makes.
webTransport({ transport: HttpTransportType.LongPolling });
// @ts-expect-error A custom transport always negotiates.
webTransport({ skipNegotiation: true });
// @ts-expect-error Told, not set.
options.transport.name = name;
