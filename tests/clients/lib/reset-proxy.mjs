// A TCP proxy that can reset everything it carries: the network loss of the `reconnect` step.
//
// Invariant: `cut` sends RST both ways on every connection open at that moment; `down` does the same and resets every new one until
// `up`. Browsers send a request again by themselves when a kept connection is reset, so a long-polling client in a browser does
// not even notice a reset: for them the network must stay down until the loss is noticed.
import { connect, createServer } from 'node:net';

/** Listens on a free loopback port and carries bytes to `target` (a URL). */
export async function startResetProxy(target) {
  const { hostname, port, protocol } = new URL(target);
  const pairs = new Set();
  let isDown = false;
  const server = createServer((near) => {
    if (isDown) {
      near.on('error', () => {});
      near.once('data', () => near.resetAndDestroy());
      return;
    }
    const far = connect({ host: hostname, port: Number(port) });
    const pair = [near, far];
    pairs.add(pair);
    near.setNoDelay();
    far.setNoDelay();
    near.pipe(far);
    far.pipe(near);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `${protocol}//${hostname}:${server.address().port}`,
    /** How many connections are open. */
    open: () => pairs.size,
    down() {
      isDown = true;
      return this.cut();
    },
    up() {
      isDown = false;
    },
    cut() {
      const count = pairs.size;
      for (const [near, far] of [...pairs]) {
        near.resetAndDestroy();
        far.resetAndDestroy();
      }
      return count;
    },
    close() {
      server.close();
      this.cut();
    },
  };
}
