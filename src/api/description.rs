//! The description of a request: its path, query and headers, decoded once. Authorization, limits, audit log and handlers
//! all read the description, not the request itself, so that they cannot understand it differently.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, Method, Uri, header};
use percent_encoding::percent_decode_str;

use crate::{
    api::{
        authorization::{Attributes, Resource, To},
        forms, go_text,
        parameters::Parameters,
        query::Query,
        target::{PROXY, Target},
    },
    http_server::headers,
    model::{FieldSelector, Status},
    registry::Kinds,
};

/// User agents with which people look at answers (`isPrettyPrint` of kube-apiserver).
const HUMAN_AGENTS: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// An answer must begin within this time (`--request-timeout` of kube-apiserver).
const TIME_MAX: Duration = Duration::from_secs(60);

/// A decoded request.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// The verb and resource, for authorization and the audit log.
    pub(crate) wanted: Attributes,
    /// The resource that the path names, if it is served.
    pub(crate) target: Option<Target>,
    /// The API group that the path names, if it is not served.
    unserved_group: Option<String>,
    pub(crate) parameters: Parameters,
    /// Whether the JSON of the answer is indented.
    pub(crate) pretty: bool,
    /// The path and query after `proxy`, not decoded.
    pub(crate) proxied: String,
}

impl Description {
    pub(crate) fn of(kinds: &Kinds, method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let raw: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let decoded: Vec<Cow<'_, str>> = raw.iter().map(|segment| decode(segment)).collect();
        let mut segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        // Some clients ask for `/version/` and `/apis/`.
        while segments.last().is_some_and(|last| last.is_empty()) {
            segments.pop();
        }
        let parameters = Parameters::of(uri.query().unwrap_or_default());
        let watches = parameters.flag("watch").unwrap_or_default();
        let selected = selected_name(&parameters);
        let wanted = Attributes::of_request(method, &segments, watches, selected.as_deref());
        let target = Target::of(kinds, &segments);
        let pretty = match parameters.first("pretty").filter(|text| !text.is_empty()) {
            Some(text) => go_text::boolean(text) == Some(true),
            None => {
                let agent = headers::text(headers, header::USER_AGENT);
                let human = |agent: &str| HUMAN_AGENTS.iter().any(|name| agent.starts_with(name));
                agent.is_some_and(human) || forms::asks_for_pretty(headers)
            }
        };
        // Only programs read OpenAPI documents.
        let pretty = pretty && segments.first() != Some(&"openapi");
        let proxied = match &wanted.to {
            To::Resource(Resource { namespace, subresource, .. }) if subresource == PROXY => {
                let before = if namespace.is_empty() { 5 } else { 7 };
                let rest: String = raw.iter().skip(before).map(|part| format!("/{part}")).collect();
                rest + &uri.query().map(|query| format!("?{query}")).unwrap_or_default()
            }
            _ => String::new(),
        };
        let unserved_group = match segments.as_slice() {
            ["apis", group, ..] if !kinds.serves_group(group) => Some((*group).to_owned()),
            _ => None,
        };
        Self { wanted, target, unserved_group, parameters, pretty, proxied }
    }

    /// The query parameters of a request about a resource.
    pub(crate) fn query(&self) -> Result<Query, Status> {
        Query::of(&self.parameters, &self.wanted.verb)
    }

    /// The target.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn target(&self) -> Result<&Target, Status> {
        self.target.as_ref().ok_or_else(|| self.not_served())
    }

    /// 404 for an unknown path. The message names the API group if that is not served.
    fn not_served(&self) -> Status {
        let mut status = Status::no_such_path();
        if let Some(group) = &self.unserved_group {
            let text =
                format!("{}: Snowglobe does not serve the API group {group}", status.message);
            status.message = text;
        }
        status
    }

    /// Whether the answer is a stream, which the client may read for as long as it likes.
    pub(crate) fn is_stream(&self) -> bool {
        let To::Resource(Resource { group, resource, subresource, .. }) = &self.wanted.to else {
            return false;
        };
        self.wanted.verb == "watch"
            || matches!(subresource.as_str(), "log" | "attach" | "exec" | "portforward" | PROXY)
            || (group == "snowglobe.dev" && resource == "snapshot")
    }

    /// Whether the request is forwarded to a pod or Service.
    pub(crate) fn is_proxied(&self) -> bool {
        self.target.as_ref().is_some_and(|t| t.subresource.as_deref() == Some(PROXY))
    }

    /// The time within which the answer must begin; `None` for a stream.
    ///
    /// # Errors
    /// 400 for a `timeout` that is no duration, in kube-apiserver's words.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Status> {
        if self.is_stream() {
            return Ok(None);
        }
        let asked = self.parameters.first("timeout").filter(|text| !text.is_empty());
        let asked = asked.map(go_text::duration).transpose().map_err(|reason| {
            Status::bad_request(format!("invalid timeout specified in the request URL - {reason}"))
        })?;
        // Zero means no limit; the server does not grant that.
        let asked = asked.flatten().filter(|asked| !asked.is_zero());
        Ok(Some(asked.map_or(TIME_MAX, |asked| asked.min(TIME_MAX))))
    }
}

/// Decodes a segment of a path. A segment that is not UTF-8 stays as it is: nothing has such a name.
fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

/// The one name that the field selector of a list or watch allows. Nothing is read of a query that is refused as a whole.
fn selected_name(parameters: &Parameters) -> Option<String> {
    parameters.first("fieldSelector")?;
    let query = Query::of(parameters, "list").ok()?;
    let fields = FieldSelector::parse(&query.field_selector).ok()?;
    let name = fields.exact("metadata.name")?;
    let is_segment = !matches!(name, "." | "..") && !name.contains(['/', '%']);
    is_segment.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, uri: &str) -> Description {
        Description::of(&Kinds::built_in(), method, &uri.parse().unwrap(), &HeaderMap::new())
    }

    #[test]
    fn everybody_reads_the_same() {
        let check = |uri: &str, verb: &str, plural: &str, name: Option<&str>| {
            let description = of(&Method::GET, uri);
            let target = description.target().unwrap();
            let To::Resource(wanted) = &description.wanted.to else { panic!("{uri}") };
            assert_eq!((&*target.kind().plural, target.name.as_deref()), (plural, name), "{uri}");
            assert_eq!((&*wanted.resource, &*wanted.name), (plural, name.unwrap_or_default()));
            assert_eq!(description.wanted.verb, verb, "{uri}");
            let query = description.query().unwrap();
            assert_eq!(query.watch && name.is_none(), verb == "watch", "{uri}");
        };
        check("/api/v1/pods?wa%74ch=1", "watch", "pods", None);
        check("/api/v1/p%6Fds/?watch", "watch", "pods", None);
        check("/api/v1/nodes?limit=1&watch=FALSE&watch=1", "list", "nodes", None);
        check("/api/v1/nodes?watch=yes", "watch", "nodes", None);
        check("/api/v1/nodes/%6e%31", "get", "nodes", Some("n1"));
        let name = Some("system:a");
        check(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Aa",
            "get",
            "clusterroles",
            name,
        );
        let strange = of(&Method::GET, "/api/v1/namespaces/a/pods/b%2Flog");
        assert_eq!(strange.target().unwrap().name.as_deref(), Some("b/log"), "a slash in a name");
        assert!(!strange.is_stream());
    }

    #[test]
    fn one_object_may_be_listed_by_its_name() {
        for (query, expected) in [
            ("fieldSelector=metadata.name%3Db", "b"),
            ("fieldSelector=metadata.name==b,metadata.namespace=c&limit=5", "b"),
            ("fieldSelector=metadata.namespace=c,metadata.name=b&watch=1", "b"),
            ("fieldSelector=metadata.name!=b", ""),
            ("fieldSelector=metadata.name=", ""),
            ("fieldSelector=metadata.name=b%2Fc", ""),
            ("fieldSelector=metadata.name=..", ""),
            ("fieldSelector=metadata.name", ""),
            ("fieldSelector=metadata.name=b&limit=five", ""),
            ("labelSelector=metadata.name=b", ""),
        ] {
            let description = of(&Method::GET, &format!("/api/v1/namespaces/a/secrets?{query}"));
            let To::Resource(wanted) = &description.wanted.to else { panic!("{query}") };
            assert_eq!(wanted.name, expected, "{query}");
            assert_eq!(description.target().unwrap().name, None);
        }
    }

    #[test]
    fn what_goes_to_a_pod_stays_as_it_was_sent() {
        let check = |uri: &str, proxied: &str| {
            let description = of(&Method::POST, uri);
            assert!(description.is_proxied() && description.is_stream(), "{uri}");
            assert_eq!(description.proxied, proxied, "{uri}");
        };
        check("/api/v1/namespaces/a/pods/b/proxy", "");
        check("/api/v1/namespaces/a/pods/b/proxy/", "/");
        check("/api/v1/namespaces/a/services/b:80/proxy/x%2F//y/?a=%20&b", "/x%2F//y/?a=%20&b");
        check("/api/v1/namespaces/a/services/b/proxy?limit=x", "?limit=x");
        assert!(!of(&Method::GET, "/apis/apps/v1/namespaces/a/deployments/b/scale").is_proxied());
    }

    #[test]
    fn people_get_it_pretty() {
        let check = |uri: &str, agent: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]);
            let description =
                Description::of(&Kinds::built_in(), &Method::GET, &uri.parse().unwrap(), &headers);
            assert_eq!(description.pretty, expected, "{uri} {agent}");
        };
        check("/api", "kubectl/v1.36.0", false);
        check("/api?pretty=true", "kubectl/v1.36.0", true);
        check("/api?pr%65tty=1", "kubectl/v1.36.0", true);
        check("/api?pretty=", "curl/8", true);
        check("/api?pretty=no", "curl/8", false);
        check("/openapi/v3?pretty=true", "curl/8", false);
    }

    #[test]
    fn answers_have_their_time() {
        let check = |uri: &str, expected: Option<u64>| {
            let found = of(&Method::GET, uri).timeout().unwrap();
            assert_eq!(found, expected.map(Duration::from_secs), "{uri}");
        };
        check("/api", Some(60));
        check("/api?timeout=", Some(60));
        check("/api/v1/pods?timeout=5s", Some(5));
        check("/api/v1/pods?timeout=0", Some(60));
        check("/api/v1/pods?timeout=-5s", Some(60));
        check("/api/v1/pods?timeout=5m", Some(60));
        check("/api/v1/pods?watch=1&timeout=5s", None);
        check("/api/v1/pods?watch=1&timeout=5", None);
        of(&Method::GET, "/api?timeout=5").timeout().unwrap_err();
    }
}
