// Races, ends and errors of the transport, driven as signalr drives it: negotiate, handlers, connect.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { webTransport } from '../dist/webtransport.js';
import { answer, deferred, fakeHttp, fakeWebSocket, fakeWebTransport, settle, WEB_SOCKETS } from './fakes.mjs';

const TEXT = 1;
const BINARY = 2;
const HUB = 'http://localhost:8080/chat?room=1';

/** A transport between fakes, negotiated, with what it told so far. */
async function negotiated(t, { http = fakeHttp(answer()), format = TEXT, ...options } = {}) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const [WebTransport, WebSocket] = [fakeWebTransport(), fakeWebSocket()];
  const made = webTransport({ WebTransport, WebSocket, httpClient: http, ...options });
  const { transport, httpClient } = made;
  const seen = { received: [], closes: [], outcome: undefined };
  transport.onreceive = (data) => seen.received.push(data);
  transport.onclose = (...error) => seen.closes.push(error[0]);
  const start = async (token = 'tok') => {
    await httpClient.send({ method: 'POST', url: 'http://localhost:8080/chat/negotiate?room=1&negotiateVersion=1', headers: {} });
    seen.outcome = undefined;
    transport.connect(`${HUB}&id=${token}`, format).then(() => { seen.outcome = 'connected'; }, (error) => { seen.outcome = error.message; });
    await settle(t);
  };
  await start();
  return { made, transport, http, WebTransport, WebSocket, seen, start, tick: (ms) => t.mock.timers.tick(ms) };
}

test('WebTransport that is ready carries the connection, and no WebSocket is opened', async (t) => {
  const { transport, WebTransport, WebSocket, seen, tick } = await negotiated(t);
  const [session] = WebTransport.all;
  assert.equal(session.url, 'https://localhost:8443/chat?room=1&id=tok');
  assert.deepEqual(session.options.serverCertificateHashes, [{ algorithm: 'sha-256', value: new Uint8Array(32).fill(7) }]);
  assert.equal(transport.name, undefined);
  tick(399);
  session.accept();
  await settle(t);
  tick(10_000);
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name, session.streams, WebSocket.all.length], ['connected', 'WebTransport', 1, 0]);
});

test('H3: the WebSocket starts after 400 ms, and the first that is ready wins', async (t) => {
  const { transport, WebTransport, WebSocket, seen, tick } = await negotiated(t);
  tick(399);
  await settle(t);
  assert.equal(WebSocket.all.length, 0);
  tick(1);
  await settle(t);
  const [socket] = WebSocket.all;
  assert.equal(socket.url, 'ws://localhost:8080/chat?room=1&id=tok');
  socket.open();
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name], ['connected', 'WebSockets']);
  assert.equal(WebTransport.all[0].closes.length, 1, 'the loser is closed');
  WebTransport.all[0].accept();
  socket.message('{}\u001e');
  await settle(t);
  assert.deepEqual([seen.received, seen.closes, WebTransport.all[0].streams], [['{}\u001e'], [], undefined]);
});

test('WebTransport may still win when the WebSocket is already on its way', async (t) => {
  const { transport, WebTransport, WebSocket, seen, tick } = await negotiated(t);
  tick(400);
  await settle(t);
  WebTransport.all[0].accept();
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name, WebSocket.all[0].isClosed], ['connected', 'WebTransport', true]);
  WebSocket.all[0].open();
  WebSocket.all[0].message('late');
  await settle(t);
  assert.deepEqual([seen.received, seen.closes, transport.name], [[], [], 'WebTransport']);
});

test('WebTransport fails behind the WebSocket: there is one WebSocket, and it wins', async (t) => {
  const { transport, WebTransport, WebSocket, seen, tick } = await negotiated(t);
  tick(400);
  await settle(t);
  WebTransport.all[0].over();
  await settle(t);
  assert.deepEqual([WebSocket.all.length, seen.outcome], [1, undefined]);
  WebSocket.all[0].open();
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name], ['connected', 'WebSockets']);
});

test('a session that is ready after the WebSocket won is closed again', async (t) => {
  const { WebTransport, WebSocket, seen, tick } = await negotiated(t);
  const opening = deferred();
  const [session] = WebTransport.all;
  session.createBidirectionalStream = () => opening.promise;
  session.accept();
  tick(400);
  await settle(t);
  WebSocket.all[0].open();
  opening.reject(new Error('The session is closed.'));
  await settle(t);
  assert.deepEqual([seen.outcome, seen.closes, session.closes.length > 0], ['connected', [], true]);
});

test('H6: refused WebTransport starts the WebSocket at once', async (t) => {
  const { transport, WebTransport, WebSocket, seen } = await negotiated(t);
  WebTransport.all[0].over();
  await settle(t);
  assert.equal(WebSocket.all.length, 1);
  WebSocket.all[0].open();
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name, WebSocket.all.length], ['connected', 'WebSockets', 1]);
});

test('a WebTransport class that throws starts the WebSocket at once', async (t) => {
  const { WebSocket, seen } = await negotiated(t, { WebTransport: class { constructor() { throw new TypeError('bad port'); } } });
  assert.equal(WebSocket.all.length, 1);
  WebSocket.all[0].closeEvent(1006);
  await settle(t);
  assert.match(seen.outcome, /WebTransport failed: TypeError: bad port WebSockets failed: Error: refused/);
});

for (const [what, options] of Object.entries({
  'the gateway does not offer it': { http: fakeHttp(answer('tok', [WEB_SOCKETS])) },
  'the browser has none': { WebTransport: null },
  'the offer is of another connection': { http: fakeHttp(answer('other')) },
})) {
  test(`a WebSocket at once where ${what}`, async (t) => {
    const { WebTransport, WebSocket, seen, transport } = await negotiated(t, options);
    assert.deepEqual([WebTransport.all.length, WebSocket.all.length], [0, 1]);
    WebSocket.all[0].open();
    await settle(t);
    assert.deepEqual([seen.outcome, transport.name], ['connected', 'WebSockets']);
  });
}

test('both fail, WebTransport first: one error tells of both, each was tried once', async (t) => {
  const { WebTransport, WebSocket, seen } = await negotiated(t);
  WebTransport.all[0].over(undefined, new Error('Opening handshake failed.'));
  await settle(t);
  WebSocket.all[0].closeEvent(1006);
  await settle(t);
  assert.match(seen.outcome, /^WebTransport failed: Error: Opening handshake failed. WebSockets failed: Error: refused/);
  assert.deepEqual([seen.closes, WebTransport.all.length, WebSocket.all.length], [[], 1, 1]);
});

test('the WebSocket fails first: WebTransport may still come', async (t) => {
  const { WebTransport, WebSocket, seen, tick, transport } = await negotiated(t);
  tick(400);
  await settle(t);
  WebSocket.all[0].closeEvent(1006);
  await settle(t);
  tick(4999);
  await settle(t);
  assert.equal(seen.outcome, undefined);
  WebTransport.all[0].accept();
  await settle(t);
  tick(10_000);
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name, seen.closes, WebSocket.all.length], ['connected', 'WebTransport', [], 1]);
});

test('the WebSocket fails first, WebTransport never answers: connect fails after five seconds', async (t) => {
  const { WebTransport, WebSocket, seen, tick } = await negotiated(t);
  tick(400);
  await settle(t);
  WebSocket.all[0].closeEvent(1006);
  await settle(t);
  tick(5000);
  await settle(t);
  assert.match(seen.outcome, /^WebSockets failed: Error: refused/);
  assert.equal(WebTransport.all[0].closes.length, 1);
});

test('stop while connecting fails connect, ends both ways, and tells no close', async (t) => {
  const { transport, WebTransport, WebSocket, seen, tick } = await negotiated(t);
  tick(400);
  await settle(t);
  await transport.stop();
  await settle(t);
  assert.equal(seen.outcome, 'Stopped while connecting.');
  assert.deepEqual([WebTransport.all[0].closes.length, WebSocket.all[0].isClosed, seen.closes], [1, true, []]);
});

test('stop before the access token is there opens no WebSocket', async (t) => {
  const token = deferred();
  const { transport, WebSocket, seen } = await negotiated(t, { WebTransport: null, accessTokenFactory: () => token.promise });
  await transport.stop();
  token.resolve('late');
  await settle(t);
  assert.deepEqual([WebSocket.all.length, seen.outcome], [0, 'Stopped while connecting.']);
});

/** Connected over WebTransport. */
async function connected(t, options) {
  const made = await negotiated(t, options);
  const [session] = made.WebTransport.all;
  session.accept();
  await settle(t);
  assert.equal(made.seen.outcome, 'connected');
  return { ...made, session };
}

test('sends text and bytes, and waits while the stream takes no more', async (t) => {
  const { transport, session } = await connected(t);
  await transport.send('Grüße\u001e');
  await transport.send(new Uint8Array([1, 2, 255]).buffer);
  assert.deepEqual(session.written, [Buffer.from('Grüße\u001e'), Buffer.from([1, 2, 255])]);
  const room = deferred();
  session.room = room.promise;
  let isSent = false;
  const sent = transport.send('more').then(() => { isSent = true; });
  await settle(t);
  assert.equal(isSent, false);
  room.resolve();
  await sent;
  assert.equal(session.written.length, 3);
});

test('send fails before connect and after the end', async (t) => {
  const { transport, session } = await connected(t);
  await assert.rejects(webTransport().transport.send('x'), /Not connected/);
  session.over();
  await assert.rejects(transport.send('x'), /Connection lost/);
  await settle(t);
  await assert.rejects(transport.send('x'), /Not connected/);
});

test('stop tells the close at once, ends the stream, and leaves closing to the gateway', async (t) => {
  const { transport, session, seen, tick } = await connected(t);
  void transport.send('last words');
  await transport.stop();
  assert.deepEqual([seen.closes, transport.name], [[undefined], undefined]);
  await settle(t);
  assert.deepEqual([session.written.map(String), session.hasFin, session.closes], [['last words'], true, []]);
  session.fin();
  session.over({ closeCode: 1000, reason: '' });
  await settle(t);
  tick(10_000);
  await transport.stop();
  assert.deepEqual([seen.closes.length, session.closes], [1, []]);
});

test('stop closes the session with 1000 when the gateway does not within two seconds', async (t) => {
  const { transport, session, seen, tick } = await connected(t);
  await transport.stop();
  await settle(t);
  tick(1999);
  assert.deepEqual(session.closes, []);
  tick(1);
  await settle(t);
  assert.deepEqual([session.closes, seen.closes.length], [[{ closeCode: 1000 }], 1]);
});

for (const [info, expected] of [
  [{ closeCode: 1000, reason: 'bye' }, undefined],
  [{ closeCode: 0, reason: '' }, undefined],
  [{}, undefined],
  [{ closeCode: 1011, reason: 'the hub broke' }, 'WebTransport closed with status code: 1011 (the hub broke).'],
  [{ closeCode: 1006, reason: '' }, 'WebTransport closed with status code: 1006 (no reason given).'],
]) {
  test(`the gateway ends with ${JSON.stringify(info)}: everything before it arrives, and the error is ${expected}`, async (t) => {
    const { session, seen } = await connected(t);
    session.send('{"type":7}\u001e');
    session.fin();
    await settle(t);
    assert.deepEqual([seen.received, session.hasFin, seen.closes], [['{"type":7}\u001e'], true, []], 'told when code and reason are known');
    session.over(info);
    await settle(t);
    assert.deepEqual(seen.closes.map((error) => error?.message), [expected]);
  });
}

test('a session closed without the end of the stream tells its code', async (t) => {
  const { session, seen } = await connected(t);
  session.over({ closeCode: 1001, reason: 'going away' });
  await settle(t);
  assert.deepEqual(seen.closes.map(String), ['Error: WebTransport closed with status code: 1001 (going away).']);
});

test('a lost session is an error', async (t) => {
  const { session, seen, transport } = await connected(t);
  session.over();
  await settle(t);
  await transport.stop();
  assert.deepEqual(seen.closes.map(String), ['Error: WebTransport closed with status code: 1006 (Connection lost.).']);
});

test('a stream that is reset is an error, and ends the session', async (t) => {
  const { session, seen } = await connected(t);
  session.reset();
  await settle(t);
  assert.deepEqual([seen.closes.map((error) => error?.message), session.closes.length > 0], [['The stream was reset.'], true]);
});

test('what signalr throws on a message ends the connection with that error', async (t) => {
  const { transport, session, seen } = await connected(t);
  transport.onreceive = () => { throw new Error('no such message'); };
  session.send('{}\u001e{}\u001e');
  await settle(t);
  assert.deepEqual([seen.closes.map((error) => error?.message), session.hasFin], [['no such message'], true]);
});

test('an end in the same moment as the start is told after connect has resolved', async (t) => {
  const { seen, WebTransport, transport } = await negotiated(t);
  let isTold = false;
  const [session] = WebTransport.all;
  session.createBidirectionalStream = async () => { throw new Error('too late'); };
  session.accept();
  transport.onclose = () => { isTold = true; };
  await settle(t);
  assert.deepEqual([seen.outcome, isTold], [undefined, false], 'the WebSocket is tried instead');
});

for (const [code, reason, expected] of [
  [1000, '', undefined], [1011, 'broke', 'WebSocket closed with status code: 1011 (broke).'],
  [1006, '', 'WebSocket closed with status code: 1006 (no reason given).'],
]) {
  test(`a WebSocket closed with ${code} gives ${expected}`, async (t) => {
    const { WebSocket, seen, transport } = await negotiated(t, { WebTransport: null, format: BINARY });
    const [socket] = WebSocket.all;
    socket.open();
    await settle(t);
    await transport.send('hello');
    assert.deepEqual([socket.sent, socket.binaryType], [['hello'], 'arraybuffer']);
    socket.closeEvent(code, reason);
    await settle(t);
    assert.deepEqual(seen.closes.map((error) => error?.message), [expected]);
  });
}

test('a page that goes closes its session, and an ended session leaves no listener', async (t) => {
  const listeners = new Set();
  globalThis.addEventListener = (name, listener) => name === 'pagehide' && listeners.add(listener);
  globalThis.removeEventListener = (name, listener) => listeners.delete(listener);
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const { session, seen } = await connected(t);
  assert.equal(listeners.size, 1);
  listeners.forEach((leave) => leave());
  await settle(t);
  // An error, so that a page that comes back from the browser's cache connects again.
  assert.deepEqual([session.closes, seen.closes.map(String)], [[{ closeCode: 1001 }],
    ['Error: WebTransport closed with status code: 1001 (no reason given).']]);
  assert.equal(listeners.size, 0);
});

test('automatic reconnect: the same object starts anew, and nothing of the old connection reaches it', async (t) => {
  const http = fakeHttp(answer('one'), answer('two'), answer('three', [WEB_SOCKETS]), answer('four'));
  const { WebTransport, WebSocket, seen, start, transport } = await negotiated(t, { http });
  assert.equal(WebTransport.all.length, 0, 'the token of the fake is another');
  await transport.stop();
  await start('two');
  WebTransport.all[0].accept();
  await settle(t);
  WebTransport.all[0].send('half a mess');
  WebTransport.all[0].over();
  await settle(t);
  assert.equal(seen.closes.length, 1);
  await start('three');
  WebSocket.all.at(-1).open();
  await settle(t);
  assert.deepEqual([seen.outcome, transport.name], ['connected', 'WebSockets']);
  WebSocket.all.at(-1).closeEvent(1006);
  await settle(t);
  await start('four');
  WebTransport.all[1].accept();
  await settle(t);
  WebTransport.all[1].send('age\u001e');
  await settle(t);
  assert.deepEqual([seen.received, transport.name, seen.closes.length], [['age\u001e'], 'WebTransport', 2]);
});

test('an answer without transports leaves no offer of an earlier one', async (t) => {
  const http = fakeHttp(answer(), { negotiateVersion: 1, connectionToken: 'bare' });
  const { transport, WebTransport, WebSocket, start } = await negotiated(t, { http });
  await transport.stop();
  await start('bare');
  assert.deepEqual([WebTransport.all.length, WebSocket.all.length], [1, 1]);
});

test('messages arrive whole: text as strings, binary as array buffers', async (t) => {
  const text = await connected(t);
  text.session.send('{"a":"ß', '🦀"}\u001e{"b"', ':1}\u001e');
  await settle(t);
  assert.equal(text.seen.received.join(''), '{"a":"ß🦀"}\u001e{"b":1}\u001e');
  t.mock.timers.reset();
  const binary = await connected(t, { format: BINARY });
  binary.session.send('{}', [0x1e, 2, 0xc0], [0xc0, 1]);
  await settle(t);
  assert.deepEqual(binary.seen.received.map((data) => [data.constructor, Buffer.from(data).toString('hex')]), [
    [ArrayBuffer, '7b7d1e'], [ArrayBuffer, '02c0c0'],
  ]);
});
