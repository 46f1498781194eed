//! The world `topology`: what a guest may ask in it, and what is refused.

use super::*;
use crate::policy::Scorer;

fn topology(source: &str) -> Result<WasmPolicy, ModuleError> {
    let engine = Engine::new(None).unwrap();
    let program = engine.compile_for(PolicyKind::Topology, source.as_bytes())?;
    Ok(WasmPolicy::new(&engine, Arc::new(program), Arc::from(CONFIG), silent()))
}

fn scored(source: &str) -> Result<u32, Failure> {
    let mut guest: Box<dyn Scorer> = topology(source).expect(source).scorer()?;
    guest.configure(1, &candidates())?;
    guest.score(5, 6, 1)
}

/// The same guests as those of schedulers, with `score` in place of `pick`.
fn scoring(guest: &str) -> String {
    let core = guest.replace(
        r#"(export "pick") (param i64 i32 i32)"#,
        r#"(export "score") (param i32 i32 i32)"#,
    );
    let lifted = r#"(export "pick")
               (param "source-hash" u64) (param "client-zone" u32) (param "client-node" u32)
               (result u32)
               (canon lift (core func $guest "pick"))"#;
    assert!(!core.contains("component") || core.contains(lifted), "{core}");
    core.replace(
        lifted,
        r#"(export "score")
             (param "client-zone" u32) (param "client-node" u32) (param "i" u32)
             (result u32)
             (canon lift (core func $guest "score"))"#,
    )
}

#[test]
fn only_what_lasts_may_be_asked() {
    let refused = ["active", "failures", "latency", "flow-hash", "now", "random"];
    for row in table() {
        for guest in [core_guest(&row), component_guest(&row)] {
            let scored = scored(&scoring(&guest));
            if !refused.contains(&row.0) {
                assert_eq!(scored, Ok(1), "{row:?}");
                continue;
            }
            let reason = scored.unwrap_err().reason;
            let expected = format!(
                "score: asked for {}, which a topology policy may not: its scores are kept until the endpoints change",
                row.0
            );
            assert_eq!(reason, expected);
        }
    }
}

#[test]
fn configure_and_score_get_their_arguments() {
    let core = r#"
        (global $sum (mut i64) (i64.const 0))
        (func (export "configure") (param i64 i32)
          (global.set $sum (i64.add (local.get 0) (i64.extend_i32_u (local.get 1)))))
        (func (export "pick") (param i64 i32 i32) (result i32)
          (i32.add (i32.wrap_i64 (global.get $sum))
            (i32.add (i32.mul (local.get 0) (i32.const 100))
              (i32.add (i32.mul (local.get 1) (i32.const 1000)) (local.get 2)))))"#;
    for source in [format!("(module {core})"), component("", "", core)] {
        assert_eq!(scored(&scoring(&source)), Ok(1 + 3 + 500 + 6_000 + 1));
    }
}

#[test]
fn a_module_of_the_other_kind_is_told_apart() {
    let pick = pick("(i32.const 0)");
    let component = component(
        "",
        "",
        r#"(func (export "configure") (param i64 i32))
           (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 0))"#,
    );
    for source in [&pick, &component] {
        let refused = topology(source).err().expect("no topology policy");
        let expected =
            "exports `pick` and not `score`: a load balancer; make a LoadBalancerPolicy of it";
        assert_eq!(refused, ModuleError(expected.to_owned()));
        topology(&scoring(source)).unwrap().try_out().unwrap();
        let refused = policy(&scoring(source), silent()).err().expect("no load balancer");
        let expected =
            "exports `score` and not `pick`: a topology policy; make a TopologyPolicy of it";
        assert_eq!(refused, ModuleError(expected.to_owned()));
    }
    for (source, expected) in [
        ("(module)", "does not export `score`"),
        (
            r#"(module (func (export "score") (param i32) (result i32) (i32.const 0)))"#,
            "exports `score` as (type (func (param i32) (result i32))), must be (type (func (param i32 i32 i32) (result i32)))",
        ),
    ] {
        assert_eq!(topology(source).err(), Some(ModuleError(expected.to_owned())));
    }
    let both = r#"(module
        (func (export "pick") (param i64 i32 i32) (result i32) (i32.const 2))
        (func (export "score") (param i32 i32 i32) (result i32) (i32.const 9)))"#;
    assert_eq!((picked(both), scored(both)), (Ok(Some(2)), Ok(9)));
}

#[test]
fn a_trial_refuses_what_cannot_work() {
    let score = |body: &str| {
        format!(r#"(module (func (export "score") (param i32 i32 i32) (result i32) {body}))"#)
    };
    let tried = |body: &str| topology(&score(body)).unwrap().try_out();
    tried("(local.get 2)").unwrap();
    let ModuleError(reason) = tried("(loop $again (br $again)) (i32.const 0)").unwrap_err();
    assert_eq!(reason, "failed when tried: score: ran longer than 20 ms");
    // Also from a place that is not known.
    let unknown = "(if (i32.eq (local.get 0) (i32.const -1)) (then unreachable)) (i32.const 1)";
    let ModuleError(reason) = tried(unknown).unwrap_err();
    assert!(reason.contains("`unreachable`"), "{reason}");
}
