//! Guests that are slow to start, to be configured or to pick, and who picks meanwhile.

use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Builder;

use super::{LONG, Traffic, constant, guest, key, slow_start, text};
use crate::policy::{library::OnFailure, wasm::trial_candidates};

#[test]
fn a_slow_start_holds_up_nobody() {
    let traffic = Traffic::in_time(Duration::from_millis(1));
    traffic.load("slow", slow_start(150, 2), OnFailure::Reject).unwrap();
    let first = traffic.pick("slow");
    assert_eq!(first, Some(0), "the fallback, also where failures reject: this is none");
    let others = (0..20).filter_map(|n| traffic.pick_at(&key(&format!("other-{n}"), ""), "rr"));
    assert_eq!(others.count(), 20);
    let info = traffic.info("slow");
    assert_eq!((info.picks, info.fallbacks, info.failures), (1, 1, 0), "{info:?}");
    traffic.pick_until_started("slow");
    assert_eq!(traffic.pick("slow"), Some(2));
    assert_eq!(traffic.info("slow").failures, 0);
}

#[test]
fn the_version_before_picks_until_the_new_one_has_started() {
    let traffic = Traffic::impatient();
    traffic.load("mine", constant(1), OnFailure::Fallback).unwrap();
    traffic.pick_until_started("mine");
    let before = traffic.info("mine").fallbacks;
    traffic.load("mine", slow_start(100, 2), OnFailure::Fallback).unwrap();
    let picks: Vec<_> =
        std::iter::from_fn(|| traffic.pick("mine")).take_while(|index| *index != 2).collect();
    assert!(!picks.is_empty() && picks.iter().all(|index| *index == 1), "{picks:?}");
    assert_eq!(traffic.info("mine").fallbacks, before);
    assert_eq!(traffic.picks("mine", 9), [2; 9]);
}

#[test]
fn endpoints_change_without_waiting_for_a_slow_configure() {
    let mut traffic = Traffic::impatient();
    let source = text(&format!("(module {})", guest(0, 100_000, 0)));
    traffic.load("mine", source, OnFailure::Fallback).unwrap();
    for count in [3, 2, 4] {
        (traffic.candidates, traffic.generation) =
            (trial_candidates(count), traffic.generation + 1);
        let before = traffic.info("mine").fallbacks;
        assert!(traffic.pick("mine").is_some_and(|index| index < usize::from(count)));
        assert_eq!(traffic.info("mine").fallbacks, before + 1, "it is being configured");
        traffic.pick_until_started("mine");
        assert_eq!(traffic.pick("mine"), Some(0));
    }
}

#[test]
fn a_failed_configure_is_told_once() {
    let mut traffic = Traffic::over(3);
    let source = r#"(module
        (func (export "configure") (param i64 i32)
          (if (i32.eq (local.get 1) (i32.const 5)) (then unreachable)))
        (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0)))"#;
    traffic.load("mine", text(source), OnFailure::Fallback).unwrap();
    assert_eq!(traffic.pick("mine"), Some(0));
    (traffic.candidates, traffic.generation) = (trial_candidates(5), 2);
    assert_eq!(traffic.picks("mine", 5), [0, 1, 2, 3, 4]);
    let info = traffic.info("mine");
    assert_eq!((info.failures, info.fallbacks), (2, 5), "the second at once, then a pause");
    let reason = "configure: wasm trap: wasm `unreachable` instruction executed";
    assert_eq!(info.last_failure.as_deref(), Some(reason));
    (traffic.candidates, traffic.generation) = (trial_candidates(4), 3);
    traffic.advance(Duration::from_millis(100));
    assert_eq!(traffic.picks("mine", 3), [0; 3]);
}

#[test]
fn slow_picks_leave_the_workers_of_the_runtime() {
    let mut traffic = Traffic::in_time(LONG);
    let source = text(&format!("(module {})", guest(1, 0, 5_000_000)));
    traffic.load("slow", source, OnFailure::Fallback).unwrap();
    traffic.runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (slow, quick) = (key("slow", ""), key("quick", ""));
    assert_eq!(traffic.pick_at(&slow, "slow"), Some(1));
    assert_eq!(traffic.pick_at(&quick, "rr"), Some(0));
    traffic.runtime.block_on(async {
        let mut picking = std::pin::pin!(traffic.picking(&slow, Some("slow")));
        assert_eq!(futures::poll!(&mut picking), std::task::Poll::Pending, "on another thread");
        // What is quick is picked here and now.
        assert_eq!(traffic.picking(&quick, Some("rr")).now_or_never(), Some(Some(1)));
        let more = (0..3).map(|_| traffic.picking(&slow, Some("slow")));
        let picks = futures::future::join(picking, futures::future::join_all(more)).await;
        assert_eq!(picks, (Some(1), vec![Some(1); 3]), "each waits for its turn");
    });
    assert_eq!(traffic.info("slow").fallbacks, 0);
}
