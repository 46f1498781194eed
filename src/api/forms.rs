//! The forms of answers. `Accept` tells which of them the client wants.

use http::{HeaderMap, header};

use crate::{
    api::table::{IncludeObject, Rows, Version},
    http_server::headers,
    model::Status,
};

/// The form in which a client wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) syntax: Syntax,
}

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json,
    Yaml,
}

/// What is shown of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All.
    Whole,
    Table(Rows),
    /// The metadata of one object.
    Metadata(Version),
    /// The same of a list.
    MetadataList(Version),
}

const SUPPORTED: &str = "application/json, application/yaml";
const META: &str = "meta.k8s.io";

impl Syntax {
    /// The media type.
    pub(crate) fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

impl Form {
    pub(crate) const JSON: Self = Self { shape: Shape::Whole, syntax: Syntax::Json };

    /// Picks the media type of `Accept` that can be produced and is wanted most. Protobuf is negotiated down to JSON
    /// when the client lists JSON too.
    ///
    /// # Errors
    /// 406 when nothing can be produced, 400 for an unknown `includeObject`.
    pub(crate) fn negotiate(headers: &HeaderMap, include: &str) -> Result<Self, Status> {
        let form = ranges(headers).iter().find_map(Self::of_media_range);
        form.ok_or_else(|| Status::not_acceptable(SUPPORTED))?.including(include)
    }

    /// The same for one object.
    pub(crate) fn of_object(headers: &HeaderMap, include: &str) -> Result<Self, Status> {
        let form = Self::negotiate(headers, include)?;
        match form.shape {
            Shape::MetadataList(_) => Err(Status::no_such_form(
                "you requested PartialObjectMetadataList, but the requested object is not a list",
            )),
            _ => Ok(form),
        }
    }

    /// The same for a list.
    pub(crate) fn of_list(headers: &HeaderMap, include: &str) -> Result<Self, Status> {
        let form = Self::negotiate(headers, include)?;
        match form.shape {
            Shape::Metadata(_) => Err(Status::no_such_form(
                "you requested PartialObjectMetadata, but the requested object is a list",
            )),
            _ => Ok(form),
        }
    }

    /// The same for a watch, which has no form in YAML, and shows objects.
    pub(crate) fn of_stream(headers: &HeaderMap, include: &str) -> Result<Self, Status> {
        let ranges = ranges(headers);
        let mut forms = ranges.iter().filter_map(Self::of_media_range);
        let form = forms.find(|form| form.syntax == Syntax::Json);
        let form = form.ok_or_else(|| Status::not_acceptable("application/json;stream=watch"))?;
        match form.shape {
            Shape::MetadataList(_) => Ok(Self::JSON),
            _ => form.including(include),
        }
    }

    /// JSON or YAML, for documents that have no other form.
    pub(crate) fn plain(headers: &HeaderMap) -> Result<Syntax, Status> {
        let ranges = ranges(headers);
        let mut forms = ranges.iter().filter_map(Self::of_media_range);
        let form = forms.find(|form| form.shape == Shape::Whole);
        form.map(|form| form.syntax).ok_or_else(|| Status::not_acceptable(SUPPORTED))
    }

    fn including(self, include: &str) -> Result<Self, Status> {
        let Shape::Table(Rows { version, .. }) = self.shape else { return Ok(self) };
        let shape = Shape::Table(Rows { version, include: IncludeObject::parse(include)? });
        Ok(Self { shape, ..self })
    }

    fn of_media_range(range: &MediaRange<'_>) -> Option<Self> {
        let syntax = match range.media {
            "application/json" | "application/*" | "*/*" | "" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            _ => return None,
        };
        let set = |name| range.parameter(name).unwrap_or_default();
        let streams = match set("stream") {
            "" => true,
            "watch" => syntax == Syntax::Json,
            _ => false,
        };
        if !streams || !set("sv").is_empty() {
            return None;
        }
        let Some((group, version, kind)) = range.conversion() else {
            return Some(Self { shape: Shape::Whole, syntax });
        };
        let version = match version {
            "v1" => Version::V1,
            "v1beta1" => Version::V1Beta1,
            _ => return None,
        };
        let shape = match (group, kind) {
            (META, "Table") => Shape::Table(Rows { version, include: IncludeObject::default() }),
            (META, "PartialObjectMetadata") => Shape::Metadata(version),
            (META, "PartialObjectMetadataList") => Shape::MetadataList(version),
            _ => return None,
        };
        Some(Self { shape, syntax })
    }
}

/// Whether a media type asks for indented JSON: `application/json;pretty=1`.
pub(crate) fn asks_for_pretty(headers: &HeaderMap) -> bool {
    ranges(headers).first().is_some_and(|range| range.parameter("pretty") == Some("1"))
}

/// One media type of `Accept`.
pub(crate) struct MediaRange<'a> {
    pub(crate) media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    weight: f32,
}

impl<'a> MediaRange<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameter = |part: &'a str| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim(), value.trim().trim_matches('"')))
        };
        let parameters: Vec<_> = parts.filter_map(parameter).collect();
        let mut range = Self { media, parameters, weight: 1.0 };
        if let Some(weight) = range.parameter("q") {
            range.weight = weight.parse().unwrap_or(1.0);
        }
        range
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(given, _)| *given == name).map(|(_, value)| *value)
    }

    /// The group, version and kind in which the client wants the answer.
    pub(crate) fn conversion(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let [group, version, kind] = ["g", "v", "as"].map(|name| self.parameter(name));
        let any = group.or(version).or(kind).is_some();
        let text = |part: Option<&'a str>| part.unwrap_or_default();
        any.then(|| (text(group), text(version), text(kind)))
    }
}

/// The media types that the client accepts, the preferred one first.
pub(crate) fn ranges(headers: &HeaderMap) -> Vec<MediaRange<'_>> {
    let accept = headers::text(headers, header::ACCEPT).unwrap_or("");
    let mut ranges: Vec<_> = accept.split(',').map(MediaRange::of).collect();
    ranges.retain(|range| range.weight > 0.0);
    ranges.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_negotiated() {
        let check = |accept: &str, expected: Option<Form>, stream: Option<Form>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Form::negotiate(&headers, "").ok(), expected, "{accept}");
            assert_eq!(Form::of_stream(&headers, "").ok(), stream, "{accept}");
        };
        let in_yaml = |form: Option<Form>| form.map(|form| Form { syntax: Syntax::Yaml, ..form });
        let json = Some(Form::JSON);
        let yaml = in_yaml(json);
        check("", json, json);
        check("application/json", json, json);
        check("application/vnd.kubernetes.protobuf,application/json", json, json);
        check(
            "application/vnd.kubernetes.protobuf;stream=watch, application/json;stream=watch",
            json,
            json,
        );
        check("application/yaml", yaml, None);
        check("application/json;q=0.5, application/yaml", yaml, json);
        check("application/json;q=0", None, None);
        check("application/vnd.kubernetes.protobuf", None, None);
        check("application/vnd.kubernetes.protobuf;stream=watch", None, None);
        check("application/json;stream=other", None, None);
        check("application/yaml;stream=watch", None, None);
        check("text/html,*/*;q=0.8", json, json);
        check("image/png", None, None);
        let in_json = |shape| Some(Form { shape, syntax: Syntax::Json });
        let table =
            |version| in_json(Shape::Table(Rows { version, include: IncludeObject::Metadata }));
        let (new, old) = (table(Version::V1), table(Version::V1Beta1));
        check("application/json;as=Table;v=v1;g=meta.k8s.io", new, new);
        check("application/json;as=Table;g=meta.k8s.io;v=v1beta1,application/json", old, old);
        check("application/json;as=Table;g=meta.k8s.io;v=v2,application/json", json, json);
        check("application/json;as=Table;g=meta.k8s.io;v=v2", None, None);
        check("application/json;as=Table;v=v1", None, None);
        check("application/yaml;as=Table;v=v1;g=meta.k8s.io", in_yaml(new), None);
        check("application/yaml;as=Table;v=v1;g=meta.k8s.io,application/json", in_yaml(new), json);
        check("application/yaml;as=Table;v=v2;g=meta.k8s.io", None, None);
        let one = in_json(Shape::Metadata(Version::V1));
        let all = in_json(Shape::MetadataList(Version::V1));
        let of = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1");
        check(&of("PartialObjectMetadata"), one, one);
        check(&of("PartialObjectMetadataList"), all, json);
        check(&of("PartialObjectMetadata").replace("json", "yaml"), in_yaml(one), None);
        check(&of("Pod"), None, None);
    }

    #[test]
    fn what_is_asked_for_fits() {
        let headers =
            |text: String| HeaderMap::from_iter([(header::ACCEPT, text.parse().unwrap())]);
        let of = |kind: &str| headers(format!("application/json;as={kind};g=meta.k8s.io;v=v1"));
        let list = Form::of_list(&of("PartialObjectMetadata"), "").unwrap_err();
        let object = Form::of_object(&of("PartialObjectMetadataList"), "").unwrap_err();
        assert_eq!((list.code, object.code), (406, 406));
        Form::of_object(&of("PartialObjectMetadata"), "").unwrap();
        Form::of_list(&of("PartialObjectMetadataList"), "").unwrap();
        assert_eq!(Form::plain(&of("Table")).unwrap_err().code, 406);
        assert_eq!(Form::of_list(&of("Table"), "Everything").unwrap_err().code, 400);
    }
}
