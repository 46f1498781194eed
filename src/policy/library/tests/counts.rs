//! What is counted of policies, and what Prometheus gets of that.

use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{Library, Source, Traffic, constant, text};
use crate::policy::{
    FailureKind,
    library::{Info, OnFailure},
    metrics,
};

/// Has a page of memory and picks endpoint 0, until a failed connect of it is on record; then does something else.
fn turns_bad(then: &str) -> Source {
    text(&format!(
        r#"(module
             (import "snowglobe:policy/host@0.1.0" "failures" (func $failures (param i32) (result i32)))
             (memory 1)
             (func (export "pick") (param i64 i32 i32) (result i32)
               (if (result i32) (call $failures (i32.const 0)) (then {then}) (else (i32.const 0)))))"#
    ))
}

#[test]
fn picks_count_wherever_they_are_made() {
    let traffic = Traffic::over(3);
    traffic.load("opinionless", constant(-1), OnFailure::Fallback).unwrap();
    for (name, abstains) in [("rr", false), ("opinionless", true)] {
        // The first starts the guest, the others find it ready.
        traffic.picks(name, 200);
        let Info { picks, abstentions, fallbacks, failures, pick_time, .. } = traffic.info(name);
        let abstained = if abstains { 200 } else { 0 };
        assert_eq!((picks, abstentions, fallbacks, failures), (200, abstained, 0, 0), "{name}");
        assert!(pick_time.unwrap().count >= 4, "the first, and then one in 64");
    }
    // What an instance did outlives it.
    traffic.load("opinionless", constant(2), OnFailure::Fallback).unwrap();
    traffic.picks("opinionless", 2);
    assert_eq!(traffic.info("opinionless").picks, 202);
}

#[test]
fn failures_count_by_kind() {
    for (then, kind, reason) in [
        ("(unreachable)", FailureKind::Trap, "unreachable"),
        ("(call $failures (i32.const 9))", FailureKind::Trap, "asked for endpoint 9 of 3"),
        ("(loop $forever (br $forever)) (unreachable)", FailureKind::Deadline, "longer than 20 ms"),
        ("(i32.const 3)", FailureKind::Range, "chose endpoint 3 of 3"),
        // 300 pages are more than 16 MiB.
        (
            "(if (i32.lt_s (memory.grow (i32.const 300)) (i32.const 0)) (then unreachable)) (i32.const 0)",
            FailureKind::Memory,
            "unreachable",
        ),
    ] {
        let traffic = Traffic::over(3);
        traffic.load("mine", turns_bad(then), OnFailure::Fallback).unwrap();
        traffic.pick("mine");
        traffic.break_endpoint(1);
        traffic.pick("mine");
        let info = traffic.info("mine");
        let counted = info.failures_by_kind.into_iter().filter(|(_, count)| *count > 0);
        assert_eq!(counted.collect::<Vec<_>>(), [(kind, 1)], "{then}");
        assert_eq!((info.failures, info.fallbacks), (1, 1), "{then}");
        assert!(info.last_failure.unwrap().contains(reason), "{then}");
    }
}

#[test]
fn guests_and_loads_count() {
    let traffic = Traffic::over(3);
    let state = || {
        let Info { instances, memory_bytes, reloads, refusals, .. } = traffic.info("mine");
        (instances, memory_bytes, reloads, refusals)
    };
    traffic.load("mine", turns_bad("(unreachable)"), OnFailure::Fallback).unwrap();
    assert_eq!(state(), (0, 0, 0, 0), "that of the trial is gone and was not counted");
    traffic.pick("mine");
    assert_eq!(state(), (1, 65_536, 0, 0));
    traffic.break_endpoint(1);
    traffic.pick("mine");
    assert_eq!(state(), (0, 0, 0, 0), "one that failed is freed");
    traffic.load("mine", constant(1), OnFailure::Fallback).unwrap();
    traffic.load("mine", constant(1), OnFailure::Fallback).unwrap();
    assert_eq!(state(), (0, 0, 1, 0), "what is loaded already is no reload");
    traffic.library.refuse("mine", OnFailure::Fallback);
    assert_eq!(state(), (0, 0, 1, 1));
    assert!(traffic.info("mine").compile_time.is_some());
}

/// Its LoadBalancerPolicy says no more than what is there from the start.
#[test]
fn a_built_in_one_is_compiled_when_it_is_used() {
    let traffic = Traffic::over(3);
    traffic.load("sed", Source::Builtin("sed".to_owned()), OnFailure::Fallback).unwrap();
    assert_eq!(traffic.info("sed").compile_time, None);
    traffic.pick("sed");
    assert!(traffic.info("sed").compile_time.is_some());
    traffic.load("sed", Source::Builtin("sed".to_owned()), OnFailure::Reject).unwrap();
    assert_eq!(traffic.info("sed").on_failure, OnFailure::Reject);
}

#[test]
fn prometheus_has_what_is_loaded() {
    let traffic = Traffic::over(3);
    let mut registry = Registry::default();
    metrics::register(std::slice::from_ref(&traffic.library), &mut registry);
    let exposed = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    traffic.load("mine", turns_bad("(i32.const 7)"), OnFailure::Fallback).unwrap();
    traffic.picks("mine", 2);
    let text = exposed();
    let labels = r#"world="load-balancer",policy="mine""#;
    for line in [
        "# TYPE snowglobe_policy_picks counter".to_owned(),
        format!("snowglobe_policy_picks_total{{{labels}}} 2"),
        format!("snowglobe_policy_abstentions_total{{{labels}}} 0"),
        format!("snowglobe_policy_fallbacks_total{{{labels}}} 0"),
        format!(r#"snowglobe_policy_failures_total{{{labels},kind="range"}} 0"#),
        format!(r#"snowglobe_policy_reloads_total{{{labels},result="failed"}} 0"#),
        format!("snowglobe_policy_instances{{{labels}}} 1"),
        format!("snowglobe_policy_memory_bytes{{{labels}}} 65536"),
        format!("snowglobe_policy_pick_duration_seconds_count{{{labels}}} 2"),
        format!(r#"snowglobe_policy_pick_duration_seconds_bucket{{le="+Inf",{labels}}} 2"#),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains(&format!("snowglobe_policy_compile_seconds{{{labels}}} 0.")), "{text}");
    assert!(!text.contains(r#"compile_seconds{world="load-balancer",policy="maglev"}"#));
    {
        let _time = traffic.runtime.enter();
        traffic.library.remove("mine");
    }
    assert!(!exposed().contains("mine"));
    drop::<std::sync::Arc<Library>>(traffic.library);
    assert!(!exposed().contains("policy="), "the registry does not keep the library");
}
