// The servers of a run: contract hubs and the gateway in front of them.
import { createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { dotnet, hubgate, prepared, target } from './places.mjs';
import { serve } from './process.mjs';

/** Signing key of the contract hub (docs/guide/contract-hub.md). */
const KEY = 'hubgate-contract-hub-signing-key-0123456789';

export const HUBS = ['aspnet10', 'aspnet8', 'embedded', 'go'];

/** Error texts of the Go hub, where they are not ASP.NET Core's; it cannot end a stream with an error. */
export const GO_TEXTS = {
  hubException: 'my text\n', throws: 'contract\n', unknown: 'Unknown method NoSuchMethod', streamBroke: null,
};

/** The hub's assembly of that framework, as `fixtures/aspnet/build` leaves it. */
function aspnetAssembly(framework) {
  const assembly = join(target, 'aspnet', framework, 'Hubs.dll');
  if (!existsSync(assembly)) {
    throw new Error(`no ${assembly}: run fixtures/aspnet/build`);
  }
  return assembly;
}

/** Starts a contract hub that admits pages of `cors`; the child's `url` says where. */
export function startHub(kind, { cors, args = [] } = {}) {
  const options = [...(cors ? ['--cors', cors] : []), ...args];
  if (kind === 'embedded') {
    return serve(hubgate(), ['hub', '--listen', '127.0.0.1:0', ...options], { ready: /listening on (http:\S+)/ });
  }
  if (kind === 'go') {
    return serve(join(prepared, 'go/hub'), [], { ready: /^ready (http:\S+)/ });
  }
  const assembly = aspnetAssembly({ aspnet10: 'net10.0', aspnet8: 'net8.0' }[kind]);
  return serve(dotnet(), [assembly, '--urls', 'http://127.0.0.1:0', ...options], { ready: /^ready (http:\S+)/ });
}

/** Starts the gateway in quick use before `backends`, or with a configuration file. */
export function startGateway(backends, { config, env } = {}) {
  const args = config ? ['serve', '--config', config]
    : ['serve', '--listen', '127.0.0.1:0', ...backends.flatMap((url) => ['--backend', url])];
  return serve(hubgate(), args, { ready: /listening on (https?:\S+)/, env });
}

/** A token of the contract hub for that user, good for an hour. */
export function tokenFor(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, iat: now, exp: now + 3600 })}`;
  return `${body}.${createHmac('sha256', KEY).update(body).digest('base64url')}`;
}
