// The demo page: a chat, and beside it every hub message that crosses the wire.

import { HubClient } from './hub_client.js';

const WIRE_LINES_MAX = 500;
const CHAT_LINES_MAX = 500;
const SHOWN_LETTERS_MAX = 2000;

const by = (id) => document.getElementById(id);
const choice = (name) => document.querySelector(`input[name="${name}"]:checked`);

let client = null;
let ownName = '';
let totals = { out: 0, in: 0 };
let roundTrips = [];

by('name').value = `guest ${Math.floor(Math.random() * 900 + 100)}`;
for (const radio of document.querySelectorAll('fieldset input')) radio.addEventListener('change', matchChoices);
matchChoices();

by('connect').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (client) return client.stop();
  ownName = by('name').value.trim();
  const options = { transport: choice('transport').value, protocol: choice('protocol').value, onWire, onState };
  client = new HubClient(new URL('/demo', location.href).href, options);
  client.on('Said', (name, text) => say(name, text));
  client.on('Users', showUsers);
  // A start that fails shows in the state.
  await client.start().catch(() => {});
});

by('say').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = by('text').value.trim();
  if (!text) return;
  by('text').value = '';
  await call('Say', text);
});

by('measure').addEventListener('click', async () => {
  by('measure').disabled = true;
  roundTrips = [];
  for (let i = 0; i < 20 && client?.connectionId; i++) await call('Users');
  by('measure').disabled = !client?.connectionId;
});

addEventListener('pagehide', () => client?.leave());
by('cut').addEventListener('click', () => client?.cut());
by('clear').addEventListener('click', () => {
  by('wire').replaceChildren();
  totals = { out: 0, in: 0 };
  roundTrips = [];
  showFigures();
});
by('pings').addEventListener('change', () => by('wire').classList.toggle('no-pings', !by('pings').checked));

/** Calls the hub, notes the round trip, and shows an error in the chat. */
async function call(target, ...args) {
  try {
    const { result, ms } = await client.invoke(target, ...args);
    roundTrips.push(ms);
    showFigures();
    return result;
  } catch (error) {
    note(error.message);
    return undefined;
  }
}

async function onState(state, reason) {
  by('state').textContent = state;
  by('state').dataset.state = state;
  by('state').toggleAttribute('data-error', state === 'disconnected' && Boolean(reason));
  if (reason) note(`${state}: ${reason}`);
  const connected = state === 'connected';
  const idle = state === 'disconnected';
  by('go').textContent = idle ? 'Connect' : 'Disconnect';
  for (const id of ['cut', 'measure', 'text', 'send']) by(id).disabled = !connected;
  for (const field of document.querySelectorAll('#name, fieldset input')) field.disabled = !idle;
  if (idle) {
    client = null;
    matchChoices();
  }
  by('text').placeholder = connected ? 'Say something' : 'Connect first';
  by('id').textContent = client?.connectionId ?? 'none';
  if (connected) {
    const names = await call('Join', ownName);
    if (names) showUsers(names);
    by('text').focus();
  } else {
    showUsers([]);
  }
}

function onWire({ direction, name, bytes, raw, message, at }) {
  totals[direction] += bytes;
  const decoded = raw.startsWith('{') || !message ? '' : JSON.stringify(message);
  const line = element('li', `${direction} ${name === 'Ping' ? 'ping' : ''}`, '');
  const head = element('div', 'head', '');
  head.append(
    element('span', 'direction', direction === 'out' ? '↑ out' : '↓ in'),
    element('span', '', name),
    element('span', 'size', size(bytes)),
    element('time', '', at.toLocaleTimeString('en-GB') + '.' + String(at.getMilliseconds()).padStart(3, '0')),
  );
  line.append(head, element('pre', '', cut(raw)));
  if (decoded) line.append(element('pre', 'decoded', cut(decoded)));
  append(by('wire'), line, WIRE_LINES_MAX);
  showFigures();
}

function say(name, text) {
  const line = element('li', name === ownName ? 'own' : '', '');
  line.append(element('b', '', name), text);
  append(by('messages'), line, CHAT_LINES_MAX);
}

function note(text) {
  append(by('messages'), element('li', 'note', text), CHAT_LINES_MAX);
}

function showUsers(names) {
  by('users').textContent = names.length ? names.join(', ') : 'nobody yet';
}

function showFigures() {
  const sorted = [...roundTrips].sort((a, b) => a - b);
  const shown = (ms) => (ms === undefined ? '–' : `${ms.toFixed(1)} ms`);
  by('last').textContent = shown(roundTrips.at(-1));
  by('median').textContent = shown(sorted[Math.floor(sorted.length / 2)]);
  by('count').textContent = sorted.length;
  by('out').textContent = size(totals.out);
  by('in').textContent = size(totals.in);
}

/** MessagePack needs a transport that carries bytes. */
function matchChoices() {
  const textOnly = choice('transport').value === 'ServerSentEvents';
  document.querySelector('input[value="WebTransport"]').disabled = Boolean(client) || !('WebTransport' in window);
  const binary = document.querySelector('input[value="messagepack"]');
  binary.disabled = textOnly || Boolean(client);
  if (textOnly && binary.checked) document.querySelector('input[value="json"]').checked = true;
  binary.closest('fieldset').classList.toggle('text-only', textOnly);
  by('hint').hidden = !textOnly;
}

/** Appends a line, keeps the list short, and follows it unless the reader has scrolled up. */
function append(list, line, max) {
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(line);
  while (list.children.length > max) list.firstElementChild.remove();
  if (follows) list.scrollTop = list.scrollHeight;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className.trim();
  made.textContent = text;
  return made;
}

function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : `${(bytes / 1024).toFixed(1)} KiB`;
}

function cut(text) {
  return text.length > SHOWN_LETTERS_MAX ? `${text.slice(0, SHOWN_LETTERS_MAX)}…` : text;
}
