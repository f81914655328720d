//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// An address on which nothing listens. For a server that cannot be told "any port"; where it
/// can, bind port 0 instead: another process may take this one before the server does.
pub(crate) fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address")
}
