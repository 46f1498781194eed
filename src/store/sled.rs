//! To come.
pub struct Sled;
