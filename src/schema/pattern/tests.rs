use super::Pattern;

#[test]
fn patterns_match_as_in_go() {
    let unicode_digit = "\u{663}";
    for (pattern, text, expected) in [
        (r"^\d+$", "42", true),
        (r"^\d+$", unicode_digit, false),
        (r"^\D$", unicode_digit, true),
        (r"^\w+$", "snow_1", true),
        (r"^\w+$", "ü", false),
        (r"^[\w.-]+$", "a.b-c", true),
        (r"^[^\W]+$", "abc", true),
        (r"\bsnow\b", "a snow b", true),
        (r"a\Bb", "ab", true),
        (r"^\s$", "\u{b}", false),
        (r"^a{,3}$", "a{,3}", true),
        (r"^{$", "{", true),
        (r"^a{2}$", "aa", true),
        (r"^a{2,}b{1,2}$", "aaabb", true),
        (r"^[a[]+$", "a[", true),
        (r"^[]a]+$", "]a", true),
        (r"^[a&&b]+$", "&a", true),
        (r"^[a-c~~]+$", "~b", true),
        (r"^[[:alpha:]]+$", "abc", true),
        (r"^[[:^alpha:]]+$", "1", true),
        (r"^\Qa.b\E$", "a.b", true),
        (r"^\Qa.b\E$", "axb", false),
        (r"^\101$", "A", true),
        (r"^\x41\x{42}$", "AB", true),
        (r"^\pL+$", "äß", true),
        (r"^\p{^L}+$", "12", true),
        (r"^\p{Greek}$", "λ", true),
        (r"(?i)^snow$", "SNOW", true),
        (r"^(?P<name>a)(?<other>b)$", "ab", true),
        (r"^a\_\-\/\<b$", "a_-/<b", true),
        (r"^a.c$", "a\nc", false),
        (r"(?s)^a.c$", "a\nc", true),
        (r"^a$", "a\n", false),
        (r"", "anything", true),
        (
            r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "1.5Gi",
            true,
        ),
        (r"^(([a-zA-Z]|[a-zA-Z][a-zA-Z0-9\-]*[a-zA-Z0-9])\.)*([A-Za-z])$", "a.b", true),
    ] {
        let pattern = Pattern::new(pattern);
        assert_eq!(pattern.check(), Ok(()), "{}", pattern.text());
        assert_eq!(pattern.matches(text), expected, "{} on {text:?}", pattern.text());
    }
}

#[test]
fn patterns_that_go_refuses() {
    for (pattern, expected) in [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `*`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("((a{100}){100}){100}", "invalid repeat count: `{100}`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:snow:]]", "invalid character class range: `[:snow:]`"),
        (r"\p{", r"invalid character class range: `\p{`"),
        (r"(\pL{100}){10}(\pL{100}){10}", "expression too large"),
    ] {
        let expected = format!("error parsing regexp: {expected}");
        assert_eq!(Pattern::new(pattern).check(), Err(expected.as_str()), "{pattern}");
    }
}

#[test]
fn sizes_tell_the_work() {
    for (pattern, size) in [
        ("", 1),
        ("abc", 3),
        ("a{10}", 10),
        ("(ab){10}c", 21),
        ("[a-z]*", 1),
        ("(a{10}){20}", 200),
        (".*", 4),
        (r"\pL{2}\d", 65),
        ("[^a]", 4),
    ] {
        assert_eq!(Pattern::new(pattern).size(), size, "{pattern}");
    }
}

#[test]
fn deep_patterns_are_refused() {
    let nested =
        |depth: usize| Pattern::new(&format!("{}a{}", "(".repeat(depth), ")".repeat(depth)));
    assert_eq!(nested(200).check(), Ok(()));
    for depth in [251, 100_000] {
        let pattern = nested(depth);
        let fault = pattern.check().unwrap_err();
        assert!(
            fault.starts_with("error parsing regexp: expression nests too deeply: `(("),
            "{depth}"
        );
    }
}
