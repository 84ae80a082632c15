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

const USAGE = `usage: run [--hub aspnet10|aspnet8|embedded|go|all] [--via gateway|straight] [--client PATTERN] [--json FILE] [--parallel N]

Runs every cell of the client matrix and prints it as a table; exit code 1 when a cell fails.
--client takes a regular expression for client/transport/protocol, for example '^js10/LongPolling'.`;

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

async function runHub(hub, options) {
  const started = Date.now();
  const all = jobs(options.client, { via: options.via, hub });
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
  const backend = await startHub(hub, { cors: hub.startsWith('aspnet') ? pages.origin : undefined });
  // The embedded hub speaks WebSockets alone and answers no pages of another origin: before it the gateway's route does both.
  const route = hub === 'embedded' ? { cors: pages.origin, transports: ['WebSockets', 'ServerSentEvents', 'LongPolling'] } : {};
  const configuration = hub === 'embedded' ? { config: writeConfiguration([backend.url], route) } : undefined;
  const gateway = options.via === 'gateway' ? await startGateway([backend.url], configuration) : null;
  const overTls = gateway && list.some((job) => job.client.tls)
    ? await startGateway([], { config: writeConfiguration([backend.url], { tls: true, ...route }) }) : null;
  const run = { hub, pages, tlsUrl: overTls?.url, via: options.via, backend: backend.url, url: (gateway ?? backend).url };
  const results = await runJobs(list, run, Number(options.parallel));
  pages.close();
  const seconds = Math.round((Date.now() - started) / 1000);
  const title = `${hub}, ${options.via === 'gateway' ? 'through the gateway' : 'straight'}: ${results.length} cells in ${seconds} s`;
  let failures = printTable(title, results, skipped) + skipped.filter(({ fails }) => fails).length;
  for (const server of [overTls, gateway, backend].filter(Boolean)) {
    if (server.exitCode !== null || server.signalCode !== null) {
      console.log(`FAIL a server ended during the run:\n${server.tail.join('\n')}`);
      failures += 1;
    } else {
      await stop(server);
    }
  }
  return { hub, via: options.via, seconds, failures, skipped, results };
}

export async function main() {
  const { values: options } = parseArgs({
    options: {
      hub: { type: 'string', default: 'all' }, via: { type: 'string', default: 'gateway' }, client: { type: 'string' },
      json: { type: 'string' }, parallel: { type: 'string', default: '2' }, help: { type: 'boolean' },
    },
  });
  const hubs = options.hub === 'all' ? HUBS : [options.hub];
  if (options.help || !hubs.every((hub) => HUBS.includes(hub)) || !['gateway', 'straight'].includes(options.via)) {
    console.error(USAGE);
    return options.help ? 0 : 2;
  }
  const runs = [];
  for (const hub of hubs) {
    runs.push(await runHub(hub, options));
  }
  if (options.json) {
    writeFileSync(options.json, `${JSON.stringify(runs, null, 1)}\n`);
  }
  const cells = runs.reduce((sum, { results }) => sum + results.length, 0);
  const failures = runs.reduce((sum, run) => sum + run.failures, 0);
  console.log(`\n${cells} cells, ${failures} failed${cells === 0 ? ': nothing ran' : ''}`);
  return failures > 0 || cells === 0 ? 1 : 0;
}
