//! `snowglobe up` and `snowglobe demo`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use rustix::process::Signal;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, Addresses, Seams, manifests},
    cli::{Output, print},
    config::{Defaults, Flags},
    telemetry,
};

/// The arguments of both commands.
#[derive(Args)]
pub(super) struct Arguments {
    /// Manifests to apply: files, or directories of them
    #[arg(value_name = "FILE|DIR")]
    manifests: Vec<PathBuf>,
    /// Form in which the addresses are printed
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
    #[command(flatten)]
    flags: Flags,
}

/// Which of the two commands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Up,
    Demo,
}

/// The example shop of the demo. It uses ports above 1024, so that it needs no privileges.
const SHOP: &str = include_str!("shop.yaml");
/// The namespace of the shop.
const SHOP_NAMESPACE: &str = "shop";

pub(super) async fn run(arguments: Arguments, mode: Mode, started: Instant) -> anyhow::Result<()> {
    let _summaries = telemetry::start(&arguments.flags.log).map_err(anyhow::Error::msg)?;
    let defaults = if mode == Mode::Demo { Defaults::DEMO } else { Defaults::UP };
    let options = arguments.flags.resolve(&defaults)?;
    app::kubeconfig::check(&options.kubeconfig)?;
    let mut manifests = Vec::new();
    if mode == Mode::Demo {
        manifests::parse("the example shop", SHOP, &mut manifests)?;
    }
    manifests.extend(manifests::read(&arguments.manifests)?);
    let stop = stop_signal()?;
    let directory = options.data_dir.clone();
    let _lock = app::data_directory(&directory)?;
    let store = options.store.to_string();
    let seams = tokio::select! {
        seams = Seams::open(&options) => seams?,
        // The start may be waiting for an etcd.
        () = stop.cancelled() => return Ok(()),
    };
    let mut running = app::start(options, seams).await?;
    if let Err(error) = running.apply(&manifests).await {
        // Stop in order, so that the objects that were applied are stored.
        let ended = CancellationToken::new();
        ended.cancel();
        running.wait(ended).await?;
        return Err(error);
    }
    if mode == Mode::Demo {
        running.generate_traffic(SHOP_NAMESPACE);
    }
    let ready_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let printed = match arguments.output {
        Some(Output::Json) => print(&json_line(ready_ms, &running.addresses)?),
        None => print(&greeting(ready_ms, &running.addresses, &directory, &store, mode)),
    };
    if let Err(error) = printed {
        tracing::warn!(error = %format!("{error:#}"), "cannot print the addresses; the cluster runs nevertheless");
    }
    running.wait(stop).await
}

/// A token that the first SIGINT or SIGTERM cancels, and SIGHUP (the terminal was closed) unless it is ignored, as
/// under `nohup`. SIGXFSZ would end the process without a message. It has a listener, so that a write beyond the file
/// size limit returns an I/O error instead.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let hangup = (!is_ignored(Signal::HUP)).then(|| signal(SignalKind::hangup())).transpose();
    let mut hangup = hangup.context("cannot listen for SIGHUP")?;
    let file_size = SignalKind::from_raw(Signal::XFSZ.as_raw());
    drop(signal(file_size).context("cannot listen for SIGXFSZ")?);
    let token = CancellationToken::new();
    let stop = token.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "the listener lives as long as the process and has no owner to join it"
    )]
    tokio::spawn(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
        stop.cancel();
    });
    Ok(token)
}

/// Whether the parent of this process has set a signal to be ignored (`SigIgn` in proc(5)).
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

fn json_line(ready_ms: u64, addresses: &Addresses) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        ready_ms: u64,
        #[serde(flatten)]
        addresses: &'a Addresses,
    }
    Ok(format!("{}\n", serde_json::to_string(&Line { ready_ms, addresses })?))
}

fn greeting(
    ready_ms: u64,
    addresses: &Addresses,
    data_dir: &Path,
    store: &str,
    mode: Mode,
) -> String {
    let Addresses { api, dashboard, dns, metrics, kubeconfig, context, .. } = addresses;
    let mut text = format!(
        "Snowglobe is ready after {ready_ms} ms.\n\n\
         \x20 API        {api}\n\
         \x20 DNS        {dns}\n\
         \x20 Dashboard  {dashboard}\n\
         \x20 Metrics    {metrics}/metrics\n\
         \x20 Data       {}\n\
         \x20 Store      {store}\n\n\
         Use it:\n\n\
         \x20 export KUBECONFIG={}\n",
        data_dir.display(),
        kubeconfig.display()
    );
    if let Some(name) = context {
        // Writing to a String cannot fail. The same holds below.
        writeln!(text, "  kubectl config use-context {name}").ok();
    }
    text.push_str("\nTry it:\n\n");
    let (server, port) = dns.rsplit_once(':').unwrap_or((dns, "53"));
    let commands = match mode {
        Mode::Demo => [
            format!("kubectl get services,endpointslices,pods -n {SHOP_NAMESPACE}"),
            format!("dig +short @{server} -p {port} frontend.{SHOP_NAMESPACE}.svc.cluster.local"),
            format!(
                "curl http://$(kubectl get service frontend -n {SHOP_NAMESPACE} -o jsonpath='{{.spec.clusterIP}}'):8080/"
            ),
        ],
        Mode::Up => [
            "kubectl create deployment web --image=nginx --port=8080 --replicas=3".to_owned(),
            "kubectl expose deployment web".to_owned(),
            format!("dig +short @{server} -p {port} web.default.svc.cluster.local"),
        ],
    };
    for command in commands {
        writeln!(text, "  {command}").ok();
    }
    text.push_str("\nCtrl-C stops it.\n");
    text
}
