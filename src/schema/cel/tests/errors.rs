//! What is said against expressions that do not compile, in the words of cel-go.

use super::{check_faults, evaluate};

#[test]
fn syntax() {
    check_faults(&[
        (
            "",
            "ERROR: <input>:1:1: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', \
              'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting"),
        ("*self", "Syntax error: extraneous input '*' expecting {"),
        ("self.", "ERROR: <input>:1:6: Syntax error: no viable alternative at input '.'"),
        ("self.true", "Syntax error: mismatched input 'true' expecting IDENTIFIER"),
        ("self a", "Syntax error: extraneous input 'a' expecting <EOF>"),
        ("1 2 3", "Syntax error: mismatched input"),
        ("(1", "Syntax error: missing ')' at '<EOF>'"),
        ("self.tags[0", "Syntax error: missing ']' at '<EOF>'"),
        ("1 $ 2", "ERROR: <input>:1:3: Syntax error: token recognition error at: '$'"),
        ("a | b", "Syntax error: token recognition error at: '| '"),
        ("'abc", "Syntax error: token recognition error at: ''abc'"),
        (r"'\q'", "Syntax error: token recognition error at:"),
        (r"'\ud800'", "invalid unicode code point"),
        ("9223372036854775808", "invalid int literal"),
        ("18446744073709551616u", "invalid uint literal"),
        ("namespace", "reserved identifier: namespace"),
        ("self.`a`", "unsupported syntax: '`'"),
    ]);
}

#[test]
fn types() {
    check_faults(&[
        (
            "self.nothing",
            "ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing\n | ....^",
        ),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        ("self.name == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("self.name == null", "found no matching overload for '_==_' applied to '(string, null)'"),
        ("self.name.fly()", "undeclared reference to 'fly' (in container '')"),
        ("fly()", "undeclared reference to 'fly' (in container '')"),
        ("self.name.x", "type 'string' does not support field selection"),
        ("self.name[0]", "found no matching overload for '_[_]' applied to '(string, int)'"),
        ("!1", "found no matching overload for '!_' applied to '(int)'"),
        ("-'a'", "found no matching overload for '-_' applied to '(string)'"),
        ("true && 1", "expected type 'bool' but found 'int'"),
        ("1 ? 2 : 3", "found no matching overload for '_?_:_' applied to '(int, int, int)'"),
        (
            "true ? 1 : 'a'",
            "found no matching overload for '_?_:_' applied to '(bool, int, string)'",
        ),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("{'a': 1, 2: 3}", "expected type 'string' but found 'int'"),
        ("[self.either, 1]", "expected type 'dyn' but found 'int'"),
        ("[?1]", "expected type 'optional_type(int)' but found 'int'"),
        ("'a'.contains(1)", "found no matching overload for 'contains' applied to 'string.(int)'"),
        ("Thing{a: 1}", "undeclared reference to 'Thing' (in container '')"),
        (
            "self.nested == self.ports[0]",
            "found no matching overload for '_==_' applied to '(selfType.nested, selfType.ports.@idx)'",
        ),
        (
            "self.count < self.name",
            "found no matching overload for '_<_' applied to '(int, string)'",
        ),
        ("authorizer.path('/')", "undeclared reference to 'authorizer'"),
    ]);
}

#[test]
fn all_faults_are_told_in_their_order() {
    let found = evaluate("self.b && \n self.a").unwrap_err();
    assert_eq!(
        found,
        "ERROR: <input>:1:5: undefined field 'b'\n | self.b && \n | ....^\nERROR: <input>:2:6: undefined field 'a'\n \
         |  self.a\n | .....^"
    );
}
