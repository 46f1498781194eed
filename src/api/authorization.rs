//! Authorization: decides whether a caller may do something. [`authorize`] checks every request and answers the review
//! kinds. It lets every authenticated user do everything. Rules would be evaluated here, and nowhere else.

use http::Method;

use crate::{
    api::authentication::{Caller, UNAUTHENTICATED},
    model::Status,
};

/// The action of a request (Kubernetes' `authorizer.Attributes`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `get`, `list`, `watch`, `create`, ...
    pub(crate) verb: String,
    pub(crate) to: To,
}

/// The object of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Resource(Resource),
    Path(String),
}

/// A resource or subresource. Fields that do not apply are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Decides whether the caller may do it, and why. `Ok` allows it.
pub(crate) fn authorize(caller: &Caller, wanted: &Attributes) -> Result<&'static str, Status> {
    if caller.groups.iter().any(|group| group == UNAUTHENTICATED) {
        return Err(wanted.forbidden(caller));
    }
    Ok("every authenticated user may do everything")
}

impl Attributes {
    /// The action of a request, from its method and the decoded segments of its path (Kubernetes' `RequestInfo`). A list
    /// or watch can name the one object that its field selector allows (`selected`).
    pub(crate) fn of_request(
        method: &Method,
        segments: &[&str],
        watches: bool,
        selected: Option<&str>,
    ) -> Self {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => {
                let verb = method.as_str().to_ascii_lowercase();
                return Self { verb, to: To::Path(format!("/{}", segments.join("/"))) };
            }
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, "status" | "finalize"] => (*namespace, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            ["namespaces", namespace] => (*namespace, rest),
            _ => ("", rest),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default();
        let one = !part(1).is_empty();
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if one => "delete",
            Method::DELETE => "deletecollection",
            Method::GET | Method::HEAD if watches && !one => "watch",
            Method::GET | Method::HEAD if one => "get",
            Method::GET | Method::HEAD => "list",
            _ => "",
        };
        let selected = selected.filter(|_| matches!(verb, "list" | "watch"));
        let name = selected.unwrap_or(part(1));
        let [group, version, namespace, resource, name, subresource] =
            [group, version, namespace, part(0), name, part(2)].map(str::to_owned);
        let to = Resource { group, version, resource, subresource, namespace, name };
        Self { verb: verb.to_owned(), to: To::Resource(to) }
    }

    /// 403, in kube-apiserver's words.
    fn forbidden(&self, caller: &Caller) -> Status {
        let Self { verb, to } = self;
        let user = format!("User {:?} cannot {verb}", &*caller.name);
        Status::refused(match to {
            To::Path(path) => format!("forbidden: {user} path {path:?}"),
            To::Resource(to) => {
                let Resource { group, resource, subresource, namespace, name, .. } = to;
                let slash = if subresource.is_empty() { "" } else { "/" };
                let what = format!("{resource}{slash}{subresource}");
                let dot = if group.is_empty() { "" } else { "." };
                let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
                let place = match namespace.as_str() {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                format!(
                    "{resource}{dot}{group}{named} is forbidden: {user} resource {what:?} in API group {group:?} {place}"
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(path: &str) -> Vec<&str> {
        path.trim_matches('/').split('/').collect()
    }

    #[test]
    fn requests_tell_what_they_want() {
        let check = |method: Method, path: &str, watches: bool, expected: &str| {
            let (path, selected) = path.split_once('?').map_or((path, None), |(p, s)| (p, Some(s)));
            let Attributes { verb, to } =
                Attributes::of_request(&method, &segments(path), watches, selected);
            let seen = match to {
                To::Path(path) => format!("{verb} {path}"),
                To::Resource(r) => format!(
                    "{verb} {}/{} {}/{} {}/{}",
                    r.group, r.version, r.resource, r.subresource, r.namespace, r.name
                ),
            };
            assert_eq!(seen, expected, "{method} {path}");
        };
        check(Method::GET, "/api/v1/namespaces/shop/pods", false, "list /v1 pods/ shop/");
        check(Method::GET, "/api/v1/pods", true, "watch /v1 pods/ /");
        check(Method::GET, "/api/v1/namespaces/shop/pods/a", true, "get /v1 pods/ shop/a");
        check(Method::GET, "/api/v1/namespaces/shop/pods/a/log", false, "get /v1 pods/log shop/a");
        check(Method::GET, "/api/v1/namespaces", false, "list /v1 namespaces/ /");
        check(Method::GET, "/api/v1/namespaces/shop", false, "get /v1 namespaces/ shop/shop");
        check(
            Method::PUT,
            "/api/v1/namespaces/shop/finalize",
            false,
            "update /v1 namespaces/finalize shop/shop",
        );
        check(
            Method::POST,
            "/apis/apps/v1/namespaces/a/deployments",
            false,
            "create apps/v1 deployments/ a/",
        );
        check(Method::PATCH, "/api/v1/nodes/n1", false, "patch /v1 nodes/ /n1");
        check(Method::DELETE, "/api/v1/nodes/n1/", false, "delete /v1 nodes/ /n1");
        check(Method::DELETE, "/api/v1/nodes", false, "deletecollection /v1 nodes/ /");
        check(
            Method::POST,
            "/api/v1/namespaces/a/services/https:b:web/proxy/x/y",
            false,
            "create /v1 services/proxy a/https:b:web",
        );
        check(Method::OPTIONS, "/api/v1/namespaces/a/pods/b/proxy", false, " /v1 pods/proxy a/b");
        let secrets = "/api/v1/namespaces/a/secrets?b";
        check(Method::GET, secrets, false, "list /v1 secrets/ a/b");
        check(Method::GET, secrets, true, "watch /v1 secrets/ a/b");
        check(Method::DELETE, secrets, false, "deletecollection /v1 secrets/ a/");
        check(Method::POST, secrets, false, "create /v1 secrets/ a/");
        check(Method::GET, "/api/v1/nodes/n?b", false, "get /v1 nodes/ /n");
        check(Method::GET, "/apis/apps/v1", false, "get /apis/apps/v1");
        check(Method::GET, "/api", false, "get /api");
        check(Method::POST, "/", false, "post /");
    }

    #[test]
    fn only_the_unknown_are_refused() {
        let wanted = |path| Attributes::of_request(&Method::GET, &segments(path), false, None);
        let known = Caller::new("ann", "", []);
        authorize(&known, &wanted("/api/v1/pods")).unwrap();
        let unknown = Caller::new("system:anonymous", "", [UNAUTHENTICATED.to_owned()]);
        let check = |path, expected: &str| {
            let status = authorize(&unknown, &wanted(path)).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (403, expected));
        };
        check("/apis", "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
        check(
            "/api/v1/namespaces/shop/pods/a/log",
            "pods \"a\" is forbidden: User \"system:anonymous\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"shop\"",
        );
        check(
            "/apis/apps/v1/deployments",
            "deployments.apps is forbidden: User \"system:anonymous\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope",
        );
    }
}
