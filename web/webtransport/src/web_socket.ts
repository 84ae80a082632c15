// A connection over a WebSocket, as signalr's own WebSocket transport makes it.
import { checkClose, ignore, type Open } from "./link.js";

/** Opens WebSockets; `token` gives the access token, if there is one. */
export const webSocketWith = (
  Socket: typeof WebSocket, token: () => string | undefined | Promise<string | undefined>,
): Open => async (url, isBinary, link, opened, received) => {
  let isStopped = false;
  link.stop = () => {
    isStopped = true;
  };
  const accessToken = await token();
  if (isStopped) return;
  let target = url.replace(/^http/, "ws");
  if (accessToken) target += `${target.includes("?") ? "&" : "?"}access_token=${encodeURIComponent(accessToken)}`;
  const socket = new Socket(target);
  if (isBinary) socket.binaryType = "arraybuffer";
  link.stop = () => socket.close();
  const { code, reason } = await new Promise<CloseEvent>((resolve) => {
    socket.onopen = () => {
      link.send = async (data) => socket.send(data);
      opened();
    };
    // A close follows, and browsers tell scripts no more than that.
    socket.onerror = ignore;
    socket.onmessage = ({ data }) => received(data);
    socket.onclose = resolve;
  });
  if (!link.send) throw new Error("refused or blocked");
  checkClose("WebSocket", code, reason);
};
