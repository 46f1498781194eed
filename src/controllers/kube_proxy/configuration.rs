//! What a KubeProxyConfiguration (`kubeproxy.config.k8s.io/v1alpha1`) means here: pure, from its text.

use std::{collections::BTreeSet, time::Duration};

use jiff::SignedDuration;
use serde_yaml::{Mapping, Value};

use crate::proxy::Timeouts;

/// The scheduler when nothing says otherwise, as kube-proxy's IPVS mode has it.
const DEFAULT: &str = "rr";

/// Schedulers that IPVS has and that have another name here.
const RENAMED: &[(&str, &str)] = &[("mh", "maglev")];

/// Schedulers that IPVS has and that there are not here, with what is close to each.
const ABSENT: &[(&str, &str)] =
    &[("fo", "wrr with weights"), ("lblc", "dh"), ("lblcr", "dh"), ("ovf", "wlc")];

/// Fields without effect that are not worth a word as long as they have these values: the defaults of kube-proxy, and
/// what kubeadm and our own documentation write. So are those that are zero or empty.
const QUIET: &[(&str, &[&str])] = &[
    ("bindAddress", &["0.0.0.0", "::"]),
    ("clientConnection.burst", &["10"]),
    ("clientConnection.contentType", &["application/vnd.kubernetes.protobuf"]),
    ("clientConnection.kubeconfig", &["/var/lib/kube-proxy/kubeconfig.conf"]),
    ("clientConnection.qps", &["5"]),
    ("configSyncPeriod", &["15m"]),
    ("conntrack.maxPerCore", &["32768"]),
    ("conntrack.min", &["131072"]),
    ("conntrack.tcpCloseWaitTimeout", &["1h"]),
    ("detectLocalMode", &["ClusterCIDR"]),
    ("healthzBindAddress", &["0.0.0.0:10256"]),
    ("iptables.localhostNodePorts", &["true"]),
    ("iptables.masqueradeBit", &["14"]),
    ("iptables.minSyncPeriod", &["1s", "5s"]),
    ("iptables.syncPeriod", &["30s"]),
    ("ipvs.minSyncPeriod", &["1s", "5s"]),
    ("ipvs.syncPeriod", &["30s"]),
    ("logging.flushFrequency", &["5s", "5000000000"]),
    ("logging.format", &["text"]),
    ("metricsBindAddress", &["127.0.0.1:10249"]),
    ("nftables.masqueradeBit", &["14"]),
    ("nftables.minSyncPeriod", &["1s"]),
    ("nftables.syncPeriod", &["30s"]),
    ("oomScoreAdj", &["-999"]),
    ("winkernel.rootHnsEndpointName", &["cbr0"]),
];

/// Fields of the type that are not in [`QUIET`] and without effect. With a dot at the end, all that begin so.
const KNOWN: &[&str] = &[
    "bindAddressHardFail",
    "clientConnection.acceptContentTypes",
    "clusterCIDR",
    "conntrack.tcpBeLiberal",
    "detectLocal.bridgeInterface",
    "detectLocal.interfaceNamePrefix",
    "enableProfiling",
    "featureGates.",
    "hostnameOverride",
    "iptables.masqueradeAll",
    "ipvs.excludeCIDRs",
    "ipvs.strictARP",
    "ipvs.tcpFinTimeout",
    "logging.options.",
    "logging.verbosity",
    "logging.vmodule",
    "nftables.masqueradeAll",
    "nodePortAddresses",
    "portRange",
    "showHiddenMetricsForVersion",
    "windowsRunAsService",
    "winkernel.",
    // Only in mode `ipvs` have they an effect.
    "ipvs.scheduler",
    "ipvs.tcpTimeout",
    "ipvs.udpTimeout",
];

/// A configuration in effect.
#[derive(Debug, PartialEq)]
pub(super) struct Configuration {
    /// The cluster's default scheduler.
    pub(super) scheduler: String,
    pub(super) timeouts: Timeouts,
    /// What of the text has no effect.
    pub(super) remarks: BTreeSet<Remark>,
}

/// Something that whoever wrote the text should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remark {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Reads fields, and keeps in mind which.
struct Reader {
    /// By path, `ipvs.scheduler`.
    fields: Vec<(String, Value)>,
    remarks: BTreeSet<Remark>,
}

impl Configuration {
    /// Reads the text. `is_known` tells whether there is a scheduler of that name.
    pub(super) fn read(text: &str, is_known: impl Fn(&str) -> bool) -> Self {
        let mut reader = Reader::new(text);
        let mode = reader.text("mode");
        let is_ipvs = mode == "ipvs";
        let wanted = match mode.as_str() {
            "ipvs" => reader.text("ipvs.scheduler"),
            "iptables" | "nftables" => "random".to_owned(),
            "" => String::new(),
            _ => {
                let modes = "ipvs, iptables and nftables";
                let message = format!("there is no mode {mode:?}, only {modes}; {DEFAULT} is used");
                reader.remark("UnknownMode", message);
                String::new()
            }
        };
        let scheduler = reader.scheduler(wanted, is_known);
        let mut timeouts = Timeouts::default();
        reader.timeout("conntrack.tcpEstablishedTimeout", &mut timeouts.tcp);
        reader.timeout("conntrack.udpTimeout", &mut timeouts.udp);
        reader.timeout("conntrack.udpStreamTimeout", &mut timeouts.udp_stream);
        if is_ipvs {
            // IPVS has timeouts of its own, and one for UDP.
            reader.timeout("ipvs.tcpTimeout", &mut timeouts.tcp);
            let mut udp = Duration::ZERO;
            reader.timeout("ipvs.udpTimeout", &mut udp);
            if !udp.is_zero() {
                (timeouts.udp, timeouts.udp_stream) = (udp, udp);
            }
        }
        Self { scheduler, timeouts, remarks: reader.finish() }
    }
}

impl Reader {
    fn new(text: &str) -> Self {
        let mut reader = Self { fields: Vec::new(), remarks: BTreeSet::new() };
        match serde_yaml::from_str::<Option<Mapping>>(text) {
            Ok(document) => flatten("", document.unwrap_or_default(), &mut reader.fields),
            Err(error) => {
                let message = format!("config.conf is not read: {error}; the defaults are used");
                reader.remark("InvalidConfiguration", message);
            }
        }
        for expected in ["apiVersion", "kind"] {
            reader.take(expected);
        }
        reader
    }

    fn remark(&mut self, reason: &'static str, message: String) {
        self.remarks.insert(Remark { reason, message });
    }

    fn take(&mut self, path: &str) -> Option<Value> {
        let at = self.fields.iter().position(|(field, _)| field == path)?;
        Some(self.fields.swap_remove(at).1)
    }

    /// A text that is empty if it is not set.
    fn text(&mut self, path: &str) -> String {
        match self.take(path) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => {
                let message = format!("{path}: {} is no text; it is ignored", shown(&other));
                self.remark("InvalidConfiguration", message);
                String::new()
            }
        }
    }

    /// Sets a time; zero leaves it as it is, as in kube-proxy.
    fn timeout(&mut self, path: &str, timeout: &mut Duration) {
        let Some(value) = self.take(path).filter(|value| !value.is_null()) else { return };
        match duration(&value) {
            Some(Duration::ZERO) => {}
            Some(set) => *timeout = set,
            None => {
                let message = format!(
                    "{path}: {} is no time such as 90s or 1h30m; it is ignored",
                    shown(&value)
                );
                self.remark("InvalidConfiguration", message);
            }
        }
    }

    fn scheduler(&mut self, wanted: String, is_known: impl Fn(&str) -> bool) -> String {
        let renamed = RENAMED.iter().find(|(ipvs, _)| *ipvs == wanted);
        let name = match renamed {
            Some((_, ours)) if !is_known(&wanted) => (*ours).to_owned(),
            _ if wanted.is_empty() => DEFAULT.to_owned(),
            _ => wanted,
        };
        if is_known(&name) {
            return name;
        }
        let absent = ABSENT.iter().find(|(ipvs, _)| *ipvs == name);
        let message = match absent {
            Some((_, close)) => format!(
                "IPVS's scheduler {name:?} does not exist here (close to it is {close}); {DEFAULT} is used"
            ),
            None => format!(
                "there is no scheduler {name:?}, neither built in nor as a LoadBalancerPolicy; {DEFAULT} is used"
            ),
        };
        self.remark("UnknownScheduler", message);
        DEFAULT.to_owned()
    }

    /// Says which of the fields that nobody took have no effect.
    fn finish(mut self) -> BTreeSet<Remark> {
        self.fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        let is_known = |path: &str| {
            let all = KNOWN.iter().copied().chain(QUIET.iter().map(|(path, _)| *path));
            all.into_iter().any(|known| match known.strip_suffix('.') {
                Some(group) => path == group || path.starts_with(known),
                None => path == known,
            })
        };
        let fields = std::mem::take(&mut self.fields);
        let (known, unknown): (Vec<_>, Vec<_>) =
            fields.iter().partition(|(path, _)| is_known(path));
        let known = known.into_iter().filter(|(path, value)| !is_quiet(path, value));
        let known: Vec<&str> = known.map(|(path, _)| path.as_str()).collect();
        let unknown: Vec<&str> = unknown.into_iter().map(|(path, _)| path.as_str()).collect();
        let mut parts = Vec::new();
        if !known.is_empty() {
            parts.push(format!("without effect in config.conf: {}", known.join(", ")));
        }
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            parts.push(format!("unknown to KubeProxyConfiguration v1alpha1: {names}"));
        }
        if !parts.is_empty() {
            self.remark("FieldsIgnored", parts.join("; "));
        }
        self.remarks
    }
}

/// Writes the fields of mappings out by path.
fn flatten(before: &str, mapping: Mapping, fields: &mut Vec<(String, Value)>) {
    for (key, value) in mapping {
        let key = key.as_str().map_or_else(|| shown(&key), str::to_owned);
        let path = if before.is_empty() { key } else { format!("{before}.{key}") };
        match value {
            Value::Mapping(inner) if !inner.is_empty() => flatten(&path, inner, fields),
            value => fields.push((path, value)),
        }
    }
}

fn is_quiet(path: &str, value: &Value) -> bool {
    let is_nothing = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || duration(value) == Some(Duration::ZERO),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Tagged(_) => false,
    };
    let values = QUIET.iter().find(|(quiet, _)| *quiet == path).map(|(_, values)| *values);
    let is_same = |quiet: &&str| {
        let time = duration(&Value::String((**quiet).to_owned()));
        shown(value) == **quiet || time.is_some() && time == duration(value)
    };
    is_nothing || values.is_some_and(|values| values.iter().any(is_same))
}

/// A time as Go writes it, `1h30m`.
fn duration(value: &Value) -> Option<Duration> {
    let text = value.as_str()?;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let starts_like_one = text.starts_with(|first: char| first.is_ascii_digit());
    let parsed: SignedDuration = text.parse().ok().filter(|_| starts_like_one)?;
    Duration::try_from(parsed).ok()
}

/// In one line.
fn shown(value: &Value) -> String {
    let text = serde_yaml::to_string(value).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_matches('\'').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [&str; 5] = ["rr", "random", "lc", "maglev", "mine"];

    fn read(text: &str) -> (String, Timeouts, Vec<String>) {
        let Configuration { scheduler, timeouts, remarks } =
            Configuration::read(text, |name| HERE.contains(&name));
        let remarks = remarks.iter().map(|r| format!("{}: {}", r.reason, r.message));
        (scheduler, timeouts, remarks.collect())
    }

    #[test]
    fn the_mode_names_the_scheduler() {
        for (text, scheduler, remark) in [
            ("", "rr", ""),
            ("mode: \"\"", "rr", ""),
            ("mode: iptables", "random", ""),
            ("mode: nftables", "random", ""),
            ("mode: ipvs", "rr", ""),
            ("mode: ipvs\nipvs: {scheduler: lc}", "lc", ""),
            ("mode: ipvs\nipvs: {scheduler: mine}", "mine", ""),
            ("mode: ipvs\nipvs: {scheduler: mh}", "maglev", ""),
            (
                "mode: ipvs\nipvs: {scheduler: lblc}",
                "rr",
                "UnknownScheduler: IPVS's scheduler \"lblc\" does not",
            ),
            (
                "mode: ipvs\nipvs: {scheduler: best}",
                "rr",
                "UnknownScheduler: there is no scheduler \"best\"",
            ),
            (
                "mode: ipvs\nipvs: {scheduler: 5}",
                "rr",
                "InvalidConfiguration: ipvs.scheduler: 5 is no text",
            ),
            (
                "mode: iptables\nipvs: {scheduler: lc}",
                "random",
                "FieldsIgnored: without effect in config.conf: ipvs.scheduler",
            ),
            ("mode: kernelspace", "rr", "UnknownMode: there is no mode \"kernelspace\""),
            ("mode: [", "rr", "InvalidConfiguration: config.conf is not read"),
            ("just text", "rr", "InvalidConfiguration: config.conf is not read"),
        ] {
            let (found, _, remarks) = read(text);
            assert_eq!(found, scheduler, "{text}");
            match remark {
                "" => assert!(remarks.is_empty(), "{text}: {remarks:?}"),
                _ => assert!(
                    remarks.len() == 1 && remarks[0].starts_with(remark),
                    "{text}: {remarks:?}"
                ),
            }
        }
    }

    #[test]
    fn timeouts_are_those_of_conntrack_or_of_ipvs() {
        let default = Timeouts::default();
        let seconds = Duration::from_secs;
        let conntrack =
            "conntrack: {tcpEstablishedTimeout: 1h30m0s, udpTimeout: 10s, udpStreamTimeout: 0s}";
        let expected = Timeouts { tcp: seconds(5_400), udp: seconds(10), ..default };
        assert_eq!(read(conntrack).1, expected);
        let ipvs = "mode: ipvs\nipvs: {tcpTimeout: 15m, udpTimeout: 5m}\nconntrack: {tcpEstablishedTimeout: 1h}";
        let expected = Timeouts { tcp: seconds(900), udp: seconds(300), udp_stream: seconds(300) };
        assert_eq!(read(ipvs), ("rr".to_owned(), expected, Vec::new()));
        for wrong in ["soon", "-5s", "5", "PT5S", "[5s]"] {
            let (_, timeouts, remarks) = read(&format!("conntrack: {{udpTimeout: {wrong}}}"));
            assert_eq!(timeouts, default, "{wrong}");
            assert!(remarks[0].contains("conntrack.udpTimeout: "), "{remarks:?}");
        }
    }

    #[test]
    fn fields_without_effect_are_named() {
        let text = "mode: ipvs\nipvs: {strictARP: true, excludeCIDRs: [10.0.0.0/8], tcpFinTimeout: 0s}\n\
                    iptables: {syncPeriod: 1m, minSyncPeriod: 1000ms, sync: 1}\nclusterCIDR: 10.244.0.0/16\nfoo: {}\n\
                    featureGates: {A: true}\nwinkernel: {networkName: a}";
        let expected = "FieldsIgnored: without effect in config.conf: clusterCIDR, featureGates.A, iptables.syncPeriod, \
                        ipvs.excludeCIDRs, ipvs.strictARP, winkernel.networkName; unknown to KubeProxyConfiguration \
                        v1alpha1: foo, iptables.sync";
        assert_eq!(read(text).2, [expected]);
    }

    /// As kubeadm 1.36 writes it, and the one of our documentation.
    #[test]
    fn defaults_are_not_worth_a_word() {
        let kubeadm = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nbindAddress: 0.0.0.0\n\
            bindAddressHardFail: false\nclientConnection:\n  acceptContentTypes: \"\"\n  burst: 0\n  contentType: \"\"\n  \
            kubeconfig: /var/lib/kube-proxy/kubeconfig.conf\n  qps: 0\nclusterCIDR: \"\"\nconfigSyncPeriod: 0s\n\
            conntrack:\n  maxPerCore: null\n  min: null\n  tcpBeLiberal: false\n  tcpCloseWaitTimeout: null\n  \
            tcpEstablishedTimeout: null\n  udpStreamTimeout: 0s\n  udpTimeout: 0s\ndetectLocal:\n  bridgeInterface: \"\"\n  \
            interfaceNamePrefix: \"\"\ndetectLocalMode: \"\"\nenableProfiling: false\nhealthzBindAddress: \"\"\n\
            hostnameOverride: \"\"\niptables:\n  localhostNodePorts: null\n  masqueradeAll: false\n  masqueradeBit: null\n  \
            minSyncPeriod: 0s\n  syncPeriod: 0s\nipvs:\n  excludeCIDRs: null\n  minSyncPeriod: 0s\n  scheduler: \"\"\n  \
            strictARP: false\n  syncPeriod: 0s\n  tcpFinTimeout: 0s\n  tcpTimeout: 0s\n  udpTimeout: 0s\nlogging:\n  \
            flushFrequency: 0\n  options:\n    json:\n      infoBufferSize: \"0\"\n    text:\n      infoBufferSize: \"0\"\n  \
            verbosity: 0\nmetricsBindAddress: \"\"\nmode: \"\"\nnftables:\n  masqueradeAll: false\n  masqueradeBit: null\n  \
            minSyncPeriod: 0s\n  syncPeriod: 0s\nnodePortAddresses: null\noomScoreAdj: null\nportRange: \"\"\n\
            showHiddenMetricsForVersion: \"\"\nwinkernel:\n  enableDSR: false\n  forwardHealthCheckVip: false\n  \
            networkName: \"\"\n  rootHnsEndpointName: \"\"\n  sourceVip: \"\"\n";
        let documented = "mode: ipvs\nipvs: {scheduler: rr, syncPeriod: 30s, minSyncPeriod: 5s}\n\
            iptables: {masqueradeAll: false, syncPeriod: 30s, minSyncPeriod: 5s}\n\
            conntrack: {maxPerCore: 32768, tcpEstablishedTimeout: 24h, tcpCloseWaitTimeout: 1h0m0s}";
        for text in [kubeadm, documented] {
            let (scheduler, timeouts, remarks) = read(text);
            assert_eq!((scheduler.as_str(), timeouts), ("rr", Timeouts::default()));
            assert_eq!(remarks, Vec::<String>::new());
        }
    }
}
