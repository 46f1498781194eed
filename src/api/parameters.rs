//! Query parameters as texts, numbers and booleans. [`query`](crate::api::query) knows what they mean.

use crate::model::Status;

/// Decoded query parameters, in the order in which the client sent them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn of(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter. kube-apiserver ignores the others.
    pub(crate) fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// A boolean parameter. As with kube-apiserver, every value but `false` and `0` is true.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.first(name).map(|text| text != "0" && !text.eq_ignore_ascii_case("false"))
    }

    /// A number parameter.
    ///
    /// # Errors
    /// 400 with the message of Go's `strconv`.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.first(name) else { return Ok(None) };
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let wrong = if is_number { "value out of range" } else { "invalid syntax" };
        text.parse().map(Some).map_err(|_number| {
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {wrong}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(300)
        })]

        #[test]
        fn any_number_is_read_as_it_is(number: i64) {
            let read = Parameters::of(&format!("limit={number}")).number("limit");
            prop_assert_eq!(read, Ok(Some(number)));
        }

        #[test]
        fn any_text_is_a_number_or_refused(text in prop_oneof![".*", "[-+]?[0-9]{0,25}"]) {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("limit", &text)
                .finish();
            let parameters = Parameters::of(&query);
            prop_assert_eq!(parameters.first("limit"), Some(text.as_str()));
            match parameters.number("limit") {
                Ok(number) => prop_assert_eq!(number, text.parse().ok()),
                Err(status) => prop_assert_eq!(status.code, 400),
            }
        }
    }

    #[test]
    fn numbers() {
        let number = |text: &str| {
            let found = Parameters::of(&format!("limit={text}")).number("limit");
            found.map_err(|status| status.message)
        };
        assert_eq!(number("-5"), Ok(Some(-5)));
        let refused = |text: &str, why: &str| {
            let expected = format!("strconv.ParseInt: parsing {text:?}: {why}");
            assert_eq!(number(text), Err(expected));
        };
        refused("", "invalid syntax");
        refused("1.5", "invalid syntax");
        refused("9223372036854775808", "value out of range");
    }
}
