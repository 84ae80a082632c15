// Where things are: the repository, its target directory, what `install` prepared there.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const here = dirname(dirname(fileURLToPath(import.meta.url)));
export const repository = dirname(dirname(here));
export const target = process.env.CARGO_TARGET_DIR ?? join(repository, 'target');
/** What `install` prepared, one directory for each kind of client. */
export const prepared = join(target, 'clients');

/** The gateway's binary: `HUBGATE_BIN`, else the debug build, or the release one with `HUBGATE_PROFILE=release`. */
export function hubgate() {
  const profile = process.env.HUBGATE_PROFILE === 'release' ? 'release' : 'debug';
  const found = process.env.HUBGATE_BIN ?? join(target, profile, 'hubgate');
  if (!existsSync(found)) {
    throw new Error(`no hubgate binary at ${found}: run cargo build`);
  }
  return found;
}

/** `dotnet` of DOTNET_ROOT, else of the PATH. */
export function dotnet() {
  const root = process.env.DOTNET_ROOT;
  return root && existsSync(join(root, 'dotnet')) ? join(root, 'dotnet') : 'dotnet';
}

export function readJson(...parts) {
  return JSON.parse(readFileSync(join(here, ...parts), 'utf8'));
}
