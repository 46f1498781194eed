//! Secrets: plain text becomes data, types demand their keys. Values never appear in messages.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Map, Value};

use crate::{
    model::{
        Cause, kind,
        well_known::{ACCOUNT_NAME_ANNOTATION, ACCOUNT_TOKEN_SECRET},
    },
    registry::{
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, Rules, as_named, checks,
            config_map::{DATA_MAX, Keys, SEALED, count},
            fields::{fill_text, text},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::SECRET,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Type", "What the data is for."),
        Column::text("Data", "Number of keys."),
        Column::AGE,
    ],
    cells: |object, now| {
        let Keys { data, kind, .. } = object.parse()?;
        Ok(row::plain(object, now, [Value::from(kind), count(data.as_ref()).into()]))
    },
    selectable_fields: &[as_named("type")],
    ..BuiltIn::STORED
};

static RULES: Rules<Secret> = Rules { default, validate, ..Rules::STORED };

fn default(new: &mut Secret, _old: Option<&Secret>, _context: &Context<'_>) {
    fill_text(&mut new.type_, "Opaque");
    for (key, value) in new.string_data.take().into_iter().flatten() {
        new.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
    }
}

fn validate(new: &Secret, old: Option<&Secret>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(old) = old {
        checks::immutable(&mut causes, "type", &new.type_, &old.type_);
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                causes.push(Cause::forbidden("immutable", SEALED));
            }
            if new.data != old.data {
                causes.push(Cause::forbidden("data", SEALED));
            }
        }
    }
    let mut size = 0;
    for (key, value) in new.data.iter().flatten() {
        checks::data_key(&mut causes, &format!("data[{key}]"), key);
        size += value.0.len();
    }
    if size > DATA_MAX {
        causes.push(Cause::too_long("data", DATA_MAX));
    }
    validate_type(&mut causes, new);
    causes
}

fn validate_type(causes: &mut Vec<Cause>, secret: &Secret) {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let required = |key: &str| Cause::required(format!("data[{key}]"), "");
    match text(&secret.type_) {
        ACCOUNT_TOKEN_SECRET => {
            let annotations = secret.metadata.annotations.as_ref();
            if annotations
                .and_then(|all| all.get(ACCOUNT_NAME_ANNOTATION))
                .is_none_or(String::is_empty)
            {
                let field = format!("metadata.annotations[{ACCOUNT_NAME_ANNOTATION}]");
                causes.push(Cause::required(field, ""));
            }
        }
        "kubernetes.io/dockercfg" => json_object(causes, ".dockercfg", data(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            json_object(causes, ".dockerconfigjson", data(".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" if data("username").or(data("password")).is_none() => {
            causes.extend([required("username"), required("password")]);
        }
        "kubernetes.io/ssh-auth" if data("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
            causes.push(required("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            let missing = ["tls.crt", "tls.key"].into_iter().filter(|key| data(key).is_none());
            causes.extend(missing.map(required));
        }
        _ => {}
    }
}

fn json_object(causes: &mut Vec<Cause>, key: &str, value: Option<&ByteString>) {
    let field = format!("data[{key}]");
    let Some(value) = value else {
        causes.push(Cause::required(field, ""));
        return;
    };
    if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&value.0) {
        // Only the place of the fault: the parser's own words may quote the secret.
        let rule = format!("no JSON object, line {} column {}", error.line(), error.column());
        causes.push(Cause::invalid(field, "<secret contents redacted>", &rule));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn admit(change: &Value, old: Option<&Secret>) -> (Vec<String>, Secret) {
        let base = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: Secret = object(merged(base, change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn text_becomes_data() {
        let given = json!({"data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "3"}});
        let (faults, secret) = admit(&given, None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(secret.type_.as_deref(), Some("Opaque"));
        assert_eq!(checks::shown(&secret.data), json!({"a": "MQ==", "b": "Mw=="}));
        assert_eq!(secret.string_data, None);
    }

    #[test]
    fn rules() {
        for (change, expected) in [
            (
                json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}),
                vec!["data[tls.key]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "pass"}}),
                vec![
                    "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": no JSON object, line 1 column 1",
                ],
            ),
            (
                json!({"stringData": {"a": "x".repeat(DATA_MAX + 1)}}),
                vec!["data: Too long: may not be more than 1048576 bytes"],
            ),
        ] {
            assert_eq!(admit(&change, None).0, expected);
        }
        let (_, old) = admit(&json!({"immutable": true}), None);
        assert_eq!(
            admit(
                &json!({"type": "other", "immutable": true, "stringData": {"a": "1"}}),
                Some(&old)
            )
            .0,
            [
                "type: Invalid value: \"other\": field is immutable",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }
}
