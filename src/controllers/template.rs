//! From a pod template to pods: the document, stable hashes, and names in Kubernetes' alphabet.

use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};
use siphasher::sip::SipHasher13;

use crate::{
    controllers::{ownership, to_value},
    model::Object,
};

/// No vowels and no look-alikes, as Kubernetes' `rand.SafeEncodeString` has them.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest base of a generated name, as for `generateName`.
const BASE_MAX: usize = 63 - SUFFIX_LENGTH;

/// A pod made from a template, managed by `owner`. The caller sets the name.
pub(crate) fn pod(template: &PodTemplateSpec, owner: &Object) -> Value {
    let mut metadata = json!({
        "namespace": owner.key.namespace,
        "ownerReferences": [ownership::reference(owner)],
    });
    if let Some(own) = &template.metadata {
        let fields = [
            ("labels", to_value(&own.labels)),
            ("annotations", to_value(&own.annotations)),
            ("finalizers", to_value(&own.finalizers)),
        ];
        for (field, value) in fields {
            if !value.is_null() {
                metadata[field] = value;
            }
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
           "spec": template.spec.as_ref().map_or_else(|| json!({}), to_value)})
}

/// A hash of what the template says, equal in every process. `collisions` makes another one of it.
pub(crate) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut hasher = SipHasher13::new();
    to_value(template).to_string().hash(&mut hasher);
    collisions.hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    safe_encode(&u32::from_be_bytes([a, b, c, d]).to_string())
}

/// A name that begins with `base`. The same seeds give the same name, so that a plan stays a pure function.
pub(crate) fn generated_name(base: &str, seeds: &impl Hash) -> String {
    let mut hasher = SipHasher13::new();
    seeds.hash(&mut hasher);
    let bytes = hasher.finish().to_be_bytes();
    let suffix = bytes.iter().take(SUFFIX_LENGTH).map(|byte| letter(*byte));
    base.chars().take(BASE_MAX).chain(suffix).collect()
}

/// Kubernetes' `SafeEncodeString`.
pub(crate) fn safe_encode(text: &str) -> String {
    text.bytes().map(letter).collect()
}

fn letter(byte: u8) -> char {
    char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_tell_templates_apart() {
        let template = |image: &str| -> PodTemplateSpec {
            serde_json::from_value(json!({"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "a", "image": image}]}}))
            .unwrap()
        };
        assert_eq!(hash(&template("a"), 0), hash(&template("a"), 0));
        assert_ne!(hash(&template("a"), 0), hash(&template("b"), 0));
        assert_ne!(hash(&template("a"), 0), hash(&template("a"), 1));
        assert!(hash(&template("a"), 0).bytes().all(|c| ALPHABET.contains(&c)));
        let long = "x".repeat(80);
        assert_eq!(generated_name(&long, &1).len(), 63);
        assert_ne!(generated_name("web-", &1), generated_name("web-", &2));
    }
}
