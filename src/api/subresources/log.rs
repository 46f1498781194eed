//! `pods/log`: what a pod's runtime kept of a container's output, and what it writes from now on (`follow`).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::stream;
use http::header;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::{
    api::{Api, Log, query::Query, request::Request},
    model::{Cause, Object, Status},
};

/// How often a followed log is looked at; a container's log has no wake-up of its own.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn serve(api: &Arc<Api>, request: &Request) -> Result<Response, Status> {
    let pod = api.registry.get(&request.target.key()?)?;
    let (uid, query) = (pod.metadata.uid.clone(), &request.query);
    let wanted = Wanted::of(query, &pod.key.name, Timestamp::now())?;
    let container = container_of(&pod, &query.container)?;
    let log = (api.logs)(&uid, &container, 0).unwrap_or(Log { lines: Vec::new(), written: 0 });
    let lines = log.lines.iter().filter(|(at, _)| *at >= wanted.since);
    let lines: Vec<&(Timestamp, String)> = lines.collect();
    let skip = lines.len().saturating_sub(wanted.lines);
    let stamped = query.timestamps;
    let mut first: Vec<u8> = lines[skip..].iter().flat_map(|line| text(line, stamped)).collect();
    first.truncate(wanted.bytes);
    let body = if query.follow {
        let follow = Follow { api: api.clone(), uid, container, stamped, written: log.written };
        let rest = stream::unfold(follow, Follow::next);
        Body::from_stream(futures::StreamExt::chain(stream::iter([Ok(Bytes::from(first))]), rest))
    } else {
        Body::from(first)
    };
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

/// The container whose log is meant, by kube-apiserver's rules and words (`validateContainer`).
fn container_of(pod: &Object, wanted: &str) -> Result<String, Status> {
    let name = &pod.key.name;
    let Pod { spec, .. } = pod.parse().map_err(|error| Status::internal(error.to_string()))?;
    let spec = spec.unwrap_or_default();
    let main: Vec<&str> = spec.containers.iter().map(|own| own.name.as_str()).collect();
    let init: Vec<&str> =
        spec.init_containers.iter().flatten().map(|own| own.name.as_str()).collect();
    let mut later = spec.ephemeral_containers.iter().flatten().map(|own| own.name.as_str());
    match (wanted, main.as_slice()) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", _) => {
            let mut text = format!("a container name must be specified for pod {name}");
            text.push_str(&format!(", choose one of: [{}]", main.join(" ")));
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(text))
        }
        _ if main.contains(&wanted) || init.contains(&wanted) || later.any(|l| l == wanted) => {
            Ok(wanted.to_owned())
        }
        _ => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
    }
}

/// The part of a log that a request asks for.
struct Wanted {
    since: Timestamp,
    lines: usize,
    bytes: usize,
}

impl Wanted {
    /// By kube-apiserver's rules and words (`ValidatePodLogOptions`).
    fn of(query: &Query, pod: &str, now: Timestamp) -> Result<Self, Status> {
        let Query { tail_lines, limit_bytes, since_seconds, since_time, .. } = query;
        let mut causes = Vec::new();
        if let Some(lines) = tail_lines.filter(|lines| *lines < 0) {
            causes.push(Cause::invalid("tailLines", lines, "must be greater than or equal to 0"));
        }
        if let Some(bytes) = limit_bytes.filter(|bytes| *bytes < 1) {
            causes.push(Cause::invalid("limitBytes", bytes, "must be greater than 0"));
        }
        let mut since = Timestamp::MIN;
        match *since_seconds {
            Some(_) if !since_time.is_empty() => {
                let rule = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                causes.push(Cause::forbidden("", rule));
            }
            Some(seconds) if seconds < 1 => {
                causes.push(Cause::invalid("sinceSeconds", seconds, "must be greater than 0"));
            }
            Some(seconds) => {
                let age = SignedDuration::from_secs(seconds);
                since = now.checked_sub(age).unwrap_or(Timestamp::MIN);
            }
            None if !since_time.is_empty() => {
                since = since_time.parse().map_err(|_not_a_time| {
                    Status::bad_request(format!("sinceTime: {since_time:?} is not a time"))
                })?;
            }
            None => {}
        }
        if !causes.is_empty() {
            return Err(Status::invalid_log_options(pod, causes));
        }
        let count = |number: &Option<i64>| {
            number.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX)
        };
        Ok(Self { since, lines: count(tail_lines), bytes: count(limit_bytes) })
    }
}

fn text((at, line): &(Timestamp, String), stamped: bool) -> Vec<u8> {
    let stamp = if stamped { format!("{at} ") } else { String::new() };
    format!("{stamp}{line}\n").into_bytes()
}

/// A log that a client follows.
struct Follow {
    api: Arc<Api>,
    uid: String,
    container: String,
    stamped: bool,
    written: u64,
}

impl Follow {
    /// The next new lines; the end when the pod is gone or the server stops.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let log = (self.api.logs)(&self.uid, &self.container, self.written)?;
            self.written = log.written;
            if !log.lines.is_empty() {
                let lines = log.lines.iter().flat_map(|line| text(line, self.stamped));
                return Some((Ok(lines.collect::<Vec<u8>>().into()), self));
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};
    use serde_json::json;

    use super::*;
    use crate::{
        api::parameters::Parameters,
        model::{ObjectKey, kind, object::to_stored},
    };

    #[test]
    fn a_container_is_chosen() {
        let named =
            |names: &[&str]| -> Vec<_> { names.iter().map(|name| json!({"name": name})).collect() };
        let must = "a container name must be specified for pod p, choose one of: [a b]";
        let or = " or one of the init containers: [i]";
        for (containers, init, wanted, expected) in [
            (&["a"][..], &[][..], "", Ok("a")),
            (&["a", "b"], &[], "b", Ok("b")),
            (&["a"], &["i"], "i", Ok("i")),
            (&["a"], &["i"], "e", Ok("e")),
            (&["a", "b"], &[], "", Err(must.to_owned())),
            (&["a", "b"], &["i"], "", Err(format!("{must}{or}"))),
            (&["a"], &[], "x", Err("container x is not valid for pod p".to_owned())),
        ] {
            let document = json!({"metadata": {"name": "p"}, "spec": {"containers": named(containers),
                "initContainers": named(init), "ephemeralContainers": named(&["e"])}});
            let key = ObjectKey::new(&kind::POD, "default", "p");
            let pod = Object::from_stored(key, 1, to_stored(&kind::POD, document)).unwrap();
            let found = container_of(&pod, wanted).map_err(|status| status.message);
            assert_eq!(found.as_deref().map_err(Clone::clone), expected, "{wanted}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(300)
        })]

        #[test]
        fn any_numbers_are_within_bounds_or_refused(since: i64, lines: i64, bytes: i64, now: i64) {
            let now = Timestamp::from_second(now % 253_402_207_200).unwrap();
            let text = format!("sinceSeconds={since}&tailLines={lines}&limitBytes={bytes}");
            let query = Query::of(&Parameters::of(&text), "get").unwrap();
            match Wanted::of(&query, "p", now) {
                Ok(wanted) => {
                    prop_assert!(wanted.since < now && wanted.bytes > 0);
                    prop_assert_eq!(i64::try_from(wanted.lines).unwrap(), lines);
                }
                Err(status) => {
                    prop_assert_eq!(status.code, 422);
                    prop_assert!(since < 1 || lines < 0 || bytes < 1);
                }
            }
        }
    }

    #[test]
    fn what_is_wanted() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let check = |text: &str, expected: Result<(&str, usize, usize), &str>| {
            let query = Query::of(&Parameters::of(text), "get").unwrap();
            let found = Wanted::of(&query, "a", now);
            let found = found.map(|wanted| (wanted.since.to_string(), wanted.lines, wanted.bytes));
            let found =
                found.as_ref().map(|(since, lines, bytes)| (since.as_str(), *lines, *bytes));
            assert_eq!(found.map_err(|status| status.message.as_str()), expected, "{text}");
        };
        let (first, all) = (Timestamp::MIN.to_string(), usize::MAX);
        let large = i64::MAX;
        let largest = usize::try_from(large).unwrap();
        check("", Ok((&first, all, all)));
        check("sinceSeconds=60&tailLines=0", Ok(("2026-01-01T00:00:00Z", 0, all)));
        check("sinceTime=2026-01-01T00:00:30Z&limitBytes=1", Ok(("2026-01-01T00:00:30Z", all, 1)));
        check(&format!("sinceSeconds={large}"), Ok((&first, all, all)));
        check(&format!("tailLines={large}&limitBytes={large}"), Ok((&first, largest, largest)));
        let refused = |cause: &str| format!("PodLogOptions \"a\" is invalid: {cause}");
        check(
            "sinceSeconds=0",
            Err(&refused("sinceSeconds: Invalid value: 0: must be greater than 0")),
        );
        check(
            &format!("sinceSeconds={}", i64::MIN),
            Err(&refused(&format!(
                "sinceSeconds: Invalid value: {}: must be greater than 0",
                i64::MIN
            ))),
        );
        check(
            "tailLines=-1&limitBytes=0",
            Err(&refused(
                "[tailLines: Invalid value: -1: must be greater than or equal to 0, \
                 limitBytes: Invalid value: 0: must be greater than 0]",
            )),
        );
        check("sinceTime=yesterday", Err("sinceTime: \"yesterday\" is not a time"));
    }
}
