//! Answers that show a list. The text is made piece by piece while the client reads it, so that a slow client holds little
//! more than one piece in memory. The bytes of the items are shared with the store.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse, Response},
};
use http::header;
use http_body::{Frame, SizeHint};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{
        forms::{Form, Shape, Syntax},
        pieces::Pieces,
        table::{self, Printer},
    },
    http_server::sending::{GZIP_MIN, PIECE},
    model::Object,
    registry::Descriptor,
};

/// A list and its own metadata: `resourceVersion`, `continue`, `remainingItemCount`.
pub(crate) struct List {
    /// The kind in which the objects are shown.
    pub(crate) descriptor: Arc<Descriptor>,
    pub(crate) metadata: Value,
    pub(crate) objects: Vec<Arc<Object>>,
}

impl List {
    /// The answer. Only its beginning is made now.
    pub(crate) fn answer(self, form: Form) -> Response {
        let mut encoder = Encoder::new(self, form);
        encoder.left = encoder.length();
        ([(header::CONTENT_TYPE, form.syntax.media())], Body::new(encoder)).into_response()
    }
}

/// The body of a list. It makes each piece when that is read.
struct Encoder {
    descriptor: Arc<Descriptor>,
    printer: Printer,
    form: Form,
    now: Timestamp,
    objects: vec::IntoIter<Arc<Object>>,
    pieces: Pieces,
    /// Before the next item.
    separator: &'static str,
    /// After the last; nothing once it is written.
    tail: &'static str,
    /// How many bytes are left, if that is known.
    left: Option<usize>,
}

impl Encoder {
    fn new(list: List, form: Form) -> Self {
        let List { descriptor, metadata, objects } = list;
        let (kind, printer) = (&descriptor.kind, Printer::of(&descriptor));
        let list = kind.list_kind();
        let head = match form.shape {
            Shape::Table(rows) => printer.head(metadata, rows.version),
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                head("PartialObjectMetadataList", version.api_version(), &metadata)
            }
            Shape::Whole => head(&list, &kind.api_version(), &metadata),
        };
        // Kubernetes makes these from nothing, item by item, and Go writes a list that nobody began as null.
        let is_null = objects.is_empty()
            && match form.shape {
                Shape::MetadataList(_) => true,
                Shape::Table(_) => printer.is_generic(),
                Shape::Whole | Shape::Metadata(_) => false,
            };
        let mut pieces = Pieces::default();
        let tail = match form.syntax {
            Syntax::Json => {
                pieces.copy(head.as_bytes());
                pieces.copy(if is_null { b"" } else { b"[" });
                if is_null { "null}" } else { "]}" }
            }
            Syntax::Yaml => {
                pieces.copy(head_in_yaml(&head).as_bytes());
                match objects.as_slice() {
                    [] if is_null => " null\n",
                    [] => " []\n",
                    _ => {
                        pieces.copy(b"\n");
                        ""
                    }
                }
            }
        };
        let (now, objects) = (Timestamp::now(), objects.into_iter());
        Self { descriptor, printer, form, now, objects, pieces, separator: "", tail, left: None }
    }

    fn item(&mut self, object: &Arc<Object>) {
        self.pieces.copy(self.separator.as_bytes());
        self.separator = if self.form.syntax == Syntax::Yaml { "" } else { "," };
        let object = self.descriptor.show(object);
        let made = match self.form.shape {
            Shape::Table(rows) => Some(self.printer.row_of(&object, self.now, rows)),
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                Some(table::partial(&object, version))
            }
            Shape::Whole => None,
        };
        match (self.form.syntax, made) {
            (Syntax::Json, Some(made)) => self.pieces.share(made),
            (Syntax::Json, None) if !self.descriptor.kind.is_native() => {
                self.pieces.document(&object);
            }
            (Syntax::Json, None) => self.pieces.item(&object),
            (Syntax::Yaml, made) => {
                let whole = made.is_none();
                let document = serde_json::from_slice(&made.unwrap_or_else(|| object.document()));
                self.item_in_yaml(document, whole);
            }
        }
    }

    /// Sequences of one item each, one after the other, are the sequence of all.
    fn item_in_yaml(&mut self, document: serde_json::Result<Value>, whole: bool) {
        match document {
            Ok(mut document) => {
                if let (true, Some(fields)) =
                    (whole && self.descriptor.kind.is_native(), document.as_object_mut())
                {
                    fields.retain(|name, _| name != "kind" && name != "apiVersion");
                }
                self.pieces.share(yaml(&[document]).into());
            }
            Err(error) => tracing::error!(%error, "a stored object cannot be read"),
        }
    }

    /// How many bytes it will be; tries a little where that cannot be told. What is not known is long.
    fn length(&mut self) -> Option<usize> {
        let objects = self.objects.as_slice();
        let stored = || objects.iter().all(|object| *object.key.kind == *self.descriptor.kind);
        if self.form == Form::JSON && stored() {
            let length = |object: &Arc<Object>| {
                if !self.descriptor.kind.is_native() {
                    object.document_len()
                } else {
                    object.item_len()
                }
            };
            let documents: usize = objects.iter().map(length).sum();
            let separators = objects.len().saturating_sub(1);
            return Some(self.pieces.len() + documents + separators + self.tail.len());
        }
        self.make(GZIP_MIN);
        (self.pieces.len() < GZIP_MIN).then(|| self.pieces.len())
    }

    /// Makes the next piece of about this size.
    fn make(&mut self, bytes: usize) {
        while self.pieces.len() < bytes {
            let Some(object) = self.objects.next() else {
                return self.pieces.copy(std::mem::take(&mut self.tail).as_bytes());
            };
            self.item(&object);
        }
    }
}

impl HttpBody for Encoder {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.make(PIECE);
        let piece = this.pieces.take();
        if let (Some(left), Some(piece)) = (&mut this.left, &piece) {
            *left -= piece.len();
        }
        Poll::Ready(piece.map(Frame::data).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left as u64))
    }
}

/// A list in JSON up to the list of its items.
fn head(kind: &str, api_version: &str, metadata: &Value) -> String {
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":"
    )
}

/// The same in YAML, of one in JSON: without a line's end.
fn head_in_yaml(head: &str) -> String {
    let name = if head.ends_with("\"rows\":") { "rows" } else { "items" };
    let mut document: Value = serde_json::from_str(&format!("{head}null}}")).unwrap_or_default();
    document.as_object_mut().map(|fields| fields.remove(name));
    format!("{}{name}:", yaml(&document))
}

fn yaml(value: &impl Serialize) -> String {
    serde_yaml::to_string(value).expect("JSON has no value that YAML has not")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;
    use crate::{
        api::table::{IncludeObject, Rows, Version},
        model::{ObjectKey, kind, object::to_stored},
        registry::Kinds,
    };

    const METADATA: Shape = Shape::MetadataList(Version::V1);

    fn in_table(include: IncludeObject) -> Shape {
        Shape::Table(Rows { version: Version::V1, include })
    }

    fn json_of(shape: Shape) -> Form {
        Form { shape, syntax: Syntax::Json }
    }

    fn maps(count: usize, bytes: usize) -> List {
        let map = |nth: usize| {
            let document =
                json!({"metadata": {"name": format!("m{nth}")}, "data": {"a": "x".repeat(bytes)}});
            let key = ObjectKey::new(&kind::CONFIG_MAP, "default", format!("m{nth}"));
            let stored = to_stored(&kind::CONFIG_MAP, document);
            Arc::new(Object::from_stored(key, 7, stored).unwrap())
        };
        let metadata = json!({"resourceVersion": "9"});
        let descriptor = Kinds::built_in().descriptor(&kind::CONFIG_MAP).unwrap().clone();
        List { descriptor, metadata, objects: (0..count).map(map).collect() }
    }

    async fn text(response: Response) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn lists_are_whole_in_every_form() {
        for (count, bytes) in [(0, 0), (1, 10), (3, 10), (2000, 200), (5, 300_000)] {
            let shapes = [
                Shape::Whole,
                METADATA,
                in_table(IncludeObject::Object),
                in_table(IncludeObject::None),
            ];
            let of = |shape| [Syntax::Json, Syntax::Yaml].map(|syntax| Form { shape, syntax });
            for form in shapes.into_iter().flat_map(of) {
                let text = text(maps(count, bytes).answer(form)).await;
                let list: Value = match form.syntax {
                    Syntax::Yaml => serde_yaml::from_str(&text).unwrap(),
                    Syntax::Json => serde_json::from_str(&text).unwrap(),
                };
                let (kind, api_version, items) = match form.shape {
                    Shape::Whole => ("ConfigMapList", "v1", "items"),
                    Shape::Metadata(_) | Shape::MetadataList(_) => {
                        ("PartialObjectMetadataList", "meta.k8s.io/v1", "items")
                    }
                    Shape::Table(_) => ("Table", "meta.k8s.io/v1", "rows"),
                };
                let seen = (list["kind"].as_str(), list["apiVersion"].as_str());
                assert_eq!(seen, (Some(kind), Some(api_version)));
                assert_eq!(list["metadata"]["resourceVersion"], "9");
                if form.shape == METADATA && count == 0 {
                    assert_eq!(list.get(items), Some(&Value::Null));
                    continue;
                }
                let items = list[items].as_array().unwrap();
                assert_eq!(items.len(), count, "{form:?}");
                let Some(last) = items.last() else { continue };
                let (name, last) = (format!("m{}", count - 1), &last["object"]);
                match form.shape {
                    Shape::Whole => {
                        let object = items.last().unwrap();
                        assert_eq!(object["metadata"]["name"], *name);
                        assert_eq!(object["metadata"]["resourceVersion"], "7");
                        assert_eq!(object["data"]["a"].as_str().unwrap().len(), bytes);
                    }
                    Shape::Metadata(_) | Shape::MetadataList(_) => {
                        assert_eq!(items.last().unwrap()["metadata"]["name"], *name);
                    }
                    Shape::Table(Rows { include: IncludeObject::None, .. }) => {
                        assert_eq!(*last, Value::Null);
                    }
                    Shape::Table(_) => assert_eq!(last["metadata"]["name"], *name),
                }
            }
        }
    }

    async fn pieces(mut encoder: Encoder) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while let Some(frame) = encoder.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        pieces
    }

    #[tokio::test]
    async fn lengths_are_told_where_they_are_known() {
        let table = json_of(in_table(IncludeObject::Object));
        for (form, bytes, known) in [
            (Form::JSON, 100, true),
            (Form::JSON, GZIP_MIN, true),
            (table, 100, true),
            (table, GZIP_MIN, false),
        ] {
            let mut encoder = Encoder::new(maps(3, bytes), form);
            let length = encoder.length();
            assert_eq!(length.is_some(), known, "{form:?} of {bytes}");
            let whole = pieces(encoder).await.concat();
            assert_eq!(length.unwrap_or(whole.len()), whole.len());
        }
    }

    #[tokio::test]
    async fn pieces_are_small_or_those_of_the_store() {
        let list = maps(3, 300_000);
        let stored: Vec<_> = list.objects.iter().map(|o| o.document_parts().2.as_ptr()).collect();
        let made = pieces(Encoder::new(list, Form::JSON)).await;
        let (long, short): (Vec<_>, Vec<_>) = made.iter().partition(|p| p.len() > PIECE);
        assert_eq!(long.iter().map(|piece| piece.as_ptr()).collect::<Vec<_>>(), stored);
        assert_eq!(short.len(), 4, "the head and the beginnings of documents, and the tail");
        let made = pieces(Encoder::new(maps(2000, 200), Form::JSON)).await;
        assert!(made.iter().all(|piece| piece.len() <= PIECE));
    }
}
