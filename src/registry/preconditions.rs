//! Preconditions of requests: which object a client means to change or delete (`metav1.Preconditions`).

use crate::model::{Object, ObjectKey, Status};

/// What must be true of the object that a request finds. What is `None` is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its `resourceVersion`.
    pub resource_version: Option<String>,
}

/// A field that is not as a precondition says.
struct Mismatch<'a> {
    field: &'static str,
    wanted: &'a str,
    found: String,
}

impl Preconditions {
    /// The object must have this uid.
    pub fn of_uid(uid: impl Into<String>) -> Self {
        Self { uid: Some(uid.into()), resource_version: None }
    }

    /// Checks the object that is to be deleted.
    ///
    /// # Errors
    /// 409 in the words of kube-apiserver's `BeforeDelete`.
    pub fn check_delete(&self, key: &ObjectKey, object: &Object) -> Result<(), Status> {
        let Some(Mismatch { field, wanted, found }) = self.mismatch(object) else { return Ok(()) };
        let happened = match field {
            "UID" => "deleted and then recreated",
            _ => "modified",
        };
        let text = format!(
            "the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). \
             The object might have been {happened}"
        );
        Err(Status::conflict_of_kind(key, &text))
    }

    /// Checks the object that is to be changed.
    ///
    /// # Errors
    /// 409 in the words of kube-apiserver's storage.
    pub(crate) fn check_update(&self, key: &ObjectKey, object: &Object) -> Result<(), Status> {
        let Some(Mismatch { field, wanted, found }) = self.mismatch(object) else { return Ok(()) };
        let text = format!(
            "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
        );
        Err(Status::conflict(key, &text))
    }

    fn mismatch(&self, object: &Object) -> Option<Mismatch<'_>> {
        let revision = object.revision.to_string();
        let pairs = [
            ("UID", &self.uid, object.metadata.uid.as_str()),
            ("ResourceVersion", &self.resource_version, revision.as_str()),
        ];
        pairs.into_iter().find_map(|(field, wanted, found)| {
            let wanted = wanted.as_deref().filter(|wanted| *wanted != found)?;
            Some(Mismatch { field, wanted, found: found.to_owned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{kind, object::to_stored};

    #[test]
    fn words_are_those_of_kube_apiserver() {
        let key = ObjectKey::new(&kind::DEPLOYMENT, "default", "web");
        let stored = to_stored(&key.kind, json!({"metadata": {"name": "web", "uid": "1"}}));
        let object = Object::from_stored(key.clone(), 7, stored).unwrap();
        let check = |uid: Option<&str>, version: Option<&str>, expected: [Option<&str>; 2]| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let preconditions = Preconditions { uid: text(uid), resource_version: text(version) };
            let results = [
                preconditions.check_delete(&key, &object),
                preconditions.check_update(&key, &object),
            ];
            let found = results.map(|result| {
                result.err().map(|status| {
                    assert_eq!((status.code, status.reason), (409, "Conflict"));
                    status.message.split_once("\": ").unwrap().1.to_owned()
                })
            });
            assert_eq!(found, expected.map(text), "{uid:?} {version:?}");
        };
        check(None, None, [None, None]);
        check(Some("1"), Some("7"), [None, None]);
        check(
            Some("2"),
            Some("8"),
            [
                Some(
                    "the UID in the precondition (2) does not match the UID in record (1). \
                     The object might have been deleted and then recreated",
                ),
                Some("Precondition failed: UID in precondition: 2, UID in object meta: 1"),
            ],
        );
        check(
            Some("1"),
            Some("x"),
            [
                Some(
                    "the ResourceVersion in the precondition (x) does not match the ResourceVersion in record (7). \
                     The object might have been modified",
                ),
                Some(
                    "Precondition failed: ResourceVersion in precondition: x, ResourceVersion in object meta: 7",
                ),
            ],
        );
        let status = Preconditions::of_uid("2").check_delete(&key, &object).unwrap_err();
        let beginning = "Operation cannot be fulfilled on Deployment.apps \"web\": the UID";
        assert!(status.message.starts_with(beginning), "{}", status.message);
    }
}
