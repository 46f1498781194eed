//! Says in a policy's status and in an Event that it is out of use where it failed again and again, and that it is back.

use std::sync::Arc;

use crate::{
    controllers::policies::{COMPONENT, status},
    model::{ObjectKey, Status},
    policy::library::Library,
    registry::{Note, Registry, Subresource, WriteOptions, until_written},
};

/// Tells that the health of a policy has changed. Writes what is so at that moment.
pub(super) async fn say(registry: Arc<Registry>, library: Arc<Library>, key: ObjectKey) {
    // A built-in one that no object names has no status.
    let Some(object) = registry.view().get(&key).cloned() else { return };
    let failure = library.out_of_use().remove(&key.name);
    let (reason, message) = match &failure {
        Some(why) => ("PolicyDisabled", status::out_of_use(why)),
        None => ("PolicyRecovered", status::IN_USE.to_owned()),
    };
    let (warning, uid) = (failure.is_some(), object.metadata.uid.clone());
    let note = Note { about: key.clone(), uid: uid.clone(), warning, reason, message };
    registry.record(COMPONENT, &note).await;
    let options = WriteOptions::default();
    let written = until_written(&key, || async {
        let written = registry.modify(&key, Subresource::Status, &options, |current| {
            if current.metadata.uid != uid {
                return Err(Status::not_found(&key));
            }
            let mut document = current.parse()?;
            let failure = library.out_of_use().remove(&key.name);
            let generation = current.metadata.generation;
            status::set_healthy(&mut document, generation, failure.as_deref());
            Ok(document)
        });
        written.await.map(drop)
    });
    if let Err(status) = written.await
        && status.code != 404
    {
        tracing::warn!(policy = %key.name, error = %status, "cannot write a policy's status");
    }
}
