// What `install` prepared, and what it could not: a missing tool is a skip with a name, and in CI a failure unless listed.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { prepared, readJson } from './places.mjs';

/** Nothing when `part` is ready, else the reason, and whether it fails the run. */
export function prerequisite(part) {
  const file = join(prepared, 'state', part);
  const state = existsSync(file) ? readFileSync(file, 'utf8').trim() : 'not-installed run tests/clients/install first';
  if (state === 'ready') {
    return null;
  }
  const name = state.split(' ')[0];
  const listed = readJson('skips.json').allowed[name];
  return { text: `${state}${listed ? ` (listed: ${listed})` : ''}`, fails: name === 'not-installed' || (process.env.HUBGATE_CI === '1' && !listed) };
}
