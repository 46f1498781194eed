//! Flags, environment and configuration file, in this order of weight, and what they mean for each subsystem.
//! The only place with defaults. The file's keys are the flags' names: they become the flags' defaults, so that one parser
//! and one set of messages serve all three.

mod nodes;
mod store;

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Command, ValueEnum};
use ipnet::IpNet;

use crate::{api::gate::Limits, node::NodeOptions, proxy::ProxyView};

pub use nodes::SizeFlags;
pub use store::{Store, StoreFlags};

/// Flags of `snowglobe up` and `snowglobe demo`.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// YAML file with any of these flags as keys
    #[arg(long, env = "SNOWGLOBE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept [default: $XDG_STATE_HOME/snowglobe, else ~/.local/state/snowglobe]
    #[arg(long, env = "SNOWGLOBE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where objects are kept
    #[command(flatten)]
    pub store: StoreFlags,
    /// Kubernetes API (HTTPS); port 0 is any free port, here and below
    #[arg(
        long,
        env = "SNOWGLOBE_API_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:6443"
    )]
    pub api_listen: SocketAddr,
    /// Dashboard (HTTP)
    #[arg(
        long,
        env = "SNOWGLOBE_DASHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:6480"
    )]
    pub dashboard_listen: SocketAddr,
    /// Cluster DNS (UDP and TCP), besides port 53 of the DNS Service
    #[arg(
        long,
        env = "SNOWGLOBE_DNS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:6453"
    )]
    pub dns_listen: SocketAddr,
    /// Prometheus metrics (HTTP)
    #[arg(
        long,
        env = "SNOWGLOBE_METRICS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:6490"
    )]
    pub metrics_listen: SocketAddr,
    /// Where node ports listen, besides every node's address
    #[arg(long, env = "SNOWGLOBE_NODEPORT_LISTEN", value_name = "IP", default_value = "127.0.0.1")]
    pub nodeport_listen: IpAddr,
    /// Allow listen addresses outside loopback
    #[arg(long, env = "SNOWGLOBE_ALLOW_REMOTE", num_args = 0..=1, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allow_remote: bool,
    /// More names under which HTTP clients may call this machine
    #[arg(long, env = "SNOWGLOBE_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// The kubeconfig that gets this cluster's entry; all else in it is kept [default: DATA-DIR/kubeconfig]
    #[arg(long, env = "SNOWGLOBE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the cluster, the user and the context in the kubeconfig
    #[arg(long, env = "SNOWGLOBE_CONTEXT", value_name = "NAME", default_value = "snowglobe", value_parser = context)]
    pub context: String,
    /// Make it the current context even if there is another
    #[arg(long, env = "SNOWGLOBE_SWITCH_CONTEXT", num_args = 0..=1, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub switch_context: bool,
    /// CSV file of more users: token,user,uid,"group1,group2"
    #[arg(long, env = "SNOWGLOBE_TOKEN_AUTH_FILE", value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Reads that the API serves at once
    #[arg(
        long,
        env = "SNOWGLOBE_MAX_REQUESTS_INFLIGHT",
        value_name = "N",
        default_value = "400",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub max_requests_inflight: u16,
    /// Writes that the API serves at once
    #[arg(
        long,
        env = "SNOWGLOBE_MAX_MUTATING_REQUESTS_INFLIGHT",
        value_name = "N",
        default_value = "200",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub max_mutating_requests_inflight: u16,
    /// Addresses of Services
    #[arg(
        long,
        env = "SNOWGLOBE_SERVICE_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "127.96.0.0/16"
    )]
    pub service_cidr: Vec<IpNet>,
    /// Addresses of Pods; each node in turn owns a /24
    #[arg(
        long,
        env = "SNOWGLOBE_POD_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "127.244.0.0/16"
    )]
    pub pod_cidr: Vec<IpNet>,
    /// Addresses of nodes, in order
    #[arg(long, env = "SNOWGLOBE_NODE_CIDR", value_name = "CIDR", default_value = "127.64.0.0/24")]
    pub node_cidr: IpNet,
    /// Addresses of load balancers
    #[arg(
        long,
        env = "SNOWGLOBE_LOAD_BALANCER_CIDR",
        value_name = "CIDR",
        default_value = "127.100.0.0/24"
    )]
    pub load_balancer_cidr: IpNet,
    /// DNS domain of the cluster
    #[arg(
        long,
        env = "SNOWGLOBE_CLUSTER_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local"
    )]
    pub cluster_domain: String,
    /// How many virtual nodes [default: 1, demo: 3]
    #[arg(long, env = "SNOWGLOBE_NODES", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=NODES_MAX))]
    pub nodes: Option<u8>,
    /// Zones, given to the nodes in turn
    #[arg(long, env = "SNOWGLOBE_ZONES", value_name = "ZONE", value_delimiter = ',')]
    pub zones: Vec<String>,
    /// What nodes offer
    #[command(flatten)]
    pub sizes: SizeFlags,
    /// The node that clients outside the cluster are on [default: the first]
    #[arg(long, env = "SNOWGLOBE_CLIENT_NODE", value_name = "NAME")]
    pub client_node: Option<String>,
    /// Whether each node balances for itself
    #[arg(long, env = "SNOWGLOBE_PROXY_VIEW", default_value = "per-node")]
    pub proxy_view: View,
    /// How long Events are kept after they were last seen
    #[arg(long, env = "SNOWGLOBE_EVENT_TTL", value_name = "DURATION", default_value = "1h", value_parser = event_ttl)]
    pub event_ttl: Duration,
    /// Log filter, as RUST_LOG has it
    #[arg(long, env = "SNOWGLOBE_LOG", value_name = "FILTER", default_value = "")]
    pub log: String,
}

/// Events that go before anybody can read them are of no use.
const EVENT_TTL_MIN: Duration = Duration::from_secs(1);

/// One /24 of pod addresses a node, and the node's own address in another /24.
const NODES_MAX: i64 = 250;

/// `--proxy-view`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Each node balances for itself, as each kube-proxy does
    PerNode,
    /// All nodes share one state
    Global,
}

impl From<View> for ProxyView {
    fn from(view: View) -> Self {
        match view {
            View::PerNode => Self::PerNode,
            View::Global => Self::Global,
        }
    }
}

/// What differs between `up` and `demo` where no flag says otherwise.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Name of the data directory.
    pub data_dir: &'static str,
    /// The store.
    pub store: Store,
    /// Number of nodes.
    pub nodes: u8,
    /// Zones.
    pub zones: &'static [&'static str],
}

impl Defaults {
    /// `snowglobe up`.
    pub const UP: Self = Self { data_dir: "snowglobe", store: Store::Sled, nodes: 1, zones: &[] };
    /// `snowglobe demo`.
    pub const DEMO: Self = Self {
        data_dir: "snowglobe-demo",
        store: Store::Memory,
        nodes: 3,
        zones: &["zone-a", "zone-b", "zone-c"],
    };
}

/// Everything that a cluster needs to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The object store.
    pub store: Store,
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
    /// The name in it.
    pub context: String,
    /// Whether it becomes the current context in any case.
    pub switch_context: bool,
    /// API.
    pub api_listen: SocketAddr,
    /// Dashboard.
    pub dashboard_listen: SocketAddr,
    /// DNS.
    pub dns_listen: SocketAddr,
    /// Metrics.
    pub metrics_listen: SocketAddr,
    /// Node ports.
    pub nodeport_listen: IpAddr,
    /// Whether clients outside loopback are served.
    pub allow_remote: bool,
    /// More host names for HTTP.
    pub allowed_hosts: Vec<String>,
    /// Users with static tokens.
    pub token_auth_file: Option<PathBuf>,
    /// Requests that the API serves at once.
    pub api_limits: Limits,
    /// Service ranges.
    pub service_cidrs: Vec<IpNet>,
    /// Load balancer range.
    pub load_balancer_cidr: IpNet,
    /// All that addresses of this cluster can be.
    pub plane_range: IpNet,
    /// Ranges that Services can have no addresses of, and what they are for.
    pub taken_ranges: Vec<(&'static str, IpNet)>,
    /// DNS domain.
    pub cluster_domain: String,
    /// The nodes.
    pub nodes: Vec<NodeOptions>,
    /// Where clients outside the cluster are.
    pub client_node: String,
    /// Whose balancing state is shared.
    pub proxy_view: ProxyView,
    /// How long Events are kept.
    pub event_ttl: Duration,
}

impl Flags {
    /// Checks the flags against each other and fills in what depends on the rest.
    pub fn resolve(self, defaults: &Defaults) -> anyhow::Result<Options> {
        for (flag, address) in [
            ("api-listen", self.api_listen.ip()),
            ("dashboard-listen", self.dashboard_listen.ip()),
            ("dns-listen", self.dns_listen.ip()),
            ("metrics-listen", self.metrics_listen.ip()),
            ("nodeport-listen", self.nodeport_listen),
        ] {
            if !address.is_loopback() && !self.allow_remote {
                bail!(
                    "--{flag} {address} would be reachable from other machines, and whoever controls the API controls \
                     this cluster: add --allow-remote if that is meant"
                );
            }
        }
        let ranges = [
            ("service-cidr", first_v4("service-cidr", &self.service_cidr)?),
            ("pod-cidr", first_v4("pod-cidr", &self.pod_cidr)?),
            ("node-cidr", self.node_cidr),
            ("load-balancer-cidr", self.load_balancer_cidr),
        ];
        let (plane_range, taken_ranges) = check_ranges(&ranges)?;
        let data_dir = match self.data_dir {
            Some(directory) => directory,
            None => state_directory()?.join(defaults.data_dir),
        };
        let count = self.nodes.unwrap_or(defaults.nodes);
        let zones: Vec<String> = if self.zones.is_empty() {
            defaults.zones.iter().map(|zone| (*zone).to_owned()).collect()
        } else {
            self.zones
        };
        let nodes = nodes::nodes(count, &zones, ranges[1].1, ranges[2].1, self.sizes)?;
        let client_node = match self.client_node {
            None => nodes[0].name.clone(),
            Some(name) if nodes.iter().any(|node| node.name == name) => name,
            Some(name) => bail!(
                "--client-node {name}: there is no such node; the nodes are node-1 to node-{count}"
            ),
        };
        let store = self.store.resolve(&defaults.store, &data_dir)?;
        Ok(Options {
            kubeconfig: self.kubeconfig.unwrap_or_else(|| data_dir.join("kubeconfig")),
            context: self.context,
            switch_context: self.switch_context,
            data_dir,
            store,
            api_listen: self.api_listen,
            dashboard_listen: self.dashboard_listen,
            dns_listen: self.dns_listen,
            metrics_listen: self.metrics_listen,
            nodeport_listen: self.nodeport_listen,
            allow_remote: self.allow_remote,
            allowed_hosts: self.allowed_hosts,
            token_auth_file: self.token_auth_file,
            api_limits: Limits {
                reads: self.max_requests_inflight.into(),
                writes: self.max_mutating_requests_inflight.into(),
                ..Limits::default()
            },
            service_cidrs: self.service_cidr,
            load_balancer_cidr: self.load_balancer_cidr,
            plane_range,
            taken_ranges,
            cluster_domain: self.cluster_domain,
            nodes,
            client_node,
            proxy_view: self.proxy_view.into(),
            event_ttl: self.event_ttl,
        })
    }
}

/// A name that can be written on a command line.
fn context(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a context has a name, without spaces".to_owned());
    }
    Ok(text.to_owned())
}

/// `1h`, `90s`, `1h30m`.
fn event_ttl(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    let duration = Duration::try_from(duration).map_err(|_negative| "it is negative".to_owned())?;
    if duration < EVENT_TTL_MIN {
        return Err(format!("it is less than {}s", EVENT_TTL_MIN.as_secs()));
    }
    Ok(duration)
}

/// Puts the values of the configuration file that the arguments name (`--config FILE`, `SNOWGLOBE_CONFIG`) under the
/// flags of a command, as their defaults.
pub fn with_file(mut command: Command, arguments: &[OsString]) -> anyhow::Result<Command> {
    let Some(path) = file_argument(arguments) else { return Ok(command) };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    let values: serde_yaml::Mapping = serde_yaml::from_str(&text).with_context(|| {
        format!("the configuration file {} is not a YAML map of flags", path.display())
    })?;
    for (key, value) in values {
        let name = key.as_str().unwrap_or_default().to_owned();
        let text = match name.as_str() {
            nodes::OVERRIDES => serde_json::to_string(&value).map_err(anyhow::Error::from),
            _ => scalar(&value),
        };
        let text = text.with_context(|| format!("{}: {name}", path.display()))?;
        for subcommand in ["up", "demo"] {
            let known = command
                .find_subcommand(subcommand)
                .is_some_and(|c| c.get_arguments().any(|a| a.get_long() == Some(&name)));
            if !known || name == "config" {
                bail!("{}: there is no flag {name:?}; see `snowglobe up --help`", path.display());
            }
            let (id, text) = (name.replace('-', "_"), text.clone());
            command = command.mut_subcommand(subcommand, |c| {
                c.mut_arg(id, |argument| argument.default_value(text))
            });
        }
    }
    Ok(command)
}

fn file_argument(arguments: &[OsString]) -> Option<PathBuf> {
    let mut texts = arguments.iter().filter_map(|argument| argument.to_str());
    while let Some(text) = texts.next() {
        if text == "--config" {
            return texts.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    std::env::var_os("SNOWGLOBE_CONFIG").map(PathBuf::from)
}

fn scalar(value: &serde_yaml::Value) -> anyhow::Result<String> {
    use serde_yaml::Value;
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::Sequence(list) => {
            list.iter().map(scalar).collect::<anyhow::Result<Vec<_>>>()?.join(",")
        }
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => {
            bail!("the value must be a text, a number, true, false or a list of these")
        }
    })
}

/// `$XDG_STATE_HOME`, else `~/.local/state`.
pub fn state_directory() -> anyhow::Result<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .context("there is neither $XDG_STATE_HOME nor $HOME to keep data in: give --data-dir DIR")
}

/// The kubeconfig of the default cluster, for commands that talk to it.
pub fn default_kubeconfig(data_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let directory = match data_dir {
        Some(directory) => directory.to_owned(),
        None => state_directory()?.join(Defaults::UP.data_dir),
    };
    Ok(directory.join("kubeconfig"))
}

fn first_v4(flag: &str, ranges: &[IpNet]) -> anyhow::Result<IpNet> {
    match ranges {
        [range @ IpNet::V4(_)] => Ok(*range),
        _ => bail!(
            "--{flag}: one IPv4 range is needed; IPv6 and dual stack need a data plane with IPv6, and the loopback plane \
             has only 127.0.0.0/8"
        ),
    }
}

/// Ranges with what they are for.
type Ranges = Vec<(&'static str, IpNet)>;

/// Gives the range of the data plane, and what further Services can have no addresses of.
fn check_ranges(ranges: &[(&'static str, IpNet); 4]) -> anyhow::Result<(IpNet, Ranges)> {
    let [plane, own] = [8, 24].map(|length| IpNet::new(IpAddr::from([127, 0, 0, 0]), length));
    let (plane, own) = (plane.context("a valid prefix")?, own.context("a valid prefix")?);
    for (index, (flag, range)) in ranges.iter().enumerate() {
        if !plane.contains(range) {
            bail!("--{flag} {range}: the loopback data plane needs a range inside {plane}");
        }
        for (other_flag, other) in &ranges[..index] {
            if range.contains(&other.network()) || other.contains(&range.network()) {
                bail!(
                    "--{flag} {range} and --{other_flag} {other} overlap: choose separate ranges"
                );
            }
        }
    }
    let [_, others @ ..] = ranges;
    let taken = others.iter().copied().chain([("addresses of this machine", own)]);
    Ok((plane, taken.collect()))
}
