//! Reads that the cache cannot answer: at an old revision, at a future revision, and snapshots.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    model::{Kind, ObjectKey, Status},
    registry::{Registry, View, cache, write::store_status},
    store::{self, Revision, snapshot},
};

/// The revisions that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The newest revision.
    pub current: u64,
    /// The oldest revision that is kept.
    pub oldest: u64,
}

/// How long a read waits for a future revision, as with kube-apiserver.
const FRESH_WAIT: Duration = Duration::from_secs(3);

impl Registry {
    /// The objects of a kind (and namespace) at a revision. The view may contain more. 410 if the revision is compacted,
    /// 504 if it does not exist yet.
    pub async fn view_at(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<View, Status> {
        let now = self.view();
        if now.revision() == revision {
            return Ok(now);
        }
        let prefix = ObjectKey::store_prefix(kind, namespace);
        let listed = self.store.list(&prefix, Some(Revision(revision))).await;
        let (records, _) = listed.map_err(|error| match error {
            store::Error::Compacted { .. } => Status::expired_list(),
            store::Error::Future { current } => Status::too_large_version(revision, current.0),
            other => store_status(&other),
        })?;
        // Decoding many objects is no work for an async thread.
        tokio::task::spawn_blocking(move || cache::view_of(now.kinds, records, revision))
            .await
            .map_err(|_panicked| Status::internal("the stored objects could not be decoded"))
    }

    /// All objects, at this revision or a later one. Waits a little for a future revision, then 504.
    pub async fn view_not_before(&self, revision: u64) -> Result<View, Status> {
        let mut revisions = self.revisions();
        let reached = revisions.wait_for(|now| *now >= revision);
        if tokio::time::timeout(FRESH_WAIT, reached).await.is_err() {
            return Err(Status::too_large_version(revision, self.view().revision()));
        }
        Ok(self.view())
    }

    /// The revisions that can be read.
    pub async fn history(&self) -> Result<History, Status> {
        let current = self.store.current().0;
        // The first revision of all is the one that is forgotten first.
        let oldest = match self.store.get(b"", Some(Revision(1))).await {
            Ok(_) => 1,
            Err(store::Error::Compacted { oldest }) => oldest.0,
            Err(store::Error::Future { current }) => current.0,
            Err(other) => return Err(store_status(&other)),
        };
        Ok(History { current, oldest })
    }

    /// A snapshot of the store as it is now, block by block.
    pub async fn snapshot(&self) -> Result<impl Iterator<Item = Bytes> + Send + use<>, Status> {
        let (records, revision) =
            self.store.list(b"", None).await.map_err(|error| store_status(&error))?;
        Ok(snapshot::encode(records, revision, Timestamp::now()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::kind,
        registry::{Subresource, WriteOptions},
    };

    async fn with_maps() -> (std::sync::Arc<Registry>, tokio::task::JoinSet<()>, Vec<u64>) {
        let registry = Registry::for_tests().await;
        let mut tasks = tokio::task::JoinSet::new();
        let running = registry.clone();
        tasks.spawn(async move { running.run(<_>::default()).await.unwrap() });
        let options = WriteOptions::default();
        for namespace in ["a", "a-b"] {
            let document = json!({"metadata": {"name": namespace}});
            registry.create(&kind::NAMESPACE, "", document, &options).await.unwrap();
        }
        let mut revisions = Vec::new();
        for (namespace, name) in [("a-b", "x"), ("a", "y"), ("a", "x")] {
            let document = json!({"metadata": {"name": name}, "data": {"k": "old"}});
            let written = registry.create(&kind::CONFIG_MAP, namespace, document, &options).await;
            revisions.push(written.unwrap().object.revision);
        }
        let key = ObjectKey::new(&kind::CONFIG_MAP, "a", "x");
        let document = json!({"metadata": {"name": "x"}, "data": {"k": "new"}});
        let written = registry.update(&key, Subresource::None, document, &options).await.unwrap();
        revisions.push(written.object.revision);
        (registry, tasks, revisions)
    }

    #[tokio::test]
    async fn the_past_is_listed_as_the_present_is() {
        let (registry, _tasks, revisions) = with_maps().await;
        let cases: &[(usize, Option<&str>, &[&str])] = &[
            (0, None, &["a-b/x"]),
            (1, None, &["a/y", "a-b/x"]),
            (2, None, &["a/x", "a/y", "a-b/x"]),
            (2, Some("a"), &["a/x", "a/y"]),
            (3, Some("a-b"), &["a-b/x"]),
        ];
        for (nth, namespace, expected) in cases {
            let revision = revisions[*nth];
            let view = registry.view_at(&kind::CONFIG_MAP, *namespace, revision).await.unwrap();
            assert_eq!(view.revision(), revision);
            let listed = view.list(&kind::CONFIG_MAP, *namespace);
            let names = listed.map(|o| format!("{}/{}", o.key.namespace, o.key.name));
            assert!(names.eq(expected.iter().copied()), "{nth} {namespace:?}");
        }
        let key = ObjectKey::new(&kind::CONFIG_MAP, "a", "x");
        let view = registry.view_at(&kind::CONFIG_MAP, Some("a"), revisions[2]).await.unwrap();
        assert!(String::from_utf8_lossy(&view.get(&key).unwrap().document()).contains("old"));
        let history = registry.history().await.unwrap();
        assert_eq!((history.oldest, history.current), (1, registry.view().revision()));
        registry.store.compact(Revision(revisions[2])).await.unwrap();
        let gone = registry.view_at(&kind::CONFIG_MAP, None, revisions[0]).await.err().unwrap();
        assert_eq!((gone.code, gone.reason), (410, "Expired"));
        assert!(registry.history().await.unwrap().oldest > revisions[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_future_is_waited_for_or_an_error() {
        let (registry, _tasks, revisions) = with_maps().await;
        let ahead = registry.view().revision() + 1;
        let exact = registry.view_at(&kind::CONFIG_MAP, None, ahead).await.err().unwrap();
        let later = registry.view_not_before(ahead).await.err().unwrap();
        for status in [exact, later] {
            let json = status.to_json();
            assert_eq!((status.code, status.reason), (504, "Timeout"));
            assert_eq!(json["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
            assert_eq!(json["details"]["retryAfterSeconds"], 1);
        }
        assert!(registry.view_not_before(revisions[0]).await.unwrap().revision() < ahead);
    }

    #[tokio::test]
    async fn a_snapshot_holds_everything() {
        let (registry, _tasks, _) = with_maps().await;
        let file = registry.snapshot().await.unwrap().collect::<Vec<_>>().concat();
        let reader = snapshot::Reader::open(&file[..]).unwrap();
        assert_eq!(reader.header().revision.0, registry.view().revision());
        let records: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(records, registry.store.list(b"", None).await.unwrap().0);
    }
}
