// Stateful reconnect with real clients through a network that fails: nothing lost, doubled, reordered, and one connection for the hub.
//
// Four parts: the proof that the runs notice what they look for; the edge runs (the hub has no stateful reconnect); the backend runs,
// each beside the same run straight against the hub (rule I5); the single cases of stateful-cases.mjs.
import { parseArgs } from 'node:util';
import { writeConfiguration } from './configuration.mjs';
import { faults, numberedRun } from './numbered-run.mjs';
import { prerequisite } from './prerequisites.mjs';
import { patience } from './process.mjs';
import { runCases } from './stateful-cases.mjs';

const FULL = { total: 20_000, cuts: 200, spanMs: 40_000, lives: 1 };
const SHORT = { total: 5_000, cuts: 50, spanMs: 10_000, lives: 1 };
/** Many lives, because the reference ends many of them. */
const LIVES = { total: 1_000, cuts: 12, spanMs: 3_000, lives: 6 };
/** The same with calls of 20 kB, which are torn more easily. */
const LARGE = { ...LIVES, pad: 20_000 };

const front = (stateful, protocol) => (url) => writeConfiguration([url], { stateful, protocol });

const EDGE = [
  { client: 'js10', protocol: 'json', hub: 'aspnet10', ...FULL },
  { client: 'js10', protocol: 'json', hub: 'embedded', ...FULL },
  { client: 'dotnet', protocol: 'json', hub: 'aspnet10', ...FULL },
  { client: 'js10', protocol: 'messagepack', hub: 'aspnet10', ...SHORT },
  { client: 'js10', protocol: 'messagepack', hub: 'embedded', ...SHORT },
  { client: 'js8', protocol: 'json', hub: 'aspnet10', ...SHORT },
  { client: 'js8', protocol: 'messagepack', hub: 'aspnet8', ...SHORT },
  { client: 'dotnet', protocol: 'json', hub: 'embedded', ...SHORT },
  { client: 'dotnet', protocol: 'messagepack', hub: 'aspnet10', ...SHORT },
  { client: 'dotnet', protocol: 'messagepack', hub: 'embedded', ...SHORT },
  { client: 'js10', protocol: 'json', hub: 'aspnet10', ...LARGE, lives: 1, total: 5_000, cuts: 50, spanMs: 10_000 },
  // Microsoft's client leaves the head of a long message that is cut before the next Sequence, whoever is the server.
  { client: 'dotnet', protocol: 'json', hub: 'aspnet10', ...LARGE, clientsOwn: /^Error reading JSON\.$/ },
  // What is kept across losses is also transcoded.
  { client: 'js10', protocol: 'messagepack', hub: 'aspnet10', to: 'json', path: '/contract-json', ...SHORT },
  { client: 'js10', protocol: 'json', hub: 'aspnet10', to: 'messagepack', ...SHORT },
  { client: 'dotnet', protocol: 'messagepack', hub: 'embedded', to: 'json', ...SHORT },
].map((cell) => ({ ...cell, via: 'edge', gateway: front('edge', cell.to) }));

/** Each beside itself: straight, and through a route in "backend" mode. */
const BACKEND = [
  { client: 'js10', protocol: 'json', hub: 'aspnet10', ...LARGE },
  { client: 'js10', protocol: 'messagepack', hub: 'aspnet10', ...LIVES },
  { client: 'dotnet', protocol: 'json', hub: 'aspnet10', ...LIVES },
  { client: 'dotnet', protocol: 'messagepack', hub: 'aspnet10', ...LIVES },
].flatMap((cell) => [
  { ...cell, stateful: true, via: 'straight' },
  { ...cell, stateful: true, via: 'backend', gateway: front('backend') },
]);

/** Frames tampered with, one in each run, and the kind that it must show. */
const PROOF = ['drop', 'double', 'swap'].flatMap((kind) => ['up', 'down'].map((way) => ({
  client: 'js10', protocol: 'json', hub: 'aspnet10', stateful: true, via: 'straight', fault: `${kind}-${way}`,
  expected: { drop: 'lost', double: 'doubled', swap: 'late' }[kind], total: 300, cuts: 0, spanMs: 1_500, lives: 1, stallMs: 2_000,
})));

const name = (cell) => [cell.fault ? 'proof' : cell.via, cell.client, cell.protocol, cell.hub, cell.to && `as ${cell.to}`, cell.fault ?? (cell.pad ? 'large' : '')]
  .filter(Boolean).join('/');

/** Runs cells, some at once, in their order; `done` gets each result as it comes. */
async function runAll(cells, atOnce, done) {
  const left = [...cells];
  const worker = async () => {
    for (let cell = left.shift(); cell; cell = left.shift()) {
      const result = await numberedRun(cell).catch((error) => ({ cell, error }));
      done(result);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

function head() {
  console.log(`${'run'.padEnd(44)} ${'messages'.padEnd(10)} ${'cuts'.padStart(4)} ${'(repetition traffic idle; torn)'.padEnd(31)} `
    + `${'lost'.padStart(5)} ${'doubled'.padStart(7)} ${'late'.padStart(5)} ${'calls'.padStart(5)} ${'ended'.padStart(9)}`);
}

/** Prints one result; gives its faults. */
function row({ cell, error, lives, stats, gatewaySaid, seconds }) {
  if (error) {
    console.log(`${name(cell).padEnd(44)} ${error.message}`);
    return { 'run failed': 1 };
  }
  const found = faults({ cell, lives });
  const sent = lives.reduce((sum, life) => sum + (life.sent ?? 0), 0);
  const fell = `(${stats.repetition} ${stats.traffic} ${stats.idle}; ${stats.inFrame})`;
  console.log(`${name(cell).padEnd(44)} ${`2x ${sent}`.padEnd(10)} ${String(stats.cuts).padStart(4)} ${fell.padEnd(31)} `
    + `${String(found.lost).padStart(5)} ${String(found.doubled).padStart(7)} ${String(found.late).padStart(5)} ${String(found.calls).padStart(5)} `
    + `${`${lives.filter(({ ended }) => ended).length} of ${lives.length}`.padStart(9)}  ${seconds.toFixed(0)} s`);
  const ends = new Map();
  for (const { ended, hubError } of lives.filter((life) => life.ended)) {
    const text = `${ended}; at the hub: ${hubError === undefined ? 'no end' : hubError ?? 'an end without an error'}`;
    ends.set(text, (ends.get(text) ?? 0) + 1);
  }
  ends.forEach((count, text) => console.log(`    ended ${count}x: ${text}`));
  stats.refused.forEach((count, status) => console.log(`    upgrades answered ${status}: ${count}`));
  const others = Object.entries(found).filter(([kind, count]) => count > 0 && !['lost', 'doubled', 'late', 'calls', 'ended'].includes(kind));
  others.forEach(([kind, count]) => console.log(`    ${kind}: ${count}`));
  if (gatewaySaid.length > 0) {
    console.log(`    the gateway said: ${gatewaySaid[0]}`);
    found['gateway panicked'] = gatewaySaid.length;
  }
  return found;
}

const kindsOf = (found) => Object.keys(found).filter((kind) => found[kind] > 0);

/** What is wrong with the results of the edge runs: any fault at all, or cuts that were not made. */
function judgeEdge(result, found) {
  const wrong = kindsOf(found).map((kind) => `${name(result.cell)}: ${kind} ${found[kind]}`);
  if (wrong.length === 0 && result.stats.cuts < result.cell.cuts) {
    wrong.push(`${name(result.cell)}: only ${result.stats.cuts} of ${result.cell.cuts} cuts`);
  }
  return wrong;
}

/**
 * What the reference was seen to do straight, though not in every run: it glues a torn message to the Sequence behind it. In JSON that is
 * an error; in MessagePack it may also be read as a message, and then the repetition counts as new. JavaScript clients tear nothing
 * short, .NET sends what is repeated in fragments.
 */
const OWN = { 'js10/json': ['ended'], 'dotnet/json': ['ended'], 'dotnet/messagepack': ['ended', 'lost', 'doubled', 'calls'] };

/** Rule I5: no kind of fault through the gateway that the reference lacks, in the same client's runs straight beside it or by `OWN`. */
function judgePairs(results) {
  const wrong = [];
  for (const { cell, found } of results.filter((result) => result.cell.via === 'backend')) {
    const straight = results.filter((other) => other.cell.via === 'straight' && !other.cell.fault && other.cell.client === cell.client);
    const own = [...straight.flatMap((other) => kindsOf(other.found)), ...(OWN[`${cell.client}/${cell.protocol}`] ?? [])];
    wrong.push(...kindsOf(found).filter((kind) => !own.includes(kind)).map((kind) => `${name(cell)}: ${kind} ${found[kind]}, which the hub lacks straight`));
  }
  return wrong;
}

/** Leaves out cells whose client is not prepared; tells so. */
function prepared(cells, wrong) {
  const reasons = new Map(['js', 'dotnet'].map((part) => [part, prerequisite(part)]));
  for (const [part, reason] of reasons) {
    if (reason) {
      console.log(`${part} skipped: ${reason.text}`);
      wrong.push(...(reason.fails ? [`${part} is not prepared`] : []));
    }
  }
  return cells.filter(({ client }) => !reasons.get(client.startsWith('js') ? 'js' : client));
}

export async function main() {
  const { values: options } = parseArgs({ options: {
    only: { type: 'string' }, full: { type: 'boolean' }, seed: { type: 'string', default: '1' },
    'at-once': { type: 'string', default: '4' }, help: { type: 'boolean' },
  } });
  if (options.help) {
    console.error('usage: stateful [--only REGEX] [--full] [--seed N] [--at-once N]\n'
      + 'runs are named PART/client/protocol/hub; parts: proof edge straight backend case. --full makes every edge run a full one.');
    return 0;
  }
  const wanted = new RegExp(options.only ?? '.', 'i');
  const wrong = [];
  const seed = Number(options.seed);
  const sized = (cell, i) => {
    const size = options.full && cell.via === 'edge' && !cell.clientsOwn ? { ...cell, ...FULL } : cell;
    return { ...size, seed: seed * 1000 + i, spanMs: size.spanMs * patience };
  };
  const cells = prepared([...PROOF, ...BACKEND, ...EDGE].map(sized).filter((cell) => wanted.test(name(cell))), wrong);
  const judged = [];
  if (cells.length > 0) {
    head();
    await runAll(cells, Number(options['at-once']), (result) => judged.push({ ...result, found: row(result) }));
  }
  for (const result of judged) {
    if (result.cell.via === 'edge') {
      wrong.push(...judgeEdge(result, result.found));
    } else if (result.cell.fault && !result.found[result.cell.expected]) {
      wrong.push(`${name(result.cell)}: passed, so these runs prove nothing`);
    } else if (result.error) {
      wrong.push(`${name(result.cell)}: ${result.error.message}`);
    }
  }
  wrong.push(...judgePairs(judged), ...await runCases(wanted));
  wrong.forEach((text) => console.log(`FAIL ${text}`));
  console.log(wrong.length === 0 ? 'ok' : `${wrong.length} failed`);
  return wrong.length === 0 ? 0 : 1;
}
