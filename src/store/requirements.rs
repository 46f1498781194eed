//! Handles tests that need programs or rights which the machine may lack.

use std::{env, io::Write};

/// `tests/run --install` sets this variable. Then no test may be skipped.
const REQUIRE: &str = "SNOWGLOBE_TESTS_REQUIRE";

/// Reports that a test is skipped because it lacks `needs`. If no test may be skipped, it fails and says how to
/// provide that.
pub(in crate::store) fn leave_out(needs: &str, remedy: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(env::var_os(REQUIRE).is_none(), "{test} needs {needs}: {remedy}");
    // Write to the stream itself, because the test harness hides the output of the print macros in tests that pass.
    writeln!(std::io::stderr(), "left out: {test} needs {needs}").unwrap();
}
