//! To come.
pub struct Memory;
