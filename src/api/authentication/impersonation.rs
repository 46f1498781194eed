//! `Impersonate-User` and its companions (`kubectl --as`): an authenticated caller acts as somebody else.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName};

use crate::{
    api::authentication::{
        ANONYMOUS, Caller, UNAUTHENTICATED,
        account_tokens::{account_groups, account_of_user},
    },
    model::Status,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
/// The rest of such a header's name is the key, percent-encoded.
const EXTRA: &str = "impersonate-extra-";

/// As whom the request is made; `None` when it is made as who sent it.
pub(crate) fn impersonated(headers: &HeaderMap) -> Result<Option<Caller>, Status> {
    let texts = |name: &HeaderName| -> Result<Vec<String>, Status> {
        let values = headers.get_all(name).iter();
        let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned);
        values.map(text).collect::<Result<_, _>>().map_err(|_bytes| {
            Status::bad_request(format!("the value of the header {name} is not text"))
        })
    };
    let one = |name| texts(&HeaderName::from_static(name));
    let (user, groups, uid) = (one(USER)?, one(GROUP)?, one(UID)?);
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra.insert(decoded(key), texts(name)?);
        }
    }
    let Some(name) = user.first().filter(|name| !name.is_empty()) else {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(
            "requested impersonation of groups, a uid or extra fields without impersonating a user",
        ));
    };
    let groups = if !groups.is_empty() {
        groups
    } else if let Some((namespace, _)) = account_of_user(name) {
        account_groups(namespace)
    } else if name == ANONYMOUS {
        vec![UNAUTHENTICATED.to_owned()]
    } else {
        groups
    };
    let uid = uid.first().map(String::as_str).unwrap_or_default();
    Ok(Some(Caller { extra: Arc::new(extra), ..Caller::new(name, uid, groups) }))
}

/// Percent-decoded; what is no encoding stays as it is.
fn decoded(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn headers_name_somebody_else() {
        let check = |lines: &[(&str, &str)], expected: &[&str]| {
            let caller = impersonated(&headers(lines)).unwrap().unwrap();
            let mut seen = vec![&*caller.name, &*caller.uid];
            seen.extend(caller.groups.iter().map(String::as_str));
            assert_eq!(seen, expected, "{lines:?}");
            caller
        };
        check(&[("Impersonate-User", "ann")], &["ann", "", "system:authenticated"]);
        let all = [
            ("Impersonate-User", "ann"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Group", "ops"),
            ("Impersonate-Uid", "u1"),
            ("Impersonate-Extra-example.com%2FScopes", "view"),
            ("Impersonate-Extra-example.com%2FScopes", "edit"),
        ];
        let caller = check(&all, &["ann", "u1", "dev", "ops", "system:authenticated"]);
        assert_eq!(caller.extra["example.com/scopes"], ["view", "edit"]);
        check(
            &[("Impersonate-User", "system:serviceaccount:shop:web")],
            &[
                "system:serviceaccount:shop:web",
                "",
                "system:serviceaccounts",
                "system:serviceaccounts:shop",
                "system:authenticated",
            ],
        );
        check(&[("Impersonate-User", ANONYMOUS)], &[ANONYMOUS, "", UNAUTHENTICATED]);
    }

    #[test]
    fn nothing_but_a_user_can_be_the_begin() {
        assert_eq!(impersonated(&headers(&[("Accept", "*/*")])), Ok(None));
        for name in ["Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-a"] {
            assert_eq!(impersonated(&headers(&[(name, "x")])).unwrap_err().code, 400, "{name}");
        }
        assert_eq!(decoded("a%2Fb%zz%"), "a/b%zz%");
    }
}
