// The client matrix: real clients, real hubs, with the gateway between them or without.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startPages } from './browser.mjs';
import { jobs } from './cells.mjs';
import { writeConfiguration } from './configuration.mjs';
import { prerequisite } from './prerequisites.mjs';
import { stop } from './process.mjs';
import { HUBS, startGateway, startHub } from './servers.mjs';
import { printTable } from './table.mjs';

const USAGE = `usage: run [--hub aspnet10|aspnet8|embedded|go|all] [--via gateway|straight|transcoding] [--client PATTERN] [--json FILE] [--parallel N]

Runs every cell of the client matrix and prints it as a table; exit code 1 when a cell fails.
--via transcoding puts the gateway between clients of one hub protocol and ASP.NET Core hubs that speak the other one alone.
--client takes a regular expression for client/transport/protocol, for example '^js10/LongPolling'.`;

/** Both sides of a WebTransport session learn of a loss by its silence. */
const QUICKLY_LOST = 'quic_idle_timeout = "3s"';

/** Runs the jobs, `parallel` at a time, in order of the list. */
async function runJobs(list, run, parallel) {
  const results = new Array(list.length);
  let next = 0;
  const worker = async () => {
    while (next < list.length) {
      const mine = next;
      next += 1;
      const started = Date.now();
      const done = await list[mine].run(run).catch((error) => list[mine].cells
        .map((cell) => ({ cell, reports: {}, notes: [error.stack], failed: true })));
      results[mine] = done.map((result) => ({ seconds: (Date.now() - started) / 1000, ...result }));
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return results.flat();
}

/** `hubProtocol` is the only protocol of the hub, and none of its clients'. */
async function runHub(hub, options, hubProtocol) {
  const started = Date.now();
  const all = jobs(options.client, { via: options.via, hub, hubProtocol });
  const skipped = [];
  const list = all.filter((job) => {
    const missing = prerequisite(job.client.needs);
    if (missing && !skipped.some(({ client }) => client === job.client.id)) {
      skipped.push({ client: job.client.id, reason: missing.text, fails: missing.fails });
    }
    return !missing;
  });
  const pages = await startPages();
  const noHub = hub === 'go' && prerequisite('go');
  if (noHub) {
    console.log(`\n${hub}: skipped: ${noHub.text}`);
    pages.close();
    return { hub, via: options.via, seconds: 0, failures: noHub.fails ? 1 : 0, skipped: [], results: [] };
  }
  const args = hubProtocol ? ['--protocols', hubProtocol] : [];
  const backend = await startHub(hub, { cors: hub.startsWith('aspnet') ? pages.origin : undefined, args });
  // The embedded hub speaks WebSockets alone and answers no pages of another origin: before it the gateway's route does both.
  const route = hub === 'embedded' ? { cors: pages.origin, transports: ['WebTransport', 'WebSockets', 'ServerSentEvents', 'LongPolling'] } : {};
  if (hubProtocol) {
    route.protocol = hubProtocol;
  }
  const configuration = Object.keys(route).length > 0 ? { config: writeConfiguration([backend.url], route) } : undefined;
  const gateway = options.via === 'straight' ? null : await startGateway([backend.url], configuration);
  const overTls = gateway && list.some((job) => job.client.tls)
    ? await startGateway([], { config: writeConfiguration([backend.url], { tls: true, ...route }) }) : null;
  const overQuic = gateway && list.some((job) => job.client.webTransport)
    ? await startGateway([], { config: writeConfiguration([backend.url], { webTransport: true, timeouts: QUICKLY_LOST, ...route }) }) : null;
  const run = { hub, pages, tlsUrl: overTls?.url, webTransportUrl: overQuic?.url, via: options.via, backend: backend.url, url: (gateway ?? backend).url };
  const results = await runJobs(list, run, Number(options.parallel));
  pages.close();
  const seconds = Math.round((Date.now() - started) / 1000);
  const how = hubProtocol ? `of ${hubProtocol} alone, transcoded` : { gateway: 'through the gateway', straight: 'straight' }[options.via];
  const title = `${hub}, ${how}: ${results.length} cells in ${seconds} s`;
  let failures = printTable(title, results, skipped) + skipped.filter(({ fails }) => fails).length;
  for (const server of [overQuic, overTls, gateway, backend].filter(Boolean)) {
    if (server.exitCode !== null || server.signalCode !== null) {
      console.log(`FAIL a server ended during the run:\n${server.tail.join('\n')}`);
      failures += 1;
    } else {
      await stop(server);
    }
  }
  return { hub, via: options.via, hubProtocol, seconds, failures, skipped, results };
}

export async function main() {
  const { values: options } = parseArgs({
    options: {
      hub: { type: 'string', default: 'all' }, via: { type: 'string', default: 'gateway' }, client: { type: 'string' },
      json: { type: 'string' }, parallel: { type: 'string', default: '2' }, help: { type: 'boolean' },
    },
  });
  const transcodes = options.via === 'transcoding';
  const known = transcodes ? HUBS.filter((hub) => hub.startsWith('aspnet')) : HUBS;
  const hubs = options.hub === 'all' ? known : [options.hub];
  if (options.help || !hubs.every((hub) => known.includes(hub)) || !['gateway', 'straight', 'transcoding'].includes(options.via)) {
    console.error(USAGE);
    return options.help ? 0 : 2;
  }
  const runs = [];
  for (const hub of hubs) {
    for (const hubProtocol of transcodes ? ['json', 'messagepack'] : [undefined]) {
      runs.push(await runHub(hub, options, hubProtocol));
    }
  }
  if (options.json) {
    writeFileSync(options.json, `${JSON.stringify(runs, null, 1)}\n`);
  }
  const cells = runs.reduce((sum, { results }) => sum + results.length, 0);
  const failures = runs.reduce((sum, run) => sum + run.failures, 0);
  console.log(`\n${cells} cells, ${failures} failed${cells === 0 ? ': nothing ran' : ''}`);
  return failures > 0 || cells === 0 ? 1 : 0;
}
