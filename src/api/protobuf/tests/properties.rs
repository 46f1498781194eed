//! What holds for any bytes, and for any document of any kind: documents are made and encoded by the table of fields.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::RngSeed};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::{body, bytes, decode, double, number, varint};
use crate::{
    api::protobuf::MAGIC,
    model::{
        fields::{self, EMBEDDED, Field, Form, Message, Presence, Shape},
        time::{micro_time_text, time_text},
    },
};

/// Messages within messages that a document has at most.
const DEPTH_MAX: u32 = 5;

/// API version, name and message of a kind.
type Kind = (&'static str, &'static str, &'static Message);

fn kinds() -> impl Strategy<Value = Kind> {
    select(fields::kinds().collect::<Vec<_>>())
}

/// Makes documents in the form in which they come back: what is zero is left out, unless its field is always there.
struct Writer {
    rng: StdRng,
    /// Of ten optional fields, so many are set.
    density: u32,
}

impl Writer {
    fn message(&mut self, message: &Message, depth: u32, out: &mut Map<String, Value>) {
        for field in &message.fields {
            match field.shape {
                Shape::One(Form::Message(id)) if field.name == EMBEDDED => {
                    self.message(id.message(), depth, out);
                }
                shape => {
                    if let Some(value) = self.field(field, shape, depth) {
                        out.insert(field.name.to_owned(), value);
                    }
                }
            }
        }
    }

    fn field(&mut self, field: &Field, shape: Shape, depth: u32) -> Option<Value> {
        let (Shape::One(form) | Shape::List(form) | Shape::Map(form)) = shape;
        let is_message = matches!(form, Form::Message(_));
        let is_set = self.rng.random_ratio(self.density, 10) && (!is_message || depth > 0);
        if !is_set {
            let zero = field.zero();
            let is_there =
                field.presence == Presence::Always && !zero.is_object() && !zero.is_null();
            return is_there.then_some(zero);
        }
        let count = self.rng.random_range(1..3);
        Some(match shape {
            Shape::One(form) => self.value(form, depth),
            Shape::List(form) => (0..count).map(|_| self.value(form, depth)).collect(),
            Shape::Map(form) => {
                let entries = (0..count).map(|n| (format!("{n}/é"), self.value(form, depth)));
                Value::Object(entries.collect())
            }
        })
    }

    fn value(&mut self, form: Form, depth: u32) -> Value {
        let integer = self.rng.random_range(1..=i64::MAX) * if self.rng.random() { 1 } else { -1 };
        // From the year 1 to 9999, in microseconds.
        let microseconds = self.rng.random_range(-62_135_596_800_000_000..253_402_207_200_000_000);
        let time = Timestamp::from_microsecond(microseconds).unwrap();
        match form {
            Form::Text => ["a", "é\"\n", "0", "\u{1f600}"][self.rng.random_range(0..4)].into(),
            Form::Bool => true.into(),
            Form::Integer32 => i32::try_from(integer >> 32).unwrap().max(1).into(),
            Form::Integer => integer.into(),
            Form::Number => 0.5.into(),
            Form::Bytes => BASE64_STANDARD.encode(integer.to_be_bytes()).into(),
            Form::Time => time_text(time).into(),
            Form::MicroTime => micro_time_text(time).into(),
            Form::Quantity => ["0", "500m", "1Gi"][self.rng.random_range(0..3)].into(),
            Form::IntegerOrText if self.rng.random() => integer.into(),
            Form::IntegerOrText => "25%".into(),
            Form::Json => json!({"a": [integer, null]}),
            Form::Message(id) if id.message().is_either => {
                let fields = &id.message().fields;
                let field = fields[self.rng.random_range(0..fields.len())];
                match field.shape {
                    Shape::One(form) => self.value(form, depth),
                    Shape::List(form) => json!([self.value(form, depth)]),
                    Shape::Map(_) => unreachable!("there is none"),
                }
            }
            Form::Message(id) => {
                let mut out = Map::new();
                self.message(id.message(), depth.saturating_sub(1), &mut out);
                Value::Object(out)
            }
        }
    }

    fn document(&mut self, (_, _, message): Kind, depth: u32) -> Value {
        let mut document = Map::new();
        self.message(message, depth, &mut document);
        Value::Object(document)
    }
}

/// The fields of a message as a client sends them.
fn encoded(message: &Message, document: &Value, rng: &mut impl Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for field in &message.fields {
        let value = &document[field.name];
        match field.shape {
            Shape::One(Form::Message(id)) if field.name == EMBEDDED => {
                out.extend(bytes(field.number, encoded(id.message(), document, rng)));
            }
            Shape::One(_) if value.is_null() => {}
            Shape::One(form) => out.extend(encoded_value(field.number, form, value, rng)),
            Shape::List(Form::Integer32 | Form::Integer) if rng.random() => {
                let items = value.as_array().into_iter().flatten();
                let packed = items.flat_map(|item| varint(item.as_i64().unwrap().cast_unsigned()));
                out.extend(bytes(field.number, packed.collect::<Vec<_>>()));
            }
            Shape::List(form) => {
                for item in value.as_array().into_iter().flatten() {
                    out.extend(encoded_value(field.number, form, item, rng));
                }
            }
            Shape::Map(form) => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    let entry = [bytes(1, key), encoded_value(2, form, value, rng)].concat();
                    out.extend(bytes(field.number, entry));
                }
            }
        }
    }
    out
}

fn encoded_value(at: u64, form: Form, value: &Value, rng: &mut impl Rng) -> Vec<u8> {
    let text = || value.as_str().unwrap();
    match form {
        Form::Integer32 | Form::Integer => number(at, value.as_i64().unwrap()),
        Form::Number => double(at, value.as_f64().unwrap()),
        Form::Bool => number(at, value.as_bool().unwrap().into()),
        Form::Text => bytes(at, text()),
        Form::Bytes => bytes(at, BASE64_STANDARD.decode(text()).unwrap()),
        Form::Quantity => bytes(at, bytes(1, text())),
        Form::Json => bytes(at, bytes(1, value.to_string())),
        Form::Time | Form::MicroTime => {
            let time: Timestamp = text().parse().unwrap();
            let seconds = time.as_nanosecond().div_euclid(1_000_000_000);
            let rest = time.as_nanosecond().rem_euclid(1_000_000_000);
            let [seconds, rest] = [seconds, rest].map(|part| i64::try_from(part).unwrap());
            bytes(at, [number(1, seconds), number(2, rest)].concat())
        }
        Form::IntegerOrText => {
            let fields = match value.as_i64() {
                Some(integer) => [number(1, 0), number(2, integer), bytes(3, "")],
                None => [number(1, 1), number(2, 0), bytes(3, text())],
            };
            bytes(at, fields.concat())
        }
        Form::Message(id) => match id.message().choice(value) {
            Some(field) if id.message().is_either => {
                let wrapped = json!({field.name: value});
                bytes(at, encoded(id.message(), &wrapped, rng))
            }
            _ => bytes(at, encoded(id.message(), value, rng)),
        },
    }
}

fn encoded_body((version, kind, of): Kind, document: &Value, rng: &mut impl Rng) -> Vec<u8> {
    body(version, kind, &[encoded(of, document, rng)])
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn what_is_encoded_is_decoded(
        kind in kinds(), seed: u64, density in 0..8_u32, depth in 0..DEPTH_MAX
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut document = Writer { rng: StdRng::seed_from_u64(seed), density }.document(kind, depth);
        let body = encoded_body(kind, &document, &mut rng);
        document["apiVersion"] = kind.0.into();
        document["kind"] = kind.1.into();
        prop_assert_eq!(decode(&body), Ok(document));
    }

    #[test]
    fn no_bytes_panic(
        kind in kinds(), seed: u64, noise in vec(any::<u8>(), 0..100),
        damage in vec((any::<usize>(), any::<u8>()), 0..5)
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let document = Writer { rng: StdRng::seed_from_u64(seed), density: 3 }.document(kind, 3);
        let mut damaged = encoded_body(kind, &document, &mut rng);
        for (at, byte) in damage {
            let at = at % damaged.len();
            damaged[at] = byte;
        }
        let headed = [MAGIC, &noise].concat();
        let of_kind = body(kind.0, kind.1, std::slice::from_ref(&noise));
        for body in [&noise, &headed, &of_kind, &damaged] {
            if let Err(status) = decode(body) {
                prop_assert!(matches!(status.code, 400 | 415), "{}", status);
            }
        }
    }
}
