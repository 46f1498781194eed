//! What the annotations of a Job's pod tell: its index, and how often that failed before.

use crate::model::Object;

/// Annotation and label of a pod that works on one index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index of a pod failed before, with back-off per index; and how often that was ignored.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The completion index of a pod.
pub(super) fn index_of(pod: &Object) -> Option<i32> {
    pod.metadata.annotations.get(INDEX)?.parse().ok()
}

/// A number that an annotation of a pod tells.
pub(super) fn counter(pod: &Object, annotation: &str) -> i32 {
    pod.metadata.annotations.get(annotation).and_then(|text| text.parse().ok()).unwrap_or(0)
}
