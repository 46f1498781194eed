//! Where a pod must listen.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::util::intstr::IntOrString};

use crate::{
    model::{
        pod::is_sidecar,
        service::{Digest, EXTERNAL_NAME},
    },
    node::containers::{declared, port},
    runtime::Port,
};

/// `80/TCP`.
pub(super) fn port_name(port: &Port) -> String {
    format!("{}/{}", port.number, if port.udp { "UDP" } else { "TCP" })
}

/// Declared ports of containers and sidecars, and numeric target ports of the Services that select the pod.
pub(super) fn ports(pod: &Pod, services: impl Iterator<Item = Arc<Digest>>) -> Vec<Port> {
    let spec = pod.spec.as_ref();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let init = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let containers = containers.iter().chain(init.filter(|container| is_sidecar(container)));
    let mut ports: BTreeSet<Port> = containers.flat_map(declared).collect();
    for service in services.filter(|service| service.spec.r#type != EXTERNAL_NAME) {
        ports.extend(service.spec.ports.iter().filter_map(|own| {
            let number = match &own.target_port {
                None | Some(IntOrString::Int(0)) => own.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(_named)) => return None,
            };
            port(number, own.protocol.as_deref())
        }));
    }
    ports.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Object, ObjectKey, kind};

    #[test]
    fn ports_come_from_containers_and_services() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}]}});
        let key = ObjectKey::new(&kind::POD, "default", "a");
        let stored = crate::model::object::to_stored(&kind::POD, pod);
        let object = Object::from_stored(key, 1, stored).unwrap();
        let service = |spec: Value| {
            Arc::new(serde_json::from_value::<Digest>(json!({"spec": spec})).unwrap())
        };
        let services = [
            service(
                json!({"selector": {"app": "web"}, "ports": [{"port": 1, "targetPort": 8080}, {"port": 9090}]}),
            ),
            service(
                json!({"selector": {"app": "web"}, "ports": [{"port": 1, "targetPort": "http"}]}),
            ),
            service(json!({"type": "ExternalName", "ports": [{"port": 7}]})),
        ];
        let found = ports(&object.parse().unwrap(), services.into_iter());
        let found: Vec<String> = found.iter().map(port_name).collect();
        assert_eq!(found, ["53/UDP", "80/TCP", "8080/TCP", "9090/TCP"]);
    }
}
