//! Deletion. An object with finalizers or a grace period is marked first, and removed when nothing holds it any more.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    model::{
        Kind, Object, ObjectKey, Status,
        conditions::put_condition,
        kind, object,
        time::time_text,
        well_known::{DEFINITION_CLEANUP, FOREGROUND_FINALIZER, ORPHAN_FINALIZER},
    },
    registry::{
        Preconditions, Registry, alloc,
        write::{contended, holds_on},
    },
    store::{Expect, Revision, Write},
};

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    #[default]
    Background,
    /// The garbage collector deletes them first.
    Foreground,
    /// They stay, and lose their reference to the owner.
    Orphan,
}

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds until the end; `None` for the kind's default.
    pub grace_seconds: Option<i64>,
    /// Which object the client means.
    pub preconditions: Preconditions,
    /// What becomes of dependents. `None` keeps what an earlier deletion asked for, else takes the kind's default.
    pub propagation: Option<Propagation>,
    /// Check the deletion, but do not carry it out.
    pub dry_run: bool,
}

const ATTEMPTS_MAX: u32 = 16;
/// Kinds whose default is [`Propagation::Orphan`]. Old clients rely on it.
const ORPHANING: [&Kind; 2] = [&kind::JOB, &kind::REPLICATION_CONTROLLER];

impl Registry {
    /// Deletes an object, or marks it as terminating when finalizers or a grace period hold it. Returns its last
    /// (or marked) state and whether it is gone.
    pub async fn delete(
        &self,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<(Arc<Object>, bool), Status> {
        for _attempt in 0..ATTEMPTS_MAX {
            let view = self.view();
            let rules = view.kinds().rules(&key.kind)?;
            if let Some(found) = view.unreadable.get(&key.stored()) {
                match self.delete_unreadable(&view, key, found, options).await? {
                    Some(object) => return Ok((object, true)),
                    None => continue,
                }
            }
            if let Some(why) = rules.undeletable(&key.name) {
                return Err(Status::forbidden(key, why));
            }
            let old = view.get(key).cloned().ok_or_else(|| Status::not_found(key))?;
            options.preconditions.check_delete(key, &old)?;
            let before: Value = old.parse()?;
            let default_grace = rules.grace_seconds(&key.kind, &before);
            let mut document = before.clone();
            mark(&mut document, &old, options, default_grace, (self.clock)());
            let gone = !holds_on(&document);
            if !gone && document == before {
                return Ok((view.kinds().show(&old, &key.kind), false));
            }
            if options.dry_run {
                return Ok((view.kinds().show(&old, &key.kind), gone));
            }
            let mut writes = Vec::new();
            if gone {
                writes = alloc::writes(&view, key, &rules.claims(&key.kind, &document), &[], "");
            }
            let value = object::to_stored(key.kind.stored(), document);
            writes.push(Write {
                key: key.to_store_key().into(),
                expect: Expect::At(Revision(old.revision)),
                value: (!gone).then(|| value.clone()),
            });
            if let Ok(revision) = self.commit(writes).await? {
                return Ok((self.stored(key, revision, value)?, gone));
            }
        }
        Err(contended(key))
    }
}

/// Marks the document as terminating. A second deletion may shorten the grace period, but not lengthen it.
fn mark(
    document: &mut Value,
    old: &Object,
    options: &DeleteOptions,
    default_grace: Option<i64>,
    now: Timestamp,
) {
    let grace = match default_grace.map(|seconds| options.grace_seconds.unwrap_or(seconds)) {
        // As kube-apiserver.
        Some(..0) => 1,
        Some(seconds) => seconds,
        None => 0,
    };
    let grace = old.metadata.deletion_grace_period_seconds.map_or(grace, |now| now.min(grace));
    let metadata = &mut document["metadata"];
    if !old.is_terminating() || old.metadata.deletion_grace_period_seconds != Some(grace) {
        let grace_period = SignedDuration::from_secs(grace);
        let end = now.checked_add(grace_period).unwrap_or(Timestamp::MAX);
        metadata["deletionTimestamp"] = time_text(end).into();
        metadata["deletionGracePeriodSeconds"] = grace.into();
    }
    match finalizers(old, options.propagation) {
        Some(finalizers) if finalizers.is_empty() => {
            metadata.as_object_mut().and_then(|metadata| metadata.remove("finalizers"));
        }
        Some(finalizers) => metadata["finalizers"] = json!(finalizers),
        None => {}
    }
    if old.key.kind == kind::NAMESPACE {
        document["status"]["phase"] = "Terminating".into();
    }
    if old.key.kind == kind::CUSTOM_RESOURCE_DEFINITION && !old.is_terminating() {
        mark_definition(document, now);
    }
}

/// A definition goes after its objects.
fn mark_definition(document: &mut Value, now: Timestamp) {
    let metadata = &mut document["metadata"];
    match metadata["finalizers"].as_array_mut() {
        Some(finalizers) if finalizers.iter().any(|one| one == DEFINITION_CLEANUP) => {}
        Some(finalizers) => finalizers.push(DEFINITION_CLEANUP.into()),
        None => metadata["finalizers"] = json!([DEFINITION_CLEANUP]),
    }
    put_condition(
        document,
        json!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
               "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
               "lastTransitionTime": time_text(now)}),
    );
}

/// All finalizers, with those that tell the garbage collector what becomes of dependents. `None` if nothing changes.
fn finalizers(old: &Object, wish: Option<Propagation>) -> Option<Vec<String>> {
    let has = |name: &str| old.has_finalizer(name);
    let propagation = match wish {
        Some(wish) => wish,
        None if has(ORPHAN_FINALIZER) => Propagation::Orphan,
        None if has(FOREGROUND_FINALIZER) => Propagation::Foreground,
        None if ORPHANING.contains(&&old.key.kind) => Propagation::Orphan,
        None => Propagation::Background,
    };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND_FINALIZER),
        Propagation::Orphan => Some(ORPHAN_FINALIZER),
    };
    if [FOREGROUND_FINALIZER, ORPHAN_FINALIZER]
        .iter()
        .all(|name| has(name) == (wanted == Some(name)))
    {
        return None;
    }
    let others = old
        .metadata
        .finalizers
        .iter()
        .filter(|f| *f != FOREGROUND_FINALIZER && *f != ORPHAN_FINALIZER);
    Some(others.cloned().chain(wanted.map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*, test_runner::RngSeed};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(300)
        })]

        #[test]
        fn any_grace_period_ends_and_none_is_lengthened(
            wishes in (option::of(any::<i64>()), option::of(-2..100_i64)), default: i64
        ) {
            let key = ObjectKey::new(&kind::POD, "default", "a");
            let mut document = json!({"metadata": {"name": "a"}});
            let (now, mut before) = (Timestamp::now(), i64::MAX);
            for grace_seconds in [wishes.0, wishes.1] {
                let stored = object::to_stored(&kind::POD, document.clone());
                let old = Object::from_stored(key.clone(), 1, stored).unwrap();
                let options = DeleteOptions { grace_seconds, ..DeleteOptions::default() };
                mark(&mut document, &old, &options, Some(default), now);
                let metadata = &document["metadata"];
                let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap();
                prop_assert!((0..=before).contains(&grace));
                let end: Timestamp = metadata["deletionTimestamp"].as_str().unwrap().parse().unwrap();
                prop_assert!(end.as_second() >= now.as_second());
                before = grace;
            }
        }
    }

    #[test]
    fn what_becomes_of_dependents() {
        const OTHER: &str = "example.com/other";
        for (kind, held, wish, expected) in [
            (&kind::POD, &[OTHER][..], None, None),
            (&kind::POD, &[], Some(Propagation::Background), None),
            (&kind::POD, &[OTHER], Some(Propagation::Orphan), Some(&[OTHER, ORPHAN_FINALIZER][..])),
            (
                &kind::POD,
                &[ORPHAN_FINALIZER],
                Some(Propagation::Foreground),
                Some(&[FOREGROUND_FINALIZER]),
            ),
            (
                &kind::POD,
                &[FOREGROUND_FINALIZER, OTHER],
                Some(Propagation::Background),
                Some(&[OTHER]),
            ),
            // A second wish that says nothing changes nothing.
            (&kind::POD, &[ORPHAN_FINALIZER, OTHER], None, None),
            (&kind::DEPLOYMENT, &[FOREGROUND_FINALIZER], None, None),
            (&kind::JOB, &[FOREGROUND_FINALIZER], None, None),
            // What is usual for the kind.
            (&kind::DEPLOYMENT, &[], None, None),
            (&kind::JOB, &[], None, Some(&[ORPHAN_FINALIZER])),
            (&kind::JOB, &[], Some(Propagation::Background), None),
            (&kind::REPLICATION_CONTROLLER, &[OTHER], None, Some(&[OTHER, ORPHAN_FINALIZER])),
        ] {
            let document = json!({"metadata": {"name": "a", "finalizers": held}});
            let stored = object::to_stored(kind, document);
            let key = ObjectKey::new(kind, "default", "a");
            let old = Object::from_stored(key, 1, stored).unwrap();
            let expected = expected.map(|all| all.iter().map(|&f| f.to_owned()).collect());
            assert_eq!(finalizers(&old, wish), expected, "{} {held:?} {wish:?}", kind.kind);
        }
    }
}
