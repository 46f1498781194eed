//! Expressions that would take all memory, all time or the whole stack, if they were let.

use std::sync::Arc;

use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::json;

use super::{check_faults, evaluate, evaluate_on, example_schema, schema};
use crate::schema::cel::{expression, shape::Shape, value_type::Type};

const BUDGET: &str = "operation cancelled: actual cost limit exceeded";

/// Runs on a stack of the size that a worker thread has.
fn on_a_small_stack(run: fn()) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.unwrap().join().unwrap();
}

fn nested(depth: usize, before: &str, inner: &str, after: &str) -> String {
    format!("{}{inner}{}", before.repeat(depth), after.repeat(depth))
}

#[test]
fn deep_expressions_are_refused_or_evaluated() {
    on_a_small_stack(|| {
        for depth in [40, 120, 249, 251, 1000, 20_000] {
            for (before, inner, after) in [
                ("(", "1", ")"),
                ("[", "1", "]"),
                ("{1: ", "1", "}"),
                ("-(", "1", ")"),
                ("!", "true", ""),
                ("-", "1", ""),
                ("1 + ", "1", ""),
                ("[1].map(x, ", "1", ")"),
                ("[1].all(x, ", "true", ")"),
                ("true ? (", "1", ") : 1"),
                ("true ? 1 : ", "1", ""),
                ("optional.of(", "1", ")"),
                ("", "optional.of(1)", ".optMap(x, x)"),
                ("", "[1]", ".map(x, x)"),
                ("", "self", ".name"),
                ("", "[[1]]", "[0]"),
                ("", "'a'", ".trim()"),
                ("has(", "self.name", ")"),
                ("dyn(", "1", ")"),
            ] {
                // What matters is that both end.
                let text = nested(depth, before, inner, after);
                let _outcome = evaluate(&text);
                let shape = Arc::new(Shape::new(&schema(&example_schema()), false));
                let _compiled = expression::compile(&text, &shape, false, &Type::Bool);
            }
        }
    });
}

#[test]
fn long_expressions() {
    let terms = vec!["self.flag"; 5000].join(" && ");
    assert_eq!(evaluate(&terms).as_deref(), Ok("true"));
    let sum = vec!["1"; 200].join(" + ");
    assert_eq!(evaluate(&sum).as_deref(), Ok("200"));
    let list = format!("{}.size()", format_args!("[{}]", vec!["1"; 20_000].join(",")));
    assert_eq!(evaluate(&list).as_deref(), Ok("20000"));
    let rows = [
        (
            " ".repeat(100_001),
            "expression code point size exceeds limit: size: 100001, limit 100000",
        ),
        (vec!["1"; 500].join(" + "), "max recursion depth exceeded"),
        (nested(300, "(", "1", ")"), "expression recursion limit exceeded: 250"),
        (nested(40, "", "optional.of(1)", ".optMap(x, x)"), "expression is too large"),
    ];
    for (text, expected) in rows {
        check_faults(&[(&text, expected)]);
    }
}

#[test]
fn loops_end_with_the_budget() {
    let numbers: Vec<i64> = (0..1000).collect();
    let document = json!({"type": "array", "items": {"type": "integer"}});
    let schema = schema(&document);
    let rows = [
        "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))",
        "self.map(a, self.map(b, self.map(c, c))).size() > 0",
        "self.exists(a, self.exists(b, self.exists(c, a + b + c < 0)))",
        "self.transformMap(i, a, self.transformMap(j, b, self.map(c, c))).size() > 0",
        "lists.range(100000000).size() > 0",
        "[lists.range(1000)].map(x, x + x).map(x, x + x).all(x, x.all(y, x.all(z, y == z || true)))",
    ];
    for text in rows {
        let (value, _) = evaluate_on(&schema, &json!(numbers), text);
        assert_eq!(value.unwrap_err(), BUDGET, "{text}");
    }
}

/// The text of an expression that doubles a value again and again.
fn doubled(start: &str, step: &str, times: usize) -> String {
    format!("[{start}]{}", format_args!("{}[0]", format!(".map(x, {step})").repeat(times)))
}

#[test]
fn values_do_not_grow_without_bound() {
    let rows = [
        doubled("'ab'", "x + x", 60),
        doubled("'ab'", "'%s%s%s%s'.format([x, x, x, x])", 50),
        doubled("'ab'", "x.replace('', x)", 20),
        doubled("'ab'", "[x, x, x].join(x)", 40),
        format!("{}.size() > 0", doubled("b'ab'", "x + x", 60)),
        format!("{} == {}", doubled("[1]", "x + x", 60), doubled("[1]", "x + x", 60)),
        format!("{}.all(x, x > 0)", doubled("[1]", "x + x", 60)),
        format!("{}.sum() > 0", doubled("[1]", "x + x", 60)),
        format!("{}.isSorted()", doubled("['']", "x + x", 60)),
        format!("1 in {}", doubled("[2]", "x + x", 60)),
        format!("{}.distinct().size() > 0", doubled("[2]", "x + x", 60)),
        format!("{}.flatten(20).size() > 0", doubled("[dyn(1)]", "[dyn(x), dyn(x)]", 25)),
        format!(
            "{} == {}",
            doubled("dyn(1)", "dyn([x, x])", 30),
            doubled("dyn(1)", "dyn([x, x])", 30)
        ),
        format!("'%s'.format([{}]).size() > 0", doubled("dyn(1)", "dyn([x, x])", 30)),
    ];
    for text in rows {
        match evaluate(&text) {
            Err(found) => assert!(found.contains(BUDGET), "{text}: {found}"),
            Ok(value) => panic!("{text} has a value of {} bytes", value.len()),
        }
    }
}

#[test]
fn patterns_are_bounded() {
    check_faults(&[
        ("'a'.matches('((a{1000}){1000}){1000}')", "invalid matches argument"),
        ("self.name.find('(((a{100}){100}){100}){100}')", "error parsing regexp"),
        ("[1].all(i, lists.range(2000).all(x, !'b'.matches('a' + string(x))))", BUDGET),
    ]);
    let slow = format!("'{}'.matches('(a|aa)+$')", "a".repeat(5000) + "b");
    assert_eq!(evaluate(&slow).as_deref(), Ok("false"));
}

/// Texts made of pieces of the language.
fn expressions() -> impl Strategy<Value = String> {
    const PIECES: [&str; 40] = [
        "self",
        ".",
        "name",
        "count",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "!",
        "-",
        "+",
        "*",
        "%",
        "==",
        "<",
        "&&",
        "||",
        " in ",
        "1",
        "2.5",
        "3u",
        "'a'",
        "b'a'",
        "r'\\'",
        "null",
        "true",
        "x",
        ".map(x, ",
        ".all(x, ",
        "has(",
        ".optMap(x, ",
        "dyn(",
        "\\",
        "\"",
        "é",
    ];
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..30).prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(2000)
    })]

    #[test]
    fn no_text_makes_the_compiler_panic(text in any::<String>()) {
        let _outcome = evaluate(&text);
    }

    #[test]
    fn nor_do_pieces_of_expressions(text in expressions()) {
        let _outcome = evaluate(&text);
    }
}
