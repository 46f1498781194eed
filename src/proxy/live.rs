//! The live figures of one endpoint in one view: what policies read and people see.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::policy::{self, Load};

/// An endpoint as long as it stays in the set, whatever its readiness.
#[derive(Debug)]
pub(crate) struct Live {
    /// As advertised.
    pub(crate) address: SocketAddr,
    /// Hash of the address.
    pub(crate) identity: u64,
    /// The figures.
    pub(crate) load: Arc<Load>,
    /// A real answer was timed; connect times no longer count.
    answered: AtomicBool,
}

impl Live {
    /// An endpoint without a past.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            identity: policy::identity(address),
            load: Arc::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// Counts a pick and, until the guard is dropped, an open connection.
    pub(crate) fn picked(&self) -> Active {
        self.load.picks.fetch_add(1, Relaxed);
        self.load.active.fetch_add(1, Relaxed);
        Active(Arc::clone(&self.load))
    }

    /// A connect succeeded.
    pub(crate) fn connected(&self, took: Duration) {
        self.load.failures.store(0, Relaxed);
        if !self.answered.load(Relaxed) {
            self.load.sample_latency(took);
        }
    }

    /// A connect failed.
    pub(crate) fn failed(&self) {
        self.load.failures.fetch_add(1, Relaxed);
    }

    /// The first byte came back, this long after the first one was sent up.
    pub(crate) fn answered(&self, took: Duration) {
        if !self.answered.swap(true, Relaxed) {
            self.load.latency.store(0, Relaxed);
        }
        self.load.sample_latency(took);
    }
}

/// A connection that counts as open.
#[derive(Debug)]
pub(crate) struct Active(Arc<Load>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_time_stands_in_until_there_is_an_answer() {
        let live = Live::new("127.0.0.1:80".parse().unwrap());
        live.connected(Duration::from_micros(500));
        assert_eq!(live.load.latency.load(Relaxed), 500);
        live.answered(Duration::from_micros(80));
        assert_eq!(live.load.latency.load(Relaxed), 80);
        live.connected(Duration::from_micros(500));
        assert_eq!(live.load.latency.load(Relaxed), 80);
    }

    #[test]
    fn guard_counts_open_connections() {
        let live = Live::new("127.0.0.1:80".parse().unwrap());
        let (first, second) = (live.picked(), live.picked());
        assert_eq!(live.load.active.load(Relaxed), 2);
        drop((first, second));
        assert_eq!(live.load.active.load(Relaxed), 0);
        assert_eq!(live.load.picks.load(Relaxed), 2);
    }
}
