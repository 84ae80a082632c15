// Configuration files for the gateways that quick use cannot describe: TLS listeners, affinity, CORS.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './process.mjs';

/**
 * Writes a configuration before `backends`; `tls` adds a self-signed certificate for localhost, `webTransport`
 * serves that with one (or with the certificate given) beside clear text, `cors` answers pages of that origin
 * in the gateway instead of leaving that to the hub, `transports` offers those instead of the hub's own, `protocol` is what hubs speak
 * whose clients may speak another, `stateful` says who keeps connections across losses; `limits` and `timeouts` are lines of those tables.
 */
export function writeConfiguration(backends, { affinity = 'off', tls = false, webTransport, cors, transports = [], protocol = 'client', stateful, limits = '',
  timeouts = '' } = {}) {
  const directory = temporaryDirectory();
  const file = join(directory, 'hubgate.toml');
  writeFileSync(file, `[[listener]]
address = "127.0.0.1:0"
${tls ? `tls = { certificates = [${certificate(directory)}] }` : ''}
${webTransport ? `web_transport = { address = "127.0.0.1:0", certificates = [${webTransport === true ? certificate(directory) : webTransport}] }` : ''}

[admin]
address = "127.0.0.1:0"

[limits]
# The matrix sends 1 MiB in one message, which transcoding must hold as a whole.
client_message_bytes_max = "2 MiB"
${limits}

[timeouts]
${timeouts}

[backend.hubs]
servers = [${backends.map((url) => JSON.stringify(url)).join(', ')}]

[[route]]
name = "everything"
hubs = "/"
backend = "hubs"
affinity = "${affinity}"
transports = ${JSON.stringify(transports)}
backend_protocol = "${protocol}"
${cors ? `cors = { origins = [${JSON.stringify(cors)}] }` : ''}
${stateful ? `stateful_reconnect = "${stateful}"` : ''}
`);
  return file;
}

/** What a browser may be told the hash of: P-256, self-signed, good for two days. */
function certificate(directory) {
  const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' });
  return `{ certificate_file = ${JSON.stringify(cert)}, key_file = ${JSON.stringify(key)} }`;
}
