// Prints the matrix: a row for each cell, a column for each step, then what failed and why.
import { STEPS } from '../js/scenario.mjs';
import { readJson } from './places.mjs';

const SHORT = {
  connect: 'conn', invoke: 'invo', void: 'void', 'hub-exception': 'hubx', 'unknown-method': 'unkn', 'server-stream': 'sstr',
  'client-stream': 'cstr', cancel: 'canc', 'client-result': 'cres', group: 'grup', user: 'user', 'one-mib': '1MiB',
  'in-order': 'ordr', 'clean-stop': 'stop', reconnect: 'reco',
};

/** Verdict of one step: `ok`, `n/a` when the list allows it, else `FAIL`. */
export function verdict(cell, reports, step) {
  const report = reports[step];
  if (report?.na) {
    return cell.lacks?.[step] === report.na ? 'n/a' : 'FAIL';
  }
  return report?.ok ? 'ok' : 'FAIL';
}

function why(cell, reports, step) {
  const report = reports[step];
  if (!report) {
    return 'not reported';
  }
  return report.error ?? `said n/a (${report.na}), which na.json does not allow`;
}

/** Prints the results of one hub and tells how many cells failed. */
export function printTable(title, results, skipped) {
  const names = results.map(({ cell }) => [cell.client, cell.transport, cell.protocol]);
  const widths = [0, 1, 2].map((i) => Math.max(8, ...names.map((name) => name[i].length)));
  const row = (first, rest) => `${first.map((text, i) => text.padEnd(widths[i])).join('  ')}  ${rest.map((t) => t.padEnd(4)).join(' ')}`;
  console.log(`\n${title}`);
  console.log(row(['client', 'transport', 'protocol'], STEPS.map((step) => SHORT[step])));
  const failures = [];
  const reasons = new Set();
  for (const { cell, reports, notes, failed, seconds } of results) {
    const verdicts = STEPS.map((step) => verdict(cell, reports, step));
    console.log(`${row([cell.client, cell.transport, cell.protocol], verdicts)} ${seconds.toFixed(1)} s`);
    STEPS.forEach((step) => reports[step]?.na && reasons.add(reports[step].na));
    if (failed || verdicts.includes('FAIL')) {
      const steps = STEPS.filter((step) => verdict(cell, reports, step) === 'FAIL' && reports[step]?.error !== 'not connected');
      failures.push({ name: cell.name, lines: [...steps.map((step) => `${step}: ${why(cell, reports, step)}`), ...notes] });
    }
  }
  results.filter(({ proof }) => proof).forEach(({ cell, proof }) => console.log(`${cell.client}: ${proof}`));
  skipped.forEach(({ client, reason }) => console.log(`${client.padEnd(widths[0])}  skipped: ${reason}`));
  for (const reason of reasons) {
    console.log(`n/a ${reason}: ${readJson('na.json').reasons[reason]?.text ?? 'not on the list'}`);
  }
  for (const { name, lines } of failures) {
    console.log(`FAIL ${name}`);
    lines.forEach((line) => console.log(`     ${line}`));
  }
  return failures.length;
}
