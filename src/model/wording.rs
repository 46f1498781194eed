//! What serde says about a document, for clients: in the words of JSON, without the names of Rust types.

use std::fmt::Display;

/// The error's text with `an integer` for `i32` and `an object` for the name of a struct.
pub fn in_json(error: &(impl Display + ?Sized)) -> String {
    const POSITION: &str = " at line ";
    let text = error.to_string();
    if text.starts_with("data did not match any variant") {
        return "the value has none of the forms that this field can have".to_owned();
    }
    let (found, position) = match text.rsplit_once(POSITION) {
        Some((found, position)) => (found, format!("{POSITION}{position}")),
        None => (text.as_str(), String::new()),
    };
    let Some((given, expected)) = found.rsplit_once(", expected ") else { return text };
    let given = match given {
        "invalid type: map" => "invalid type: object",
        "invalid type: sequence" => "invalid type: list",
        // Of texts, one is expected: a kind's name is not a type here.
        other if other.starts_with("invalid value: string") => return text,
        other => other,
    };
    format!("{given}, expected {}{position}", form(expected))
}

/// What a reader expects, which serde tells by the name of the type.
fn form(expected: &str) -> &str {
    let numeric = |prefix: char| {
        let bits = expected.strip_prefix(prefix).unwrap_or_default();
        bits == "size" || bits.parse::<u8>().is_ok()
    };
    match expected {
        _ if numeric('i') || numeric('u') => "an integer",
        _ if numeric('f') => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        "IntOrString" | "int or string" => "an integer or a string",
        "Time" | "MicroTime" => "a time",
        "Quantity" => "a quantity",
        "ByteString" => "a string",
        _ if expected.contains("struct ") => "an object",
        // Types of Kubernetes are told by their bare names.
        _ if expected.starts_with(char::is_uppercase) && !expected.contains(' ') => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
    fn fault<T: DeserializeOwned>(document: Value) -> String {
        in_json(&T::deserialize(&document).err().unwrap())
    }

    #[test]
    fn no_rust_is_told() {
        for (spec, expected) in [
            (json!("x"), "invalid type: string \"x\", expected an object"),
            (json!({"replicas": "x"}), "invalid type: string \"x\", expected an integer"),
            (json!({"replicas": {}}), "invalid type: object, expected an integer"),
            (json!({"replicas": 1.5}), "invalid type: floating point `1.5`, expected an integer"),
            (
                json!({"replicas": 99_999_999_999_u64}),
                "invalid value: integer `99999999999`, expected an integer",
            ),
            (json!({"paused": 1}), "invalid type: integer `1`, expected a boolean"),
            (json!({"template": []}), "invalid type: list, expected an object"),
            (
                json!({"template": {"spec": {"containers": {}}}}),
                "invalid type: object, expected a list",
            ),
            (
                json!({"template": {"metadata": {"labels": 1}}}),
                "invalid type: integer `1`, expected an object",
            ),
            (
                json!({"template": {"spec": {"overhead": {"cpu": []}}}}),
                "invalid type: list, expected a quantity",
            ),
        ] {
            assert_eq!(fault::<Deployment>(json!({"spec": spec})), expected);
        }
        let kind = json!({"kind": "Pod"});
        assert_eq!(fault::<Service>(kind), "invalid value: string \"Pod\", expected Service");
        let port = json!({"spec": {"ports": [{"port": 1, "targetPort": []}]}});
        assert_eq!(fault::<Service>(port), "invalid type: list, expected an integer or a string");
    }

    #[test]
    fn where_it_stands_in_a_text_is_kept() {
        let error = serde_json::from_str::<i32>("\n true").unwrap_err();
        assert_eq!(
            in_json(&error),
            "invalid type: boolean `true`, expected an integer at line 2 column 5"
        );
    }
}
