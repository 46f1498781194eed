//! [`LabelIndex`]: names of objects by single labels, so that a selector looks at few objects instead of all of a namespace.

use imbl::{OrdMap, OrdSet};

use crate::model::{Kind, ObjectKey};

/// Which objects have which labels; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct LabelIndex(OrdMap<Label, OrdSet<String>>);

/// Kind, namespace, and the key and value of a label.
type Label = (Kind, String, String, String);

impl LabelIndex {
    pub(crate) fn insert(&mut self, object: &ObjectKey, label: (&str, &str)) {
        let label = full(&object.kind, &object.namespace, label);
        self.0.entry(label).or_default().insert(object.name.clone());
    }

    pub(crate) fn remove(&mut self, object: &ObjectKey, label: (&str, &str)) {
        let label = full(&object.kind, &object.namespace, label);
        let Some(names) = self.0.get_mut(&label) else { return };
        names.remove(&object.name);
        if names.is_empty() {
            self.0.remove(&label);
        }
    }

    /// The objects of a namespace with a label.
    pub(crate) fn names<'a>(
        &'a self,
        kind: &Kind,
        namespace: &str,
        label: (&str, &str),
    ) -> Names<'a> {
        Names(self.0.get(&full(kind, namespace, label)))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names, in order.
pub(crate) struct Names<'a>(Option<&'a OrdSet<String>>);

impl<'a> Names<'a> {
    pub(crate) fn len(&self) -> usize {
        self.0.map_or(0, OrdSet::len)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a String> + use<'a> {
        self.0.into_iter().flatten()
    }
}

fn full(kind: &Kind, namespace: &str, (key, value): (&str, &str)) -> Label {
    (kind.clone(), namespace.to_owned(), key.to_owned(), value.to_owned())
}
