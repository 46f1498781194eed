//! Addresses for Services of type LoadBalancer: given at once from the pool, taken back when the type changes.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus,
};

use crate::{
    controllers::{Controller, Plan, Step, Trigger, World, itself, service},
    model::{Object, ObjectKey, kind},
};

/// The load balancer class that is ours besides no class at all.
const CLASS: &str = "snowglobe.dev/load-balancer";
/// How soon to look again for an address in a pool that is used up.
const EXHAUSTED_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) static CONTROLLER: Controller = Controller {
    name: "service-controller",
    // Addresses come from one stock: two at a time would choose the same.
    workers: 1,
    triggers: &[Trigger { kind: Some(&kind::SERVICE), keys: itself }],
    plan,
};

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|service| !service.is_terminating()) else {
        return Plan::nothing();
    };
    let Some(service) = world.view.parse::<Service>(key) else { return Plan::nothing() };
    let spec = service.spec.unwrap_or_default();
    let status = service.status.unwrap_or_default();
    let balancer = status.load_balancer.clone().unwrap_or_default();
    let given = balancer.ingress.iter().flatten().find_map(|i| i.ip.as_deref()?.parse().ok());
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let class = spec.load_balancer_class.as_deref();
    if is_balanced && class.is_some_and(|class| class != CLASS) {
        return Plan::nothing();
    }
    match (is_balanced, given) {
        (false, Some(_)) => {
            let note =
                Step::note(object, "DeletedLoadBalancer", "Deleted load balancer".to_owned());
            let status = ServiceStatus { load_balancer: None, ..status };
            Vec::from_iter(Step::status(object, &status).into_iter().chain([note])).into()
        }
        (true, None) => give(world, object, &spec, status, None),
        (true, Some(given)) if is_moved(&spec, given) => {
            give(world, object, &spec, status, Some(given))
        }
        (true, Some(_)) | (false, None) => Plan::nothing(),
    }
}

fn requested(spec: &ServiceSpec) -> Option<&str> {
    spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// Another address is asked for than the one that was given.
fn is_moved(spec: &ServiceSpec, given: IpAddr) -> bool {
    requested(spec).is_some_and(|ip| ip.parse() != Ok(given))
}

fn give(
    world: &World<'_>,
    object: &Object,
    spec: &ServiceSpec,
    status: ServiceStatus,
    given: Option<IpAddr>,
) -> Plan {
    let address = match choose(world, spec) {
        Ok(address) => address,
        Err(reason) => {
            let message = format!("Error syncing load balancer: {reason}");
            let steps = vec![Step::warning(object, "SyncLoadBalancerFailed", message)];
            // What was given before stays until the wish can be granted.
            return Plan { steps, requeue: Some(EXHAUSTED_WAIT) };
        }
    };
    if given == Some(address) {
        return Plan::nothing();
    }
    let ingress = LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    };
    let balancer = LoadBalancerStatus { ingress: Some(vec![ingress]) };
    let status = ServiceStatus { load_balancer: Some(balancer), ..status };
    let notes = [
        Step::note(object, "EnsuringLoadBalancer", "Ensuring load balancer".to_owned()),
        Step::note(object, "EnsuredLoadBalancer", "Ensured load balancer".to_owned()),
    ];
    Plan::from(Step::status(object, &status).into_iter().chain(notes).collect::<Vec<_>>())
}

fn choose(world: &World<'_>, spec: &ServiceSpec) -> Result<IpAddr, String> {
    let range = world.options.load_balancer_cidr;
    let family = if range.addr().is_ipv6() { "IPv6" } else { "IPv4" };
    if !service::families(spec).contains(&family) {
        return Err(format!(
            "the load balancer range {range} has no address of the Service's family"
        ));
    }
    if let Some(text) = requested(spec) {
        let taken = |address: &IpAddr| world.view.is_load_balancer_address_taken(*address);
        return match text.parse::<IpAddr>() {
            Ok(address) if !range.contains(&address) => Err(format!(
                "spec.loadBalancerIP {address} is not in the load balancer range {range}"
            )),
            Ok(address) if taken(&address) => {
                Err(format!("spec.loadBalancerIP {address} is already allocated"))
            }
            Ok(address) => Ok(address),
            Err(_invalid) => Err(format!("spec.loadBalancerIP {text} is not an IP address")),
        };
    }
    world
        .view
        .free_load_balancer_address(range)
        .ok_or_else(|| format!("no address of the load balancer range {range} is free"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    fn cluster(extra: &str) -> (Cluster, ObjectKey) {
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]{extra}}}\n"
        );
        let mut cluster = Cluster::of(&yaml);
        let key = ObjectKey::new(&kind::SERVICE, "default", "web");
        let plan = cluster.plan(&CONTROLLER, &key);
        plan.steps.into_iter().for_each(|step| cluster.apply(step));
        (cluster, key)
    }

    #[test]
    fn addresses_are_given_and_taken_back() {
        let (mut cluster, key) = cluster("");
        let ingress = cluster.get(&key)["status"]["loadBalancer"]["ingress"][0].clone();
        assert_eq!(ingress["ip"], "127.100.0.1");
        assert_eq!(ingress["ipMode"], "VIP");
        assert_eq!(cluster.plan(&CONTROLLER, &key), Plan::nothing());
        cluster.edit(&key, |service| service["spec"]["type"] = "ClusterIP".into());
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.get(&key)["status"]["loadBalancer"]["ingress"].is_null());
    }

    #[test]
    fn wishes() {
        for (extra, expected) in [
            (", loadBalancerIP: 127.100.0.77", Some("127.100.0.77")),
            (", loadBalancerIP: 10.0.0.1", None),
            (", loadBalancerIP: x", None),
            (", loadBalancerClass: example.com/other", None),
            (", loadBalancerClass: snowglobe.dev/load-balancer", Some("127.100.0.1")),
            (", ipFamilies: [IPv6]", None),
        ] {
            let (cluster, key) = cluster(extra);
            let ip = cluster.get(&key)["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
            assert_eq!(ip.as_str(), expected, "{extra}");
        }
    }
}
