//! The variables of a container, as kubelet makes them: Services, ConfigMaps and Secrets, fields and resources of the pod,
//! and what refers to other variables.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    ByteString,
    api::core::v1::{
        ConfigMap, Container, EnvVar, EnvVarSource, Pod, ResourceFieldSelector, Secret, Service,
    },
};

use crate::{
    model::{Object, ObjectKey, kind, pod::all_containers, quantity},
    node::NodeOptions,
    registry::View,
};

/// Where the Service of the API is, which every pod knows.
const MASTER: (&str, &str) = ("default", "kubernetes");

type Variables = BTreeMap<String, String>;

/// A pod, and where it looks for values.
pub(crate) struct PodEnvironment<'a> {
    pub(crate) view: &'a View,
    pub(crate) object: &'a Object,
    pub(crate) pod: &'a Pod,
    pub(crate) node: &'a NodeOptions,
    pub(crate) ip: IpAddr,
}

impl PodEnvironment<'_> {
    /// All variables of a container; those of Services only where they are looked at, since there may be thousands.
    pub(crate) fn variables(&self, container: &Container) -> Variables {
        let services = if names_services(container) { self.services() } else { Variables::new() };
        let mut own = Variables::new();
        for from in container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            let map = from.config_map_ref.as_ref().map(|from| self.config_map(&from.name));
            let secret = from.secret_ref.as_ref().map(|from| self.secret(&from.name));
            let values = map.or(secret).unwrap_or_default().into_iter();
            own.extend(values.map(|(name, value)| (format!("{prefix}{name}"), value)));
        }
        for variable in container.env.iter().flatten() {
            let known = |name: &str| own.get(name).or_else(|| services.get(name)).cloned();
            if let Some(value) = self.value(container, variable, known) {
                own.insert(variable.name.clone(), value);
            }
        }
        let hostname = self.pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
        let hostname = hostname.unwrap_or_else(|| self.object.key.name.clone());
        let mut all = services;
        all.insert("HOSTNAME".to_owned(), hostname);
        all.extend(own);
        all
    }

    fn value(
        &self,
        container: &Container,
        variable: &EnvVar,
        known: impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        match &variable.value_from {
            Some(source) => self.from(container, source),
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), known)),
        }
    }

    fn from(&self, container: &Container, source: &EnvVarSource) -> Option<String> {
        if let Some(reference) = &source.field_ref {
            return self.field(&reference.field_path);
        }
        if let Some(reference) = &source.resource_field_ref {
            return self.resource(container, reference);
        }
        if let Some(reference) = &source.config_map_key_ref {
            return self.config_map(&reference.name).remove(&reference.key);
        }
        let reference = source.secret_key_ref.as_ref()?;
        self.secret(&reference.name).remove(&reference.key)
    }

    fn config_map(&self, name: &str) -> Variables {
        let key = ObjectKey::new(&kind::CONFIG_MAP, &self.object.key.namespace, name);
        let map = self.view.get(&key).and_then(|object| object.parse::<ConfigMap>().ok());
        map.and_then(|map| map.data).unwrap_or_default()
    }

    fn secret(&self, name: &str) -> Variables {
        let key = ObjectKey::new(&kind::SECRET, &self.object.key.namespace, name);
        let secret = self.view.get(&key).and_then(|object| object.parse::<Secret>().ok());
        let data = secret.and_then(|secret| secret.data).unwrap_or_default().into_iter();
        data.map(|(name, ByteString(value))| (name, String::from_utf8_lossy(&value).into_owned()))
            .collect()
    }

    /// What a `fieldRef` refers to.
    fn field(&self, path: &str) -> Option<String> {
        let keyed = |field: &str| path.strip_prefix(field)?.strip_suffix("']");
        let (metadata, spec) = (&self.object.metadata, self.pod.spec.as_ref()?);
        if let Some(key) = keyed("metadata.labels['") {
            return Some(metadata.labels.get(key).cloned().unwrap_or_default());
        }
        if let Some(key) = keyed("metadata.annotations['") {
            return Some(metadata.annotations.get(key).cloned().unwrap_or_default());
        }
        match path {
            "metadata.name" => Some(self.object.key.name.clone()),
            "metadata.namespace" => Some(self.object.key.namespace.clone()),
            "metadata.uid" => Some(metadata.uid.clone()),
            "spec.nodeName" => spec.node_name.clone(),
            "spec.serviceAccountName" => spec.service_account_name.clone(),
            "status.podIP" | "status.podIPs" => Some(self.ip.to_string()),
            "status.hostIP" | "status.hostIPs" => Some(self.node.address.to_string()),
            _ => None,
        }
    }

    /// What a `resourceFieldRef` refers to, in units of its divisor, rounded up. A limit that is not set is the node's.
    fn resource(&self, container: &Container, reference: &ResourceFieldSelector) -> Option<String> {
        let (list, name) = reference.resource.split_once('.')?;
        let other = reference.container_name.as_deref().filter(|name| !name.is_empty());
        let spec = self.pod.spec.as_ref()?;
        let named = other.and_then(|other| all_containers(spec).find(|own| own.name == other));
        let resources = named.unwrap_or(container).resources.as_ref();
        let amounts = match list {
            "limits" => resources.and_then(|own| own.limits.as_ref()),
            _ => resources.and_then(|own| own.requests.as_ref()),
        };
        let given = amounts.and_then(|own| own.get(name)).map(|amount| amount.0.clone());
        let size = &self.node.size;
        let amount = given.unwrap_or_else(|| match (list, name) {
            ("limits", "cpu") => size.cpu.to_string(),
            ("limits", "memory") => size.memory.to_string(),
            _ => "0".to_owned(),
        });
        let divisor = reference.divisor.as_ref().and_then(|own| quantity::nano(&own.0));
        let unit = divisor.filter(|unit| *unit > 0).or_else(|| quantity::nano("1"))?;
        let amount = quantity::nano(&amount)?;
        Some((amount / unit + i128::from(amount % unit > 0)).to_string())
    }

    /// The Services of the namespace if the pod wants them, and that of the API.
    fn services(&self) -> Variables {
        let (namespace, name) = MASTER;
        let master = self.view.get(&ObjectKey::new(&kind::SERVICE, namespace, name));
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links);
        let own = links
            .unwrap_or(true)
            .then(|| self.view.list(&kind::SERVICE, Some(&self.object.key.namespace)));
        let all = master.into_iter().chain(own.into_iter().flatten());
        let all =
            all.filter_map(|object| Some((&object.key.name, object.parse::<Service>().ok()?)));
        all.flat_map(|(name, service)| service_variables(name, &service)).collect()
    }
}

/// Whether a container names such a variable, or lists all.
fn names_services(container: &Container) -> bool {
    let words = container.command.iter().chain(&container.args).flatten();
    let values = container.env.iter().flatten().filter_map(|variable| variable.value.as_ref());
    let names =
        |text: &String| ["_SERVICE_", "_PORT", "env"].iter().any(|part| text.contains(part));
    words.chain(values).any(names)
}

/// `WEB_SERVICE_HOST`, `WEB_SERVICE_PORT`, `WEB_PORT_80_TCP_ADDR`, ... of a Service with an address.
fn service_variables(name: &str, service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (false, Some(first)) = (matches!(address, "" | "None"), ports.first()) else {
        return Vec::new();
    };
    let shout = |text: &str| text.to_uppercase().replace('-', "_");
    let name = shout(name);
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), address.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    for (i, port) in ports.iter().enumerate() {
        let number = port.port.to_string();
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.push((format!("{name}_SERVICE_PORT_{}", shout(port_name)), number.clone()));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let (lower, upper) = (protocol.to_lowercase(), protocol.to_uppercase());
        let url = format!("{lower}://{address}:{number}");
        let prefix = format!("{name}_PORT_{number}_{upper}");
        if i == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), lower));
        all.push((format!("{prefix}_PORT"), number));
        all.push((format!("{prefix}_ADDR"), address.to_owned()));
    }
    all
}

/// `$(NAME)`; unknown names stay, and `$$` is a `$` that begins nothing.
pub(crate) fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')'))
        {
            match known(name) {
                Some(value) => expanded.push_str(&value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{model::object::to_stored, node::Size};

    #[test]
    fn references_to_variables() {
        let known = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in
            [("$(A)$(B)", "1$(B)"), ("$$(A) $A $", "$(A) $A $"), ("$$$(A)", "$1"), ("$(A", "$(A")]
        {
            assert_eq!(expand(text, known), expected, "{text}");
        }
    }

    #[test]
    fn variables_of_a_container() {
        let mut view = View::for_tests();
        for (kind, namespace, name, document) in [
            (&kind::CONFIG_MAP, "shop", "map", json!({"data": {"A": "1", "B": "2"}})),
            (&kind::SECRET, "shop", "secret", json!({"data": {"PASSWORD": "aHVzaA=="}})),
            (
                &kind::SERVICE,
                "shop",
                "pay-now",
                json!({"spec": {"clusterIP": "127.96.0.9", "ports": [{"name": "web-ui", "port": 80, "protocol": "TCP"}]}}),
            ),
            (
                &kind::SERVICE,
                "shop",
                "headless",
                json!({"spec": {"clusterIP": "None", "ports": [{"port": 1}]}}),
            ),
            (
                &kind::SERVICE,
                "default",
                "kubernetes",
                json!({"spec": {"clusterIP": "127.96.0.1", "ports": [{"name": "https", "port": 443}]}}),
            ),
        ] {
            let mut document = document;
            document["metadata"] = json!({"name": name, "namespace": namespace});
            let key = ObjectKey::new(kind, namespace, name);
            view.insert(&Arc::new(Object::from_stored(key, 1, to_stored(kind, document)).unwrap()));
        }
        let container = json!({"name": "c", "command": ["env"], "envFrom": [{"prefix": "M_", "configMapRef": {"name": "map"}}],
            "resources": {"requests": {"cpu": "250m"}},
            "env": [{"name": "TEXT", "value": "$(M_A) $(PAY_NOW_SERVICE_PORT) $(LATER)"}, {"name": "LATER", "value": "x"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "PASSWORD"}}},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
                {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]});
        for (links, pay) in [(true, Some("tcp://127.96.0.9:80")), (false, None)] {
            let document = json!({"metadata": {"name": "p", "namespace": "shop"},
                "spec": {"containers": [container], "enableServiceLinks": links}});
            let key = ObjectKey::new(&kind::POD, "shop", "p");
            let object = Object::from_stored(key, 1, to_stored(&kind::POD, document)).unwrap();
            let pod: Pod = object.parse().unwrap();
            let node = NodeOptions {
                name: "n".to_owned(),
                address: "127.64.0.1".parse().unwrap(),
                pod_cidr: "127.244.0.0/24".parse().unwrap(),
                zone: None,
                labels: BTreeMap::new(),
                size: Size { cpu: "6".parse().unwrap(), memory: "1Gi".parse().unwrap(), pods: 1 },
            };
            let ip = "127.244.0.1".parse().unwrap();
            let here = PodEnvironment { view: &view, object: &object, pod: &pod, node: &node, ip };
            let all = here.variables(&pod.spec.as_ref().unwrap().containers[0]);
            let port = if links { "80" } else { "$(PAY_NOW_SERVICE_PORT)" };
            let text = format!("1 {port} $(LATER)");
            for (name, expected) in [
                ("TEXT", Some(text.as_str())),
                ("M_B", Some("2")),
                ("KEY", Some("hush")),
                ("HOST", Some("127.64.0.1")),
                ("MILLI", Some("250")),
                ("CORES", Some("6")),
                ("HOSTNAME", Some("p")),
                ("KUBERNETES_SERVICE_PORT_HTTPS", Some("443")),
                ("PAY_NOW_PORT_80_TCP", pay),
                ("HEADLESS_SERVICE_HOST", None),
            ] {
                assert_eq!(all.get(name).map(String::as_str), expected, "{name}");
            }
        }
    }
}
