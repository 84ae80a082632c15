// Builds dist/: an ES module, a CommonJS one, a minified one, types. Fails when the minified one is too large, or, with `--check`, when the
// demo page's copy is not what the sources build to.
import { execFileSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const MINIFIED_BYTES_MAX = 4000;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const demoCopy = at('../demo/webtransport.js');

rmSync(at('dist'), { recursive: true, force: true });
execFileSync(process.execPath, [at('node_modules/typescript/bin/tsc'), '-p', at('tsconfig.json')], { stdio: 'inherit' });
// The types of the inner parts are nobody's business.
for (const file of readdirSync(at('dist'))) {
  if (file !== 'index.d.ts') rmSync(at(`dist/${file}`));
}
copyFileSync(at('dist/index.d.ts'), at('dist/index.d.cts'));
const common = { entryPoints: [at('src/index.ts')], bundle: true, target: 'es2022', legalComments: 'none', logLevel: 'warning' };
await build({ ...common, format: 'esm', outfile: at('dist/webtransport.js') });
await build({ ...common, format: 'cjs', outfile: at('dist/webtransport.cjs') });
await build({ ...common, format: 'esm', minify: true, outfile: at('dist/webtransport.min.js') });
copyFileSync(at('../../LICENSE'), at('LICENSE'));

const minified = readFileSync(at('dist/webtransport.min.js'));
console.log(`${minified.length} bytes minified, ${gzipSync(minified, { level: 9 }).length} with gzip (at most ${MINIFIED_BYTES_MAX})`);
if (minified.length > MINIFIED_BYTES_MAX) {
  console.error('too large');
  process.exit(1);
}
if (!process.argv.includes('--check')) {
  writeFileSync(demoCopy, minified);
} else if (!minified.equals(readFileSync(demoCopy))) {
  console.error('web/demo/webtransport.js is not what web/webtransport builds to: npm run build there, and commit it');
  process.exit(1);
}
