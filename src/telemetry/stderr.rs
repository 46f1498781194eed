//! Where log lines go: stderr, in a way that neither ends nor stops the process. Stderr may be a full disk, a pipe that
//! nobody reads any more, or one whose reader has stopped reading; lines are lost then, and counted.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// A pipe that is ready takes this much without waiting (PIPE_BUF).
const CHUNK: usize = 4096;
/// How long a reader may let everybody wait. Once it did, nobody waits until it reads again.
const WAIT_MAX_MS: u16 = 200;

/// Writes lines to stderr; never fails.
#[derive(Default)]
pub(super) struct Stderr(Mutex<State>);

#[derive(Default)]
struct State {
    /// Lines since one was written.
    lost: u64,
    /// The reader let us wait, and has read nothing since.
    stalled: bool,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl io::Write for &Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl State {
    fn put(&mut self, line: &[u8]) {
        if self.lost > 0 {
            let lost = format!("{} log lines were lost: stderr took none\n", self.lost);
            if self.send(lost.as_bytes()).is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if self.send(line).is_err() {
            self.lost += 1;
        }
    }

    fn send(&mut self, text: &[u8]) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        for chunk in text.chunks(CHUNK) {
            let wait = if self.stalled { PollTimeout::ZERO } else { WAIT_MAX_MS.into() };
            let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
            // A reader that went away counts as ready: the write fails at once.
            self.stalled = poll(&mut ready, wait)? == 0;
            if self.stalled {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            stderr.write_all(chunk)?;
        }
        Ok(())
    }
}
