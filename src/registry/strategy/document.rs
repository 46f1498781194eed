//! [`DocumentRules`]: the rules of a built-in kind that has no Rust type here. Its documents are read by the table of
//! fields.

use serde_json::Value;

use crate::{
    model::{Cause, Kind, Status, canonical},
    registry::{
        decode,
        strategy::{Admitted, AnyRules, Context, metadata, settle},
    },
};

/// The rules of one kind over its document, which is in canonical form. `old` is absent on create.
pub(crate) struct DocumentRules {
    /// Fills in what the client left out, and puts fields that the server owns where they belong.
    pub(crate) default: fn(new: &mut Value, old: Option<&Value>, context: &Context<'_>),
    /// Every rule that is broken.
    pub(crate) validate: fn(new: &Value, old: Option<&Value>, context: &Context<'_>) -> Vec<Cause>,
    /// Deprecations and doubtful values, for `Warning` headers.
    pub(crate) warnings: fn(new: &Value, old: Option<&Value>) -> Vec<String>,
    /// The form of names.
    pub(crate) name: metadata::NameForm,
}

impl DocumentRules {
    /// The rules of a kind that has none.
    pub(crate) const STORED: Self = Self {
        default: |_, _, _| {},
        validate: |_, _, _| Vec::new(),
        warnings: |_, _| Vec::new(),
        name: metadata::NameForm::Subdomain,
    };
}

impl AnyRules for DocumentRules {
    fn admit(
        &self,
        kind: &Kind,
        document: &Value,
        old: Option<&Value>,
        context: &Context<'_>,
    ) -> Result<Admitted, Status> {
        let mut new = document.clone();
        let unknown = decode::by_table(kind.stored(), &mut new)?;
        let duplicates = &context.wanted.duplicates;
        let mut warnings = decode::judge_fields(duplicates, unknown, context.field_validation)?;
        (self.default)(&mut new, old, context);
        settle_document(kind, &mut new, old, context)?;
        let mut causes = metadata_causes(&new, old, self.name);
        causes.extend((self.validate)(&new, old, context));
        warnings.extend((self.warnings)(&new, old));
        admitted(kind, new, causes, warnings)
    }
}

/// Lets the ownership of a document that has its defaults settle, and leaves it in canonical form.
pub(super) fn settle_document(
    kind: &Kind,
    new: &mut Value,
    old: Option<&Value>,
    context: &Context<'_>,
) -> Result<(), Status> {
    let stored = kind.stored();
    canonical::canonicalise(stored, new);
    if !context.wanted.ownership.is_kept() {
        settle(stored, old, new, context)?;
    }
    Ok(())
}

/// What is wrong with the metadata.
pub(super) fn metadata_causes(
    new: &Value,
    old: Option<&Value>,
    form: metadata::NameForm,
) -> Vec<Cause> {
    let mut causes = metadata::validate(new, form);
    causes.extend(old.map(|old| metadata::validate_update(new, old)).unwrap_or_default());
    causes
}

/// The document, unless it breaks a rule.
pub(super) fn admitted(
    kind: &Kind,
    document: Value,
    causes: Vec<Cause>,
    warnings: Vec<String>,
) -> Result<Admitted, Status> {
    if causes.is_empty() {
        let (claims, old_claims) = (Vec::new(), Vec::new());
        return Ok(Admitted { document, claims, old_claims, warnings });
    }
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid(kind, name, causes))
}
