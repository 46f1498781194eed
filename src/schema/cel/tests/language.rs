//! The language itself: literals, operators, fields, loops, optional values.

use super::{check_faults, check_values, type_of};

#[test]
fn literals() {
    check_values(&[
        ("1", "1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0x1F", "31"),
        ("7u", "7"),
        ("0xFFu", "255"),
        ("1.5e3", "1500"),
        (".25", "0.25"),
        ("1e21", "1e+21"),
        ("--1", "1"),
        ("---1", "-1"),
        ("!!true", "true"),
        ("null", "null"),
        (r"'a\n\'b\''", "a\n'b'"),
        (r#""\x41\u00e4\U0001F600\101""#, "Aä😀A"),
        (r"r'a\n'", r"a\n"),
        ("'''a\n'b'''", "a\n'b"),
        (r"b'\xff\101' == b'\xffA'", "true"),
        ("b'ä'.size()", "2"),
        ("[1, 2,]", "[1, 2]"),
        ("{'a': 1, 'b': 3}.size()", "2"),
        ("{'a': 1}", "{a: 1}"),
        ("1 // what follows is a comment\n + 1", "2"),
        ("(1)", "1"),
    ]);
}

#[test]
fn operators() {
    check_values(&[
        ("1 + 2 * 3 - 4 / 2 % 2", "7"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("7u / 2u", "3"),
        ("1.0 / 0.0", "+Inf"),
        ("'a' + 'b'", "ab"),
        ("[1] + [2, 3]", "[1, 2, 3]"),
        ("b'a' + b'b' == b'ab'", "true"),
        ("1 < 2 && 2 <= 2 && 3 > 2 && 2 >= 2", "true"),
        ("1 < 1.5 && 1u < 2 && 2.5 > 2u", "true"),
        ("9223372036854775807 < 9223372036854775808.0", "true"),
        ("dyn(1) == 1.0 && dyn(1u) == 1", "true"),
        ("dyn(1) == 'a'", "false"),
        ("'b' > 'a' && b'b' > b'a' && true > false", "true"),
        ("1 == 1 ? 'yes' : 'no'", "yes"),
        ("true || 1 / 0 > 0", "true"),
        ("1 / 0 > 0 || true", "true"),
        ("1 / 0 > 0 && false", "false"),
        ("2 in [1, 2] && !(3 in [1, 2])", "true"),
        ("'a' in {'a': 1}", "true"),
        ("dyn(2.0) in [1, 2]", "true"),
        ("[[1], [2]] == [[1], [2]]", "true"),
        ("{'a': [1]} == {'a': [1]}", "true"),
        ("0.0 / 0.0 == 0.0 / 0.0", "false"),
    ]);
}

#[test]
fn fields_of_the_object() {
    check_values(&[
        ("self.name", "front"),
        ("self.count + 1", "4"),
        ("self.ratio * 2.0", "5"),
        ("self.nested.inner.x", "1"),
        ("has(self.nested.inner)", "true"),
        ("has(self.nested.absent)", "false"),
        ("has(self.maybe)", "false"),
        ("self.labels['app']", "shop"),
        ("self.labels.app", "shop"),
        ("'tier/x' in self.labels", "true"),
        ("has(self.labels.none)", "false"),
        ("self.tags[1]", "b"),
        ("self.ports[0].port", "80"),
        ("self.__namespace__ + self.namespace", "defaultdefault"),
        ("self.max__dash__surge", "2"),
        ("self.a__dot__b__slash__c__underscores__d", "4"),
        ("self.when.getFullYear()", "2024"),
        ("self.day < self.when + duration('48h')", "true"),
        ("self.wait == duration('90s')", "true"),
        ("self.raw == b'hi'", "true"),
        ("type(self.either) == string && self.either.endsWith('%')", "true"),
        ("type(self.other) == int && self.other > 5", "true"),
        ("self.numbers.size() == 3 && size(self.labels) == 2", "true"),
        ("self.open == self.open", "true"),
        ("self == self", "true"),
    ]);
    check_faults(&[
        ("self.hidden", "undefined field 'hidden'"),
        ("self.open.x", "undefined field 'x'"),
        ("self.labels['none']", "no such key: none"),
        ("self.labels.none", "no such key: none"),
        ("self.tags[2]", "index out of bounds: 2"),
        ("self.tags[-1]", "index out of bounds: -1"),
        ("self.nested.absent.x", "no such key: absent"),
    ]);
}

#[test]
fn sets_and_maps_of_the_object() {
    check_values(&[
        ("self.tags == ['b', 'a']", "true"),
        ("self.tags == ['a', 'c']", "false"),
        ("['b', 'a'] == self.tags", "false"),
        ("self.tags + ['c', 'a']", "[a, b, c]"),
        ("(self.tags + ['c']) == ['c', 'b', 'a']", "true"),
        ("self.numbers == [1, 2, 3]", "false"),
        ("self.numbers + [3]", "[3, 1, 2, 3]"),
        (
            "self.ports == self.ports.filter(p, p.name == 'dns') + self.ports.filter(p, p.name == 'web')",
            "true",
        ),
        ("self.ports + self.ports == self.ports", "true"),
        ("(self.ports + self.ports).size()", "2"),
    ]);
}

#[test]
fn loops() {
    check_values(&[
        ("[1, 2, 3].all(x, x > 0)", "true"),
        ("[].all(x, x > 0)", "true"),
        ("[1, 0].all(x, 2 / x > 5)", "false"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[1, 2, 2].exists_one(x, x == 2)", "false"),
        ("[1, 2].existsOne(x, x == 2)", "true"),
        ("[1, 2, 3].map(x, x * 2)", "[2, 4, 6]"),
        ("[1, 2, 3].map(x, x > 1, x * 2)", "[4, 6]"),
        ("[1, 2, 3].filter(x, x != 2)", "[1, 3]"),
        ("{'a': 1, 'b': 2}.map(k, k)", "[a, b]"),
        ("self.labels.all(k, self.labels[k].size() > 0)", "true"),
        ("self.ports.exists(p, p.port == 53)", "true"),
        ("[[1, 2], [3]].map(l, l.map(x, x + l.size()))", "[[3, 4], [4]]"),
        ("[1, 2].map(x, [3, 4].map(x, x))", "[[3, 4], [3, 4]]"),
        ("['a', 'b'].all(i, v, i >= 0 && v != '')", "true"),
        ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("[5, 6].existsOne(i, v, i + v == 7)", "true"),
        ("[5, 6].transformList(i, v, i * v)", "[0, 6]"),
        ("[5, 6].transformList(i, v, v > 5, i)", "[1]"),
        ("{'a': 1}.transformMap(k, v, v + 1)", "{a: 2}"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v)", "{b: 2}"),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", "{x: a}"),
        ("[3, 1, 2].sortBy(x, -x)", "[3, 2, 1]"),
    ]);
    check_faults(&[
        ("{'a': 1, 'b': 1}.transformMapEntry(k, v, {v: k})", "insert failed: key 1 already exists"),
        ("[1].map(x, 1 / 0)", "division by zero"),
        ("[1].exists_one(x, 1 / 0 == 1)", "division by zero"),
        ("[1].all(1, true)", "argument must be a simple name"),
        ("[1].map(x.y, true)", "argument is not an identifier"),
        ("[1].all(x, x, true)", "duplicate variable name: x"),
        ("[1].all(__result__, true)", "iteration variable overwrites accumulator variable"),
        ("1.all(x, true)", "cannot be range of a comprehension (must be list, map, or dynamic)"),
        ("[1].all(x, x)", "expected type 'bool' but found 'int'"),
        ("has(1)", "invalid argument to has() macro"),
        ("x", "undeclared reference to 'x' (in container '')"),
    ]);
}

#[test]
fn optional_values() {
    check_values(&[
        ("self.?name", "optional(front)"),
        ("self.?maybe", "optional.none()"),
        ("self.?nested.absent.x", "optional.none()"),
        ("self.nested.?inner.x.orValue(0)", "1"),
        ("self.nested.?absent.x.orValue(7)", "7"),
        ("self.labels[?'none'].orValue('-')", "-"),
        ("self.tags[?5].hasValue()", "false"),
        ("self.tags[?0].value()", "a"),
        ("optional.of(1).or(optional.of(2)).value()", "1"),
        ("optional.none().or(optional.of(2)).value()", "2"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("optional.of(2).optMap(x, x * 2).value()", "4"),
        ("optional.none().optMap(x, x * 2).hasValue()", "false"),
        ("self.labels[?'app'].optFlatMap(x, self.labels[?x]).hasValue()", "false"),
        ("[?self.labels[?'none'], ?self.labels[?'app']]", "[shop]"),
        ("{?'a': self.labels[?'none'], 'b': 'c'}", "{b: c}"),
        ("optional.unwrap([optional.of(1), optional.none()])", "[1]"),
        ("[optional.of(1)].unwrapOpt()", "[1]"),
        ("self.tags.first().value() + self.tags.last().value()", "ab"),
        ("has(self.?nested.inner)", "true"),
        ("optional.of(1) == optional.of(1)", "true"),
        ("optional.none() == optional.of(1)", "false"),
    ]);
    check_faults(&[
        ("optional.none().value()", "optional.none() dereference"),
        (
            "self.?name.size()",
            "found no matching overload for 'size' applied to 'optional_type(string).()'",
        ),
    ]);
}

#[test]
fn types() {
    let rows = [
        ("1", "int"),
        ("[]", "list(dyn)"),
        ("[1]", "list(int)"),
        ("{'a': 1u}", "map(string, uint)"),
        ("[1, 2].map(x, x > 1)", "list(bool)"),
        ("self.labels", "map(string, string)"),
        ("self.either", "dyn"),
        ("self.when - self.when", "duration"),
        ("self.nested", "selfType.nested"),
        ("self.ports", "list(selfType.ports.@idx)"),
        ("type(1)", "type(int)"),
        ("self.?count", "optional_type(int)"),
        ("self.?nested.inner", "optional_type(selfType.nested.inner)"),
        ("true ? 1 : dyn(2)", "dyn"),
        ("{}.transformMap(k, v, 1)", "map(dyn, int)"),
        ("ip('::1')", "net.IP"),
        ("quantity('1')", "kubernetes.Quantity"),
        ("[null, self.nested]", "list(selfType.nested)"),
    ];
    for (text, expected) in rows {
        assert_eq!(type_of(text), expected, "{text}");
    }
}
