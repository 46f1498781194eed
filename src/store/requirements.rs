//! What tests of the store need of the machine, and what happens where it is missing.

use std::{env, io::Write};

/// Set by `tests/run --install`: then nothing may be left out.
const REQUIRE: &str = "SNOWGLOBE_TESTS_REQUIRE";

/// Says that this test is left out for what it needs; fails where nothing may be left out, with the remedy.
pub(in crate::store) fn leave_out(needs: &str, remedy: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(env::var_os(REQUIRE).is_none(), "{test} needs {needs}: {remedy}");
    // To the stream itself: the harness swallows what the print macros of a passing test say.
    writeln!(std::io::stderr(), "left out: {test} needs {needs}").unwrap();
}
