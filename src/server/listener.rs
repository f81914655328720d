//! The socket: binding it, and accepting until told to stop.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::metrics::ConnectionMetrics;
use super::settings::ServerError;

/// First pause after an accept error that is not one connection's own (no file descriptor left);
/// doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Longest pause between two attempts to accept.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The cap is mentioned in the log at most so often.
const TELL_PAUSE: Duration = Duration::from_mins(1);

/// A bound socket.
pub(super) struct Listener {
    socket: TcpListener,
    /// One permit per connection. At the cap nothing is accepted: the kernel's queue waits.
    permits: Arc<Semaphore>,
    /// When somebody was last told that the cap is reached.
    told: Mutex<Option<Instant>>,
    metrics: Arc<ConnectionMetrics>,
}

impl Listener {
    /// Binds, by [`bind`].
    pub(super) async fn bind(
        address: SocketAddr,
        connections: usize,
        metrics: Arc<ConnectionMetrics>,
    ) -> Result<Self, ServerError> {
        let socket = bind(address).await.map_err(|cause| ServerError::Bind { address, cause })?;
        Ok(Self {
            socket,
            permits: Arc::new(Semaphore::new(connections)),
            told: Mutex::default(),
            metrics,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection, however long it takes.
    pub(super) async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let mut pause = FIRST_PAUSE;
        loop {
            let permit = self.permit().await;
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    self.metrics.accepted.inc();
                    return (stream, permit);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.metrics.accept_errors.inc();
                    tracing::warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn tell_full(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|then| then.elapsed() >= TELL_PAUSE) {
            *told = Some(Instant::now());
            tracing::warn!("the connection cap is reached, new connections wait");
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return permit;
        }
        self.tell_full();
        permits.acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Opens a listening socket. The unspecified IPv6 address means "everywhere": on a machine without
/// IPv6 it becomes `0.0.0.0`.
///
/// # Errors
/// When the address, or its replacement, cannot be bound.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let Some(fallback) = ipv4_fallback(address, &error) else { return Err(error) };
    tracing::info!(%address, %fallback, "no IPv6 on this machine");
    TcpListener::bind(fallback).await
}

/// Where to listen instead, when the failure means that this machine has no IPv6. An address that
/// is taken or not permitted would be so in IPv4 as well.
fn ipv4_fallback(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    // EAFNOSUPPORT has no ErrorKind of its own: 97 on Linux, 47 on the BSDs.
    let lacks_ipv6 = error.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(error.raw_os_error(), Some(97 | 47));
    (lacks_ipv6 && address.is_ipv6() && address.ip().is_unspecified())
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unspecified_ipv6_address_falls_back() {
        let no_ipv6 = io::Error::from_raw_os_error(97); // EAFNOSUPPORT
        let everywhere: SocketAddr = "[::]:8080".parse().unwrap();
        assert_eq!(ipv4_fallback(everywhere, &no_ipv6), Some("0.0.0.0:8080".parse().unwrap()));
        assert_eq!(ipv4_fallback("[::1]:8080".parse().unwrap(), &no_ipv6), None);
        assert_eq!(ipv4_fallback("0.0.0.0:8080".parse().unwrap(), &no_ipv6), None);
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(ipv4_fallback(everywhere, &taken), None);
    }
}
