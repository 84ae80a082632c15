// A page that does what its test tells it: it asks for the next function, runs it, and reports what came of it.
//
// Functions run beside each other. What they keep for later ones, they keep in `lib.kept`.
/* global signalR */
import { webTransport } from './webtransport.js';

const lib = { signalR, webTransport, kept: {} };
const post = (report) => fetch('report', { method: 'POST', body: JSON.stringify(report) }).catch(() => {});
addEventListener('error', (event) => post({ trouble: `error: ${event.message}` }));
addEventListener('unhandledrejection', (event) => post({ trouble: `unhandled rejection: ${event.reason?.stack ?? event.reason}` }));

async function run({ id, source, args }) {
  try {
    post({ id, result: await (0, eval)(`(${source})`)(lib, ...args) });
  } catch (error) {
    post({ id, error: String(error?.stack ?? error) });
  }
}

for (let asking = 'next?first'; ; asking = 'next') {
  const answer = await fetch(asking, { cache: 'no-store' });
  run(await answer.json());
}
