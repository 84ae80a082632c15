// WebTransport in browsers where it differs from the matrix: networks without UDP, and every way that a session can end or be refused.
//
// Where a WebSocket has the same case, it is run beside, and the two must agree: what a page sees of an end does not depend on what
// carried the connection.
// Invariant: everything runs in a network namespace of its own, so that its packet filter reaches nothing else and is gone with it. Without
// root, or without nft, what needs a filter is skipped with its reason.
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeConfiguration } from './configuration.mjs';
import { offeredPort } from './cut.mjs';
import { startDrivenPages } from './driven-page.mjs';
import { readJson } from './places.mjs';
import { prerequisite } from './prerequisites.mjs';
import { stop, temporaryDirectory } from './process.mjs';
import { startGateway, startHub } from './servers.mjs';
import { CASES, IDLE_MS } from './webtransport-cases.mjs';

const USAGE = `usage: webtransport [--hub embedded|aspnet10|all] [--browser chromium|firefox|all] [--only PATTERN]`;
const OWN_NETWORK = 'HUBGATE_OWN_NETWORK';

/** Runs this program again in a network of its own; gives its status, or null where that cannot be had. */
function inOwnNetwork() {
  const command = ['ip link set lo up && exec "$@"', 'sh', process.execPath, ...process.argv.slice(1)];
  const can = spawnSync('unshare', ['--net', 'sh', '-c', 'ip link set lo up && nft list tables'], { stdio: 'ignore' });
  if (can.status !== 0) {
    return null;
  }
  const { status } = spawnSync('unshare', ['--net', 'sh', '-c', ...command], { stdio: 'inherit', env: { ...process.env, [OWN_NETWORK]: '1' } });
  return status ?? 1;
}

/** The packet filter of this network: rules for the UDP port of a gateway. */
const filter = {
  set(port, verdict) {
    this.clear();
    const rules = ['type filter hook input priority 0', `udp dport ${port} ${verdict}`, `udp sport ${port} drop`];
    execFileSync('nft', ['-f', '-'], { input: `table inet hubgate {\nchain in {\n${rules.join('\n')}\n}\n}\n` });
  },
  clear() {
    spawnSync('nft', ['delete', 'table', 'inet', 'hubgate'], { stdio: 'ignore' });
  },
};

/** A self-signed certificate that has expired, as a configuration names it. */
function expiredCertificate() {
  const directory = temporaryDirectory();
  const file = (name) => join(directory, name);
  writeFileSync(file('database'), '');
  writeFileSync(file('ca.cnf'), [
    '[ca]', 'default_ca = own', '[own]', `database = ${file('database')}`, `new_certs_dir = ${directory}`, 'default_md = sha256',
    'policy = any', 'rand_serial = yes', 'x509_extensions = version3', '[any]', 'commonName = supplied',
    '[version3]', 'subjectAltName = DNS:localhost, IP:127.0.0.1', '',
  ].join('\n'));
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'ignore' });
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=localhost',
    '-keyout', file('key.pem'), '-out', file('request.pem'));
  openssl('ca', '-batch', '-notext', '-config', file('ca.cnf'), '-selfsign', '-keyfile', file('key.pem'), '-in', file('request.pem'),
    '-out', file('cert.pem'), '-startdate', '20260101000000Z', '-enddate', '20260110000000Z');
  return `{ certificate_file = ${JSON.stringify(file('cert.pem'))}, key_file = ${JSON.stringify(file('key.pem'))} }`;
}

/** A hub and a gateway with WebTransport before it, for pages of that origin. */
async function startServers(hubKind, origin, webTransport = true) {
  const hub = await startHub(hubKind, { cors: hubKind === 'embedded' ? undefined : origin });
  const gateway = await startGateway([], {
    config: writeConfiguration([hub.url], {
      webTransport, timeouts: `quic_idle_timeout = "${IDLE_MS}ms"`, ...(hubKind === 'embedded' ? { cors: origin } : {}),
    }),
  });
  return { hub, gateway, url: gateway.url, udpPort: await offeredPort(gateway.url), stop: () => Promise.all([stop(gateway), stop(hub)]) };
}

/** Runs the cases of one hub in one browser; tells how many failed. */
async function runBrowser(hubKind, browser, wanted, hasFilter) {
  const pages = await startDrivenPages();
  const servers = await startServers(hubKind, pages.origin);
  const { page, close } = await pages.open(browser);
  let failed = 0;
  for (const { name, run, needsFilter, hubs } of CASES.filter((one) => wanted.test(one.name))) {
    const title = `${browser.padEnd(9)} ${hubKind.padEnd(9)} ${name.padEnd(26)}`;
    if (hubs && !hubs.includes(hubKind)) {
      continue;
    }
    if (needsFilter && !hasFilter) {
      console.log(`${title} skipped: no-network-namespace needs root, unshare and nft`);
      failed += process.env.HUBGATE_CI === '1' && !readJson('skips.json').allowed['no-network-namespace'] ? 1 : 0;
      continue;
    }
    try {
      await page.reload();
      const text = await run({ ...servers, hubKind, pages, page, filter, expiredCertificate, startServers });
      if (page.troubles.length > 0) {
        throw new Error(`the page had ${page.troubles.join('; ')}`);
      }
      console.log(`${title} ${text}`);
    } catch (error) {
      console.log(`${title} FAIL: ${error.message}`);
      failed += 1;
    } finally {
      if (hasFilter) {
        filter.clear();
      }
    }
  }
  await close();
  await servers.stop();
  pages.close();
  return failed;
}

export async function main() {
  const { values: options } = parseArgs({
    options: { hub: { type: 'string', default: 'all' }, browser: { type: 'string', default: 'all' }, only: { type: 'string', default: '.' }, help: { type: 'boolean' } },
  });
  if (options.help) {
    console.error(USAGE);
    return 0;
  }
  if (!process.env[OWN_NETWORK]) {
    const status = inOwnNetwork();
    if (status !== null) {
      return status;
    }
  }
  const hubs = options.hub === 'all' ? ['embedded', 'aspnet10'] : [options.hub];
  const browsers = options.browser === 'all' ? ['chromium', 'firefox'] : [options.browser];
  let [failed, ran] = [0, 0];
  for (const browser of browsers) {
    const missing = prerequisite(browser) ?? prerequisite('js');
    if (missing) {
      console.log(`${browser} skipped: ${missing.text}`);
      failed += missing.fails ? 1 : 0;
      continue;
    }
    for (const hub of hubs) {
      failed += await runBrowser(hub, browser, new RegExp(options.only), Boolean(process.env[OWN_NETWORK]));
      ran += 1;
    }
  }
  console.log(failed === 0 ? 'ok' : `${failed} failed`);
  return failed === 0 && ran > 0 ? 0 : 1;
}
