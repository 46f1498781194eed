//! What a virtual node offers. Nothing runs on it, so that is a matter of choice.

use std::{fmt, str::FromStr};

use crate::{
    model::quantity,
    registry::{validate_label_value, validate_qualified_name},
};

/// What pods may ask of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Cores.
    pub cpu: Amount,
    /// Bytes.
    pub memory: Amount,
    /// How many pods.
    pub pods: u32,
}

/// A quantity above zero, in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount(String);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let canonical = quantity::canonical(text)
            .ok_or_else(|| format!("{text:?} is no quantity, such as 4, 500m or 16Gi"))?;
        if quantity::nano(text).is_some_and(|nano| nano <= 0) {
            return Err(format!("{text} is not above zero"));
        }
        Ok(Self(canonical))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a node can have this label; the error is the rule that it breaks.
pub fn check_label(key: &str, value: &str) -> Result<(), String> {
    let broken = validate_qualified_name(key).into_iter().chain(validate_label_value(value)).next();
    broken.map_or(Ok(()), Err)
}
