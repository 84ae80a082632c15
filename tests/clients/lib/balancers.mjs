// What stands beside the gateway, or between it and the hubs, in the two-backends run: nginx and a TCP balancer, both round robin.
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { start, temporaryDirectory } from './process.mjs';

/** A TCP balancer: each new connection goes to the next of `targets` (URLs). */
export async function startTcpBalancer(targets) {
  const ports = targets.map((target) => Number(new URL(target).port));
  let turn = 0;
  const server = createServer((near) => {
    const far = connect({ host: '127.0.0.1', port: ports[turn % ports.length] });
    turn += 1;
    near.setNoDelay();
    far.setNoDelay();
    near.pipe(far).pipe(near);
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** A port that was free a moment ago, for programs that cannot choose one themselves. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether nginx is there. */
export const hasNginx = () => spawnSync('nginx', ['-v']).status === 0;

/** nginx before two upstreams, as its manual shows it for WebSockets; no affinity. */
export async function startNginx(targets) {
  const directory = temporaryDirectory();
  const port = await freePort();
  const file = join(directory, 'nginx.conf');
  writeFileSync(file, `daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log;
events { worker_connections 8192; }
http {
  access_log off; client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p; fastcgi_temp_path ${directory}/f;
  uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }
  upstream hubs { ${targets.map((target) => `server ${new URL(target).host};`).join(' ')} }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://hubs; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 100s;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_set_header Host $host;
    }
  }
}
`);
  const child = start('nginx', ['-p', directory, '-c', file]);
  child.url = `http://127.0.0.1:${port}`;
  await answers(port, child);
  return child;
}

/** Waits until something accepts on `port`; each refusal is followed by the next try. */
async function answers(port, child) {
  for (let tries = 0; tries < 2000 && child.exitCode === null; tries += 1) {
    const open = await new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.on('connect', () => { socket.destroy(); resolve(true); }).on('error', () => setTimeout(() => resolve(false), 5));
    });
    if (open) {
      return;
    }
  }
  throw new Error(`nginx did not start:\n${child.tail.join('\n')}`);
}
