import { numberedRun, faults } from './numbered-run.mjs';
export async function main() {
  const cell = JSON.parse(process.argv[2]);
  const r = await numberedRun(cell);
  console.log(JSON.stringify(faults(r)), JSON.stringify(r.stats), [...r.stats.refused], r.seconds);
  r.lives.forEach((l) => console.log(JSON.stringify(l)));
  return 0;
}
