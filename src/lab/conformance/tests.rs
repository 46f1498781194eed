use std::sync::Arc;

use super::{Check, Verdict, schedulers, topologies};
use crate::policy::wasm::{Engine, WasmPolicy};

/// A scheduler with this memory of its own, `configure` and `pick`.
fn scheduler(state: &str, configure: &str, pick: &str) -> WasmPolicy {
    let text = format!(
        r#"(module
             (import "snowglobe:policy/host@0.1.0" "weight" (func $weight (param i32) (result i32)))
             (global $count (mut i32) (i32.const 0))
             {state}
             (func (export "configure") (param $generation i64) (param $n i32) {configure})
             (func (export "pick") (param $source i64) (param $zone i32) (param $node i32) (result i32)
               (local $i i32) {pick}))"#
    );
    policy(&text)
}

fn policy(text: &str) -> WasmPolicy {
    let engine = Engine::new(None).unwrap();
    let program = Arc::new(engine.compile_as_exported(text.as_bytes()).unwrap());
    WasmPolicy::new(&engine, program, Arc::from(""), Arc::new(|_, _| ()))
}

/// The checks that did not pass, with what they saw.
fn complaints(checks: Vec<Check>) -> Vec<(&'static str, Verdict, String)> {
    let complaints = checks.into_iter().filter(|check| check.verdict != Verdict::Passed);
    complaints.map(|check| (check.name, check.verdict, check.detail)).collect()
}

const COUNT: &str = "(global.set $count (local.get $n))";
const NEXT: &str = "(global.set $last (i32.add (global.get $last) (i32.const 1)))";

#[test]
fn built_in_schedulers_conform() {
    let engine = Engine::new(None).unwrap();
    for name in Engine::builtins() {
        let program = Arc::new(Engine::builtin_program(name).unwrap());
        let policy = WasmPolicy::new(&engine, program, Arc::from(""), Arc::new(|_, _| ()));
        let complaints = complaints(schedulers::check_all(&policy, 1));
        assert_eq!(complaints, [], "{name}");
    }
}

#[test]
fn what_breaks_the_contract_is_found() {
    let last = "(global $last (mut i32) (i32.const 0))";
    let division = "(i32.rem_u (global.get $count) (call $weight (i32.const 0)))";
    // What it does wrong, the module, the check that sees it, and what that says.
    let cases = [
        (
            "stays at an endpoint that is gone",
            scheduler(last, COUNT, &format!("{NEXT} (i32.rem_u (global.get $last) (i32.const 3))")),
            "one endpoint",
            "pick: chose endpoint 1 of 1 (at pick 1 of 1 endpoint)",
        ),
        (
            "keeps the first count for ever",
            scheduler(
                last,
                &format!("(if (i32.eqz (global.get $count)) (then {COUNT}))"),
                &format!("{NEXT} (i32.rem_u (global.get $last) (global.get $count))"),
            ),
            "endpoints come and go",
            "pick: chose endpoint 1 of 1 (at pick 1 of 1 endpoint, 100 before)",
        ),
        (
            "divides by a weight",
            scheduler("", COUNT, &format!("(drop {division}) (i32.const 0)")),
            "extreme figures",
            "weights 0: pick: wasm trap: integer divide by zero",
        ),
        (
            "has no room for many",
            scheduler(
                "(memory 1)",
                &format!(
                    "{COUNT} (i32.store (i32.mul (local.get $n) (i32.const 100)) (i32.const 1))"
                ),
                "(i32.const 0)",
            ),
            "1,000 endpoints",
            "configure: wasm trap: out of bounds memory access (1000 endpoints)",
        ),
    ];
    for (what, policy, check, said) in cases {
        let complaints = complaints(schedulers::check_all(&policy, 1));
        let found = complaints.iter().find(|(name, _, _)| *name == check);
        let (_, verdict, detail) = found.unwrap_or_else(|| panic!("{what}: {complaints:?}"));
        assert_eq!(*verdict, Verdict::Failed, "{what}");
        assert!(detail.contains(said), "{what}: {detail}");
    }
}

#[test]
fn no_opinion_ever_is_doubtful() {
    let policy = scheduler("", COUNT, "(i32.const -1)");
    let complaints = complaints(schedulers::check_all(&policy, 1));
    let said = "it has no opinion, ever: round robin picks".to_owned();
    assert_eq!(complaints, [("one endpoint", Verdict::Doubtful, said)]);
}

#[test]
fn topology_policies_are_checked() {
    let topology = |state: &str, score: &str| {
        let text = format!(
            r#"(module
                 (import "snowglobe:policy/host@0.1.0" "zone" (func $zone (param i32) (result i32)))
                 {state}
                 (func (export "score") (param $zone i32) (param $node i32) (param $i i32) (result i32) {score}))"#
        );
        policy(&text)
    };
    let same_zone = "(select (i32.const 2) (i32.const 1) (i32.eq (call $zone (local.get $i)) (local.get $zone)))";
    let same_zone = topology("", same_zone);
    assert_eq!(complaints(topologies::check_all(&same_zone, 1)), []);
    let places = topologies::places(&same_zone, 1).unwrap();
    let seen = |at: usize| (places[at].name.as_str(), places[at].seen.as_slice());
    assert_eq!(seen(1), ("in zone 1", [1, 4, 7].as_slice()));
    assert_eq!(seen(4), ("in a zone without endpoints", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].as_slice()));

    let only = topology("", "(i32.eq (call $zone (local.get $i)) (local.get $zone))");
    let found = complaints(topologies::check_all(&only, 1));
    assert_eq!((found[0].0, found[0].1), ("everybody sees an endpoint", Verdict::Doubtful));
    assert!(found[0].2.contains("in a zone without endpoints, in an unknown zone"), "{found:?}");

    let counts = topology(
        "(global $calls (mut i32) (i32.const 0))",
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls)",
    );
    let found = complaints(topologies::check_all(&counts, 1));
    assert_eq!(
        (found[0].0, found[0].1),
        ("same question, same score", Verdict::Failed),
        "{found:?}"
    );
}
