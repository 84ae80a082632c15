//! Tells the service manager how the gateway fares: systemd's notification protocol.
//!
//! Why: a unit of `Type=notify` counts as started only when the service says so (rule G7). It is one datagram to the
//! socket that the manager names in `NOTIFY_SOCKET`; without a manager nothing happens.
//!
//! Invariant: a notification never fails the gateway; what cannot be sent is left out.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All listeners are bound.
    Ready,
    /// The configuration is read again; [`State::Ready`] follows.
    Reloading,
    /// Connections are asked to leave.
    Stopping,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Ready => "READY=1\nSTATUS=Serving.\n",
            Self::Reloading => "STATUS=Reading the configuration again.\n",
            Self::Stopping => "STOPPING=1\nSTATUS=Connections are asked to leave.\n",
        }
    }
}

/// Tells the manager of this process, if there is one.
pub fn notify(state: State) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        let sent = tell(&socket, state);
        if let Err(error) = sent {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

/// Sends one datagram; a name that begins with `@` is in the abstract namespace.
fn tell(socket: &OsStr, state: State) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.text().as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn er_g7_the_manager_is_told_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let name = format!("hubgate-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let managers = [
            (UnixDatagram::bind(&path).expect("bound"), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).expect("bound"), format!("@{name}").into()),
        ];
        for (manager, socket) in managers {
            for (state, expected) in [(State::Ready, "READY=1\n"), (State::Stopping, "STOPPING=1\n")] {
                tell(&socket, state).expect("sent");
                let mut buffer = [0; 128];
                let length = manager.recv(&mut buffer).expect("received");
                assert!(buffer[..length].starts_with(expected.as_bytes()));
            }
        }
        assert!(tell(OsStr::new("/nowhere/at/all"), State::Ready).is_err());
    }
}
