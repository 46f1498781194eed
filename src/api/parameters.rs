//! Query parameters as texts, numbers and booleans. [`query`](crate::api::query) knows what they mean.

use crate::{api::go_text, model::Status};

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

    /// A boolean parameter.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.first(name).map(go_text::flag)
    }

    /// A number parameter.
    ///
    /// # Errors
    /// 400 with the message of Go's `strconv`.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        self.first(name).map(go_text::integer).transpose().map_err(Status::bad_request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts() {
        let parameters = Parameters::of("limit=5&li%6Dit=6&watch=false&watch&since=x");
        assert_eq!(parameters.all("limit").collect::<Vec<_>>(), ["5", "6"]);
        assert_eq!(parameters.number("limit"), Ok(Some(5)));
        assert_eq!(parameters.number("other"), Ok(None));
        assert_eq!(parameters.number("since").unwrap_err().code, 400);
        assert_eq!(parameters.flag("watch"), Some(false));
        assert_eq!(parameters.flag("other"), None);
    }
}
