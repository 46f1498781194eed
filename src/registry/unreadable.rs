//! Stored values that are no objects: another program wrote them, or they are damaged. They are not served. A read of such
//! a key fails with an error, and a delete removes the value.
//!
//! kube-apiserver calls the error `StorageReadError`, and deletes such a value only with
//! `ignoreStoreReadErrorWithClusterBreakingPotential`, for fear of a wrong encryption key. There is none here, so a
//! plain deletion does.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::{
    model::{Object, ObjectKey, Status, kind, object},
    registry::{DeleteOptions, Preconditions, Registry, View, alloc},
    store::{Expect, Revision, Write},
};

/// A stored value that is no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The revision that wrote it.
    pub revision: u64,
    /// What is wrong with it.
    pub reason: Arc<str>,
}

impl View {
    /// The unreadable values, by the key of the object that should be there.
    pub fn unreadable(&self) -> impl Iterator<Item = (&ObjectKey, &Unreadable)> {
        self.unreadable.iter()
    }

    /// Whether the value at a key is unreadable.
    pub(crate) fn is_unreadable(&self, key: &ObjectKey) -> bool {
        self.unreadable.contains_key(&key.stored())
    }

    /// The error for a key without an object.
    pub(crate) fn missing(&self, key: &ObjectKey) -> Status {
        match self.unreadable.get(&key.stored()) {
            Some(Unreadable { reason, .. }) => Status::store_read_error(key, reason),
            None => Status::not_found(key),
        }
    }
}

impl Registry {
    /// Deletes the value at a key if it is unreadable, so that the object can be created.
    pub async fn clear(&self, key: &ObjectKey) -> Result<(), Status> {
        if self.view().is_unreadable(key) {
            tracing::warn!(%key, "a stored value that cannot be read is replaced");
            self.delete(key, &DeleteOptions::default()).await?;
        }
        Ok(())
    }

    /// Deletes an unreadable value, and the allocations that its object had. Returns the little that is known of the object;
    /// `None` if another writer was faster.
    pub(crate) async fn delete_unreadable(
        &self,
        view: &View,
        key: &ObjectKey,
        found: &Unreadable,
        options: &DeleteOptions,
    ) -> Result<Option<Arc<Object>>, Status> {
        let Preconditions { uid, resource_version } = &options.preconditions;
        let current = found.revision.to_string();
        let other = resource_version.as_ref().is_some_and(|version| *version != current);
        if other || uid.as_ref().is_some_and(|uid| !uid.is_empty()) {
            let text = "Precondition failed: what is stored cannot be read";
            return Err(Status::conflict(key, text));
        }
        let value = remains(key);
        if options.dry_run {
            return self.decoded(key, found.revision, value).map(Some);
        }
        let mut writes =
            if key.kind == kind::SERVICE { alloc::releases(view, key) } else { Vec::new() };
        writes.push(Write {
            key: key.to_store_key().into(),
            expect: Expect::At(Revision(found.revision)),
            value: None,
        });
        match self.commit(writes).await? {
            Ok(revision) => self.decoded(key, revision, value).map(Some),
            Err(_other_writer) => Ok(None),
        }
    }
}

/// The little that is known of an object that cannot be read, as if it were stored.
pub(super) fn remains(key: &ObjectKey) -> Bytes {
    let mut metadata = json!({"name": key.name});
    if key.kind.namespaced {
        metadata["namespace"] = key.namespace.as_str().into();
    }
    object::to_stored(key.kind.stored(), json!({"metadata": metadata}))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::registry::{EventKind, Subresource, WriteOptions};

    async fn running() -> (Arc<Registry>, JoinSet<()>) {
        let registry = Registry::for_tests().await;
        let mut tasks = JoinSet::new();
        let running = registry.clone();
        tasks.spawn(async move { running.run(<_>::default()).await.unwrap() });
        let document = json!({"metadata": {"name": "default"}});
        registry.create(&kind::NAMESPACE, "", document, &WriteOptions::default()).await.unwrap();
        (registry, tasks)
    }

    /// Writes past the registry, as another user of an etcd would.
    async fn write(registry: &Registry, key: &ObjectKey, value: &'static [u8]) -> u64 {
        let store_key = key.to_store_key();
        let found = registry.store.get(&store_key, None).await.unwrap();
        let expect = found.map_or(Expect::Absent, |found| Expect::At(found.revision));
        let write = Write { key: store_key.into(), expect, value: Some(value.into()) };
        let revision = registry.store.commit(vec![write]).await.unwrap().0;
        registry.view_not_before(revision).await.unwrap();
        revision
    }

    fn listed(registry: &Registry) -> Vec<String> {
        registry.view().unreadable().map(|(key, _)| key.to_string()).collect()
    }

    #[tokio::test]
    async fn it_is_told_and_can_be_deleted() {
        let (registry, _tasks) = running().await;
        let key = ObjectKey::new(&kind::CONFIG_MAP, "default", "a");
        let options = WriteOptions::default();
        let document = || json!({"metadata": {"name": "a"}});
        for value in [&b""[..], b"{", b"\xff\xfe", b"[]", b"{\"metadata\":{\"labels\":7}}"] {
            let created = registry.create(&kind::CONFIG_MAP, "default", document(), &options).await;
            let created = created.unwrap().object.revision;
            let mut watched = registry.subscribe(&[&kind::CONFIG_MAP], created);
            let revision = write(&registry, &key, value).await;
            let events = watched.take().unwrap();
            assert_eq!((events[0].kind, events[0].revision), (EventKind::Deleted, revision));
            assert_eq!(listed(&registry), ["ConfigMap default/a"]);
            assert_eq!(registry.view().list(&kind::CONFIG_MAP, None).count(), 0);
            let read = registry.get(&key).unwrap_err();
            assert_eq!((read.code, read.reason), (500, "StorageReadError"));
            assert!(read.message.contains("kubectl delete"), "{}", read.message);
            let update =
                registry.update(&key, Subresource::None, document(), &options).await.unwrap_err();
            assert_eq!(update.reason, "StorageReadError");
            let create = registry.create(&kind::CONFIG_MAP, "default", document(), &options).await;
            assert_eq!(create.unwrap_err().reason, "AlreadyExists");
            let preconditions =
                Preconditions { uid: None, resource_version: Some(created.to_string()) };
            let stale = DeleteOptions { preconditions, ..DeleteOptions::default() };
            assert_eq!(registry.delete(&key, &stale).await.unwrap_err().code, 409);
            let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
            assert!(registry.delete(&key, &dry).await.unwrap().1);
            let (object, gone) = registry.delete(&key, &DeleteOptions::default()).await.unwrap();
            assert!(gone && object.key == key && listed(&registry).is_empty());
            assert_eq!(registry.get(&key).unwrap_err().code, 404);
        }
    }

    #[tokio::test]
    async fn it_is_found_at_the_start_and_may_be_mended() {
        let (registry, _tasks) = running().await;
        let key = ObjectKey::new(&kind::CONFIG_MAP, "default", "a");
        write(&registry, &key, b"?").await;
        let again = Registry::open(registry.store.clone(), registry.options().clone()).await;
        assert_eq!(listed(&again.unwrap()), ["ConfigMap default/a"]);
        write(&registry, &key, b"{\"metadata\":{\"name\":\"a\"}}").await;
        assert!(listed(&registry).is_empty() && registry.get(&key).is_ok());
    }

    #[tokio::test]
    async fn what_a_service_held_is_free_again() {
        let (registry, _tasks) = running().await;
        let key = ObjectKey::new(&kind::SERVICE, "default", "web");
        let document = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort",
            "clusterIP": "127.96.7.7", "ports": [{"port": 80, "nodePort": 30080}]}});
        let options = WriteOptions::default();
        let create = || registry.create(&kind::SERVICE, "default", document.clone(), &options);
        create().await.unwrap();
        write(&registry, &key, b"?").await;
        registry.delete(&key, &DeleteOptions::default()).await.unwrap();
        create().await.unwrap();
        registry.clear(&key).await.unwrap();
        assert!(registry.get(&key).is_ok(), "an object is left alone");
    }
}
