//! What a request asks for: the target that its path names, its query parameters, the form of the answer.

use std::time::Duration;

use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::table::IncludeObject,
    model::{Cause, FieldSelector, Kind, LabelSelector, ObjectKey, Status, kind},
    registry::{FieldValidation, Propagation, WriteOptions},
};

/// The resource that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: &'static Kind,
    /// Absent for cluster-scoped kinds and for lists over all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    /// Reads `/api/v1/...` and `/apis/GROUP/VERSION/...`; `None` when the path names nothing that is served.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        if rest.iter().any(|part| part.is_empty()) {
            return None;
        }
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", _, "status" | "finalize"] if group.is_empty() => (None, &rest[..]),
            ["namespaces", namespace, _, ..] => (Some((*namespace).to_owned()), &rest[2..]),
            _ => (None, &rest[..]),
        };
        let kind = kind::by_path(group, version, rest.first()?)?;
        let text = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        let (name, subresource) = (text(1), text(2));
        let misplaced = if kind.namespaced {
            namespace.is_none() && name.is_some()
        } else {
            namespace.is_some()
        };
        (!misplaced && rest.len() <= 3).then_some(Self { kind, namespace, name, subresource })
    }

    /// The key of the one named object.
    pub(crate) fn key(&self) -> Result<ObjectKey, Status> {
        let name = self.name.clone().ok_or_else(Status::method_not_allowed)?;
        Ok(ObjectKey::new(self.kind, self.namespace.clone().unwrap_or_default(), name))
    }
}

/// Query parameters of resource requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Query {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) watch: String,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    pub(crate) limit: Option<i64>,
    pub(crate) r#continue: String,
    pub(crate) timeout_seconds: Option<i64>,
    pub(crate) allow_watch_bookmarks: String,
    pub(crate) send_initial_events: String,
    pub(crate) dry_run: String,
    pub(crate) field_manager: String,
    pub(crate) field_validation: String,
    pub(crate) force: String,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation_policy: String,
    pub(crate) include_object: String,
    pub(crate) follow: String,
    pub(crate) tail_lines: Option<i64>,
    pub(crate) since_seconds: Option<i64>,
    pub(crate) since_time: String,
    pub(crate) timestamps: String,
    pub(crate) limit_bytes: Option<i64>,
}

/// Boolean query parameters are written in several ways.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1" | "True" | "t")
}

impl Query {
    /// The selectors of a list or watch, checked against what the kind supports.
    pub(crate) fn selectors(&self, kind: &'static Kind) -> Result<Selectors, Status> {
        let labels = LabelSelector::parse(&self.label_selector).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(&self.field_selector).map_err(Status::bad_request)?;
        for field in fields.paths() {
            if field_path(kind, field).is_none() {
                return Err(Status::bad_request(not_selectable(kind, field)));
            }
        }
        Ok(Selectors { kind: Some(kind), labels, fields })
    }

    /// Whether the parameters of a list (or watch) about revisions fit together, by kube-apiserver's rules and words
    /// (`ValidateListOptions`).
    pub(crate) fn check_versions(&self) -> Result<(), Status> {
        const MATCH: &str = "resourceVersionMatch";
        const INITIAL: &str = "sendInitialEvents";
        let watching = is_true(&self.watch);
        let (asked, initial) =
            (self.resource_version_match.as_str(), !self.send_initial_events.is_empty());
        let mut causes = Vec::new();
        let mut forbid = |so, field, detail: &str| {
            if so {
                causes.push(Cause::forbidden(field, detail));
            }
        };
        forbid(
            watching && initial && asked != "NotOlderThan",
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        forbid(
            watching && !initial && !asked.is_empty(),
            MATCH,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
        forbid(
            !watching && !asked.is_empty() && self.resource_version.is_empty(),
            MATCH,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
        forbid(
            !asked.is_empty() && !self.r#continue.is_empty(),
            MATCH,
            "resourceVersionMatch is forbidden when continue is provided",
        );
        forbid(
            !watching && asked == "Exact" && self.resource_version == "0",
            MATCH,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
        forbid(!watching && initial, INITIAL, "sendInitialEvents is forbidden for list");
        let supported: &[&str] =
            if watching { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
        if !asked.is_empty() && !supported.contains(&asked) {
            causes.push(Cause::not_supported(MATCH, asked, supported));
        }
        if causes.is_empty() { Ok(()) } else { Err(Status::invalid_list_options(causes)) }
    }

    /// `resourceVersion` as a number; `None` when any will do.
    pub(crate) fn version(&self) -> Result<Option<u64>, Status> {
        match self.resource_version.as_str() {
            "" | "0" => Ok(None),
            text => text.parse().map(Some).map_err(|_number| {
                Status::bad_request(format!(
                    "invalid resource version: resourceVersion: Invalid value: {text:?}: \
                     strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            }),
        }
    }

    /// The revision that a list must show; `None` for any that is new enough. Besides what says so, a list in pages
    /// that names a revision is meant exactly.
    pub(crate) fn exact_version(&self) -> Result<Option<u64>, Status> {
        let paged = self.limit_of_page().is_some();
        match self.resource_version_match.as_str() {
            "Exact" => self.version(),
            "" if paged => self.version(),
            _ => Ok(None),
        }
    }

    /// How many objects a page of a list holds; `None` for all.
    pub(crate) fn limit_of_page(&self) -> Option<usize> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        Some(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// How long a watch lasts; `None` for as long as the server likes. A time that is over ends it at once, as with
    /// kube-apiserver.
    pub(crate) fn lasting(&self) -> Option<Duration> {
        let seconds = self.timeout_seconds.filter(|seconds| *seconds != 0)?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    pub(crate) fn write_options(&self) -> Result<WriteOptions, Status> {
        let field_validation = match self.field_validation.as_str() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                return Err(Status::bad_request(format!(
                    "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        let dry_run = match self.dry_run.as_str() {
            "" => false,
            "All" => true,
            other => {
                return Err(Status::bad_request(format!(
                    "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
                )));
            }
        };
        Ok(WriteOptions { dry_run, field_validation })
    }
}

/// `propagationPolicy` as a query parameter or in DeleteOptions.
pub(crate) fn propagation(text: &str) -> Result<Option<Propagation>, Status> {
    match text {
        "" => Ok(None),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        other => Err(Status::bad_request(format!(
            "propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\""
        ))),
    }
}

/// Label and field selectors of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors {
    kind: Option<&'static Kind>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selectors {
    /// Whether everything matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &crate::model::Object) -> bool {
        if !self.labels.matches(&object.metadata.labels) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let is_metadata = |field: &str| field.starts_with("metadata.name");
        let document: Value = match self.fields.paths().all(is_metadata) {
            true => Value::Null,
            false => object.parse().unwrap_or_default(),
        };
        self.fields.matches(|field| match field {
            "metadata.name" => object.key.name.as_str().into(),
            "metadata.namespace" => object.key.namespace.as_str().into(),
            field => {
                let paths = self.kind.and_then(|kind| field_path(kind, field)).unwrap_or(field);
                let at = |path: &str| path.split('.').fold(&document, |value, part| &value[part]);
                let is_set = |value: &&Value| !value.is_null() && **value != "";
                match paths.split('|').map(at).find(is_set) {
                    Some(Value::String(text)) => text.clone().into(),
                    Some(other) => other.to_string().into(),
                    None => empty_value(field).into(),
                }
            }
        })
    }
}

/// What stands for a field that the document leaves out.
fn empty_value(field: &str) -> &'static str {
    match field {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.successful" | "status.replicas" => "0",
        _ => "",
    }
}

/// Where the stored document has what a field selector names; of several places the first that is set. `None` for a
/// field that Kubernetes does not select this kind by.
fn field_path(kind: &Kind, field: &str) -> Option<&'static str> {
    let fields = selectable_fields(kind);
    let has_namespace = kind.namespaced || fields.is_empty();
    if field == "metadata.name" || (field == "metadata.namespace" && has_namespace) {
        return Some("");
    }
    fields.iter().find(|(name, _)| *name == field).map(|(_, path)| *path)
}

/// kube-apiserver's words; each kind with fields of its own has its own conversion of them.
fn not_selectable(kind: &Kind, field: &str) -> String {
    if kind.kind == "Job" {
        format!("field label {field:?} not supported for Job")
    } else if selectable_fields(kind).is_empty() {
        format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    } else {
        format!("field label not supported: {field}")
    }
}

/// A field whose place in the document is its name.
const fn as_named(name: &'static str) -> (&'static str, &'static str) {
    (name, name)
}

/// The fields besides name and namespace, and their places.
fn selectable_fields(kind: &Kind) -> &'static [(&'static str, &'static str)] {
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            const {
                &[
                    as_named("spec.nodeName"),
                    as_named("spec.restartPolicy"),
                    as_named("spec.schedulerName"),
                    as_named("spec.serviceAccountName"),
                    as_named("spec.hostNetwork"),
                    as_named("status.phase"),
                    as_named("status.podIP"),
                    as_named("status.nominatedNodeName"),
                ]
            }
        }
        ("", "Event") => {
            const {
                &[
                    as_named("involvedObject.kind"),
                    as_named("involvedObject.namespace"),
                    as_named("involvedObject.name"),
                    as_named("involvedObject.uid"),
                    as_named("involvedObject.apiVersion"),
                    as_named("involvedObject.resourceVersion"),
                    as_named("involvedObject.fieldPath"),
                    as_named("reason"),
                    as_named("reportingComponent"),
                    ("source", "source.component|reportingComponent"),
                    as_named("type"),
                ]
            }
        }
        ("events.k8s.io", "Event") => &[
            ("regarding.kind", "involvedObject.kind"),
            ("regarding.namespace", "involvedObject.namespace"),
            ("regarding.name", "involvedObject.name"),
            ("regarding.uid", "involvedObject.uid"),
            ("regarding.apiVersion", "involvedObject.apiVersion"),
            ("regarding.resourceVersion", "involvedObject.resourceVersion"),
            ("regarding.fieldPath", "involvedObject.fieldPath"),
            ("reason", "reason"),
            ("reportingController", "reportingComponent"),
            ("type", "type"),
        ],
        ("", "Namespace") => const { &[as_named("status.phase")] },
        ("", "Node") => const { &[as_named("spec.unschedulable")] },
        ("", "Secret") => const { &[as_named("type")] },
        ("", "Service") => const { &[as_named("spec.clusterIP"), as_named("spec.type")] },
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            const { &[as_named("status.replicas")] }
        }
        ("batch", "Job") => &[("status.successful", "status.succeeded")],
        _ => &[],
    }
}

/// The form in which a client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
    Table(IncludeObject),
    Metadata,
}

const SUPPORTED: &str = "application/json, application/yaml";

impl Form {
    /// Picks the media type of `Accept` that can be produced and is wanted most. Protobuf is negotiated down to JSON
    /// when the client lists JSON too.
    pub(crate) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        Self::wanted(headers, query).next().ok_or_else(|| Status::not_acceptable(SUPPORTED))
    }

    /// The same for a watch, which has no form in YAML.
    pub(crate) fn negotiate_stream(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        Self::wanted(headers, query)
            .find(|form| *form != Self::Yaml)
            .ok_or_else(|| Status::not_acceptable("application/json;stream=watch"))
    }

    /// What is accepted and can be produced, the most wanted first.
    fn wanted(headers: &HeaderMap, query: &Query) -> impl Iterator<Item = Self> {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
        let mut ranges: Vec<(f32, Self)> = accept
            .split(',')
            .filter_map(|range| Some((weight(range), Self::of_media_range(range, query)?)))
            .filter(|(weight, _)| *weight > 0.0)
            .collect();
        ranges.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        ranges.into_iter().map(|(_, form)| form)
    }

    fn of_media_range(range: &str, query: &Query) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        let parameters: Vec<&str> = parts.collect();
        let wanted = parameters.iter().find_map(|p| p.strip_prefix("as="));
        match (media, wanted) {
            ("application/json" | "application/*" | "*/*" | "", None) => Some(Self::Json),
            ("application/yaml", None) => Some(Self::Yaml),
            ("application/json", Some("Table")) if parameters.contains(&"v=v1") => {
                IncludeObject::parse(&query.include_object).ok().map(Self::Table)
            }
            ("application/json", Some("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                Some(Self::Metadata)
            }
            _ => None,
        }
    }
}

/// The `q` of a media range.
fn weight(range: &str) -> f32 {
    let weight = range.split(';').find_map(|part| part.trim().strip_prefix("q="));
    weight.and_then(|text| text.parse().ok()).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let uri = format!("/?{text}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn versions_fit_together_or_are_refused() {
        let check = |text: &str, expected: Option<&str>| {
            let query = query(text);
            let message = query.check_versions().err().map(|status| {
                assert_eq!((status.code, status.reason), (422, "Invalid"));
                status.message
            });
            let full =
                expected.map(|text| format!("ListOptions.meta.k8s.io \"\" is invalid: {text}"));
            assert_eq!(message, full, "{text}");
        };
        check("", None);
        check("resourceVersion=5", None);
        check("resourceVersion=5&resourceVersionMatch=Exact&limit=2", None);
        check("resourceVersion=0&resourceVersionMatch=NotOlderThan", None);
        check("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", None);
        check(
            "resourceVersionMatch=Exact",
            Some(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        );
        check(
            "resourceVersion=0&resourceVersionMatch=Exact",
            Some(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        );
        check(
            "resourceVersion=5&resourceVersionMatch=Exact&continue=x",
            Some(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
            ),
        );
        check(
            "resourceVersion=5&resourceVersionMatch=Sometimes",
            Some(
                "resourceVersionMatch: Unsupported value: \"Sometimes\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
        );
        check(
            "sendInitialEvents=true",
            Some("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        );
        check(
            "watch=1&resourceVersion=5&resourceVersionMatch=NotOlderThan",
            Some(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
        );
        check(
            "watch=1&sendInitialEvents=true",
            Some(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
        );
    }

    #[test]
    fn exact_versions() {
        for (text, expected) in [
            ("resourceVersion=5&resourceVersionMatch=Exact", Some(5)),
            ("resourceVersion=5&limit=3", Some(5)),
            ("resourceVersion=0&limit=3", None),
            ("resourceVersion=5", None),
            ("resourceVersion=5&resourceVersionMatch=NotOlderThan&limit=3", None),
        ] {
            assert_eq!(query(text).exact_version(), Ok(expected), "{text}");
        }
        assert!(query("resourceVersion=x&limit=3").exact_version().is_err());
    }

    #[test]
    fn paths() {
        /// Plural, namespace, name, subresource.
        type Parts<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
        let check = |path: &str, expected: Option<Parts<'_>>| {
            let target = Target::parse(path);
            let found = target.as_ref().map(|t| {
                (t.kind.plural, t.namespace.as_deref(), t.name.as_deref(), t.subresource.as_deref())
            });
            assert_eq!(found, expected, "{path}");
        };
        check("/api/v1/pods", Some(("pods", None, None, None)));
        check("/api/v1/namespaces", Some(("namespaces", None, None, None)));
        check("/api/v1/namespaces/a", Some(("namespaces", None, Some("a"), None)));
        check("/api/v1/namespaces/a/status", Some(("namespaces", None, Some("a"), Some("status"))));
        check("/api/v1/namespaces/a/pods/b/log", Some(("pods", Some("a"), Some("b"), Some("log"))));
        check(
            "/apis/apps/v1/namespaces/a/deployments",
            Some(("deployments", Some("a"), None, None)),
        );
        check("/apis/apps/v2/deployments", None);
        check("/api/v1/pods/b", None);
        check("/api/v1/namespaces/a/nodes", None);
        check("/api/v1/nodes/n/x/y", None);
        check("/", None);
    }

    #[test]
    fn accept_is_negotiated() {
        let check = |accept: &str, expected: Option<Form>, stream: Option<Form>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            let query = Query::default();
            assert_eq!(Form::negotiate(&headers, &query).ok(), expected, "{accept}");
            assert_eq!(Form::negotiate_stream(&headers, &query).ok(), stream, "{accept}");
        };
        let (json, yaml) = (Some(Form::Json), Some(Form::Yaml));
        check("application/json", json, json);
        check("application/vnd.kubernetes.protobuf,application/json", json, json);
        check(
            "application/vnd.kubernetes.protobuf;stream=watch, application/json;stream=watch",
            json,
            json,
        );
        check("application/yaml", yaml, None);
        check("application/json;q=0.5, application/yaml", yaml, json);
        check("application/json;q=0", None, None);
        check("application/vnd.kubernetes.protobuf", None, None);
        check("text/html,*/*;q=0.8", json, json);
        check("image/png", None, None);
    }
}
