//! Changes only parts of the text of a kubeconfig, so that comments, order and style of the rest stay. A YAML parser
//! (JSON is YAML) gives the positions of these parts. A change may fail, so the caller parses the result and compares
//! it.

use std::{iter::Peekable, ops::Range};

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_yaml::Value;

/// A change at the top level of the document.
pub(super) enum Change<'a> {
    /// Adds an item to a list. An item with the same `name` is replaced.
    Item(&'static str, &'a Value),
    /// Sets a key to a text.
    Text(&'static str, &'a str),
}

/// The text with the changes. `None` if they cannot be made.
pub(super) fn edited(text: &str, changes: &[Change<'_>]) -> Option<String> {
    let root = document(text)?;
    let Content::Mapping(_) = root.content else { return None };
    let mut editor = Editor { text, root: &root, edits: Vec::new(), additions: Vec::new() };
    for change in changes {
        match change {
            Change::Item(list, item) => editor.put_item(list, item)?,
            Change::Text(key, value) => editor.put_text(key, value)?,
        }
    }
    editor.add_keys()?;
    Some(applied(text, editor.edits))
}

/// The position of the value of the document if it is empty (`{}`, `null`).
pub(super) fn placeholder(text: &str) -> Option<Range<usize>> {
    document(text).map(|root| root.range).filter(|range| !range.is_empty())
}

/// A value of the document and its range in the text. A block ends with its last scalar.
struct Node {
    range: Range<usize>,
    column: usize,
    flow: bool,
    content: Content,
}

enum Content {
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    fn entries(&self) -> &[(Self, Self)] {
        match &self.content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    fn entry(&self, key: &str) -> Option<&(Self, Self)> {
        self.entries().iter().find(|(name, _)| name.scalar() == Some(key))
    }

    fn name(&self) -> Option<&str> {
        self.entry("name")?.1.scalar()
    }
}

/// Parses the first document.
fn document(text: &str) -> Option<Node> {
    let events = Parser::new_from_str(text).map_while(Result::ok).map(|(event, span)| Seen {
        range: span.byte_range().unwrap_or_default(),
        column: span.start.col(),
        event,
    });
    let mut events = events.filter(|seen| !matches!(seen.event, Event::Comment(..))).peekable();
    while !matches!(events.next()?.event, Event::DocumentStart(..)) {}
    node(text, &mut events)
}

struct Seen<'a> {
    event: Event<'a>,
    range: Range<usize>,
    column: usize,
}

fn node<'a>(text: &str, events: &mut Peekable<impl Iterator<Item = Seen<'a>>>) -> Option<Node> {
    let Seen { event, range, column } = events.next()?;
    let mut end = range.end;
    let (flow, content) = match event {
        Event::Alias(_) => (true, Content::Scalar(String::new())),
        Event::Scalar(value, style, ..) => {
            if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                end = text[..end].trim_end().len();
            }
            (true, Content::Scalar(value.into_owned()))
        }
        Event::SequenceStart(style, ..) => {
            let mut items = Vec::new();
            while !matches!(events.peek()?.event, Event::SequenceEnd) {
                items.push(node(text, events)?);
            }
            let last = items.last().map(|item: &Node| item.range.end);
            end = collection_end(style, last.unwrap_or(end), &events.next()?);
            (style == StructureStyle::Flow, Content::Sequence(items))
        }
        Event::MappingStart(style, ..) => {
            let mut entries = Vec::new();
            while !matches!(events.peek()?.event, Event::MappingEnd) {
                entries.push((node(text, events)?, node(text, events)?));
            }
            let last = entries.last().map(|(key, value): &(Node, Node)| {
                // An empty value may have any position.
                key.range.end.max(value.range.end)
            });
            end = collection_end(style, last.unwrap_or(end), &events.next()?);
            (style == StructureStyle::Flow, Content::Mapping(entries))
        }
        _ => return None,
    };
    Some(Node { range: range.start..end.max(range.start), column, flow, content })
}

/// The parser reports the end of a block at the next token. There may be comments in between.
fn collection_end(style: StructureStyle, last: usize, close: &Seen<'_>) -> usize {
    if style == StructureStyle::Flow { close.range.end } else { last }
}

struct Editor<'a> {
    text: &'a str,
    root: &'a Node,
    edits: Vec<(Range<usize>, String)>,
    /// Keys that the document does not have yet.
    additions: Vec<(&'static str, Value)>,
}

impl Editor<'_> {
    fn put_item(&mut self, list: &'static str, item: &Value) -> Option<()> {
        let whole = || Value::Sequence(vec![item.clone()]);
        let Some((key, value)) = self.root.entry(list) else {
            self.additions.push((list, whole()));
            return Some(());
        };
        let name = item["name"].as_str();
        match &value.content {
            Content::Sequence(items) if !items.is_empty() => {
                if let Some(old) = items.iter().find(|old| old.name() == name) {
                    let text = if value.flow {
                        self.flow(item, old.column, is_spread(self.text, old))?
                    } else {
                        block(item, old.column)?
                    };
                    self.edits.push((old.range.clone(), text));
                } else {
                    self.append(value, items, item)?;
                }
            }
            Content::Mapping(_) => return None,
            Content::Sequence(_) | Content::Scalar(_) if self.root.flow => {
                let text = self.flow(&whole(), key.column, is_spread(self.text, self.root))?;
                self.edits.push((value.range.clone(), text));
            }
            Content::Sequence(_) | Content::Scalar(_) => {
                // After the colon there may be a comment. It stays.
                let colon = self.colon(key)?;
                let end = value.range.end.max(colon);
                self.edits.push((colon..end, String::new()));
                let text = block(&whole(), key.column)?;
                self.insert_line(end, key.column, &text);
            }
        }
        Some(())
    }

    /// Adds an item to a list that is not empty.
    fn append(&mut self, list: &Node, items: &[Node], item: &Value) -> Option<()> {
        let (first, last) = (items.first()?, items.last()?);
        if !list.flow {
            let dash = self.text[..first.range.start].rfind('-')?;
            let line = self.text[..dash].rfind('\n').map_or(0, |end| end + 1);
            let column = dash - line;
            let text = block(&Value::Sequence(vec![item.clone()]), column)?;
            self.insert_line(last.range.end, column, &text);
            return Some(());
        }
        let spread = self.text[list.range.start..first.range.start].contains('\n');
        let text = self.flow(item, first.column, is_spread(self.text, last))?;
        let gap = gap(spread, first.column);
        self.edits.push((last.range.end..last.range.end, format!(",{gap}{text}")));
        Some(())
    }

    fn put_text(&mut self, key: &'static str, text: &str) -> Option<()> {
        let value = Value::String(text.to_owned());
        let Some((name, old)) = self.root.entry(key) else {
            self.additions.push((key, value));
            return Some(());
        };
        old.scalar()?;
        let text = if self.root.flow { self.flow(&value, 0, false)? } else { block(&value, 0)? };
        if old.range.is_empty() {
            let colon = self.colon(name)?;
            self.edits.push((colon..colon, format!(" {text}")));
        } else {
            self.edits.push((old.range.clone(), text));
        }
        Some(())
    }

    /// Adds the new keys after the last one.
    fn add_keys(&mut self) -> Option<()> {
        let (first, _) = self.root.entries().first()?;
        let spread = is_spread(self.text, self.root);
        for (key, value) in std::mem::take(&mut self.additions) {
            if self.root.flow {
                let end = self.root.entries().last()?.1.range.end;
                let (gap, text) =
                    (gap(spread, first.column), self.flow(&value, first.column, spread)?);
                self.edits.push((end..end, format!(",{gap}\"{key}\": {text}")));
            } else {
                let entry = Value::Mapping([(key.into(), value)].into_iter().collect());
                let text = block(&entry, first.column)?;
                self.insert_line(self.root.range.end, first.column, &text);
            }
        }
        Some(())
    }

    /// Inserts lines below the line that contains `position`.
    fn insert_line(&mut self, position: usize, column: usize, text: &str) {
        let rest = &self.text[position..];
        let length = rest.find('\n').unwrap_or(rest.len());
        let end = position + rest[..length].trim_end_matches('\r').len();
        self.edits.push((end..end, format!("\n{}{text}", " ".repeat(column))));
    }

    /// Where the text after the colon of a key begins.
    fn colon(&self, key: &Node) -> Option<usize> {
        let rest = &self.text[key.range.end..];
        Some(key.range.end + rest.find(':')? + 1)
    }

    /// A value as JSON, on several lines if the document has it on several lines.
    fn flow(&self, value: &Value, column: usize, spread: bool) -> Option<String> {
        if !spread {
            return serde_json::to_string(value).ok();
        }
        let indent = " ".repeat(self.root.entries().first().map_or(0, |(key, _)| key.column));
        let mut json = Vec::new();
        let formatter = PrettyFormatter::with_indent(indent.as_bytes());
        value.serialize(&mut Serializer::with_formatter(&mut json, formatter)).ok()?;
        Some(indented(&String::from_utf8(json).ok()?, column))
    }
}

/// A value in block style. Its first line is not indented.
fn block(value: &Value, column: usize) -> Option<String> {
    Some(indented(serde_yaml::to_string(value).ok()?.trim_end(), column))
}

fn indented(text: &str, column: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(column)))
}

fn is_spread(text: &str, node: &Node) -> bool {
    text[node.range.clone()].contains('\n')
}

fn gap(spread: bool, column: usize) -> String {
    if spread { format!("\n{}", " ".repeat(column)) } else { " ".to_owned() }
}

/// Applies the edits. Edits at the same position keep their order.
fn applied(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let windows = text.contains("\r\n");
    let (mut result, mut position) = (String::with_capacity(text.len()), 0);
    for (range, new) in edits {
        result.push_str(&text[position..range.start.max(position)]);
        result.push_str(&if windows { new.replace('\n', "\r\n") } else { new });
        position = range.end.max(position);
    }
    result.push_str(&text[position..]);
    result
}
