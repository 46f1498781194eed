//! What expressions cost when they are evaluated, and at most: the figures that Kubernetes counts.

use std::sync::Arc;

use serde_json::json;

use super::{evaluate_on, example, example_schema, schema};
use crate::schema::cel::{expression, shape::Shape, value_type::Type};

#[test]
fn costs_of_evaluations() {
    let rows = [
        // A variable, a field or an index is one; constants are free.
        ("self.count == self.count", 5),
        ("1 + 2 == 3", 2),
        ("[1, 2, 3] == [1, 2, 3]", 1),
        ("type(self.count) == int", 4),
        ("int('3') == 3", 1),
        ("duration('1m') == duration('60s')", 1),
        // Presence costs what the way there costs.
        ("has(self.name)", 1),
        ("has(self.nested.inner.x)", 3),
        ("has(self.none) && true", 0),
        // Strings cost a tenth of their length.
        ("self.name == 'front'", 3),
        ("self.name + 'x' == 'frontx'", 4),
        ("self.name.startsWith('f')", 3),
        ("self.name.contains('fr')", 3),
        ("self.name.matches('^[a-z]*$')", 4),
        ("self.name.size() == 5", 4),
        // `&&`, `||` and `?:` are free.
        ("self.flag && self.flag", 4),
        ("self.flag || self.flag", 2),
        ("self.flag ? self.count == 1 : self.count == 2", 5),
        ("(self.flag ? self.count : self.count) == 3", 4),
        // Constant lists are sets.
        ("self.name in ['front', 'back']", 2),
        ("self.name in self.tags", 6),
        // An index that is a field costs its steps.
        ("self.numbers[self.count - 1] == 2", 7),
        ("self.labels['app'] == 'shop'", 4),
        ("self.numbers[self.numbers[1]] == 1", 6),
        // Loops: two for the condition of `all`, three for that of `exists`, and one for the result.
        ("self.numbers.all(x, x > 0)", 18),
        ("self.numbers.exists(x, x == 2)", 21),
        ("self.numbers.exists_one(x, x == 2)", 12),
        ("self.numbers.map(x, x).size() == 3", 44),
        ("self.numbers.filter(x, x > 1).size() == 2", 37),
        ("[1, 2].transformMap(i, v, v).size() == 2", 11),
        // Libraries.
        ("self.numbers.sum() == 6", 6),
        ("self.tags.isSorted()", 2),
        ("self.tags.join(',') == 'a,b'", 4),
        ("'a,b'.split(',') == ['a', 'b']", 2),
        ("sets.contains(self.tags, ['a'])", 5),
        ("self.numbers.sort() == [1, 2, 3]", 32),
        ("lists.range(3).size() == 3", 16),
        ("ip('10.0.0.1') == ip('10.0.0.1')", 3),
        ("cidr('10.0.0.0/8').containsIP('10.0.0.1')", 3),
        ("quantity('1k').isLessThan(quantity('1M'))", 3),
        ("url('https://example.com').getScheme() == 'https'", 4),
        ("format.uuid().validate(self.name).hasValue()", 22),
        ("'%s'.format([self.name]) == 'front'", 14),
        // Optional values.
        ("optional.of(1).hasValue()", 2),
        ("self.?name.orValue('') == 'front'", 3),
        ("optional.of(2).optMap(x, x * 2).value() == 4", 9),
    ];
    let (schema, object) = (schema(&example_schema()), example());
    let mut wrong = Vec::new();
    for (text, expected) in rows {
        let (value, cost) = evaluate_on(&schema, &object, text);
        assert_eq!(value.is_err(), expected == 0, "{text}: {value:?}");
        if cost != expected {
            wrong.push((text, expected, cost));
        }
    }
    assert_eq!(wrong, []);
}

/// The estimate for a rule on a value of this schema.
fn estimate(document: &serde_json::Value, text: &str) -> u64 {
    let shape = Arc::new(Shape::new(&schema(document), false));
    expression::compile(text, &shape, false, &Type::Bool).unwrap().cost_max
}

#[test]
fn estimates_follow_the_limits_of_the_schema() {
    let text = |length: i64| json!({"type": "string", "maxLength": length});
    let list =
        |items: i64| json!({"type": "array", "maxItems": items, "items": {"type": "integer"}});
    let open = json!({"type": "string"});
    let rows = [
        (text(10), "self == 'abc'", 2),
        (text(10), "self.contains('abc')", 5),
        (text(10), "self.matches('^a$')", 6),
        (text(10), "self.startsWith('abc')", 2),
        (text(10), "self + self == 'abc'", 11),
        (text(10), "self.size() > 1", 3),
        (open.clone(), "self == 'abc'", 2),
        (open.clone(), "self.contains('abc')", 314_574),
        (open, "self.matches('^[a-z]+$')", 629_147),
        (list(10), "self.all(x, x > 0)", 52),
        (list(10), "self.all(x, self.all(y, x == y))", 552),
        (list(10), "self.map(x, x).size() == 1", 144),
        (list(10), "1 in self", 11),
        (list(10), "self.sum() > 1", 12),
        (list(10), "self.isSorted()", 11),
        (json!({"type": "integer"}), "self > 1", 2),
        (json!({"type": "boolean"}), "self", 1),
    ];
    for (document, rule, expected) in rows {
        assert_eq!(estimate(&document, rule), expected, "{rule} on {document}");
    }
}
