//! What server-side apply has merged, and whose its fields become once the document has its defaults.

use serde_json::Value;

use crate::model::{
    Cause, Status,
    patch::{
        managers::{self, Entry},
        paths::Paths,
        place::Resource,
        walk::Comparison,
    },
};

/// A configuration that was laid over the live object; open is whose fields it takes.
#[derive(Debug)]
pub struct Applied {
    pub(super) subresource: String,
    pub(super) force: bool,
    /// The live document without managers.
    pub(super) base: Value,
    pub(super) change: Comparison,
    pub(super) others: Vec<Entry>,
    pub(super) own: Entry,
    /// What kubectl's server-side apply may take from anybody.
    pub(super) free: Option<Paths>,
}

impl Applied {
    /// Puts the `managedFields` into the merged document, which has its defaults by now. A field that the configuration
    /// only leaves to the defaults does not change and makes no conflict.
    pub(super) fn settle(
        &self,
        resource: Resource<'_>,
        document: &mut Value,
    ) -> Result<(), Status> {
        managers::remove_managers(document);
        let settled = managers::difference(resource, &self.subresource, &self.base, document);
        let taken = self.change.added.clone().union(&self.change.modified);
        let taken = taken.intersection(&settled.added.union(&settled.modified));
        let free = self.free.clone().unwrap_or_default();
        let conflicts: Vec<(&Entry, Paths)> = self
            .others
            .iter()
            .map(|entry| (entry, entry.paths.intersection(&taken).difference(&free)))
            .filter(|(_, paths)| !paths.is_empty())
            .collect();
        if !self.force && !conflicts.is_empty() {
            return Err(conflict(&conflicts));
        }
        let mut entries = self.others.clone();
        for entry in &mut entries {
            entry.paths = entry.paths.difference(&taken).difference(&self.change.removed);
        }
        entries.push(self.own.clone());
        managers::encode(document, entries);
        Ok(())
    }
}

fn conflict(conflicts: &[(&Entry, Paths)]) -> Status {
    let mut by_manager: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|(entry, paths)| (entry.print(), paths.to_strings())).collect();
    by_manager.sort();
    let count: usize = by_manager.iter().map(|(_, paths)| paths.len()).sum();
    let message = match by_manager.as_slice() {
        [(manager, paths)] if count == 1 => {
            format!("Apply failed with 1 conflict: conflict with {manager}: {}", paths.concat())
        }
        many => {
            let lines: Vec<String> = many
                .iter()
                .map(|(manager, paths)| {
                    format!("conflicts with {manager}:\n- {}", paths.join("\n- "))
                })
                .collect();
            format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
        }
    };
    let causes = by_manager
        .iter()
        .flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)))
        .map(|(manager, path)| Cause {
            reason: "FieldManagerConflict",
            field: path.clone(),
            message: format!("conflict with {manager}"),
        })
        .collect();
    Status {
        code: 409,
        reason: "Conflict",
        message,
        resource: String::new(),
        group: String::new(),
        name: String::new(),
        causes,
        continue_token: String::new(),
        retry_after_seconds: None,
    }
}
