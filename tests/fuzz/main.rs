//! Policies that nobody would write: the loader is given bytes that are no module, or hardly one, and guests are called
//! whose code is random. Whatever they are, nothing panics, nothing hangs and nothing keeps memory.
//!
//! Every case has a seed. A failure names it; `SNOWGLOBE_FUZZ_SEED=N` begins with that case. `SNOWGLOBE_FUZZ_CASES=N` is
//! for longer runs (`tests/run --long`).

#[cfg(test)]
mod cases;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod guests;
#[cfg(test)]
mod mutation;

use std::sync::Arc;

use rand::{RngExt as _, rngs::StdRng};
use snowglobe::policy::{
    Candidates, Policy,
    wasm::{Engine, WasmPolicy},
};

use self::cases::run_all;

#[test]
fn the_loader_survives_any_bytes() {
    let engine = Engine::new(None).unwrap();
    let corpus = corpus::modules();
    run_all("the loader", 400, move |random| {
        let bytes = match random.random_range(0..4) {
            0 => mutation::noise(random),
            _ => mutation::mutated(&corpus, random),
        };
        // Most are refused. One that is not may do what it likes.
        let Ok(policy) = load(&engine, &bytes) else { return false };
        policy.try_out().ok();
        live(&policy, random);
        true
    });
}

#[test]
fn the_host_survives_any_guest() {
    let engine = Engine::new(None).unwrap();
    run_all("the host", 150, move |random| {
        let Ok(policy) = load(&engine, &guests::random(random)) else { return false };
        live(&policy, random);
        true
    });
}

fn load(engine: &Arc<Engine>, bytes: &[u8]) -> Result<WasmPolicy, snowglobe::policy::ModuleError> {
    let program = Arc::new(engine.compile(bytes)?);
    let log = Arc::new(|_, _| ());
    Ok(WasmPolicy::new(engine, program, Arc::from("some configuration"), log))
}

/// The life of an instance, as the proxy has it: after a failure comes a new one.
fn live(policy: &WasmPolicy, random: &mut StdRng) {
    for _ in 0..2 {
        let Ok(mut guest) = policy.instance() else { continue };
        for generation in 1..3 {
            let candidates: Candidates = corpus::candidates(random.random_range(1..40));
            if guest.configure(generation, &candidates).is_err() {
                break;
            }
            for _ in 0..3 {
                match guest.pick(&corpus::flow(random)) {
                    Ok(Some(index)) => assert!(index < candidates.len(), "picked {index}"),
                    Ok(None) => {}
                    Err(_) => return,
                }
            }
        }
    }
}
