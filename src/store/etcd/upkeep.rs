//! Periodic work: writes the mark outside etcd and the tick in etcd, and compacts history.
//!
//! The tick is a key of the store that is written every minute. Its events move idle watches forward when other users
//! of etcd write. If nobody else has written it since the last time, this process compacts.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::store::{
    Error, Revision,
    etcd::{
        core::{Core, put},
        explain, failure,
        proto::{
            CompactionRequest, CompactionResponse, Compare, RangeRequest, RequestOp, TxnRequest,
            path,
        },
    },
};

/// How often the mark is written. After a restore of etcd, revisions increase by far more than can happen in this
/// time.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
const TICK_INTERVAL: Duration = Duration::from_secs(60);
/// History is compacted when it is older than this or has more revisions than that, but the minimum is always kept.
/// The revisions are those of etcd, also from other users.
const AGE: Duration = Duration::from_secs(5 * 60);
const REVISIONS_MAX: i64 = 10_000;
const REVISIONS_MIN: i64 = 1_000;

/// Works until the store is closed.
pub(super) async fn run(core: Arc<Core>) {
    let mut marks = interval(MARK_INTERVAL);
    let mut ticks = interval(TICK_INTERVAL);
    for timer in [&mut marks, &mut ticks] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
    }
    let mut marked = Revision(0);
    let mut history = History::default();
    loop {
        select! {
            () = core.closing.cancelled() => return,
            _ = marks.tick() => write_mark(&core, &mut marked).await,
            _ = ticks.tick() => {
                if let Err(error) = tick(&core, &mut history).await {
                    tracing::debug!(%error, "no tick");
                }
            }
        }
    }
}

async fn write_mark(core: &Arc<Core>, marked: &mut Revision) {
    let current = core.current();
    let Some(path) = core.mark.path().filter(|_| *marked != current) else { return };
    let writer = Arc::clone(core);
    let written = tokio::task::spawn_blocking(move || writer.mark.write(current)).await;
    if let Ok(Err(error)) = &written {
        tracing::warn!(path = %path.display(), %error, "cannot remember the last revision");
    }
    *marked = current;
}

/// The revisions of the tick and their times.
#[derive(Default)]
struct History {
    ticks: VecDeque<(Instant, i64)>,
    /// The last known revision of the tick.
    last: Option<i64>,
    compacted: i64,
}

impl History {
    /// The revision before which history may be compacted; `None` if nothing has changed since the last time.
    fn target(&mut self, now: Instant, revision: i64) -> Option<i64> {
        let mut old = 0;
        while let Some((at, tick)) = self.ticks.front()
            && now.duration_since(*at) >= AGE
        {
            old = *tick;
            self.ticks.pop_front();
        }
        self.ticks.push_back((now, revision));
        let target = old.max(revision - REVISIONS_MAX).min(revision - REVISIONS_MIN);
        (target > self.compacted).then(|| {
            self.compacted = target;
            target
        })
    }
}

async fn tick(core: &Core, history: &mut History) -> Result<(), Error> {
    let key = core.keys.tick();
    let as_left = match history.last {
        Some(revision) => Compare::written_at(key.clone(), revision),
        None => Compare::absent(key.clone(), Bytes::new()),
    };
    // Write only while this process owns the store.
    let owned = core.ownership.term()?.condition(&core.ownership);
    let request = TxnRequest {
        compare: vec![owned, as_left],
        success: vec![put(key.clone(), Timestamp::now().to_string().into_bytes())],
        failure: vec![RequestOp::range(RangeRequest { key, ..RangeRequest::default() })],
    };
    let (response, header) =
        core.txn(request).await.map_err(|failure| explain::writing(&core.options, failure))?;
    let target = history.target(Instant::now(), header.revision);
    if !response.succeeded {
        history.last = response.found(0).map(|tick| tick.mod_revision);
        return Ok(());
    }
    history.last = Some(header.revision);
    match target {
        Some(target) => compact(core, target).await,
        None => Ok(()),
    }
}

/// Compacts etcd's history before a revision. It is no error if that has been done already.
pub(super) async fn compact(core: &Core, revision: i64) -> Result<(), Error> {
    let request = CompactionRequest { revision };
    let done: Result<CompactionResponse, _> = core.call(path::COMPACT, request).await;
    match done {
        Err(failure) if !failure::is_compacted(&failure) => {
            Err(explain::reading(&core.options, failure))
        }
        _ => {
            core.raise_compacted(core.epochs().ours(revision));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn history_is_kept_for_a_time_and_a_number() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut history = History::default();
        for (minute, revision, expected) in [
            (0, 500, None),
            (1, 900, None),
            (2, 11_200, Some(1_200)),
            (3, 11_300, Some(1_300)),
            (5, 11_400, Some(1_400)),
            (6, 11_500, Some(1_500)),
            (7, 11_600, Some(10_600)),
            (8, 11_700, Some(10_700)),
            (60, 11_800, Some(10_800)),
            (61, 30_000, Some(20_000)),
            (61, 30_000, None),
        ] {
            let target = history.target(at(minute), revision);
            assert_eq!(target, expected, "minute {minute}, revision {revision}");
        }
    }
}
