//! The last moments of a connection.
//!
//! A socket that is closed while bytes of the peer wait in it unread is reset, and a reset takes
//! what the peer has not read yet: the answer before the end, or the GOAWAY that says which requests
//! may be made again. So what hyper is done with is kept for a moment, its writing half shut, and what
//! still comes is thrown away until the peer has closed its side, too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;

/// How long a peer has to close its side: some round trips, on whatever network a cluster has. The
/// peers that matter (Go's client, curl) do so as soon as they have read the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much of a peer that goes on talking is read: two windows of HTTP/2's defaults.
const MAX_BYTES: u64 = 128 << 10;

/// A stream that comes back when it is dropped.
pub(super) struct Lent<S> {
    /// `None` once it went back.
    stream: Option<S>,
    back: Option<oneshot::Sender<S>>,
}

/// Where it comes back to.
pub(super) struct Parting<S>(oneshot::Receiver<S>);

/// Lends out a stream.
pub(super) fn lend<S>(stream: S) -> (Lent<S>, Parting<S>) {
    let (back, parting) = oneshot::channel();
    (Lent { stream: Some(stream), back: Some(back) }, Parting(parting))
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody waits for it: then it ends here.
            drop(back.send(stream));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Parting<S> {
    /// Waits until the peer has closed its side, for a moment. To be called when what it was lent to
    /// is gone.
    pub(super) async fn wait(mut self) {
        let Ok(mut stream) = self.0.try_recv() else { return };
        let part = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut (&mut stream).take(MAX_BYTES), &mut tokio::io::sink()).await
        };
        // Whatever it ends in, this was the last of it.
        drop(tokio::time::timeout(PATIENCE, part).await);
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_read(context, buffer),
            None => Poll::Ready(Err(gone())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_write(context, bytes),
            None => Poll::Ready(Err(gone())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            None => Poll::Ready(Err(gone())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(context),
            None => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(context),
            None => Poll::Ready(Err(gone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[tokio::test]
    async fn an_answer_arrives_although_the_peer_has_gone_on_talking() {
        let (ours, mut peer) = sockets().await;
        let (mut lent, parting) = lend(ours);
        lent.write_all(b"the answer").await.unwrap();
        // Without the wait these would be unread at the close, which resets the connection.
        peer.write_all(b"more that nobody reads").await.unwrap();
        drop(lent);
        let ((), answer) = tokio::join!(parting.wait(), async move {
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.map(|_| answer)
        });
        assert_eq!(answer.unwrap(), b"the answer");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_close_is_not_waited_for_long() {
        let (ours, _silent) = tokio::io::duplex(64);
        let (lent, parting) = lend(ours);
        drop(lent);
        let begin = tokio::time::Instant::now();
        parting.wait().await;
        assert_eq!(begin.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_talking_is_not_listened_to_for_long() {
        let (ours, mut peer) = tokio::io::duplex(4096);
        let (lent, parting) = lend(ours);
        drop(lent);
        let talk = async move {
            let mut said = 0_u64;
            while peer.write_all(&[0; 1024]).await.is_ok() {
                said += 1024;
            }
            said
        };
        let begin = tokio::time::Instant::now();
        let part = async {
            parting.wait().await;
            begin.elapsed()
        };
        let (took, said) = tokio::join!(part, talk);
        assert!(took < PATIENCE, "{took:?}");
        assert!(said <= MAX_BYTES + 4096, "{said}");
    }
}
