// The fifteen steps of one matrix cell, for the official JavaScript client.
//
// Why here: Node and the browsers run this very file, so a difference between their rows is a difference between the
// environments, not between two scripts. It uses nothing of Node.
//
// Invariant: every step ends in exactly one report, `{step, ok}`, `{step, na}` or `{step, error}`; a step waits for events
// and for nothing else, and is ended by its time-out when they do not come.

export const STEPS = [
  'connect', 'invoke', 'void', 'hub-exception', 'unknown-method', 'server-stream', 'client-stream', 'cancel',
  'client-result', 'group', 'user', 'one-mib', 'in-order', 'clean-stop', 'reconnect',
];

/** WebTransport by way of the proxy on that UDP port. */
export function through(port) {
  return class extends WebTransport {
    constructor(url, options) {
      const by = new URL(url);
      by.port = port;
      super(by.href, options);
    }
  };
}

const MIB = 1024 * 1024;
const NUMBERED = 1000;

/** The error texts of ASP.NET Core's hubs. */
const TEXTS = {
  hubException: "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: my text",
  throws: "An unexpected error occurred invoking 'Throw' on the server.",
  unknown: "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
  streamBroke: 'An error occurred on the server while streaming results. HubException: stream broke',
};

/** JSON with the members of every object in the order of their names. */
function sorted(value) {
  return JSON.stringify(value, (_, item) => (item && typeof item === 'object' && !Array.isArray(item)
    ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1))) : item));
}

/** Fails with `what` unless both sides have the same JSON, order of members aside. */
function same(actual, expected, what) {
  const [a, e] = [sorted(actual), sorted(expected)];
  if (a !== e) {
    throw new Error(`${what}: expected ${short(e)}, got ${short(a)}`);
  }
}

function short(text) {
  return text !== undefined && text.length > 200 ? `${text.slice(0, 200)}… (${text.length})` : String(text);
}

/** A promise with its own resolve and reject. */
function deferred() {
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  d.promise.catch(() => {});
  return d;
}

/** The message of the error that `promise` must fail with. */
async function failureOf(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error.message;
  }
  throw new Error(`expected a failure, got ${short(JSON.stringify(value))}`);
}

/**
 * Runs the cell.
 *
 * `env.signalR` and `env.msgpack` are the client's modules, `env.webTransport` makes our transport's options (its second argument says
 * whether the connection will be cut), `env.cell` what the runner told (see README.md), `env.report` takes one report, `env.cut` resets all connections that go by `cell.cutBase` (and keeps that way down until `env.restore`, where there
 * is one), `env.lacks` maps steps to reasons.
 */
export async function runCell(env) {
  const cell = new Cell(env);
  for (const step of STEPS) {
    const reason = env.lacks?.[step];
    if (reason) {
      env.report({ step, na: reason });
      continue;
    }
    const started = Date.now();
    try {
      await withTimeout(cell[camel(step)](), step, env.cell.stepTimeoutMs);
      env.report({ step, ok: true, ms: Date.now() - started });
    } catch (error) {
      env.report({ step, error: String(error?.message ?? error) });
      if (step === 'connect') {
        STEPS.slice(1).forEach((later) => env.report({ step: later, error: 'not connected' }));
        break;
      }
    }
  }
  await cell.close();
}

const camel = (step) => step.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

function withTimeout(promise, step, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${step}: nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

class Cell {
  constructor(env) {
    this.env = env;
    this.opened = [];
    this.texts = env.cell.texts ?? TEXTS;
    this.userId = `user of ${env.cell.name}`;
  }

  /** Opens a connection; `how.token` sends the user as a JWT, else the query names it. */
  build(path, how = {}) {
    const { signalR, msgpack, cell } = this.env;
    const base = how.base ?? cell.base;
    const query = how.token ? '' : `?user=${encodeURIComponent(this.userId)}`;
    let options = { logger: this.env.logger ?? signalR.NullLogger?.instance ?? signalR.LogLevel.None };
    if (how.token) {
      options.accessTokenFactory = () => cell.token;
    }
    if (cell.transport === 'WebTransport') {
      options = this.env.webTransport(options, Boolean(how.base));
    } else {
      options.transport = signalR.HttpTransportType[cell.transport];
    }
    const builder = new signalR.HubConnectionBuilder()
      .configureLogging(options.logger)
      .withUrl(`${base}${path}${query}`, options);
    if (how.reconnect) {
      builder.withAutomaticReconnect([0, 100, 500, 1000, 2000]);
    }
    if (cell.protocol === 'messagepack') {
      builder.withHubProtocol(new msgpack.MessagePackHubProtocol());
    }
    const connection = builder.build();
    for (const unused of ['Message', 'Broadcast', 'Numbered']) {
      connection.on(unused, () => {});
    }
    this.opened.push(connection);
    connection.carriedBy = () => options.transport.name ?? cell.transport;
    return connection;
  }

  /** Fails unless that transport carries the connections, and not its fallback. */
  carried(...connections) {
    connections.forEach((connection) => same(connection.carriedBy(), this.env.cell.transport, 'what carries the connection'));
  }

  async close() {
    const stopped = this.opened.map((connection) => connection.stop().catch(() => {}));
    await Promise.race([Promise.all(stopped), new Promise((resolve) => setTimeout(resolve, 3000))]);
  }

  async connect() {
    const { cell } = this.env;
    this.main = this.build('/contract', { token: true });
    this.observer = this.build('/contract');
    await Promise.all([this.main.start(), this.observer.start()]);
    this.carried(this.main, this.observer);
    this.mainId = await this.main.invoke('ConnectionId');
    if (!this.env.hidesConnectionId) {
      same(this.main.connectionId, this.mainId, 'connectionId');
    }
    if (cell.hubTransport) {
      same(await this.main.invoke('Transport'), cell.hubTransport, 'Transport()');
    }
  }

  async invoke() {
    const value = { text: 'Grüße, 世界 🦀 "\u001e"', list: [1, -2, 3.5, null, true], deep: { empty: {} } };
    same(await this.main.invoke('Echo', value), value, 'Echo');
    same(await this.main.invoke('EchoText', 'plain'), 'plain', 'EchoText');
    same(await this.main.invoke('Add', 40, 2), 42, 'Add');
  }

  async void() {
    const result = await this.main.invoke('Void');
    same(result ?? null, null, 'result of Void');
    same(await this.observer.invoke('WaitForEvent', this.mainId, 'void', 15000), true, 'the hub ran Void');
  }

  async hubException() {
    same(await failureOf(this.main.invoke('ThrowHub', 'my text')), this.texts.hubException, 'HubException');
    same(await failureOf(this.main.invoke('Throw')), this.texts.throws, 'Throw');
  }

  async unknownMethod() {
    same(await failureOf(this.main.invoke('NoSuchMethod')), this.texts.unknown, 'unknown method');
  }

  async serverStream() {
    same(await this.collect('Counter', 100), [...Array(100).keys()], 'Counter');
    if (this.texts.streamBroke) {
      same(await failureOf(this.collect('CounterThenThrow', 3)), this.texts.streamBroke, 'CounterThenThrow');
    }
  }

  collect(method, ...args) {
    const [done, items] = [deferred(), []];
    this.main.stream(method, ...args).subscribe({
      next: (item) => items.push(item), complete: () => done.resolve(items), error: done.reject,
    });
    return done.promise;
  }

  async clientStream() {
    const subject = new this.env.signalR.Subject();
    const sum = this.main.invoke('Upload', subject);
    for (let i = 1; i <= 100; i += 1) {
      subject.next(i);
    }
    subject.complete();
    same(await sum, 5050, 'Upload');
    const letters = new this.env.signalR.Subject();
    const joined = this.main.invoke('UploadStrings', letters);
    ['a', 'ß', '🦀'].forEach((letter) => letters.next(letter));
    letters.complete();
    same(await joined, 'aß🦀', 'UploadStrings');
  }

  async cancel() {
    const three = deferred();
    const items = [];
    const subscription = this.main.stream('Ticks', 10).subscribe({
      next: (item) => items.push(item) === 3 && three.resolve(), complete: () => {}, error: three.reject,
    });
    await three.promise;
    subscription.dispose();
    same(items.slice(0, 3), [0, 1, 2], 'Ticks');
    same(await this.observer.invoke('WaitForEvent', this.mainId, 'stream-cancelled', 15000), true, 'the hub saw the cancel');
  }

  async clientResult() {
    this.main.on('Question', async (question) => `answer to ${question}`);
    same(await this.main.invoke('Ask', 'one'), 'answer to one', 'Ask');
    same(await this.observer.invoke('AskOn', this.mainId, 'two'), 'answer to two', 'AskOn');
  }

  /** Waits until `text` came as `Message` to `connection`. */
  message(connection, text) {
    const got = deferred();
    const handler = (received) => {
      if (received === text) {
        connection.off('Message', handler);
        got.resolve();
      }
    };
    connection.on('Message', handler);
    return got.promise;
  }

  async group() {
    const group = `group of ${this.env.cell.name}`;
    await this.main.invoke('JoinGroup', group);
    const first = this.message(this.main, 'to one');
    await this.observer.invoke('SendToGroup', group, 'to one');
    await first;
    await this.observer.invoke('JoinGroup', group);
    const both = [this.message(this.main, 'to both'), this.message(this.observer, 'to both')];
    await this.main.invoke('SendToGroup', group, 'to both');
    await Promise.all(both);
    await this.main.invoke('LeaveGroup', group);
    let strayed = false;
    const stray = this.message(this.main, 'after leaving').then(() => { strayed = true; });
    await this.observer.invoke('SendToGroup', group, 'after leaving');
    await this.main.invoke('Echo', 'behind it');
    same(strayed, false, 'a message after LeaveGroup');
    void stray;
  }

  async user() {
    same(await this.main.invoke('User'), this.userId, 'User() by token');
    same(await this.observer.invoke('User'), this.userId, 'User() by query');
    const both = [this.message(this.main, 'to the user'), this.message(this.observer, 'to the user')];
    await this.observer.invoke('SendToUser', this.userId, 'to the user');
    await Promise.all(both);
  }

  async oneMib() {
    const large = this.build('/contract-large', { token: true });
    await large.start();
    this.carried(large);
    same(await large.invoke('Length', 'y'.repeat(MIB)), MIB, 'Length');
    const back = await large.invoke('Big', MIB);
    same([back.length, /^x*$/.test(back)], [MIB, true], 'Big');
    await large.stop();
  }

  async inOrder() {
    const sends = [];
    for (let i = 0; i < NUMBERED; i += 1) {
      sends.push(this.main.send('Collect', i));
    }
    await Promise.all(sends);
    same(await this.main.invoke('Collected'), [NUMBERED, 0], 'Collected');
    const [all, numbers] = [deferred(), []];
    this.main.on('Numbered', (i) => numbers.push(i) === NUMBERED && all.resolve());
    await this.main.invoke('Push', NUMBERED, 64);
    await all.promise;
    same(numbers, [...Array(NUMBERED).keys()], 'Numbered');
  }

  async cleanStop() {
    const closed = deferred();
    this.main.onclose((error) => closed.resolve(error ?? null));
    await this.main.stop();
    same(await closed.promise, null, 'error of onclose');
    same(await this.observer.invoke('WaitForEvent', this.mainId, 'disconnected', 15000), true, 'the hub saw the end');
    same((await this.observer.invoke('DisconnectError', this.mainId)) ?? null, null, 'DisconnectError');
  }

  async reconnect() {
    const lost = this.build('/contract', { base: this.env.cell.cutBase, token: true, reconnect: true });
    const [reconnecting, reconnected] = [deferred(), deferred()];
    lost.onreconnecting(() => reconnecting.resolve());
    lost.onreconnected((id) => reconnected.resolve(id));
    lost.onclose((error) => reconnected.reject(new Error(`closed instead: ${error}`)));
    await lost.start();
    this.carried(lost);
    const before = await lost.invoke('ConnectionId');
    await this.env.cut();
    await reconnecting.promise;
    await this.env.restore?.();
    const id = await reconnected.promise;
    this.carried(lost);
    const after = await lost.invoke('ConnectionId');
    if (after === before) {
      throw new Error('the same connection after the reset');
    }
    if (!this.env.hidesConnectionId) {
      same(id, after, 'connectionId given to onreconnected');
    }
    same(await lost.invoke('Echo', 'again'), 'again', 'Echo after the reconnect');
  }
}
