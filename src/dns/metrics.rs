//! Metrics with the names of CoreDNS, so that dashboards for CoreDNS work.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::dns::{
    wire::{Handled, Transport},
    zone::Zone,
};

/// Types with a label of their own. All others are counted as `other`, so that clients cannot create label values.
const TYPES: [RecordType; 10] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::CNAME,
    RecordType::HTTPS,
    RecordType::MX,
    RecordType::NS,
    RecordType::SOA,
    RecordType::TXT,
];
/// The label of questions outside every zone.
const DROPPED: &str = "dropped";
/// All response codes that are sent.
const CODES: [(ResponseCode, &str); 7] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::BADVERS, "BADVERS"),
];
const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
/// The numbers of address families in CoreDNS.
const FAMILIES: [&str; 2] = ["1", "2"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    server: Arc<str>,
    zone: Arc<str>,
    view: &'static str,
    proto: &'static str,
    family: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    server: Arc<str>,
    zone: Arc<str>,
    view: &'static str,
    rcode: &'static str,
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    server: Arc<str>,
    zone: Arc<str>,
    view: &'static str,
    r#type: &'static str,
}

/// The metrics of the DNS server.
pub struct Metrics {
    server: Arc<str>,
    /// The labels of the zones by index. `dropped` is the last one.
    zones: Vec<Arc<str>>,
    requests: Family<RequestLabels, Counter>,
    responses: Family<ResponseLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    panics: Counter,
    // A metric family takes a lock and hashes strings at each lookup. So each of its members is looked up once and
    // kept here by index.
    request_cells: Vec<OnceLock<Counter>>,
    response_cells: Vec<OnceLock<Counter>>,
    duration_cells: Vec<OnceLock<Histogram>>,
}

impl Metrics {
    /// `server` is the label of this server, `dns://ADDRESS:PORT`.
    pub(crate) fn new(server: String, zone: &Zone) -> Self {
        let mut zones: Vec<Arc<str>> =
            zone.origins.iter().map(|origin| origin.to_ascii().into()).collect();
        zones.push(DROPPED.into());
        let types = TYPES.len() + 1;
        let families = PROTOCOLS.len() * FAMILIES.len();
        Self {
            server: server.into(),
            requests: Family::default(),
            responses: Family::default(),
            durations: Family::new_with_constructor(histogram),
            panics: Counter::default(),
            request_cells: cells(zones.len() * types * families),
            response_cells: cells(zones.len() * CODES.len()),
            duration_cells: cells(zones.len() * types),
            zones,
        }
    }

    /// Registers all metrics for scrapes.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("coredns_dns_requests", "DNS requests", self.requests.clone());
        registry.register("coredns_dns_responses", "DNS responses", self.responses.clone());
        registry.register(
            "coredns_dns_request_duration_seconds",
            "Time from a request to its response",
            self.durations.clone(),
        );
        registry.register("coredns_panics", "Contained panics", self.panics.clone());
    }

    pub(crate) fn count_panic(&self) {
        self.panics.inc();
    }

    pub(crate) fn count(
        &self,
        handled: Handled,
        transport: Transport,
        client: IpAddr,
        took: Duration,
    ) {
        let dropped = self.zones.len() - 1;
        let zone = handled.zone.map_or(dropped, |zone| zone.min(dropped));
        let kind = TYPES.iter().position(|t| *t == handled.rtype).unwrap_or(TYPES.len());
        let proto = usize::from(transport == Transport::Tcp);
        let family = usize::from(client.is_ipv6());
        let code = CODES.iter().position(|(code, _)| *code == handled.code).unwrap_or(0);

        let per_zone = zone * (TYPES.len() + 1) + kind;
        let per_family = (per_zone * PROTOCOLS.len() + proto) * FAMILIES.len() + family;
        let request = self.request_cells[per_family].get_or_init(|| {
            let labels = RequestLabels {
                server: self.server.clone(),
                zone: self.zones[zone].clone(),
                view: "",
                proto: PROTOCOLS[proto],
                family: FAMILIES[family],
                r#type: type_label(kind),
            };
            self.requests.get_or_create(&labels).clone()
        });
        request.inc();
        let response = self.response_cells[zone * CODES.len() + code].get_or_init(|| {
            let labels = ResponseLabels {
                server: self.server.clone(),
                zone: self.zones[zone].clone(),
                view: "",
                rcode: CODES[code].1,
                plugin: if zone == dropped { "" } else { "kubernetes" },
            };
            self.responses.get_or_create(&labels).clone()
        });
        response.inc();
        let duration = self.duration_cells[per_zone].get_or_init(|| {
            let labels = DurationLabels {
                server: self.server.clone(),
                zone: self.zones[zone].clone(),
                view: "",
                r#type: type_label(kind),
            };
            self.durations.get_or_create(&labels).clone()
        });
        duration.observe(took.as_secs_f64());
    }
}

fn cells<T>(length: usize) -> Vec<OnceLock<T>> {
    std::iter::repeat_with(OnceLock::new).take(length).collect()
}

fn type_label(index: usize) -> &'static str {
    TYPES.get(index).map_or("other", |rtype| (*rtype).into())
}

/// The buckets of CoreDNS: 0.25 ms to 8 s.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn counts_appear_under_the_names_of_coredns() {
        let zone = Zone::new("cluster.local").unwrap();
        let metrics = Metrics::new("dns://127.0.0.1:6453".to_owned(), &zone);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let client = IpAddr::from([127, 0, 0, 1]);
        for (zone, rtype, code) in [
            (Some(0), RecordType::A, ResponseCode::NoError),
            (Some(0), RecordType::A, ResponseCode::NXDomain),
            (None, RecordType::CAA, ResponseCode::Refused),
        ] {
            let handled = Handled { zone, rtype, code };
            metrics.count(handled, Transport::Udp, client, Duration::from_micros(20));
        }
        metrics.count_panic();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let server = "server=\"dns://127.0.0.1:6453\"";
        for line in [
            format!(
                "coredns_dns_requests_total{{{server},zone=\"cluster.local.\",view=\"\",proto=\"udp\",\
                 family=\"1\",type=\"A\"}} 2"
            ),
            format!(
                "coredns_dns_responses_total{{{server},zone=\"dropped\",view=\"\",rcode=\"REFUSED\",\
                 plugin=\"\"}} 1"
            ),
            format!(
                "coredns_dns_request_duration_seconds_count{{{server},zone=\"dropped\",view=\"\",\
                 type=\"other\"}} 1"
            ),
            "coredns_panics_total 1".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
