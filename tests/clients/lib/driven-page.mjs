// A browser whose pages run the functions that a test hands them, without a driver: the page asks for them (browser/driven.mjs).
//
// Invariant: what a page throws and nobody handles is in `troubles`.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { browserCommand, FILES } from './browser.mjs';
import { here } from './places.mjs';
import { start, stop, temporaryDirectory, within } from './process.mjs';

const OPEN_MS = 30_000;
const RUN_MS = 20_000;
const OWN_FILES = {
  ...FILES,
  '/': [join(here, 'browser/driven.html'), 'text/html'],
  '/driven.mjs': [join(here, 'browser/driven.mjs'), 'text/javascript'],
};

class DrivenPage {
  troubles = [];
  #todo = [];
  #running = new Map();
  #asking;
  #isLeaving = false;
  #onTrouble;
  #nextId = 0;

  constructor() {
    this.opened = new Promise((resolve) => { this.markOpened = resolve; });
  }

  /** Runs `body(lib, ...args)` in the page, where nothing else of this process is known. */
  run(body, ...args) {
    this.#nextId += 1;
    const id = this.#nextId;
    const done = new Promise((resolve, reject) => this.#running.set(id, { resolve, reject }));
    this.#todo.push(JSON.stringify({ id, source: body.toString(), args }));
    this.#tell();
    return within(done, RUN_MS, () => `nothing within ${RUN_MS} ms of ${body.toString().slice(0, 200)}`);
  }

  /** Loads the page anew: Chromium makes a page wait longer and longer for WebTransport whose handshakes have failed. */
  async reload() {
    this.#isLeaving = true;
    this.opened = new Promise((resolve) => { this.markOpened = resolve; });
    // Its report need not come.
    this.#todo.push(JSON.stringify({ source: '() => location.reload()', args: [] }));
    this.#tell();
    await within(this.opened, OPEN_MS, () => 'the page did not load again');
    this.troubles.length = 0;
  }

  /** Waits for a trouble. */
  troubled() {
    const seen = this.troubles.length > 0 ? Promise.resolve() : new Promise((resolve) => { this.#onTrouble = resolve; });
    return within(seen, RUN_MS, () => 'no trouble was seen');
  }

  /** A page asks for its next function, `isFirst` when it has just been loaded. */
  asked(response, isFirst) {
    if (isFirst) {
      this.#isLeaving = false;
      this.markOpened();
    } else if (this.#isLeaving && this.#todo.length === 0) {
      // The page that is about to go: it gets nothing any more.
      return;
    }
    this.#asking = response;
    response.on('close', () => {
      if (this.#asking === response) {
        this.#asking = undefined;
      }
    });
    this.#tell();
  }

  #tell() {
    if (this.#asking && this.#todo.length > 0) {
      this.#asking.writeHead(200, { 'content-type': 'application/json' }).end(this.#todo.shift());
      this.#asking = undefined;
    }
  }

  reported({ id, result, error, trouble }) {
    if (trouble) {
      this.troubles.push(trouble);
      this.#onTrouble?.();
      return;
    }
    const waiting = this.#running.get(id);
    this.#running.delete(id);
    if (error) {
      waiting?.reject(new Error(`in the page: ${error}`));
    } else {
      waiting?.resolve(result);
    }
  }
}

/**
 * Serves pages of one origin; `open` starts a browser with one of them, `add` gives the URL of another one that the first may open.
 */
export async function startDrivenPages() {
  const pages = new Map();
  const server = createServer(async (request, response) => {
    const [, name, rest] = /^\/([^/]*)(\/.*)$/.exec(request.url) ?? [];
    const page = pages.get(name);
    const file = OWN_FILES[rest];
    if (!page) {
      response.writeHead(404).end();
    } else if (file) {
      response.writeHead(200, { 'content-type': file[1], 'cache-control': 'no-store' }).end(readFileSync(file[0]));
    } else if (rest.startsWith('/next')) {
      page.asked(response, rest.endsWith('?first'));
    } else if (rest === '/report') {
      let body = '';
      for await (const chunk of request) {
        body += chunk;
      }
      response.writeHead(204).end();
      page.reported(JSON.parse(body));
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://localhost:${server.address().port}`;
  const add = (name) => {
    const page = new DrivenPage();
    pages.set(name, page);
    return { page, url: `${origin}/${name}/` };
  };
  return {
    origin,
    add,
    async open(browser) {
      const { page, url } = add(browser);
      const profile = temporaryDirectory();
      const child = start(...browserCommand(browser, url, profile, { webTransport: true }), { env: { HOME: profile, MOZ_HEADLESS: '1' } });
      await within(page.opened, OPEN_MS, () => `${browser} opened no page:\n${child.tail.join('\n')}`);
      return { page, close: () => stop(child) };
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
