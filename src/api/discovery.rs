//! Discovery: which groups, versions and resources are served. Everything follows from the
//! kinds that are served and the subresources below; pure functions to JSON.
//!
//! Enter at `Form::aggregated`, then [`aggregated`] or one of the plain documents.

use std::env::consts;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::{
    api::forms::ranges,
    model::{
        Kind,
        kind::{
            NAMESPACE, REVIEWS, SERVICE,
            extension::{CERTIFICATE_SIGNING_REQUEST, COMPONENT_STATUS, POLICY_STATS},
        },
    },
    registry::{Kinds, by_preference},
};

/// The Kubernetes release whose API is served.
pub const KUBERNETES_MINOR: u32 = 36;

/// The API groups of Kubernetes in the order in which clients are to prefer them, with the `groupPriorityMinimum` that
/// kube-apiserver gives each. Others come after these.
pub(crate) const GROUP_PRIORITIES: &[(&str, i64)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];

/// One subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubresourceEntry {
    /// Name in the URL.
    pub name: &'static str,
    /// Group, version and kind of its documents; `None` is the parent's.
    pub kind: Option<(&'static str, &'static str, &'static str)>,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
}

const APPROVAL: SubresourceEntry = SubresourceEntry { name: "approval", ..STATUS };
const BINDING: SubresourceEntry =
    SubresourceEntry { name: "binding", kind: Some(("", "v1", "Binding")), verbs: &["create"] };
const EVICTION: SubresourceEntry = SubresourceEntry {
    name: "eviction",
    kind: Some(("policy", "v1", "Eviction")),
    verbs: &["create"],
};
const EPHEMERAL_CONTAINERS: SubresourceEntry = SubresourceEntry {
    name: "ephemeralcontainers",
    kind: None,
    verbs: &["get", "patch", "update"],
};
const FINALIZE: SubresourceEntry =
    SubresourceEntry { name: "finalize", kind: None, verbs: &["update"] };
const ATTACH: SubresourceEntry = stream("attach", "PodAttachOptions");
const EXEC: SubresourceEntry = stream("exec", "PodExecOptions");
const PORT_FORWARD: SubresourceEntry = stream("portforward", "PodPortForwardOptions");
const LOG: SubresourceEntry = SubresourceEntry { name: "log", kind: None, verbs: &["get"] };
const TOKEN: SubresourceEntry = SubresourceEntry {
    name: "token",
    kind: Some(("authentication.k8s.io", "v1", "TokenRequest")),
    verbs: &["create"],
};
const SCALE: SubresourceEntry = SubresourceEntry {
    name: "scale",
    kind: Some(("autoscaling", "v1", "Scale")),
    verbs: &["get", "patch", "update"],
};
const POD_PROXY: SubresourceEntry = proxy("PodProxyOptions");
const SERVICE_PROXY: SubresourceEntry = proxy("ServiceProxyOptions");
const STATUS: SubresourceEntry =
    SubresourceEntry { name: "status", kind: None, verbs: &["get", "patch", "update"] };

/// One whose requests become a stream.
const fn stream(name: &'static str, options: &'static str) -> SubresourceEntry {
    SubresourceEntry { name, kind: Some(("", "v1", options)), verbs: &["create", "get"] }
}

/// One whose requests go on to a pod, whatever they are.
const fn proxy(options: &'static str) -> SubresourceEntry {
    let verbs = &["create", "delete", "get", "patch", "update"];
    SubresourceEntry { name: "proxy", kind: Some(("", "v1", options)), verbs }
}

impl SubresourceEntry {
    /// Whether its requests become a stream, of no particular type.
    pub fn is_stream(&self) -> bool {
        matches!(self.name, "attach" | "exec" | "portforward") || self.is_proxy()
    }

    /// Whether requests of any method go on to a pod.
    pub fn is_proxy(&self) -> bool {
        self.name == "proxy"
    }
}

/// The subresources of a kind, by name.
pub fn subresources(kind: &Kind) -> Vec<SubresourceEntry> {
    let is_pod = kind.group.is_empty() && kind.kind == "Pod";
    let is_request = *kind == CERTIFICATE_SIGNING_REQUEST;
    let is_account = kind.group.is_empty() && kind.kind == "ServiceAccount";
    [
        (is_request, APPROVAL),
        (is_pod, ATTACH),
        (is_pod, BINDING),
        (is_pod, EPHEMERAL_CONTAINERS),
        (is_pod, EVICTION),
        (is_pod, EXEC),
        (*kind == NAMESPACE, FINALIZE),
        (is_pod, LOG),
        (is_pod, PORT_FORWARD),
        (is_pod, POD_PROXY),
        (*kind == SERVICE, SERVICE_PROXY),
        (kind.has_scale, SCALE),
        (kind.has_status, STATUS),
        (is_account, TOKEN),
    ]
    .into_iter()
    .filter_map(|(is_served, subresource)| is_served.then_some(subresource))
    .collect()
}

/// What can be done with objects of a kind. Namespaces are never deleted by the collection, as in Kubernetes.
pub fn verbs(kind: &Kind) -> Vec<&'static str> {
    if REVIEWS.contains(&kind) {
        return vec!["create"];
    }
    if *kind == COMPONENT_STATUS || *kind == POLICY_STATS {
        return vec!["get", "list"];
    }
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let is_namespace = kind.group.is_empty() && kind.kind == "Namespace";
    all.into_iter().filter(|verb| !(is_namespace && *verb == "deletecollection")).collect()
}

/// Everything that has a path of its own.
fn served(kinds: &Kinds) -> impl Iterator<Item = &Kind> {
    kinds.served().chain(REVIEWS.iter().copied())
}

/// The served kinds of a group version, by plural; empty when it is not served.
pub fn kinds_of<'a>(kinds: &'a Kinds, group: &str, version: &str) -> Vec<&'a Kind> {
    let mut kinds: Vec<&Kind> =
        served(kinds).filter(|kind| kind.group == group && kind.version == version).collect();
    kinds.sort_by(|one, other| one.plural.cmp(&other.plural));
    kinds
}

/// Every group with its versions, the preferred first; the core group is `""`.
pub fn group_versions(kinds: &Kinds) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for kind in served(kinds) {
        let version: &str = &kind.version;
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => groups.push((&kind.group, vec![version])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by(|one, other| by_preference(one, other));
    }
    let rank = |group: &str| GROUP_PRIORITIES.iter().position(|(other, _)| *other == group);
    groups.sort_by_key(|(group, _)| rank(group).unwrap_or(GROUP_PRIORITIES.len()));
    groups
}

/// The form in which a client wants discovery of `/api` and `/apis`, if not as one document per group version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Everything in one document, `apidiscovery.k8s.io/v2`.
    AggregatedV2,
    /// The same as `apidiscovery.k8s.io/v2beta1`.
    AggregatedV2Beta1,
}

impl Form {
    /// Reads the `Accept` header: the most wanted form in it. As with kube-apiserver, who can read any of these gets it,
    /// whatever else they would rather have.
    pub(crate) fn aggregated(headers: &HeaderMap) -> Option<Self> {
        ranges(headers).iter().find_map(|range| {
            let json = matches!(range.media, "application/json" | "application/*" | "*/*");
            match range.conversion().filter(|_| json)? {
                ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") => Some(Self::AggregatedV2),
                ("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList") => {
                    Some(Self::AggregatedV2Beta1)
                }
                _ => None,
            }
        })
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::AggregatedV2 => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            Self::AggregatedV2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

/// `/api` or (`core` false) `/apis` in one of the aggregated forms.
pub fn aggregated(kinds: &Kinds, core: bool, form: Form) -> Value {
    let version = if form == Form::AggregatedV2Beta1 { "v2beta1" } else { "v2" };
    let items: Vec<Value> = group_versions(kinds)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let kinds = kinds_of(kinds, group, version);
                    let resources: Vec<Value> =
                        kinds.iter().map(|kind| aggregated_resource(kind)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut metadata = Map::new();
            if !group.is_empty() {
                metadata.insert("name".to_owned(), group.into());
            }
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
           "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let own = (&*kind.group, &*kind.version, &*kind.kind);
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response(own),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(kind),
    });
    add_names(&mut resource, kind);
    let subresources: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|sub| {
            json!({"subresource": sub.name, "responseKind": response(sub.kind.unwrap_or(own)),
                   "verbs": sub.verbs})
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

fn add_names(resource: &mut Value, kind: &Kind) {
    for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
}

/// `/api`. `server` is the address that clients use, `127.0.0.1:6443`.
pub fn core_versions(server: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
           "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]})
}

/// `/apis`.
pub fn groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> = group_versions(kinds)
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_entry(group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_entry(group: &str, versions: &[&str]) -> Value {
    let entry =
        |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis/GROUP`.
pub fn group(kinds: &Kinds, name: &str) -> Option<Value> {
    let groups = group_versions(kinds);
    let (group, versions) = groups.iter().find(|(group, _)| *group == name && !group.is_empty())?;
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(document), Value::Object(entry)) =
        (document.as_object_mut(), group_entry(group, versions))
    {
        document.extend(entry);
    }
    Some(document)
}

/// `/api/v1` (group `""`) and `/apis/GROUP/VERSION`.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let kinds = kinds_of(kinds, group, version);
    let first = kinds.first()?;
    let resources: Vec<Value> = kinds.iter().flat_map(|kind| plain_resources(kind)).collect();
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": first.api_version(), "resources": resources}))
}

fn plain_resources(kind: &Kind) -> Vec<Value> {
    let mut resource = json!({"name": kind.plural, "singularName": kind.singular,
        "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs(kind)});
    add_names(&mut resource, kind);
    let mut out = vec![resource];
    for subresource in subresources(kind) {
        let mut entry = json!({"name": format!("{}/{}", kind.plural, subresource.name),
            "singularName": "", "namespaced": kind.namespaced});
        if let Some((group, version, _)) = subresource.kind
            && (group, version) != (&*kind.group, &*kind.version)
        {
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        entry["kind"] = subresource.kind.map_or(&*kind.kind, |(_, _, name)| name).into();
        entry["verbs"] = subresource.verbs.into();
        out.push(entry);
    }
    out
}

/// `v1.36.0+snowglobe`.
pub fn git_version() -> String {
    format!("v1.{KUBERNETES_MINOR}.0+snowglobe")
}

/// `/version`.
pub fn version() -> Value {
    let minor = KUBERNETES_MINOR.to_string();
    let oldest = (KUBERNETES_MINOR - 1).to_string();
    let architecture = match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": minor,
        "emulationMajor": "1", "emulationMinor": minor,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": oldest,
        "gitVersion": git_version(), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{architecture}", consts::OS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_negotiated() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let unknown = "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList";
        for (accept, expected) in [
            ("", None),
            ("*/*", None),
            ("application/json", None),
            (unknown, None),
            (v2, Some(Form::AggregatedV2)),
            (beta, Some(Form::AggregatedV2Beta1)),
            (&format!("{v2};profile=nopeer,{v2},application/json"), Some(Form::AggregatedV2)),
            (&format!("{unknown},{beta}, application/json"), Some(Form::AggregatedV2Beta1)),
            (&format!("application/json, {v2}"), Some(Form::AggregatedV2)),
            (&format!("{beta};q=0.5, {v2};q=0.9"), Some(Form::AggregatedV2)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Form::aggregated(&headers), expected, "{accept}");
            if let (Some(form), true) = (expected, [v2, beta].contains(&accept)) {
                assert_eq!(form.content_type(), accept);
            }
        }
    }

    #[test]
    fn groups_come_in_the_order_of_real_clusters() {
        let kinds = Kinds::built_in();
        let names: Vec<&str> = group_versions(&kinds).into_iter().map(|(group, _)| group).collect();
        let expected = [
            "",
            "apps",
            "events.k8s.io",
            "networking.k8s.io",
            "rbac.authorization.k8s.io",
            "scheduling.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "discovery.k8s.io",
            "multicluster.x-k8s.io",
            "snowglobe.dev",
        ];
        let known: Vec<&str> = names.into_iter().filter(|n| expected.contains(n)).collect();
        assert_eq!(known, expected);
        assert_eq!(groups(&kinds)["groups"][0]["preferredVersion"]["groupVersion"], "apps/v1");
        assert_eq!(group(&kinds, "apps").unwrap()["kind"], "APIGroup");
        let multicluster = group(&kinds, "multicluster.x-k8s.io").unwrap();
        assert_eq!(multicluster["preferredVersion"]["version"], "v1beta1");
        assert_eq!(multicluster["versions"][1]["version"], "v1alpha1");
        assert_eq!(group(&kinds, ""), None);
        assert_eq!(resources(&kinds, "apps", "v2"), None);
    }

    #[test]
    fn plain_resources_name_subresources() {
        let list = resources(&Kinds::built_in(), "apps", "v1").unwrap();
        let find = |name: &str| {
            let all = list["resources"].as_array().unwrap();
            all.iter().find(|resource| resource["name"] == name).unwrap().clone()
        };
        assert_eq!(
            find("deployments"),
            json!({"name": "deployments", "singularName": "deployment", "namespaced": true,
                "kind": "Deployment", "verbs": ["create", "delete", "deletecollection", "get", "list", "patch",
                "update", "watch"], "shortNames": ["deploy"], "categories": ["all"]})
        );
        assert_eq!(
            find("deployments/scale"),
            json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]})
        );
    }

    #[test]
    fn aggregated_discovery() {
        let kinds = Kinds::built_in();
        let core = aggregated(&kinds, true, Form::AggregatedV2);
        assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
        let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let pods = resources.iter().find(|r| r["resource"] == "pods").unwrap();
        assert_eq!(pods["responseKind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
        let names: Vec<&Value> =
            pods["subresources"].as_array().unwrap().iter().map(|s| &s["subresource"]).collect();
        let expected = [
            "attach",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "exec",
            "log",
            "portforward",
            "proxy",
            "status",
        ];
        assert_eq!(names, expected);
        let namespaces = resources.iter().find(|r| r["resource"] == "namespaces").unwrap();
        assert_eq!(namespaces["scope"], "Cluster");
        assert!(!verbs(&NAMESPACE).contains(&"deletecollection"));
        let beta = aggregated(&kinds, false, Form::AggregatedV2Beta1);
        assert_eq!(beta["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert_eq!(beta["items"][0]["metadata"]["name"], "apps");
    }

    #[test]
    fn version_is_what_clients_parse() {
        assert_eq!(version()["gitVersion"], "v1.36.0+snowglobe");
        assert_eq!(version()["platform"].as_str().unwrap().split_once('/').unwrap().0, consts::OS);
    }
}
