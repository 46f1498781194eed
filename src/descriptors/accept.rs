//! Accepting connections when descriptors may run out.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use crate::descriptors::{Budget, is_due};

/// Pause after a failed accept: mostly the process, or the machine, is out of descriptors, and that takes a while.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest such pause; doubled until then.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Budget {
    /// The next connection. Waits out whatever keeps the kernel from giving it; connections wait in the backlog
    /// meanwhile. Cancel-safe.
    pub async fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr) {
        let mut pause = PAUSE_MIN;
        loop {
            let error = match listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => error,
            };
            if is_of_connection(&error) {
                continue;
            }
            if is_due(&mut self.0.state.lock().accept_reported_at) {
                let address = listener.local_addr().ok();
                tracing::warn!(?address, %error, "connections wait: they cannot be accepted now");
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }
}

/// The connection was gone before it was accepted (accept(2): such errors are to be treated like `EAGAIN`).
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}
