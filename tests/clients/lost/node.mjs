// The official JavaScript client in Node: `node node.mjs MODULE URL TRANSPORT`.
import { createRequire } from 'node:module';
import { runLost } from './scenario.mjs';

const [module, url, transport] = process.argv.slice(2);
console.log(JSON.stringify(await runLost(createRequire(module)('@microsoft/signalr'), url, transport)));
process.exit(0);
