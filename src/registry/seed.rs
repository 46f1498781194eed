//! Objects that a cluster has from its start, created many at a time.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    model::{Kind, ObjectKey, Status, canonical, object, patch::Wanted, time::time_text},
    registry::{
        Registry, WriteOptions,
        strategy::Admitted,
        write::{admit, contended, own_metadata_on_create},
    },
    store::{Expect, Write},
};

/// Objects in one commit: fewer than the operations that etcd takes in one transaction.
const COMMIT_MAX: usize = 100;
/// How often it is tried again when somebody else creates some of them meanwhile.
const ATTEMPTS_MAX: u32 = 16;

impl Registry {
    /// Creates those of the cluster-scoped objects that do not exist, in few commits. They must be of kinds that hold no
    /// addresses. Each is admitted as by [`Registry::create`].
    ///
    /// # Errors
    /// The first object that breaks a rule, or what the store says. Earlier commits stay.
    pub async fn create_missing(&self, objects: &[(&Kind, Value)]) -> Result<(), Status> {
        for part in objects.chunks(COMMIT_MAX) {
            self.create_part(part).await?;
        }
        Ok(())
    }

    async fn create_part(&self, objects: &[(&Kind, Value)]) -> Result<(), Status> {
        let mut last = None;
        for _attempt in 0..ATTEMPTS_MAX {
            let mut writes = Vec::new();
            let mut seen = BTreeSet::new();
            for (kind, document) in objects {
                let name = document["metadata"]["name"].as_str().unwrap_or_default();
                let key = ObjectKey::cluster(kind, name);
                if self.view().get(&key).is_some() || !seen.insert(key.clone()) {
                    continue;
                }
                self.clear(&key).await?;
                writes.push(self.creation(&key, document.clone())?);
                last = Some(key);
            }
            let Some(key) = &last else { return Ok(()) };
            if writes.is_empty() || self.commit(writes).await?.is_ok() {
                return Ok(());
            }
            tracing::debug!(%key, "another writer created some of the first objects");
        }
        last.map_or(Ok(()), |key| Err(contended(&key)))
    }

    /// The write that creates an object.
    fn creation(&self, key: &ObjectKey, mut document: Value) -> Result<Write, Status> {
        let (view, now) = (self.view(), (self.clock)());
        document["apiVersion"] = key.kind.api_version().into();
        document["kind"] = (*key.kind.kind).into();
        own_metadata_on_create(key, &mut document, &time_text(now));
        canonical::canonicalise(&key.kind, &mut document);
        let (options, wanted) = (WriteOptions::default(), Wanted::from(Value::Null));
        let context = self.context(&view, now, &options, &key.kind, &wanted);
        let Admitted { document, .. } = admit(&key.kind, &document, None, &context)?;
        let value = object::to_stored(&key.kind, document);
        Ok(Write { key: key.to_store_key().into(), expect: Expect::Absent, value: Some(value) })
    }
}
