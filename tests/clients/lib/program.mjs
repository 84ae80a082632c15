// Runs one cell in a client program: CELL-JSON as its only argument, one JSON report a line on its stdout (README.md).
import { offeredPort, startCut } from './cut.mjs';
import { start, patience } from './process.mjs';
import { GO_TEXTS, tokenFor } from './servers.mjs';

/** Longest life of a cell. */
const CELL_MS = 120_000;
export const STEP_MS = 20_000;

/** What every cell is told, whatever its client. */
export function told(cell, run, proxy) {
  const name = `${cell.name}@${run.hub}`;
  return {
    ...cell,
    name,
    base: run.url,
    cutBase: proxy.url,
    // What the hub must say of the transport; the Go hub cannot say.
    hubTransport: run.hub === 'go' ? '' : run.via === 'straight' ? cell.transport : 'WebSockets',
    transcoded: run.via === 'transcoding',
    texts: run.hub === 'go' ? GO_TEXTS : undefined,
    user: `user of ${name}`,
    token: tokenFor(`user of ${name}`),
    stepTimeoutMs: STEP_MS * patience,
  };
}

/** Resolves with the cell's reports, `{step: report}`, and what else is worth telling of a failure. */
export async function runProgram(client, cell, run) {
  const over = client.webTransport ? { ...run, url: run.webTransportUrl } : run;
  const proxy = await startCut(over.url, client.webTransport && await offeredPort(over.url));
  const reports = {};
  const notes = [];
  const [command, ...args] = client.command();
  const child = start(command, [...args, JSON.stringify({ ...told(cell, over, proxy), cutPort: proxy.port })], {
    onLine(line) {
      const report = parse(line);
      if (report?.ask === 'cut') {
        notes.push(`${proxy.cut()} connections reset`);
        child.stdin.write('cut\n');
      } else if (report?.step) {
        reports[report.step] = report;
      } else if (report?.uncaught) {
        notes.push(report.uncaught);
      }
    },
  });
  const deadline = setTimeout(() => {
    notes.push(`killed after ${CELL_MS * patience} ms`);
    child.kill('SIGKILL');
  }, CELL_MS * patience);
  const { code, signal, error } = await child.ended;
  clearTimeout(deadline);
  proxy.close();
  if (error || code !== 0) {
    notes.push(`ended with ${error?.message ?? signal ?? code}`, ...child.tail.filter((line) => !parse(line)).slice(-12));
  }
  return [{ cell, reports, notes, failed: Boolean(error) || code !== 0 }];
}

function parse(line) {
  if (!line.startsWith('{')) {
    return null;
  }
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
