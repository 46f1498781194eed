//! `snowglobe policy test`: checks a module without a cluster, in the host that runs it under traffic.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
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
        conformance::{self, Check, Verdict},
        simulation::{self, Outcome},
        timing,
        workload::Workload,
    },
    policy::{
        Failure, ModuleError, Picker, Policy,
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
const TIMED: [usize; 2] = [10, 1_000];

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { file, world, config, seed, output } = arguments;
    let bytes = policy::read(file)?;
    let config = policy::read_config(config.as_deref())?.unwrap_or_default();
    let engine = Engine::new()?;
    let (world, program) = compile(&engine, &bytes, *world).map_err(|error| refused(file, &error))?;
    let program = Arc::new(program);
    let subject = WasmPolicy::new(&engine, Arc::clone(&program), config.into(), Arc::new(|_, _| ()));
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

fn scheduler(subject: &WasmPolicy, report: &mut Report) {
    report.checks = conformance::of_scheduler(subject, report.seed);
    for endpoints in TIMED {
        match timing::of_scheduler(subject, endpoints) {
            Ok(timing) => report.timings.push(timing),
            Err(failure) => report.checks.push(failed("time of a pick", &failure)),
        }
    }
    report.checks.push(conformance::slowness(&report.timings));
    let workload = Workload::standard(report.seed);
    match simulated(subject, &workload) {
        Ok((outcome, memory_bytes)) => {
            report.memory_bytes = memory_bytes;
            let round_robin = simulation::run(&workload, &mut RoundRobin::default(), &AtomicU64::new(0));
            let round_robin = round_robin.ok().map(|outcome| outcome.times);
            report.traffic = Some(Traffic { workload, outcome, round_robin });
        }
        Err(failure) => report.checks.push(failed("standard workload", &failure)),
    }
}

fn failed(name: &'static str, failure: &Failure) -> Check {
    Check { name, verdict: Verdict::Failed, detail: failure.to_string() }
}

/// Runs the workload; also gives the memory of the instance at its end.
fn simulated(subject: &WasmPolicy, workload: &Workload) -> Result<(Outcome, u64), Failure> {
    let clock = Arc::new(AtomicU64::new(0));
    let environment = Environment::Simulated { clock: Arc::clone(&clock), seed: workload.seed };
    let usage = Arc::<Usage>::default();
    let policy = subject.in_environment(environment, Arc::new(|_, _| ()));
    let policy = policy.counted_in(Arc::clone(&usage));
    let mut guest = policy.instance()?;
    let outcome = simulation::run(workload, &mut *guest, &clock)?;
    Ok((outcome, usage.memory_bytes()))
}
