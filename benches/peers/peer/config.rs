//! The configuration files of the peers, each as its own documentation recommends it for SignalR or WebSockets, with one
//! worker, without an access log, and with time-outs that no case reaches.

use std::net::SocketAddr;
use std::path::Path;

/// nginx as ASP.NET Core's documentation sets it up for SignalR, or with kept upstream connections as nginx's does.
pub(super) fn nginx(listen: SocketAddr, hub: SocketAddr, keepalive: bool, prefix: &Path) -> String {
    let prefix = prefix.display();
    let (connection, pool, target) = if keepalive {
        ("map $http_upgrade $connection_upgrade { default upgrade; '' ''; }", upstream(hub), "hubs".to_owned())
    } else {
        let map = "map $http_connection $connection_upgrade { \"~*Upgrade\" $http_connection; default keep-alive; }";
        (map, String::new(), hub.to_string())
    };
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {prefix}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {prefix}/body;
  proxy_temp_path {prefix}/proxy;
  fastcgi_temp_path {prefix}/fastcgi;
  uwsgi_temp_path {prefix}/uwsgi;
  scgi_temp_path {prefix}/scgi;
  {connection}
  {pool}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass http://{target};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_cache off;
      proxy_buffering off;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }}
  }}
}}
"
    )
}

fn upstream(hub: SocketAddr) -> String {
    format!("upstream hubs {{ server {hub}; keepalive 64; }}")
}

/// HAProxy in HTTP mode with a tunnel time-out; it keeps idle connections to servers by default.
pub(super) fn haproxy(listen: SocketAddr, hub: SocketAddr) -> String {
    format!(
        "global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  option forwardfor
frontend clients
  bind {listen} backlog 4096
  default_backend hubs
backend hubs
  server hub {hub}
"
    )
}

/// hubgate with a listener in clear text that offers WebTransport, and one over TLS.
pub(super) fn hubgate(
    clear: SocketAddr,
    tls: SocketAddr,
    hub: SocketAddr,
    certificate_file: &Path,
    key_file: &Path,
) -> String {
    let certificate =
        format!("{{ certificate_file = \"{}\", key_file = \"{}\" }}", certificate_file.display(), key_file.display());
    format!(
        "[[listener]]
address = \"{clear}\"
web_transport = {{ address = \"127.0.0.1:0\", certificates = [{certificate}] }}
[[listener]]
address = \"{tls}\"
tls = {{ certificates = [{certificate}] }}
[backend.hub]
servers = [\"http://{hub}\"]
[[route]]
name = \"all\"
hubs = \"/\"
backend = \"hub\"
[admin]
address = \"off\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_recipe_keeps_upstream_connections() {
        let address = SocketAddr::from(([127, 0, 0, 1], 5000));
        let usual = nginx(address, address, false, Path::new("scratch"));
        let kept = nginx(address, address, true, Path::new("scratch"));
        assert!(!usual.contains("keepalive 64") && usual.contains("proxy_pass http://127.0.0.1:5000;"));
        assert!(kept.contains("keepalive 64") && kept.contains("proxy_pass http://hubs;"));
    }
}
