// What a cell's connections go through that are to be lost: TCP, and UDP for WebTransport.
import { startResetProxy } from './reset-proxy.mjs';
import { startUdpProxy } from './udp-proxy.mjs';

/** The UDP port that the gateway offers WebTransport at. */
export async function offeredPort(url) {
  const answer = await fetch(`${url}/contract/negotiate?negotiateVersion=1&webTransport=1`, { method: 'POST' });
  const offer = (await answer.json()).availableTransports.find(({ transport }) => transport === 'WebTransport');
  if (!offer) {
    throw new Error(`${url} offers no WebTransport`);
  }
  return offer.port;
}

/** What a cell's connections to `cutBase` go through: TCP, and UDP where WebTransport is to be cut. */
export async function startCut(url, udpPort) {
  const tcp = await startResetProxy(url);
  const udp = udpPort && await startUdpProxy(udpPort);
  const both = (method) => () => {
    udp?.[method]();
    return tcp[method]();
  };
  return { url: tcp.url, port: udp?.port, cut: both('cut'), down: both('down'), up: both('up'), close: both('close') };
}
