// A Blazor Server page before two hubs' processes: clicked, its socket cut, does it come back to its circuit? (rule D6)
//
// A circuit lives in one process, and Blazor's reconnect negotiates anew, so without affinity it is a matter of luck. The page shows
// the circuit's name and its process; a page that came back counts on from where it was.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeConfiguration } from './configuration.mjs';
import { prepared } from './places.mjs';
import { patience, stop } from './process.mjs';
import { prerequisite } from './prerequisites.mjs';
import { startResetProxy } from './reset-proxy.mjs';
import { startGateway, startHub } from './servers.mjs';

const LIMIT_MS = 45_000;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

const shown = (page, id) => page.textContent(`#${id}`);

/** Whether the reconnect dialog is on the page. */
const DIALOG = () => {
  const dialog = document.getElementById('components-reconnect-modal');
  return Boolean(dialog) && getComputedStyle(dialog).display !== 'none';
};

/**
 * Opens the page, clicks, cuts its socket, clicks again. Gives `{circuit, process, ends}`, where `ends` is `came back`, `lost` (the
 * server refused the circuit) or `never interactive`.
 */
async function visit(browser, proxy) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS * patience);
  // What Blazor writes when the server knows nothing of the page's circuit: there is nothing to wait for then.
  const refused = new Promise((resolve) => page.on('console', (message) => {
    if (message.type() === 'error' && /circuit/i.test(message.text())) {
      resolve('refused');
    }
  }));
  try {
    await page.goto(`${proxy.url}/blazor`);
    const interactive = page.waitForFunction(() => document.getElementById('state')?.textContent === 'interactive')
      .then(() => 'interactive', () => 'never');
    const opened = await Promise.race([interactive, refused]);
    if (opened !== 'interactive') {
      return { ends: 'never interactive' };
    }
    await page.click('#click');
    await page.click('#click');
    await page.waitForFunction(() => document.getElementById('count').textContent === '2');
    const before = { circuit: await shown(page, 'circuit'), process: await shown(page, 'process') };
    proxy.cut();
    await page.waitForFunction(DIALOG);
    const verdict = await page.waitForFunction(() => {
      const dialog = document.getElementById('components-reconnect-modal');
      if (!dialog || getComputedStyle(dialog).display === 'none') {
        return 'back';
      }
      return /could not reconnect|rejoin|reload the page/i.test(dialog.textContent) && !/attempting/i.test(dialog.textContent) ? 'lost' : false;
    });
    if (await verdict.jsonValue() === 'lost') {
      return { ...before, ends: 'lost' };
    }
    await page.click('#click');
    await page.waitForFunction(() => ['1', '3'].includes(document.getElementById('count').textContent));
    const after = { circuit: await shown(page, 'circuit'), process: await shown(page, 'process') };
    const same = after.circuit === before.circuit && after.process === before.process && await shown(page, 'count') === '3';
    return { ...before, ends: same ? 'came back' : 'lost' };
  } catch (error) {
    return { ends: `failed: ${error.message.split('\n')[0]}` };
  } finally {
    await context.close();
  }
}

/** Visits in turn until `enough(results)`, at most `most`; all contexts fresh, so each visitor brings no cookie. */
async function visits(browser, url, most, enough = () => false) {
  const proxy = await startResetProxy(url);
  const results = [];
  while (results.length < most && !enough(results)) {
    results.push(await visit(browser, proxy));
  }
  proxy.close();
  return results;
}

function tell(title, results) {
  const processes = new Set(results.map(({ process }) => process).filter(Boolean)).size;
  const ends = Object.entries(Object.groupBy?.(results, ({ ends }) => ends) ?? group(results)).map(([text, of]) => `${of.length}× ${text}`);
  console.log(`${title.padEnd(48)} ${results.length} visits to ${processes} processes: ${ends.join(', ')}`);
}

function group(results) {
  const groups = {};
  results.forEach((result) => (groups[result.ends] ??= []).push(result));
  return groups;
}

const cameBack = ({ ends }) => ends === 'came back';

async function run(browser) {
  const wrong = [];
  const hubs = await Promise.all(['a', 'b'].map((name) => startHub('aspnet8', { args: ['--name', name] })));
  const urls = hubs.map(({ url }) => url);

  const straight = await visits(browser, urls[0], 1);
  tell('one process, straight', straight);
  if (!straight.every(cameBack)) {
    wrong.push('straight: the page itself does not come back');
  }
  const one = await startGateway([urls[0]]);
  const single = await visits(browser, one.url, 1);
  tell('one process, gateway, quick use', single);
  if (!single.every(cameBack)) {
    wrong.push('one process through the gateway: the page does not come back');
  }
  await stop(one);

  const affine = await startGateway([], { config: writeConfiguration(urls, { affinity: 'cookie' }) });
  // Fresh visitors until both processes were met, at least four.
  const both = (results) => results.length >= 4 && new Set(results.map(({ process }) => process)).size === 2;
  const kept = await visits(browser, affine.url, 16, both);
  tell('two processes, gateway, affinity = "cookie"', kept);
  if (!kept.every(cameBack) || !both(kept)) {
    wrong.push('affinity = "cookie": a page lost its circuit, or one process got every visitor');
  }
  await stop(affine);

  const free = await startGateway([], { config: writeConfiguration(urls, { affinity: 'off' }) });
  const chance = await visits(browser, free.url, 24, (results) => results.some(({ ends }) => ends === 'lost'));
  tell('two processes, gateway, affinity = "off"', chance);
  if (!chance.some(({ ends }) => ends === 'lost')) {
    wrong.push('affinity = "off": no page lost its circuit, so affinity is not what brings it back');
  }
  await Promise.all([free, ...hubs].map((server) => stop(server)));
  return wrong;
}

export async function main() {
  const { values: options } = parseArgs({ options: { help: { type: 'boolean' } } });
  if (options.help) {
    console.error('usage: blazor');
    return 0;
  }
  const missing = prerequisite('chromium') ?? prerequisite('js');
  if (missing) {
    console.log(`blazor skipped: ${missing.text}`);
    return missing.fails ? 1 : 0;
  }
  const { chromium } = createRequire(join(prepared, 'js/package.json'))('playwright-core');
  const browser = await chromium.launch({ executablePath: process.env.HUBGATE_CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  const wrong = await run(browser).finally(() => browser.close());
  wrong.forEach((text) => console.log(`FAIL ${text}`));
  console.log(wrong.length === 0 ? 'ok' : `${wrong.length} failed`);
  return wrong.length === 0 ? 0 : 1;
}
