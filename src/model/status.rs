//! [`Status`]: the error that a client gets, in the form and with the messages of Kubernetes (`metav1.Status` and
//! `field.Error`).

use serde_json::{Value, json};

use crate::model::{Kind, ObjectKey};

/// An API error: code, machine-readable reason, message, details.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// `NotFound`, `Conflict`, ... (metav1.StatusReason).
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Resource (or kind, for Invalid) that `details.kind` names.
    pub resource: String,
    /// API group of the resource.
    pub group: String,
    /// Object name.
    pub name: String,
    /// Field errors.
    pub causes: Vec<Cause>,
    /// The token that continues a list at the newest revision, if its own is compacted. Empty for other errors.
    pub continue_token: String,
    /// Seconds after which a retry makes sense.
    pub retry_after_seconds: Option<u32>,
}

/// One field error. `message` holds the whole text after the field, as `field.Error.ErrorBody` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ... (metav1.CauseType).
    pub reason: &'static str,
    /// Path, `spec.ports[0].nodePort`.
    pub field: String,
    /// `Invalid value: 40000: provided port is not in the valid range...`
    pub message: String,
}

impl Cause {
    /// A value that breaks a rule. The value is shown as Go's `%#v` would for strings and numbers.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: &str) -> Self {
        let message = format!("Invalid value: {}: {detail}", value.into());
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// A value that breaks a rule, and is not shown.
    pub fn broken(field: impl Into<String>, detail: &str) -> Self {
        let message = with_detail("Invalid value", detail);
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// A missing value; `detail` may be empty.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = with_detail("Required value", detail);
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// A value that must be unique and is not.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        let message = format!("Duplicate value: {}", value.into());
        Self { reason: "FieldValueDuplicate", field: field.into(), message }
    }

    /// A value outside a closed list.
    pub fn not_supported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let message =
            format!("Unsupported value: {}: supported values: {}", value.into(), quoted.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// A field that may not be set (now, or here).
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        let message = with_detail("Forbidden", detail);
        Self { reason: "FieldValueForbidden", field: field.into(), message }
    }

    /// A value that is too long.
    pub fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        let message = format!("Too long: may not be more than {bytes_max} bytes");
        Self { reason: "FieldValueTooLong", field: field.into(), message }
    }

    /// A list with too many items.
    pub fn too_many(field: impl Into<String>, count: usize, max: usize) -> Self {
        let message = format!("Too many: {count}: must have at most {max} items");
        Self { reason: "FieldValueTooMany", field: field.into(), message }
    }

    /// A reference to something that is not there.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        let message = format!("Not found: {}", value.into());
        Self { reason: "FieldValueNotFound", field: field.into(), message }
    }

    /// A failure inside the server while it handled this field.
    pub fn internal(field: impl Into<String>, detail: &str) -> Self {
        let message = with_detail("Internal error", detail);
        Self { reason: "InternalError", field: field.into(), message }
    }
}

fn with_detail(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}

/// `deployments.apps`, or `services` for the core group.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
            resource: String::new(),
            group: String::new(),
            name: String::new(),
            causes: Vec::new(),
            continue_token: String::new(),
            retry_after_seconds: None,
        }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.resource = kind.plural.to_string();
        self.group = kind.group.to_string();
        self.name = name.to_owned();
        self
    }

    /// The store takes no writes now; the same request may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.code, 429 | 503 | 504 | 507)
    }

    /// 404 for an object.
    pub fn not_found(key: &ObjectKey) -> Self {
        let resource = qualified(&key.kind.plural, &key.kind.group);
        let message = format!("{resource} \"{}\" not found", key.name);
        Self::new(404, "NotFound", message).about(&key.kind, &key.name)
    }

    /// 404 for a path that is nothing.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource".to_owned())
    }

    /// 422 for a patch that cannot be applied.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message.into())
    }

    /// 409 on create.
    pub fn already_exists(key: &ObjectKey) -> Self {
        let resource = qualified(&key.kind.plural, &key.kind.group);
        let message = format!("{resource} \"{}\" already exists", key.name);
        Self::new(409, "AlreadyExists", message).about(&key.kind, &key.name)
    }

    /// 409 because somebody else wrote first, or a precondition failed.
    pub fn conflict(key: &ObjectKey, detail: &str) -> Self {
        let resource = qualified(&key.kind.plural, &key.kind.group);
        let message =
            format!("Operation cannot be fulfilled on {resource} \"{}\": {detail}", key.name);
        Self::new(409, "Conflict", message).about(&key.kind, &key.name)
    }

    /// The same because of a precondition of a deletion: kube-apiserver names the kind there, not the resource.
    pub fn conflict_of_kind(key: &ObjectKey, detail: &str) -> Self {
        let kind = qualified(&key.kind.kind, &key.kind.group);
        let message = format!("Operation cannot be fulfilled on {kind} \"{}\": {detail}", key.name);
        let mut status = Self::new(409, "Conflict", message).about(&key.kind, &key.name);
        status.resource = key.kind.kind.to_string();
        status
    }

    /// The same because of a precondition of a write to a subresource.
    pub fn conflict_of_subresource(key: &ObjectKey, subresource: &str, detail: &str) -> Self {
        let (name, resource) = (&key.name, format!("{}/{subresource}", key.kind.plural));
        let what = qualified(&resource, &key.kind.group);
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {detail}");
        Self { resource, ..Self::new(409, "Conflict", message).about(&key.kind, name) }
    }

    /// The usual [`Status::conflict`].
    pub fn modified(key: &ObjectKey) -> Self {
        Self::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422 with field errors.
    pub fn invalid(kind: &Kind, name: &str, causes: Vec<Cause>) -> Self {
        Self::invalid_kind(&kind.kind, &kind.group, name, causes)
    }

    /// 422 because of query parameters, which Kubernetes calls `ListOptions`, `CreateOptions`, ...
    pub fn invalid_options(options: &str, causes: Vec<Cause>) -> Self {
        Self::invalid_kind(options, "meta.k8s.io", "", causes)
    }

    /// 422 because a log is asked for that cannot be.
    pub fn invalid_log_options(pod: &str, causes: Vec<Cause>) -> Self {
        Self::invalid_kind("PodLogOptions", "", pod, causes)
    }

    fn invalid_kind(kind: &str, group: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut lines: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        lines.dedup();
        let list = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let what = qualified(kind, group);
        let mut status = Self::new(422, "Invalid", format!("{what} \"{name}\" is invalid: {list}"));
        status.resource = kind.to_owned();
        status.group = group.to_owned();
        status.name = name.to_owned();
        status.causes = causes;
        status
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".to_owned())
    }

    /// 403 about an object.
    pub fn forbidden(key: &ObjectKey, detail: &str) -> Self {
        let resource = qualified(&key.kind.plural, &key.kind.group);
        let message = format!("{resource} \"{}\" is forbidden: {detail}", key.name);
        Self::new(403, "Forbidden", message).about(&key.kind, &key.name)
    }

    /// 403 about a request.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message.into())
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::method_not_allowed_because(
            "the server does not allow this method on the requested resource",
        )
    }

    /// 405 for a reason.
    pub fn method_not_allowed_because(message: &str) -> Self {
        Self::new(405, "MethodNotAllowed", message.to_owned())
    }

    /// 406: none of the asked media types can be produced.
    pub fn not_acceptable(supported: &str) -> Self {
        let message = format!("only the following media types are accepted: {supported}");
        Self::new(406, "NotAcceptable", message)
    }

    /// 406: the asked form does not exist.
    pub fn no_such_form(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message.into())
    }

    /// 410: the revision is older than the kept history.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// 410: a list at a revision that is no longer kept.
    pub fn expired_list() -> Self {
        let message = "The resourceVersion for the provided list is too old.";
        Self::new(410, "Expired", message.to_owned())
    }

    /// 410: the next page of a list whose revision is no longer kept; with the token the client may go on, at the
    /// newest revision.
    pub fn expired_page(continue_token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. \
            You can start a new list without the continue parameter, or use the continue token in this response \
            to retrieve the remainder of the results. Continuing with the provided token results in an \
            inconsistent list - objects that were created, modified, or deleted between the time the first chunk \
            was returned and now may show up in the list.";
        let mut status = Self::new(410, "Expired", message.to_owned());
        status.continue_token = continue_token;
        status
    }

    /// 413.
    pub fn too_large(bytes_max: usize) -> Self {
        let message = format!("Request entity too large: limit is {bytes_max}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message.into())
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message.into());
        status.retry_after_seconds = Some(retry_after_seconds);
        status
    }

    /// 500; the inner detail belongs in the log, not here.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message.into())
    }

    /// 500: what is stored is no object. kube-apiserver has this reason for it.
    pub fn store_read_error(key: &ObjectKey, detail: &str) -> Self {
        let resource = qualified(&key.kind.plural, &key.kind.group);
        let message = format!(
            "{resource} \"{}\" cannot be read: {detail}; `kubectl delete` removes what is stored",
            key.name
        );
        Self::new(500, "StorageReadError", message).about(&key.kind, &key.name)
    }

    /// 501: what a real cluster could do and this one cannot.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message.into())
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let mut status = Self::new(503, "ServiceUnavailable", message.into());
        status.retry_after_seconds = Some(1);
        status
    }

    /// 504: what was waited for did not come in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message.into())
    }

    /// 504: a revision that has not happened yet.
    pub fn too_large_version(asked: u64, current: u64) -> Self {
        let what = "Too large resource version";
        let mut status = Self::timeout(format!("Timeout: {what}: {asked}, current: {current}"));
        let (field, message) = (String::new(), what.to_owned());
        status.causes = vec![Cause { reason: "ResourceVersionTooLarge", field, message }];
        status.retry_after_seconds = Some(1);
        status
    }

    /// 507: the disk is full.
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::new(507, "InsufficientStorage", message.into())
    }

    /// The JSON body, a `v1/Status`.
    pub fn to_json(&self) -> Value {
        let mut details = serde_json::Map::new();
        for (field, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.resource)]
        {
            if !text.is_empty() {
                details.insert(field.to_owned(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self
                .causes
                .iter()
                .map(|c| {
                    let mut cause = json!({"reason": c.reason, "message": c.message});
                    if !c.field.is_empty() {
                        cause["field"] = c.field.as_str().into();
                    }
                    cause
                })
                .collect();
            details.insert("causes".to_owned(), causes.into());
        }
        if let Some(seconds) = self.retry_after_seconds {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason});
        if !self.continue_token.is_empty() {
            body["metadata"]["continue"] = self.continue_token.as_str().into();
        }
        if !details.is_empty() {
            body["details"] = Value::Object(details);
        }
        body["code"] = self.code.into();
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind;

    #[test]
    fn invalid_reads_as_kubernetes_writes_it() {
        let cause = Cause::invalid(
            "spec.ports[0].nodePort",
            40000,
            "provided port is not in the valid range",
        );
        let status = Status::invalid(&kind::SERVICE, "web", vec![cause]);
        assert_eq!(
            status.message,
            "Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value: 40000: \
             provided port is not in the valid range"
        );
        assert_eq!(status.to_json()["details"]["causes"][0]["field"], "spec.ports[0].nodePort");
    }
}
