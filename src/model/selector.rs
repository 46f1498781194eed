//! Label and field selectors: parsed from queries (`a=b,c in (x,y),!d`) or from objects, matched against metadata.
//!
//! Grammar and semantics: "Labels and Selectors" of the Kubernetes documentation. `!=` and `notin` also match
//! objects that lack the label.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

/// Longest value of a label.
const VALUE_LENGTH_MAX: usize = 63;

/// A conjunction of requirements on labels. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    /// The label is a greater number.
    Above(i64),
    /// The label is a lesser number.
    Below(i64),
}

impl LabelSelector {
    /// Parses the `labelSelector` query parameter. The error is a sentence for the client.
    pub fn parse(text: &str) -> Result<Self, String> {
        let requirements = split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(parse_requirement)
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// All of these labels, as a Service's `spec.selector` means it.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In(vec![value.clone()]),
            })
            .collect();
        Self { requirements }
    }

    /// A workload's `spec.selector`. The error names the operator that is unknown.
    pub fn from_object(selector: &meta::LabelSelector) -> Result<Self, String> {
        let mut all = Self::from_map(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            let operator = match expression.operator.as_str() {
                "In" => Operator::In(values),
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("\"{other}\" is not a valid label selector operator")),
            };
            all.requirements.push(Requirement { key: expression.key.clone(), operator });
        }
        Ok(all)
    }

    /// Whether every requirement holds.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|v| values.contains(v)),
                Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                Operator::Above(bound) => number().is_some_and(|number| number > *bound),
                Operator::Below(bound) => number().is_some_and(|number| number < *bound),
            }
        })
    }

    /// Whether there is nothing to match.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The labels, key and value, that every selected object has.
    pub fn demanded(&self) -> impl Iterator<Item = (&str, &str)> {
        self.requirements.iter().filter_map(|requirement| match &requirement.operator {
            Operator::In(values) => match values.as_slice() {
                [value] => Some((requirement.key.as_str(), value.as_str())),
                _ => None,
            },
            _ => None,
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(part: &str) -> Result<Requirement, String> {
    let broken = || format!("unable to parse requirement: {part:?} is not a label requirement");
    let make = |key: &str, operator| {
        let key = key.trim();
        let valid = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
        if valid { Ok(Requirement { key: key.to_owned(), operator }) } else { Err(broken()) }
    };
    let one = |value: &str| values([value]);
    if let Some(key) = part.strip_prefix('!') {
        return make(key, Operator::DoesNotExist);
    }
    if let Some((head, list)) = part.split_once('(') {
        let list = list.trim_end().strip_suffix(')').ok_or_else(broken)?;
        let values = values(list.split(','))?;
        let (key, word) = head.trim_end().rsplit_once(char::is_whitespace).ok_or_else(broken)?;
        return match word {
            "in" => make(key, Operator::In(values)),
            "notin" => make(key, Operator::NotIn(values)),
            _ => Err(broken()),
        };
    }
    let mut operators = part.match_indices(['=', '!', '>', '<']);
    if let Some((at, word @ (">" | "<"))) = operators.next() {
        let bound = bound(part[at + 1..].trim())?;
        let above = word == ">";
        return make(
            &part[..at],
            if above { Operator::Above(bound) } else { Operator::Below(bound) },
        );
    }
    if let Some((key, value)) = part.split_once("!=") {
        return make(key, Operator::NotIn(one(value)?));
    }
    if let Some((key, value)) = part.split_once('=') {
        return make(key, Operator::In(one(value.strip_prefix('=').unwrap_or(value))?));
    }
    make(part, Operator::Exists)
}

/// Checks that labels can have this value: any other is a typing error.
fn values<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let value = |text: &'a str| {
        let text = text.trim();
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let ends_well = !text.starts_with(['-', '_', '.']) && !text.ends_with(['-', '_', '.']);
        if text.len() <= VALUE_LENGTH_MAX && ends_well && text.chars().all(inner) {
            return Ok(text.to_owned());
        }
        Err(format!("unable to parse requirement: {text:?} is not a label's value"))
    };
    texts.into_iter().map(value).collect()
}

/// A number to compare labels with. It is a label's value too, so it has no sign.
fn bound(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| {
        format!(
            "unable to parse requirement: values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer"
        )
    })
}

/// A conjunction of equalities on fields, `spec.nodeName=n1,status.phase!=Running`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRequirement {
    path: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Parses the `fieldSelector` query parameter by the rules of apimachinery's `fields.ParseSelector`: a backslash escapes
    /// `,`, `=` and `\` in a value, and spaces count. The error is apimachinery's sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = split_outside_escapes(text);
        // The first term with an error decides the message.
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let (path, equal, value) = split_at_operator(term)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            let value = unescaped(value)?;
            if !path.is_empty() || !value.is_empty() {
                requirements.push(FieldRequirement { path: path.to_owned(), equal, value });
            }
        }
        Ok(Self { requirements })
    }

    /// Whether there is nothing to match.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The paths that it reads, for a check against what a kind supports.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|requirement| requirement.path.as_str())
    }

    /// The one value that a path must have; `None` when it may have others.
    pub fn exact(&self, path: &str) -> Option<&str> {
        let mut all = self.requirements.iter();
        let exact = all.find(|requirement| requirement.equal && requirement.path == path)?;
        Some(&exact.value)
    }

    /// Whether every requirement holds; `field` gives the value at a path, `""` where there is none.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.requirements.iter().all(|requirement| {
            (field(&requirement.path) == requirement.value.as_str()) == requirement.equal
        })
    }
}

/// The terms between commas that no backslash escapes.
fn split_outside_escapes(text: &str) -> Vec<&str> {
    let mut is_escaped = false;
    let terms = text.split(|c| {
        let is_end = c == ',' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    terms.collect()
}

/// Path, whether the values must be equal, and value. The first operator divides them: a path has no escapes.
fn split_at_operator(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let rest = &term[at..];
        let value = |operator| rest.strip_prefix(operator);
        let (equal, value) = match value("!=") {
            Some(value) => (false, value),
            None => (true, value("==").or_else(|| value("="))?),
        };
        Some((&term[..at], equal, value))
    })
}

/// The value that was escaped.
fn unescaped(text: &str) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                other => {
                    let sequence: String = other.into_iter().collect();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{sequence}"
                    ));
                }
            },
            // Go prints the number of the character.
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            _ => value.push(c),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_map, vec},
        prelude::*,
        test_runner::RngSeed,
    };

    use super::*;

    /// Requirements as a client writes them.
    fn written(requirement: &Requirement) -> String {
        let Requirement { key, operator } = requirement;
        match operator {
            Operator::In(values) if values.len() == 1 => format!("{key} = {}", values[0]),
            Operator::In(values) => format!("{key} in ({})", values.join(", ")),
            Operator::NotIn(values) if values.len() == 1 => format!("{key}!={}", values[0]),
            Operator::NotIn(values) => format!("{key} notin ({})", values.join(",")),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
            Operator::Above(bound) => format!("{key}>{bound}"),
            Operator::Below(bound) => format!("{key} < {bound}"),
        }
    }

    /// What the documentation says about each operator, in its order.
    fn holds(Requirement { key, operator }: &Requirement, labels: &Labels) -> bool {
        let label = labels.iter().find(|(other, _)| *other == key).map(|(_, value)| value);
        let number = label.and_then(|label| label.parse::<i64>().ok());
        match (operator, label, number) {
            (Operator::In(values), Some(label), _) => values.iter().any(|value| value == label),
            (Operator::NotIn(values), Some(label), _) => values.iter().all(|value| value != label),
            (Operator::Exists, label, _) => label.is_some(),
            (Operator::DoesNotExist, label, _) => label.is_none(),
            (Operator::Above(bound), _, Some(number)) => number > *bound,
            (Operator::Below(bound), _, Some(number)) => number < *bound,
            (Operator::In(_) | Operator::Above(_) | Operator::Below(_), ..) => false,
            (Operator::NotIn(_), None, _) => true,
        }
    }

    type Labels = BTreeMap<String, String>;

    /// Few keys and values, so that selectors meet what they look for.
    fn key() -> impl Strategy<Value = String> {
        prop_oneof![Just("in".to_owned()), "[ab]", "(example[.]com/)?[a-c][a-z0-9._-]{0,3}"]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof!["[0-3]?", "[a-c]", "[a-z0-9][a-zA-Z0-9._-]{0,8}[A-Z0-9]"]
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let operator = prop_oneof![
            vec(value(), 1..4).prop_map(Operator::In),
            vec(value(), 1..4).prop_map(Operator::NotIn),
            Just(Operator::Exists),
            Just(Operator::DoesNotExist),
            prop_oneof![0..3_i64, 0..=i64::MAX].prop_map(Operator::Above),
            prop_oneof![0..3_i64, 0..=i64::MAX].prop_map(Operator::Below),
        ];
        (key(), operator).prop_map(|(key, operator)| Requirement { key, operator })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(500)
        })]

        #[test]
        fn what_is_written_is_read_and_means_the_same(
            requirements in vec(requirement(), 0..4), labels in btree_map(key(), value(), 0..4)
        ) {
            let text = requirements.iter().map(written).collect::<Vec<_>>().join(",");
            let selector = LabelSelector::parse(&text).unwrap();
            prop_assert_eq!(&selector.requirements, &requirements, "{}", text);
            let expected = requirements.iter().all(|requirement| holds(requirement, &labels));
            prop_assert_eq!(selector.matches(&labels), expected, "{}", text);
            let mut demanded = selector.demanded();
            let has_all = demanded.all(|(key, value)| labels.get(key).is_some_and(|v| v == value));
            prop_assert!(!expected || has_all);
        }

        #[test]
        fn any_value_can_be_escaped(value in ".*", others in "[a-c]{0,3}") {
            let escaped = value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            let selector = FieldSelector::parse(&format!("spec.x={escaped},spec.y!={others}"));
            let selector = selector.unwrap();
            prop_assert_eq!(selector.exact("spec.x"), Some(value.as_str()));
            prop_assert_eq!(selector.exact("spec.y"), None);
        }

        #[test]
        fn what_is_read_can_be_written(text in prop_oneof![
            ".*", "!?[a-c =!<>(),0-9]{0,12}", "[a-c]( ?(=|==|!=|<|>| in \\(| notin \\() ?[a-c0-9,]{0,4}[)]?)?"
        ]) {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let again = selector.requirements.iter().map(written).collect::<Vec<_>>().join(",");
                prop_assert_eq!(LabelSelector::parse(&again), Ok(selector), "{}", again);
            }
            if let Ok(selector) = FieldSelector::parse(&text) {
                selector.matches(|path| path.to_owned().into());
            }
        }
    }

    #[test]
    fn label_selectors() {
        let labels = BTreeMap::from([
            ("app".to_owned(), "web".to_owned()),
            ("v".to_owned(), "2".to_owned()),
        ]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,v=2", true),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("zone notin (a)", true),
            ("zone!=a", true),
            ("app!=web", false),
            ("app,!zone", true),
            ("!app", false),
            ("v>1", true),
            ("v > 1,v<10", true),
            ("v>2", false),
            ("v<2", false),
            ("app>1", false),
            ("zone<1", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
        for broken in [
            "a in b",
            "a of (b)",
            "=x",
            "a b",
            "a>",
            "a>b",
            "a>-1",
            "a<1.5",
            ">1",
            "a>=1",
            "a=b<1",
            "a=-b",
            "a in (b,c d)",
        ] {
            assert!(LabelSelector::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn field_selectors() {
        let field = |path: &str| Cow::from(if path == "metadata.name" { "web" } else { "" });
        for (text, expected) in [
            ("", true),
            (",,", true),
            ("=", true),
            ("!=", true),
            ("metadata.name=web", true),
            ("metadata.name==web,spec.nodeName=", true),
            ("metadata.name!=web", false),
            ("metadata.name= web", false),
            ("metadata.name=web,", true),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(field), expected, "{text:?}");
        }
    }

    #[test]
    fn terms_of_field_selectors() {
        for (text, expected) in [
            (r"a=b", &["a = b"][..]),
            (r"b=1,a!=2", &["a ! 2", "b = 1"]),
            (r"a==b", &["a = b"]),
            (r"a=!b", &["a = !b"]),
            (r"a!b=c", &["a!b = c"]),
            (r"a=b\=c", &["a = b=c"]),
            (r"a=\,b,c=d", &["a = ,b", "c = d"]),
            (r"a=\\,c=d", &["a = \\", "c = d"]),
            (r"a=\\\,c\=d", &["a = \\,c=d"]),
            (r"a!=\=\=", &["a ! =="]),
            (r"=b", &[" = b"]),
            (r"a=", &["a = "]),
            (r"a = b", &["a  =  b"]),
            (r"a\=b", &["a\\ = b"]),
            (r"a=ü\,", &["a = ü,"]),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            let shown = |requirement: &FieldRequirement| {
                let FieldRequirement { path, equal, value } = requirement;
                format!("{path} {} {value}", if *equal { '=' } else { '!' })
            };
            let found: Vec<String> = selector.requirements.iter().map(shown).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn field_selectors_that_are_refused() {
        for (text, expected) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
            (r"a=b,d\,e", r"invalid selector: 'a=b,d\,e'; can't understand 'd\,e'"),
            ("a===b", "invalid field selector: unescaped character in value: 61"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("b=b=c,a", "invalid selector: 'b=b=c,a'; can't understand 'a'"),
            (r"a=b\", r"invalid field selector: invalid escape sequence: \"),
            (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
            (r"a=\!b", r"invalid field selector: invalid escape sequence: \!"),
            (r"a=\\\ü", r"invalid field selector: invalid escape sequence: \ü"),
        ] {
            assert_eq!(FieldSelector::parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
