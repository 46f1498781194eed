//! `/healthz`, `/livez` and `/readyz`: the health of the process, with the checks of kube-apiserver.
//!
//! Anybody may read the summaries. A single check needs authentication. Unlike kube-apiserver, a failed check tells the
//! reason to anybody, because that is no secret.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};

use crate::{
    api::{Api, parameters::Parameters},
    model::Status,
};

/// A name, and why the check fails, if it does.
type Check = (&'static str, fn(&Api) -> Option<String>);

const PING: Check = ("ping", |_| None);
const LOG: Check = ("log", |_| None);
const ETCD: Check = ("etcd", |api| {
    let stopped = api.registry.stopped();
    let stopped = stopped.borrow();
    stopped.as_ref().map(ToString::to_string)
});
const INFORMER_SYNC: Check =
    ("informer-sync", |api| (!*api.ready.borrow()).then(|| "the cluster is starting".to_owned()));
const SHUTDOWN: Check =
    ("shutdown", |api| api.stop.is_cancelled().then(|| "process is shutting down".to_owned()));

/// The check of the store is called `etcd`, whichever store it is.
const HEALTH: &[(&str, &[Check])] = &[
    ("healthz", &[PING, LOG, ETCD]),
    ("livez", &[PING, LOG, ETCD]),
    ("readyz", &[PING, LOG, ETCD, ("etcd-readiness", ETCD.1), INFORMER_SYNC, SHUTDOWN]),
];

/// The paths of the summaries.
pub(crate) fn summaries() -> Router<Arc<Api>> {
    HEALTH.iter().fold(Router::new(), |router, (name, checks)| {
        let serve = move |State(api): State<Arc<Api>>, request: Request| async move {
            let parameters = Parameters::of(request.uri().query().unwrap_or_default());
            let results: Vec<_> = checks.iter().map(|(name, check)| (*name, check(&api))).collect();
            summary(name, &results, &parameters)
        };
        router.route(&format!("/{name}"), get(serve))
    })
}

/// The paths of single checks.
pub(crate) fn checks() -> Router<Arc<Api>> {
    HEALTH.iter().fold(Router::new(), |router, (name, checks)| {
        let serve = move |State(api): State<Arc<Api>>, Path(wanted): Path<String>| async move {
            let (_, check) =
                checks.iter().find(|(name, _)| *name == wanted).ok_or_else(Status::no_such_path)?;
            Ok::<_, Status>(match check(&api) {
                None => text(StatusCode::OK, "ok".to_owned()),
                Some(reason) => {
                    let text_of = format!("internal server error: {reason}\n");
                    text(StatusCode::INTERNAL_SERVER_ERROR, text_of)
                }
            })
        };
        router.route(&format!("/{name}/{{check}}"), get(serve))
    })
}

fn summary(name: &str, results: &[(&str, Option<String>)], parameters: &Parameters) -> Response {
    let excluded: Vec<&str> = parameters.all("exclude").collect();
    let (mut lines, mut failed) = (String::new(), false);
    for (check, failure) in results {
        lines += &match failure {
            _ if excluded.contains(check) => format!("[+]{check} excluded: ok\n"),
            None => format!("[+]{check} ok\n"),
            Some(reason) => {
                failed = true;
                format!("[-]{check} failed: {reason}\n")
            }
        };
    }
    let is_known = |name: &&str| results.iter().any(|(check, _)| check == name);
    let mut unknown: Vec<String> =
        excluded.iter().filter(|name| !is_known(name)).map(|name| format!("{name:?}")).collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        let names = unknown.join(",");
        lines += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    if failed {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n"));
    }
    let verbose = parameters.first("verbose").is_some();
    text(
        StatusCode::OK,
        if verbose { format!("{lines}{name} check passed\n") } else { "ok".to_owned() },
    )
}

fn text(code: StatusCode, text: String) -> Response {
    let mut response = (code, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn checks_are_told_one_by_one() {
        let good = [("ping", None), ("etcd", None)];
        let bad = [("ping", None), ("etcd", Some("no disk".to_owned()))];
        let check = async |results: &[(&str, Option<String>)], query, code: u16, expected: &str| {
            let response = summary("livez", results, &Parameters::of(query));
            assert_eq!(response.status().as_u16(), code, "{query}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, expected.as_bytes(), "{query}");
        };
        check(&good, "", 200, "ok").await;
        check(&good, "verbose", 200, "[+]ping ok\n[+]etcd ok\nlivez check passed\n").await;
        check(&bad, "", 500, "[+]ping ok\n[-]etcd failed: no disk\nlivez check failed\n").await;
        check(&bad, "exclude=etcd", 200, "ok").await;
        check(
            &bad,
            "exclu%64e=etcd&exclude=moon&verbose=1",
            200,
            "[+]ping ok\n[+]etcd excluded: ok\n\
             warn: some health checks cannot be excluded: no matches for \"moon\"\n\
             livez check passed\n",
        )
        .await;
    }
}
