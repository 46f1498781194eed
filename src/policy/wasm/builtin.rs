//! The built-in policies: the text of `policies/*.wat`, compiled while the program starts, as any other module is.

/// One built-in policy.
pub(super) struct Builtin {
    /// Its name, the stem of its file.
    pub(super) name: &'static str,
    /// Its text.
    pub(super) source: &'static [u8],
}

/// All of them, by name.
pub(super) const BUILTINS: &[Builtin] = &[
    Builtin { name: "p2c", source: include_bytes!("../../../policies/p2c.wat") },
    Builtin { name: "random", source: include_bytes!("../../../policies/random.wat") },
    Builtin { name: "rr", source: include_bytes!("../../../policies/rr.wat") },
];
