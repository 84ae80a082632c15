// The official client over fakes: what it does with the options, and what negotiate asks and remembers.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { HubConnectionBuilder, LogLevel } from '@microsoft/signalr';
import { webTransport } from '../dist/webtransport.js';
import { answer, fakeHttp, fakeWebSocket, fakeWebTransport, settle, WEB_SOCKETS } from './fakes.mjs';

const HUB = 'http://localhost:8080/chat';

function builder(options) {
  return new HubConnectionBuilder().configureLogging(LogLevel.None).withUrl(HUB, options);
}

/** Accepts the newest session and answers the handshake. */
async function serve(Session) {
  await settle();
  const session = Session.all.at(-1);
  session.accept();
  await settle();
  session.send('{}\u001e');
  await settle();
  return session;
}

test('start, invoke, stop over WebTransport; stop ends with no error', async () => {
  const [WebTransport, WebSocket] = [fakeWebTransport(), fakeWebSocket()];
  const connection = builder(webTransport({ WebTransport, WebSocket, httpClient: fakeHttp(answer()) })).build();
  const closes = [];
  connection.onclose((error) => closes.push(error));
  const started = connection.start();
  const session = await serve(WebTransport);
  await started;
  assert.equal(String(session.written[0]), '{"protocol":"json","version":1}\u001e');
  const sum = connection.invoke('Add', 40, 2);
  await settle();
  session.send('{"type":3,"invocationId":"0","res', 'ult":42}\u001e');
  assert.equal(await sum, 42);
  await connection.stop();
  assert.deepEqual([closes, WebSocket.all.length], [[undefined], 0]);
  await settle();
  assert.match(String(session.written.at(-1)), /"type":7/, 'its Close message arrives');
  session.over({ closeCode: 1000, reason: '' });
});

test('the session that ends right after the start fails it, and does not hang it', async () => {
  const WebTransport = fakeWebTransport();
  const connection = builder(webTransport({ WebTransport, WebSocket: fakeWebSocket(), httpClient: fakeHttp(answer()) })).build();
  const started = connection.start();
  await settle();
  const [session] = WebTransport.all;
  const open = session.createBidirectionalStream.bind(session);
  session.createBidirectionalStream = async () => {
    const stream = await open();
    session.over({ closeCode: 1011, reason: 'gone' });
    return stream;
  };
  session.accept();
  await assert.rejects(started, /Connection lost|1011/);
});

test('automatic reconnect negotiates again and opens a new session', async () => {
  const WebTransport = fakeWebTransport();
  const http = fakeHttp(answer('one'), answer('two'));
  const connection = builder(webTransport({ WebTransport, WebSocket: fakeWebSocket(), httpClient: http }))
    .withAutomaticReconnect([0]).build();
  const reconnected = new Promise((resolve) => connection.onreconnected(resolve));
  const started = connection.start();
  const first = await serve(WebTransport);
  await started;
  first.over();
  for (let i = 0; i < 100 && WebTransport.all.length < 2; i += 1) await settle();
  await serve(WebTransport);
  assert.equal(await reconnected, 'public two');
  assert.deepEqual(WebTransport.all.map(({ url }) => url.replace(/.*id=/, '')), ['one', 'two']);
  await connection.stop();
  WebTransport.all[1].over({});
});

test('withStatefulReconnect asks for it but shakes hands with version 1: plain automatic reconnect is what remains', async () => {
  const WebTransport = fakeWebTransport();
  const http = fakeHttp({ ...answer(), useStatefulReconnect: true });
  const connection = builder(webTransport({ WebTransport, WebSocket: fakeWebSocket(), httpClient: http })).withStatefulReconnect().build();
  const started = connection.start();
  const session = await serve(WebTransport);
  await started;
  assert.match(http.requests[0].url, /useStatefulReconnect=true/);
  assert.equal(String(session.written[0]), '{"protocol":"json","version":1}\u001e');
  await connection.stop();
  session.over({});
});

test('H2: negotiate asks for WebTransport where there is one, and not else', async () => {
  for (const [WebTransport, expected] of [[fakeWebTransport(), /\?negotiateVersion=1&webTransport=1$/], [null, /\?negotiateVersion=1$/]]) {
    const http = fakeHttp({ error: 'enough' });
    await assert.rejects(builder(webTransport({ WebTransport, httpClient: http })).build().start(), /enough/);
    assert.match(http.requests[0].url, expected);
    assert.equal(http.requests[0].method, 'POST');
  }
});

test('the answer goes on unchanged, even one that is no answer', async () => {
  for (const text of ['<html>', '{"availableTransports":7}', 'null', '']) {
    const { httpClient } = webTransport({ WebTransport: fakeWebTransport(), httpClient: fakeHttp(text) });
    assert.equal((await httpClient.send({ method: 'POST', url: 'http://localhost/negotiate?negotiateVersion=1' })).content, text);
  }
});

/** The URL of the WebSocket that a start opens. */
async function socketUrl(options, ...answers) {
  const WebSocket = fakeWebSocket();
  const http = fakeHttp(...answers);
  const connection = builder(webTransport({ WebTransport: null, WebSocket, httpClient: http, ...options })).build();
  const started = connection.start();
  await settle();
  const [socket] = WebSocket.all;
  socket.closeEvent(1006);
  await assert.rejects(started, /WebSockets failed: Error: refused or blocked/);
  return { url: socket.url, http };
}

test('the access token goes to the WebSocket, escaped', async () => {
  const { url, http } = await socketUrl({ accessTokenFactory: async () => 'a+b=' }, answer('tok', [WEB_SOCKETS]));
  assert.equal(url, 'ws://localhost:8080/chat?id=tok&access_token=a%2Bb%3D');
  assert.equal(http.requests[0].headers.Authorization, 'Bearer a+b=');
});

test('headers of the application do not appear in the URL', async () => {
  const { url } = await socketUrl({ headers: { Authorization: 'Bearer own' } }, answer('tok', [WEB_SOCKETS]));
  assert.equal(url, 'ws://localhost:8080/chat?id=tok');
});

test('a redirect is followed, with its access token', async () => {
  const { url, http } = await socketUrl({ accessTokenFactory: () => 'own' },
    { url: 'https://other.example/client?hub=chat', accessToken: 'theirs' }, answer('tok', [WEB_SOCKETS]));
  assert.equal(url, 'wss://other.example/client?hub=chat&id=tok&access_token=theirs');
  assert.deepEqual(http.requests.map(({ headers }) => headers.Authorization), ['Bearer own', 'Bearer theirs']);
});

test("a redirect's access token is not used for a later start", async () => {
  const WebSocket = fakeWebSocket();
  const http = fakeHttp({ url: 'https://other.example/client', accessToken: 'theirs' }, answer('one', [WEB_SOCKETS]), answer('two', [WEB_SOCKETS]));
  const connection = builder(webTransport({ WebTransport: null, WebSocket, httpClient: http, accessTokenFactory: () => 'own' })).build();
  for (const expected of ['wss://other.example/client?id=one&access_token=theirs', 'ws://localhost:8080/chat?id=two&access_token=own']) {
    const started = connection.start();
    await settle();
    assert.equal(WebSocket.all.at(-1).url, expected);
    WebSocket.all.at(-1).closeEvent(1006);
    await assert.rejects(started);
  }
});

test('an access token that cannot be had fails the WebSocket alone', async () => {
  let calls = 0;
  const WebTransport = fakeWebTransport();
  const accessTokenFactory = () => {
    calls += 1;
    if (calls > 1) throw new Error('signed out');
    return 'first';
  };
  const connection = builder(webTransport({ WebTransport, WebSocket: fakeWebSocket(), httpClient: fakeHttp(answer()), accessTokenFactory })).build();
  const started = connection.start();
  await settle();
  WebTransport.all[0].over();
  await assert.rejects(started, /WebTransport failed.*WebSockets failed: Error: signed out/);
});

test('without a client of the application negotiate goes by fetch, with its errors', async (t) => {
  const seen = [];
  const server = createServer((request, response) => {
    seen.push([request.method, request.url, request.headers['x-requested-with'], request.headers.authorization]);
    if (request.url.startsWith('/slow')) return;
    response.writeHead(request.url.startsWith('/no') ? 401 : 200).end(request.url.startsWith('/no') ? 'sign in' : '{"error":"full"}');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  const at = (path, options) => new HubConnectionBuilder().configureLogging(LogLevel.None)
    .withUrl(`http://127.0.0.1:${server.address().port}${path}`, webTransport({ WebTransport: fakeWebTransport(), ...options })).build().start();
  await assert.rejects(at('/chat', { accessTokenFactory: () => 'own' }), /full/);
  assert.deepEqual(seen[0], ['POST', '/chat/negotiate?negotiateVersion=1&webTransport=1', 'XMLHttpRequest', 'Bearer own']);
  await assert.rejects(at('/no'), /Failed to complete negotiation with the server: Error: sign in: Status code '401'/);
  await assert.rejects(at('/slow', { timeout: 20 }), /Failed to complete negotiation with the server: TimeoutError/);
});
