//! CertificateSigningRequests: who asks which signer for what, and what became of it. Nothing signs them yet.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{
    model::{Cause, Object, kind::extension::CERTIFICATE_SIGNING_REQUEST, time::time_text},
    registry::{
        Subresource,
        printing::{Cells, Column, age::human, row},
        strategy::{
            BuiltIn, Context, as_named, checks,
            document::DocumentRules,
            json::{
                condition, fill, is_set, items, items_mut, number, stored_only, text, texts, unique,
            },
            metadata::{NameForm, validate_name},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &CERTIFICATE_SIGNING_REQUEST,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Who is asked to sign."),
        Column::text("Requestor", "Who asks."),
        Column::text("RequestedDuration", "How long the certificate shall be valid."),
        Column::text("Condition", "What became of the request."),
    ],
    cells,
    selectable_fields: &[as_named("spec.signerName")],
    ..BuiltIn::STORED
};

static RULES: DocumentRules = DocumentRules {
    default,
    validate,
    warnings: |new, old| stored_only(new, old, "signs no certificates"),
    name: NameForm::PathSegment,
};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SECONDS_MIN: i64 = 600;
const DOMAIN_MAX: usize = 253;
const SIGNER_NAME_MAX: usize = 571;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The spec never changes. Of the status, `approval` changes the conditions, and `status` all but approval and denial.
fn default(new: &mut Value, old: Option<&Value>, context: &Context<'_>) {
    let Some(old) = old else { return };
    new["spec"] = old["spec"].clone();
    let is_approval = |condition: &Value| matches!(text(condition, "type"), APPROVED | DENIED);
    match context.subresource {
        Subresource::Approval => {
            let conditions = new["status"]["conditions"].take();
            new["status"] = old["status"].clone();
            new["status"]["conditions"] = conditions;
        }
        Subresource::Status => {
            let kept = items(&old["status"], "conditions").iter().filter(|c| is_approval(c));
            let given = items(&new["status"], "conditions").iter().filter(|c| !is_approval(c));
            let conditions: Vec<Value> = kept.chain(given).cloned().collect();
            new["status"]["conditions"] = conditions.into();
        }
        _ => return,
    }
    let now = time_text(context.now);
    for condition in items_mut(&mut new["status"], "conditions") {
        fill(condition, "lastUpdateTime", now.as_str());
        let same = items(&old["status"], "conditions").iter().find(|before| {
            before["type"] == condition["type"] && before["status"] == condition["status"]
        });
        let since = same.map_or(now.as_str(), |before| text(before, "lastTransitionTime"));
        fill(condition, "lastTransitionTime", since);
    }
}

fn validate(new: &Value, old: Option<&Value>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(old) = old else {
        spec(&mut causes, &new["spec"]);
        return causes;
    };
    if matches!(context.subresource, Subresource::Status | Subresource::Approval) {
        status(&mut causes, &new["status"]);
        changes(&mut causes, &new["status"], &old["status"]);
    }
    causes
}

fn spec(causes: &mut Vec<Cause>, spec: &Value) {
    if let Err(why) = request(text(spec, "request")) {
        causes.push(Cause::broken("spec.request", &why));
    }
    let usages = texts(spec, "usages");
    if usages.is_empty() {
        causes.push(Cause::required("spec.usages", ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        checks::one_of(causes, &format!("spec.usages[{i}]"), usage, &USAGES);
    }
    let places = usages.iter().enumerate();
    unique(causes, places.map(|(i, usage)| (format!("spec.usages[{i}]"), *usage)));
    let signer = text(spec, "signerName");
    if signer == LEGACY_SIGNER {
        let rule = "the legacy signerName is not allowed via this API version";
        causes.push(Cause::invalid("spec.signerName", signer, rule));
    } else {
        signer_name(causes, "spec.signerName", signer);
    }
    if let Some(seconds) = number(spec, "expirationSeconds").filter(|given| *given < SECONDS_MIN) {
        let rule = "may not specify a duration less than 600 seconds (10 minutes)";
        causes.push(Cause::invalid("spec.expirationSeconds", seconds, rule));
    }
}

/// Checks a request in PEM, which documents have in base64. The signature is left to the signer.
fn request(encoded: &str) -> Result<(), String> {
    const TYPE: &str = "PEM block type must be CERTIFICATE REQUEST";
    let pem = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let pem = String::from_utf8(pem).map_err(|_bytes| TYPE.to_owned())?;
    let after = pem.split_once("-----BEGIN CERTIFICATE REQUEST-----");
    let body = after.and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE REQUEST-----"));
    let (body, _) = body.ok_or(TYPE)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_bytes| TYPE.to_owned())?;
    X509CertificationRequest::from_der(&der).map(drop).map_err(|error| error.to_string())
}

/// `example.com/signer-name`.
pub(super) fn signer_name(causes: &mut Vec<Cause>, path: &str, name: &str) {
    if name.is_empty() {
        causes.push(Cause::required(path, ""));
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let rule =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        causes.push(Cause::invalid(path, name, rule));
        return;
    };
    if domain.len() > DOMAIN_MAX {
        causes.push(Cause::too_long(path, DOMAIN_MAX));
    }
    for (segment, form) in [(domain, NameForm::Label), (rest, NameForm::Subdomain)] {
        let labels = segment.split('.').map(|label| (label, validate_name(label, form)));
        let broken = labels.filter(|(_, faults)| !faults.is_empty()).take(1);
        for (label, fault) in
            broken.flat_map(|(label, faults)| faults.into_iter().map(move |f| (label, f)))
        {
            let rule = format!("validating label {label:?}: {fault}");
            causes.push(Cause::invalid(path, segment, &rule));
        }
        if form == NameForm::Label && !segment.contains('.') {
            let rule = "should be a domain with at least two segments separated by dots";
            causes.push(Cause::invalid(path, segment, rule));
        }
    }
    if name.len() > SIGNER_NAME_MAX {
        causes.push(Cause::too_long(path, SIGNER_NAME_MAX));
    }
}

fn status(causes: &mut Vec<Cause>, status: &Value) {
    let conditions = items(status, "conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let path = format!("status.conditions[{i}]");
        let kind = text(condition, "type");
        if kind.is_empty() {
            causes.push(Cause::required(format!("{path}.type"), ""));
        }
        let known: &[&str] = match kind {
            APPROVED | DENIED | FAILED => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        let path = format!("{path}.status");
        checks::required_one_of(causes, &path, text(condition, "status"), known);
    }
    let has = |kind: &str| conditions.iter().any(|condition| text(condition, "type") == kind);
    if has(APPROVED) && has(DENIED) {
        let rule = "Approved and Denied conditions are mutually exclusive";
        causes.push(Cause::invalid("status.conditions", conditions.to_vec(), rule));
    }
    let kinds = conditions.iter().map(|condition| text(condition, "type")).enumerate();
    unique(causes, kinds.map(|(i, kind)| (format!("status.conditions[{i}].type"), kind)));
    let certificate = text(status, "certificate");
    let pem = STANDARD.decode(certificate).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let is_pem = pem.is_some_and(|pem| pem.contains("-----BEGIN CERTIFICATE-----"));
    if !certificate.is_empty() && !is_pem {
        let rule = "must contain at least one CERTIFICATE PEM block";
        causes.push(Cause::invalid("status.certificate", "<certificate data>", rule));
    }
}

/// What was decided stays.
fn changes(causes: &mut Vec<Cause>, new: &Value, old: &Value) {
    let has = |status: &Value, kind: &str| {
        items(status, "conditions").iter().any(|condition| text(condition, "type") == kind)
    };
    for kind in [APPROVED, DENIED, FAILED] {
        if has(old, kind) && !has(new, kind) {
            let rule = format!("updates may not remove a condition of type {kind:?}");
            causes.push(Cause::forbidden("status.conditions", &rule));
        }
    }
    if is_set(old, "certificate") && new["certificate"] != old["certificate"] {
        let rule = "updates may not modify existing certificate content";
        causes.push(Cause::forbidden("status.certificate", rule));
    }
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let document: Value = object.parse()?;
    let (spec, status) = (&document["spec"], &document["status"]);
    let seconds = number(spec, "expirationSeconds").map(SignedDuration::from_secs);
    let has = |kind: &str| condition(status, kind).is_some();
    let mut state = match (has(DENIED), has(APPROVED)) {
        (true, _) => DENIED,
        (_, true) => APPROVED,
        _ => "Pending",
    }
    .to_owned();
    if has(FAILED) {
        state += ",Failed";
    }
    if !text(status, "certificate").is_empty() {
        state += ",Issued";
    }
    Ok(vec![
        object.key.name.as_str().into(),
        row::age(object, now),
        row::or(text(spec, "signerName"), row::NONE).into(),
        text(spec, "username").into(),
        seconds.map_or_else(|| row::NONE.to_owned(), human).into(),
        state.into(),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::{ObjectKey, object::to_stored},
        registry::{
            View,
            strategy::{
                checks::testing::{context, lines, options},
                json::testing::check_faults,
            },
        },
    };

    fn signing_request() -> Value {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "a"},
            "spec": {"request": STANDARD.encode(pem), "usages": ["client auth"], "signerName": "example.com/a.b",
                "expirationSeconds": 600}})
    }

    #[test]
    fn rules() {
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/spec/request",
                json!("eA=="),
                &["spec.request: Invalid value: PEM block type must be CERTIFICATE REQUEST"],
            ),
            ("/spec/usages", json!([]), &["spec.usages: Required value"]),
            ("/spec/usages", json!(["any", "any"]), &["spec.usages[1]: Duplicate value: \"any\""]),
            (
                "/spec/signerName",
                json!(LEGACY_SIGNER),
                &[
                    "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed \
                   via this API version",
                ],
            ),
            (
                "/spec/signerName",
                json!("example"),
                &[
                    "spec.signerName: Invalid value: \"example\": must be a fully qualified domain and path of the form \
                   'example.com/signer-name'",
                ],
            ),
            (
                "/spec/signerName",
                json!("example/a"),
                &[
                    "spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated by \
                   dots",
                ],
            ),
            (
                "/spec/expirationSeconds",
                json!(599),
                &[
                    "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 \
                   minutes)",
                ],
            ),
        ];
        check_faults(&RULES, &CERTIFICATE_SIGNING_REQUEST, &signing_request(), cases);
    }

    #[test]
    fn approval_and_status_change_their_own_parts() {
        let (view, options) = (View::for_tests(), options());
        let change = |old: &Value, subresource: Subresource, status: Value| {
            let context = context(&view, &options, subresource);
            let mut new = old.clone();
            new["spec"]["usages"] = json!(["any"]);
            new["status"] = status;
            default(&mut new, Some(old), &context);
            assert_eq!(new["spec"], old["spec"]);
            (lines(&validate(&new, Some(old), &context)), new)
        };
        let approved = json!({"type": APPROVED, "status": "True", "reason": "Good"});
        let certificate = STANDARD.encode("-----BEGIN CERTIFICATE-----");
        let status = json!({"conditions": [approved], "certificate": certificate});
        let (faults, new) = change(&signing_request(), Subresource::Approval, status);
        assert_eq!(faults, [""; 0]);
        assert_eq!(new["status"]["conditions"][0]["lastUpdateTime"], "1970-01-01T00:00:00Z");
        assert!(new["status"]["certificate"].is_null());
        let (faults, issued) =
            change(&new, Subresource::Status, json!({"certificate": certificate}));
        assert_eq!(faults, [""; 0]);
        assert_eq!(issued["status"]["conditions"][0]["reason"], "Good");
        let denied = json!({"conditions": [{"type": DENIED, "status": "True"}]});
        assert_eq!(
            change(&issued, Subresource::Approval, denied).0,
            [
                "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""
            ]
        );
        assert_eq!(
            change(&issued, Subresource::Status, json!({})).0,
            ["status.certificate: Forbidden: updates may not modify existing certificate content"]
        );
    }

    #[test]
    fn rows() {
        let requested = |status: Value| {
            let conditions: Vec<_> = [DENIED, APPROVED, FAILED]
                .into_iter()
                .filter(|state| status[*state] == true)
                .map(|state| json!({"type": state, "status": "True"}))
                .collect();
            json!({"conditions": conditions, "certificate": status["certificate"]})
        };
        for (status, expected) in [
            (json!({}), "Pending"),
            (json!({"Approved": true, "certificate": "eA=="}), "Approved,Issued"),
            (json!({"Denied": true}), "Denied"),
            (json!({"Approved": true, "Failed": true}), "Approved,Failed"),
        ] {
            let spec =
                json!({"signerName": "example.com/a", "username": "me", "expirationSeconds": 3600});
            let document =
                json!({"metadata": {"name": "x"}, "spec": spec, "status": requested(status)});
            let key = ObjectKey::cluster(&CERTIFICATE_SIGNING_REQUEST, "x");
            let stored = to_stored(&key.kind, document);
            let object = Object::from_stored(key, 1, stored).unwrap();
            assert_eq!(
                cells(&object, Timestamp::UNIX_EPOCH).unwrap(),
                ["x", "<unknown>", "example.com/a", "me", "60m", expected]
            );
        }
    }
}
