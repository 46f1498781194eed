//! The HTTP side of the API. Parts that are pure functions over kinds and objects.

pub mod discovery;
pub mod openapi;
pub mod table;
