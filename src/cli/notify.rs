//! Notifies systemd that the process has started (`Type=notify`). Without `NOTIFY_SOCKET` nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable in which systemd passes its socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The message that means that the process has started.
const READY: &[u8] = b"READY=1";

/// Called when the configuration is valid and the HTTP port is open.
pub(super) fn started() {
    if let Some(socket) = std::env::var_os(SOCKET)
        && let Err(error) = send(&socket)
    {
        tracing::warn!(
            event = "systemd_not_notified",
            %error,
            hint = "Set Type=exec in the unit, or let AF_UNIX pass.",
            "systemd cannot be notified that the process has started"
        );
    }
}

fn send(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // A socket in the abstract namespace, which has no file.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(OsString::from(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(READY, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_get_the_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("forebay-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, listener) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&abstract_name).unwrap()),
        ] {
            send(&socket).unwrap();
            let mut message = [0; 16];
            let length = listener.recv(&mut message).unwrap();
            assert_eq!(&message[..length], READY);
        }
        assert!(send(OsStr::new("/no/such/socket")).is_err());
    }
}
