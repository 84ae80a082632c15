// A browser's WebTransport and WebSocket, and a server's negotiate, whose every step a test decides.
//
// Invariant: like the browser's, the promises of a fake session reject without anybody having asked, so a missing handler is an unhandled
// rejection, which fails the test.

export function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/** Lets everything happen that needs no time; the tests' clock stands still. */
export async function settle(t) {
  for (let i = 0; i < 20; i += 1) {
    t?.mock.timers.tick(0);
    await new Promise(setImmediate);
  }
}

/** As the browser's: says what has ended, the session or the stream alone. */
export class SessionError extends Error {
  constructor(message, source = 'session') {
    super(message);
    this.name = 'WebTransportError';
    this.source = source;
  }
}

/** A WebTransport class of its own for a test: `all` are its sessions. */
export function fakeWebTransport() {
  return class FakeWebTransport {
    static all = [];
    #ready = deferred();
    #closed = deferred();
    #isOver = false;
    written = [];
    closes = [];
    hasFin = false;

    constructor(url, options) {
      Object.assign(this, { url, options });
      this.ready = this.#ready.promise;
      this.closed = this.#closed.promise;
      this.constructor.all.push(this);
    }

    /** The server accepts the session. */
    accept() {
      this.#ready.resolve();
    }

    /** The session is over: refused, lost, or closed with `info`. */
    over(info, error = new SessionError('Connection lost.')) {
      if (this.#isOver) return;
      this.#isOver = true;
      this.#ready.reject(error);
      if (info) this.#closed.resolve(info);
      else this.#closed.reject(error);
      try {
        this.toClient?.error(error);
      } catch {
        // Ended already.
      }
      this.fromClient?.error(error);
    }

    async createBidirectionalStream() {
      if (this.#isOver) throw new SessionError('The session is closed.');
      this.streams = (this.streams ?? 0) + 1;
      const readable = new ReadableStream({ start: (controller) => { this.toClient = controller; } });
      const writable = new WritableStream({
        start: (controller) => { this.fromClient = controller; },
        write: async (chunk) => {
          await this.room;
          this.written.push(Buffer.from(chunk));
        },
        close: () => { this.hasFin = true; },
      });
      return { readable, writable };
    }

    send(...bytes) {
      bytes.forEach((part) => this.toClient.enqueue(new Uint8Array(Buffer.from(part))));
    }

    fin() {
      this.toClient.close();
    }

    reset() {
      this.toClient.error(new SessionError('The stream was reset.', 'stream'));
    }

    close(info = {}) {
      if (this.#isOver) return;
      this.closes.push(info);
      this.over(info, new SessionError('The session is closed.'));
    }
  };
}

/** A WebSocket class of its own for a test: `all` are its sockets. */
export function fakeWebSocket() {
  return class FakeWebSocket {
    static all = [];
    sent = [];
    isClosed = false;

    constructor(url) {
      this.url = url;
      this.constructor.all.push(this);
    }

    open() {
      this.onopen?.({});
    }

    message(data) {
      this.onmessage?.({ data });
    }

    closeEvent(code, reason = '') {
      if (code !== 1000) this.onerror?.({});
      this.onclose?.({ code, reason, wasClean: code === 1000 });
    }

    send(data) {
      this.sent.push(data);
    }

    close() {
      if (this.isClosed) return;
      this.isClosed = true;
      setImmediate(() => this.onclose?.({ code: 1005, reason: '', wasClean: true }));
    }
  };
}

export const OFFER = {
  transport: 'WebTransport', transferFormats: ['Text', 'Binary'], port: 8443,
  serverCertificateHashes: [{ algorithm: 'sha-256', value: Buffer.alloc(32, 7).toString('base64') }],
};
export const WEB_SOCKETS = { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] };

/** An HTTP client of the application that answers negotiate with the next of `answers`, the last one for ever. */
export function fakeHttp(...answers) {
  const requests = [];
  return {
    requests,
    async send(request) {
      requests.push(request);
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      return { statusCode: 200, content: typeof answer === 'string' ? answer : JSON.stringify(answer) };
    },
  };
}

export const answer = (token = 'tok', transports = [OFFER, WEB_SOCKETS]) => (
  { negotiateVersion: 1, connectionId: `public ${token}`, connectionToken: token, availableTransports: transports });
