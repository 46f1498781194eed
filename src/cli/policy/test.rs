//! `snowglobe policy test`: checks a module without a cluster, in the host that runs it under traffic.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::{anyhow, bail};
use clap::Args;

use crate::{
    cli::{
        Output,
        policy::{
            self, World,
            report::{Report, Traffic},
        },
        print,
    },
    lab::{
        conformance::{Check, Verdict, schedulers, topologies},
        simulation::{self, Outcome},
        timing,
        workload::{START_US, Workload},
    },
    policy::{
        Failure, ModuleError, Policy, PolicyKind,
        fallback::RoundRobin,
        wasm::{Engine, Environment, Program, Usage, WasmPolicy},
    },
};

#[derive(Args)]
pub(super) struct Arguments {
    /// The module: binary (.wasm) or text (.wat)
    file: PathBuf,
    /// What the policy decides [default: as its exports say]
    #[arg(long)]
    world: Option<World>,
    /// File with the text that the module gets as its configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another seed gives other connections and random numbers; the same one repeats a run
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
}

/// How many endpoints picks are timed with.
const TIMED: [u32; 2] = [10, 1_000];

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { file, world, config, seed, output } = arguments;
    let bytes = policy::read(file)?;
    let config = policy::read_config(config.as_deref())?.unwrap_or_default();
    let engine = Engine::new(None)?;
    let (world, program) =
        compile(&engine, &bytes, *world).map_err(|error| refused(file, &error))?;
    let program = Arc::new(program);
    let subject =
        WasmPolicy::new(&engine, Arc::clone(&program), config.into(), Arc::new(|_, _| ()));
    let mut report = Report {
        file: file.display().to_string(),
        world: world.name(),
        is_component: program.is_component(),
        bytes: bytes.len() as u64,
        digest: program.digest().to_owned(),
        seed: *seed,
        checks: Vec::new(),
        timings: Vec::new(),
        traffic: None,
        places: Vec::new(),
        memory_bytes: 0,
    };
    match world {
        World::LoadBalancer => scheduler(&subject, &mut report),
        World::Topology => topology(&subject, &mut report),
    }
    let text = match output {
        Some(Output::Json) => format!("{}\n", report.json()),
        None => report.text(),
    };
    print(&text)?;
    let failed = report.checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
    match failed {
        0 => Ok(()),
        1 => bail!("1 check of {} failed", file.display()),
        _ => bail!("{failed} checks of {} failed", file.display()),
    }
}

/// Compiles a module and checks its imports and exports. Which world it is for, its exports say.
pub(super) fn compile(
    engine: &Engine,
    bytes: &[u8],
    world: Option<World>,
) -> Result<(World, Program), ModuleError> {
    let program = match world {
        Some(world) => engine.compile_for(world.policy_kind(), bytes)?,
        None => engine.compile_as_exported(bytes)?,
    };
    let world = match program.kind() {
        PolicyKind::LoadBalancer => World::LoadBalancer,
        PolicyKind::Topology => World::Topology,
    };
    Ok((world, program))
}

/// Why a module cannot be used, and what to do about that.
pub(super) fn refused(file: &Path, ModuleError(reason): &ModuleError) -> anyhow::Error {
    let advice = advice(reason).map(|advice| format!("\n{advice}")).unwrap_or_default();
    anyhow!("{} cannot be used: {reason}{advice}", file.display())
}

/// What mends the usual mistakes.
fn advice(reason: &str) -> Option<&'static str> {
    const EXPORT: &str = "  Rust            #[unsafe(no_mangle)] extern \"C\" fn NAME(...), in a crate with crate-type = [\"cdylib\"]\n  \
        C               __attribute__((export_name(\"NAME\"))), as policy.h has it\n  \
        Zig             export fn NAME(...), built with -rdynamic\n  \
        Go              //go:wasmexport NAME, built with -buildmode=c-shared\n  \
        AssemblyScript  export function NAME(...)\n  \
        WAT             (func (export \"NAME\") ...)\n\
        `snowglobe policy new NAME --lang LANGUAGE` writes a project that does so";
    const TYPES: &str =
        "The types are in policy.wit: there, u32 is i32 in a module, and u64 is i64";
    const IMPORT: &str = "Host functions are imported from the module `snowglobe:policy/host@0.1.0` under their names in policy.wit. \
        An import from `env` is a function that is declared and defined nowhere";
    if reason.contains("does not export") || reason.contains("exports neither") {
        Some(EXPORT)
    } else if reason.contains(", must be ") {
        Some(TYPES)
    } else if reason.starts_with("imports ") {
        Some(IMPORT)
    } else {
        None
    }
}

fn scheduler(subject: &WasmPolicy, report: &mut Report) {
    report.checks = schedulers::check_all(subject, report.seed);
    for endpoints in TIMED {
        match timing::of_scheduler(subject, endpoints as usize) {
            Ok(timing) => report.timings.push(timing),
            Err(failure) => report.checks.push(failed("time of a pick", &failure)),
        }
    }
    report.checks.push(schedulers::check_times(&report.timings));
    let workload = Workload::standard(report.seed);
    match simulated(subject, &workload) {
        Ok((outcome, memory_bytes)) => {
            report.memory_bytes = memory_bytes;
            let round_robin =
                simulation::run(&workload, &mut RoundRobin::default(), &AtomicU64::new(0));
            let round_robin = round_robin.ok().map(|outcome| outcome.times);
            report.traffic = Some(Traffic { workload, outcome, round_robin });
        }
        Err(failure) => report.checks.push(failed("standard workload", &failure)),
    }
}

fn topology(subject: &WasmPolicy, report: &mut Report) {
    report.checks = topologies::check_all(subject, report.seed);
    for endpoints in TIMED {
        match timing::of_topology(subject, endpoints) {
            Ok(timing) => report.timings.push(timing),
            Err(failure) => report.checks.push(failed("time of a score", &failure)),
        }
    }
    // A failure is among the checks.
    report.places = topologies::places(subject, report.seed).unwrap_or_default();
}

fn failed(name: &'static str, failure: &Failure) -> Check {
    Check { name, verdict: Verdict::Failed, detail: failure.to_string() }
}

/// Runs the workload; also gives the memory of the instance at its end.
fn simulated(subject: &WasmPolicy, workload: &Workload) -> Result<(Outcome, u64), Failure> {
    let clock = Arc::new(AtomicU64::new(START_US));
    let environment = Environment::Simulated { clock: Arc::clone(&clock), seed: workload.seed };
    let usage = Arc::<Usage>::default();
    let policy = subject.in_environment(environment, Arc::new(|_, _| ()));
    let policy = policy.counted_in(Arc::clone(&usage));
    let mut guest = policy.instance()?;
    let outcome = simulation::run(workload, &mut *guest, &clock)?;
    Ok((outcome, usage.memory_bytes()))
}
