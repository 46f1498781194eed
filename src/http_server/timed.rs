//! [`Timed`]: a stream whose writes fail when the other side takes nothing for too long, and that closes in such a way
//! that the other side can read the last answer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a stream lingers at most.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Reads are as they were; a write or flush that waits longer than `limit` is an error.
///
/// A TCP connection that is closed while bytes of the client's are unread is reset, and the reset overtakes the answer.
/// When `lingers` says so, what the client sends after the end of our side is read and thrown away until it closes.
pub(super) struct Timed<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    lingers: Arc<AtomicBool>,
    /// Runs from the end of our side on.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, limit: Duration, lingers: Arc<AtomicBool>) -> Self {
        Self { stream, limit, waiting: None, lingers, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> Timed<S> {
    /// Reads until the client closes, or for so long.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER_MAX)));
        let mut thrown_away = [0; 4096];
        while lingering.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl<S: Unpin> Timed<S> {
    /// What a write has come to, or the error that it has waited too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.bounded(context, progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        this.bounded(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_flush(context);
        this.bounded(context, progress)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let progress = Pin::new(&mut this.stream).poll_shutdown(context);
            ready!(this.bounded(context, progress))?;
        }
        if this.lingers.load(Ordering::Relaxed) {
            ready!(this.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails() {
        let limit = Duration::from_secs(30);
        let (near, mut far) = duplex(8);
        let mut near = Timed::new(near, limit, Arc::default());
        near.write_all(b"12345678").await.unwrap();
        let started = tokio::time::Instant::now();
        let error = near.write_all(b"9").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), limit.as_secs());

        // Who takes a little now and then is served.
        let mut taken = [0; 4];
        far.read_exact(&mut taken).await.unwrap();
        let writing = async {
            near.waiting = None;
            near.write_all(b"abcdefghijkl").await
        };
        let reading = async {
            for _ in 0..4 {
                sleep(limit / 2).await;
                far.read_exact(&mut taken).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(writing, reading);
        written.unwrap();
    }
    #[tokio::test(start_paused = true)]
    async fn a_stream_lingers_until_the_other_side_closes() {
        let started = tokio::time::Instant::now();
        let check = async |lingers: bool, sends: usize, seconds: u64| {
            let (near, mut far) = duplex(8);
            let mut near =
                Timed::new(near, Duration::from_secs(30), Arc::new(AtomicBool::new(lingers)));
            let begun = started.elapsed();
            let sending = async {
                for _ in 0..sends {
                    sleep(Duration::from_secs(1)).await;
                    // In the end nobody reads it.
                    far.write_all(b"12345678").await.ok();
                }
                far.shutdown().await.ok();
                far
            };
            let closing = async {
                near.shutdown().await.unwrap();
                drop(near);
                (started.elapsed() - begun).as_secs()
            };
            let (_far, took) = tokio::join!(sending, closing);
            assert_eq!(took, seconds, "{lingers} {sends}");
        };
        check(false, 1, 0).await;
        check(true, 0, 0).await;
        check(true, 1, 1).await;
        check(true, 5, LINGER_MAX.as_secs()).await;
    }
}
