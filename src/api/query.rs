//! The query parameters of a request about a resource, by their meaning.

use std::{sync::Arc, time::Duration};

use crate::{
    api::{go_text, parameters::Parameters, selectors::Selectors},
    model::{Cause, Status},
    registry::{Descriptor, FieldValidation, Propagation, WriteOptions},
};

/// Query parameters of resource requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) watch: bool,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    pub(crate) limit: Option<i64>,
    pub(crate) r#continue: String,
    pub(crate) timeout_seconds: Option<i64>,
    pub(crate) allow_watch_bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) dry_run: Vec<String>,
    pub(crate) field_manager: String,
    pub(crate) field_validation: String,
    pub(crate) force: Option<bool>,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation_policy: String,
    pub(crate) include_object: String,
    pub(crate) container: String,
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<i64>,
    pub(crate) since_seconds: Option<i64>,
    pub(crate) since_time: String,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<i64>,
}

impl Query {
    /// Reads the parameters that requests with this verb have. The values of other parameters are not checked.
    ///
    /// # Errors
    /// 400 if a parameter that should be a number is none.
    pub(crate) fn of(parameters: &Parameters, verb: &str) -> Result<Self, Status> {
        let text = |name| parameters.first(name).unwrap_or_default().to_owned();
        let is_set = |name| parameters.flag(name).unwrap_or_default();
        let number = |so: bool, name| if so { parameters.number(name) } else { Ok(None) };
        let deletes = matches!(verb, "delete" | "deletecollection");
        let lists = matches!(verb, "list" | "watch" | "deletecollection");
        let gets = verb == "get";
        Ok(Self {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            watch: is_set("watch"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            limit: number(lists, "limit")?,
            r#continue: text("continue"),
            timeout_seconds: number(lists, "timeoutSeconds")?,
            allow_watch_bookmarks: is_set("allowWatchBookmarks"),
            send_initial_events: parameters.flag("sendInitialEvents"),
            dry_run: parameters.all("dryRun").map(str::to_owned).collect(),
            field_manager: text("fieldManager"),
            field_validation: text("fieldValidation"),
            force: parameters.flag("force"),
            grace_period_seconds: number(deletes, "gracePeriodSeconds")?,
            propagation_policy: text("propagationPolicy"),
            include_object: text("includeObject"),
            container: text("container"),
            follow: is_set("follow"),
            tail_lines: number(gets, "tailLines")?,
            since_seconds: number(gets, "sinceSeconds")?,
            since_time: text("sinceTime"),
            timestamps: is_set("timestamps"),
            limit_bytes: number(gets, "limitBytes")?,
        })
    }

    /// The selectors of a list or watch, checked against what the kind supports.
    pub(crate) fn selectors(&self, descriptor: &Arc<Descriptor>) -> Result<Selectors, Status> {
        Selectors::of(descriptor, &self.label_selector, &self.field_selector)
    }

    /// Checks that the parameters of a list or watch that concern revisions fit together, with kube-apiserver's rules and
    /// messages (`ValidateListOptions`).
    pub(crate) fn check_versions(&self) -> Result<(), Status> {
        const MATCH: &str = "resourceVersionMatch";
        const INITIAL: &str = "sendInitialEvents";
        let watching = self.watch;
        let (asked, initial) =
            (self.resource_version_match.as_str(), self.send_initial_events.is_some());
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
        if causes.is_empty() { Ok(()) } else { Err(Status::invalid_options("ListOptions", causes)) }
    }

    /// `resourceVersion` as a number; `None` if the client accepts any.
    pub(crate) fn version(&self) -> Result<Option<u64>, Status> {
        match self.resource_version.as_str() {
            "" | "0" => Ok(None),
            text => go_text::unsigned(text).map(Some).map_err(|problem| {
                Status::bad_request(format!(
                    "invalid resource version: resourceVersion: Invalid value: {text:?}: {problem}"
                ))
            }),
        }
    }

    /// The exact revision that a list must show; `None` if any recent one will do. `resourceVersionMatch=Exact` asks for
    /// it, and so does a list in pages that names a revision.
    pub(crate) fn exact_version(&self) -> Result<Option<u64>, Status> {
        let paged = self.limit_of_page().is_some();
        match self.resource_version_match.as_str() {
            "Exact" => self.version(),
            "" if paged => self.version(),
            _ => Ok(None),
        }
    }

    /// How many objects a page of a list has; `None` for all.
    pub(crate) fn limit_of_page(&self) -> Option<usize> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        Some(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// How long a watch lasts; `None` if the server decides. As with kube-apiserver, a negative time ends it at once.
    pub(crate) fn lasting(&self) -> Option<Duration> {
        let seconds = self.timeout_seconds.filter(|seconds| *seconds != 0)?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// The options of a write. `options` is Kubernetes' name for them: `CreateOptions`, `UpdateOptions`, ...
    ///
    /// # Errors
    /// 422 for unknown values.
    pub(crate) fn write_options(&self, options: &str) -> Result<WriteOptions, Status> {
        let mut causes = Vec::from_iter(dry_run_cause(&self.dry_run));
        let field_validation = match self.field_validation.as_str() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                causes.push(Cause::not_supported("fieldValidation", other, &supported));
                FieldValidation::Warn
            }
        };
        if causes.is_empty() {
            return Ok(WriteOptions { dry_run: !self.dry_run.is_empty(), field_validation });
        }
        Err(Status::invalid_options(options, causes))
    }
}

/// Why the values of `dryRun` in the query or in DeleteOptions are invalid, if they are.
pub(crate) fn dry_run_cause(values: &[String]) -> Option<Cause> {
    let known = values.iter().all(|value| value == "All");
    (!known).then(|| Cause::not_supported("dryRun", values, &["All"]))
}

/// `propagationPolicy` as a query parameter or in DeleteOptions.
pub(crate) fn propagation(text: &str) -> Result<Option<Propagation>, Cause> {
    match text {
        "" => Ok(None),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        other => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            Err(Cause::not_supported("propagationPolicy", other, &supported))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(300)
        })]

        #[test]
        fn any_limit_and_timeout_have_a_meaning(number: i64) {
            let query = query(&format!("limit={number}&timeoutSeconds={number}"));
            let limit = query.limit_of_page().map(|limit| i64::try_from(limit).unwrap());
            prop_assert_eq!(limit, (number > 0).then_some(number));
            let seconds = query.lasting().map(|time| i64::try_from(time.as_secs()).unwrap());
            prop_assert_eq!(seconds, (number != 0).then_some(number.max(0)));
        }

        #[test]
        fn any_version_is_a_number_or_refused(text in prop_oneof![".*", "[-+]?[0-9]{0,25}"]) {
            let query = Query { resource_version: text.clone(), limit: Some(1), ..Query::default() };
            match query.exact_version() {
                Ok(version) => prop_assert_eq!(version.unwrap_or(0), text.parse().unwrap_or(0)),
                Err(status) => prop_assert_eq!(status.code, 400),
            }
        }
    }

    fn query(text: &str) -> Query {
        let verb = if text.starts_with("watch") { "watch" } else { "list" };
        Query::of(&Parameters::of(text), verb).unwrap()
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
}
