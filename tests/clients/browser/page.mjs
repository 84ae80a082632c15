// The page of another origin: runs its cells one after another and reports every step by POST.
/* global signalR */
import { runCell, through } from './scenario.mjs';
import { webTransport } from './webtransport.js';

const post = (cell, report) => fetch('report', { method: 'POST', body: JSON.stringify({ cell, report }) });

let current = 0;
addEventListener('error', (event) => post(current, { uncaught: String(event.message) }));
addEventListener('unhandledrejection', (event) => post(current, { uncaught: String(event.reason?.stack ?? event.reason) }));

const cells = await (await fetch('cells')).json();
for (const [index, cell] of cells.entries()) {
  current = index;
  let sent = post(index, { begin: true });
  await runCell({
    signalR,
    msgpack: signalR.protocols?.msgpack,
    cell,
    webTransport: (options, isCut) => webTransport({ ...options, WebTransport: isCut ? through(cell.cutPort) : WebTransport }),
    report: (report) => { sent = sent.then(() => post(index, report)); },
    cut: () => fetch(`cut?cell=${index}`, { method: 'POST' }),
    restore: () => fetch(`restore?cell=${index}`, { method: 'POST' }),
    lacks: cell.lacks,
  });
  await sent;
}
await post(current, { done: true });
