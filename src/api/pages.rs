//! Lists in pages, and lists at an old revision: which revision a list shows, and where its next page begins.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;

use crate::{
    api::{Api, request::Request, target::Target},
    model::Status,
    registry::View,
};

/// How many views are kept for clients that read a list page by page. Few, because a view of an old revision shares no
/// objects with another.
const PAGED_VIEWS_MAX: usize = 4;

/// The views of lists that clients read page by page. A view that was dropped is read from the store again.
#[derive(Default)]
pub(crate) struct Pages(Mutex<VecDeque<(Target, View)>>);

/// Namespace and name.
type Name = (String, String);

/// The view that a list shows, and the object after which its page begins.
pub(crate) async fn listed(api: &Api, request: &Request) -> Result<(View, Option<Name>), Status> {
    let Request { query, target, .. } = request;
    let (registry, namespace) = (&api.registry, target.namespace.as_deref());
    if query.r#continue.is_empty() {
        let view = match (query.exact_version()?, query.version()?) {
            (Some(revision), _) => registry.view_at(target.kind(), namespace, revision).await?,
            (None, Some(revision)) => registry.view_not_before(revision).await?,
            (None, None) => registry.view(),
        };
        return Ok((view, None));
    }
    if !matches!(query.resource_version.as_str(), "" | "0") {
        let text = "specifying resource version is not allowed when using continue";
        return Err(Status::bad_request(text));
    }
    let ContinueToken { revision, after } = ContinueToken::decode(&query.r#continue)?;
    let view = match revision {
        None => registry.view(),
        Some(revision) => match api.pages.get(target, revision) {
            Some(view) => view,
            None => {
                registry.view_at(target.kind(), namespace, revision).await.map_err(|status| {
                    let newest = || ContinueToken { revision: None, after: after.clone() }.encode();
                    if status.code == 410 { Status::expired_page(newest()) } else { status }
                })?
            }
        },
    };
    Ok((view, Some(after)))
}

/// Where the next page of a list begins.
pub(crate) struct ContinueToken {
    /// `None` for the newest one: the revision of the earlier pages is compacted.
    pub(crate) revision: Option<u64>,
    /// The last object of the earlier pages.
    pub(crate) after: Name,
}

/// The revision of a token that continues at the newest one.
const NEWEST: &str = "-1";

impl ContinueToken {
    /// The text that the client sends back.
    pub(crate) fn encode(&self) -> String {
        let (namespace, name) = &self.after;
        let revision = self.revision.map_or_else(|| NEWEST.to_owned(), |r| r.to_string());
        URL_SAFE_NO_PAD.encode(format!("{revision}/{namespace}/{name}"))
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| String::from_utf8(b).ok());
        decoded
            .and_then(|text| {
                let mut parts = text.splitn(3, '/');
                let revision = match parts.next()? {
                    NEWEST => None,
                    number => Some(number.parse().ok()?),
                };
                Some(Self { revision, after: (parts.next()?.to_owned(), parts.next()?.to_owned()) })
            })
            .ok_or_else(|| Status::bad_request("invalid continue token: continue key is not valid"))
    }
}

impl Pages {
    /// Keeps a view for the next pages.
    pub(crate) fn keep(&self, target: &Target, view: &View) {
        let mut views = self.0.lock();
        views.retain(|(of, kept)| of != target || kept.revision() != view.revision());
        views.push_back((target.clone(), view.clone()));
        if views.len() > PAGED_VIEWS_MAX {
            views.pop_front();
        }
    }

    fn get(&self, target: &Target, revision: u64) -> Option<View> {
        let views = self.0.lock();
        let kept = views.iter().find(|(of, view)| of == target && view.revision() == revision);
        kept.map(|(_, view)| view.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for revision in [Some(7), None] {
            let after = ("a".to_owned(), "b/c".to_owned());
            let token = ContinueToken { revision, after: after.clone() };
            let read = ContinueToken::decode(&token.encode()).unwrap();
            assert_eq!((read.revision, read.after), (revision, after));
        }
        for text in ["%", "eA", ""] {
            let status = ContinueToken::decode(text).err().unwrap();
            assert_eq!(status.message, "invalid continue token: continue key is not valid");
        }
    }
}
