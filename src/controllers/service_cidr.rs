//! ServiceCIDRs: whether Services may have addresses of them (`Ready`), and that none goes as long as it is needed.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::{
    api::networking::v1::{ServiceCIDR, ServiceCIDRStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, World,
        finalizers::{with_finalizer, without_finalizer},
    },
    model::{Object, ObjectKey, conditions::set_condition, kind, well_known::SERVICE_CIDR_READY},
    registry::View,
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// The one of `--service-cidr`.
const DEFAULT: &str = "kubernetes";
const NEEDED: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "service-cidr-controller",
    workers: 1,
    triggers: &[
        Trigger { kind: Some(&kind::SERVICE_CIDR), keys: all },
        Trigger { kind: Some(&kind::IP_ADDRESS), keys: terminating },
    ],
    plan,
};

/// One that comes may take over what another is needed for.
fn all(view: &View, _: &Object) -> Vec<ObjectKey> {
    view.list(&kind::SERVICE_CIDR, None).map(|range| range.key.clone()).collect()
}

fn terminating(view: &View, _: &Object) -> Vec<ObjectKey> {
    let ranges = view.list(&kind::SERVICE_CIDR, None).filter(|range| range.is_terminating());
    ranges.map(|range| range.key.clone()).collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let has_finalizer = object.has_finalizer(FINALIZER);
    let mut steps = Vec::new();
    if object.is_terminating() {
        if !has_finalizer {
            return Plan::nothing();
        }
        if is_needed(world.view, object) {
            steps.extend(ready(world, object, false, "Terminating", NEEDED));
        } else {
            steps.push(without_finalizer(object, FINALIZER));
        }
        return steps.into();
    }
    if !has_finalizer {
        // The next plan does the rest.
        return vec![with_finalizer(object, FINALIZER)].into();
    }
    let fault = ranges(object).into_iter().find_map(|range| fault(world, range));
    steps.extend(match fault {
        Some(fault) => ready(world, object, false, "NotServed", &fault),
        None if key.name == DEFAULT => {
            ready(world, object, true, "", "Kubernetes default Service CIDR is ready")
        }
        None => ready(world, object, true, "", "Kubernetes Service CIDR is ready"),
    });
    steps.into()
}

fn ranges(object: &Object) -> Vec<IpNet> {
    let range: ServiceCIDR = object.parse().unwrap_or_default();
    let texts = range.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Why Services cannot have addresses of a range.
fn fault(world: &World<'_>, range: IpNet) -> Option<String> {
    let within = world.options.services_within;
    if !within.contains(&range) {
        return Some(format!(
            "addresses of {range} cannot be served: the loopback data plane needs a range inside {within}"
        ));
    }
    let overlaps =
        |other: &IpNet| range.contains(&other.network()) || other.contains(&range.network());
    let (what, other) = world.options.taken_ranges.iter().find(|(_, other)| overlaps(other))?;
    Some(format!("addresses of {range} cannot be served: it overlaps {what} {other}"))
}

/// Whether a Service has an address of it that no other range has.
fn is_needed(view: &View, object: &Object) -> bool {
    let others = view.list(&kind::SERVICE_CIDR, None);
    let others = others.filter(|other| other.key != object.key && !other.is_terminating());
    let others: Vec<IpNet> = others.flat_map(|other| ranges(other)).collect();
    let own = ranges(object);
    let mut addresses = view.list(&kind::IP_ADDRESS, None);
    addresses.any(|address| {
        let Ok(address) = address.key.name.parse::<IpAddr>() else { return false };
        let within = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&address));
        within(&own) && !within(&others)
    })
}

/// Sets the condition, if it is not so already.
fn ready(
    world: &World<'_>,
    object: &Object,
    holds: bool,
    reason: &str,
    message: &str,
) -> Option<Step> {
    let range: ServiceCIDR = object.parse().ok()?;
    let mut conditions = range.status.and_then(|status| status.conditions).unwrap_or_default();
    let status = if holds { "True" } else { "False" };
    let condition = Condition {
        type_: SERVICE_CIDR_READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(world.now),
        observed_generation: None,
    };
    if !set_condition(&mut conditions, condition) {
        return None;
    }
    Step::status(object, &ServiceCIDRStatus { conditions: Some(conditions) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    fn with(ranges: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, range) in ranges {
            cluster.insert(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                "metadata": {"name": name}, "spec": {"cidrs": [range]}}));
        }
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::cluster(&kind::SERVICE_CIDR, name)
    }

    fn condition(cluster: &Cluster, name: &str) -> (String, String) {
        let condition = cluster.get(&key(name))["status"]["conditions"][0].clone();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("message"))
    }

    #[test]
    fn which_are_ready() {
        for (name, range, status, message) in [
            ("kubernetes", "127.96.0.0/16", "True", "Kubernetes default Service CIDR is ready"),
            ("more", "127.97.0.0/16", "True", "Kubernetes Service CIDR is ready"),
            (
                "far",
                "10.0.0.0/24",
                "False",
                "addresses of 10.0.0.0/24 cannot be served: the loopback data plane needs a range inside 127.0.0.0/8",
            ),
            (
                "pods",
                "127.244.8.0/24",
                "False",
                "addresses of 127.244.8.0/24 cannot be served: it overlaps pod-cidr 127.244.0.0/16",
            ),
        ] {
            let cluster = with(&[(name, range)]);
            assert_eq!(cluster.get(&key(name))["metadata"]["finalizers"], json!([FINALIZER]));
            assert_eq!(condition(&cluster, name), (status.to_owned(), message.to_owned()));
        }
    }

    #[test]
    fn one_that_is_needed_stays() {
        let mut cluster = with(&[("more", "127.97.0.0/24")]);
        let address = cluster.insert(&json!({"apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress", "metadata": {"name": "127.97.0.9"},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}}));
        cluster.delete(&key("more"));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(condition(&cluster, "more"), ("False".to_owned(), NEEDED.to_owned()));
        cluster.insert(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "larger"}, "spec": {"cidrs": ["127.97.0.0/16"]}}));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.view.get(&key("more")).is_none(), "another one takes over");
        cluster.delete(&key("larger"));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.view.get(&key("larger")).is_some());
        cluster.remove(&address);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.view.get(&key("larger")).is_none());
    }
}
