// One client whose answer is lost: four messages are asked for, the second one's bytes never arrive. Gives what was received and
// how the connection stands.
export async function runLost(signalR, url, transport) {
  const connection = new signalR.HubConnectionBuilder()
    .withUrl(url, { transport: signalR.HttpTransportType[transport] })
    .configureLogging(signalR.LogLevel.None)
    .build();
  const got = [];
  let arrived = () => {};
  connection.on('Message', (text) => {
    got.push(text);
    arrived();
  });
  const closed = new Promise((resolve) => connection.onclose((error) => resolve(error ? 'closed with an error' : 'closed')));
  await connection.start();
  for (const text of ['one', 'LOST-IN-TRANSIT', 'three', 'four']) {
    const next = new Promise((resolve) => { arrived = () => { if (got.at(-1) === text) { resolve('arrived'); } }; });
    connection.send('SendToCaller', text).catch(() => {});
    const outcome = await Promise.race([next, closed]);
    if (outcome !== 'arrived') {
      return { got, ends: outcome };
    }
  }
  return { got, ends: 'goes on' };
}
