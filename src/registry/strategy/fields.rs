//! Absent and zero are one in Kubernetes' Go types; these helpers read and fill optional fields in that spirit.

/// The text, empty when absent.
pub(super) fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Whether a list is absent or empty.
pub(super) fn is_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// The items of a list that may be absent.
pub(super) fn items<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// Sets an absent field.
pub(super) fn fill<T>(field: &mut Option<T>, value: T) {
    field.get_or_insert(value);
}

/// Sets an absent or empty text.
pub(super) fn fill_text(field: &mut Option<String>, value: &str) {
    if text(field).is_empty() {
        *field = Some(value.to_owned());
    }
}

/// Sets an absent or zero number.
pub(super) fn fill_number(field: &mut Option<i32>, value: i32) {
    if field.unwrap_or_default() == 0 {
        *field = Some(value);
    }
}
