// A UDP forwarder that can lose all that it carries: the network loss of WebTransport, which nothing can reset from outside.
//
// Invariant: a client whose datagrams were lost once gets none through ever again, `up` lets new ones through; so a connection that was cut
// stays cut, as behind a router that forgot it. A client is an address and port; there are as many as tests open connections.
import { createSocket } from 'node:dgram';

/** Listens on a free loopback port and carries datagrams to that port of 127.0.0.1. */
export async function startUdpProxy(port) {
  const clients = new Map();
  let isDown = false;
  const near = createSocket('udp4');
  near.on('error', () => {});
  near.on('message', (datagram, from) => {
    const key = `${from.address}:${from.port}`;
    const client = clients.get(key) ?? open(key, from);
    if (!client.isCut) {
      client.far.send(datagram, port, '127.0.0.1');
    }
  });

  function open(key, from) {
    const far = createSocket('udp4');
    const client = { far, isCut: isDown };
    far.on('error', () => {});
    far.on('message', (datagram) => {
      if (!client.isCut) {
        near.send(datagram, from.port, from.address);
      }
    });
    clients.set(key, client);
    return client;
  }

  await new Promise((resolve) => near.bind(0, '127.0.0.1', resolve));
  return {
    port: near.address().port,
    /** Loses everything from now on; tells how many clients there were. */
    down() {
      isDown = true;
      clients.forEach((client) => { client.isCut = true; });
      return clients.size;
    },
    /** Loses what those that are there send and get from now on; new ones go through. */
    cut() {
      clients.forEach((client) => { client.isCut = true; });
    },
    up() {
      isDown = false;
    },
    close() {
      near.close();
      clients.forEach(({ far }) => far.close());
    },
  };
}
