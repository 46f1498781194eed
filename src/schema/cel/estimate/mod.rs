//! What a rule costs at most, from the limits that the schema sets: the estimate of cel-go's `checker`, on which depends
//! which rules may be written. Each figure here is Kubernetes' own, oddities included.

mod calls;
mod range;

use std::{collections::BTreeMap, sync::Arc};

use range::{Cost, Size};

use super::{
    ast::{Expression, Fold, Id, Literal, RESULT},
    checker::{Checked, Reference},
    runtime_cost::{LIST, MAP, SELECT, TRAVERSAL},
    shape::{Kind, Shape},
    value_type::Type,
};

/// The most that an expression on values of this shape can cost.
pub(super) fn cost_max(checked: &Checked, root: &Shape) -> u64 {
    let count = checked.ast.len();
    let mut estimator = Estimator {
        checked,
        root,
        sizes: vec![None; count],
        entries: vec![None; count],
        paths: vec![None; count],
        locals: BTreeMap::new(),
    };
    estimator.cost(checked.root).max
}

/// Where a value comes from, as far as the schema says it.
#[derive(Clone, Copy, Debug)]
struct Path<'a> {
    place: Place<'a>,
    /// It starts at the result of a loop.
    is_result: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Node(&'a Shape),
    /// A key of a map, of which the schema says nothing.
    Key,
    Nowhere,
}

/// Sizes of the keys and values in a list or a map.
#[derive(Clone, Copy, Debug)]
struct Entries {
    is_list: bool,
    key: Size,
    value: Size,
}

/// A variable of a loop.
#[derive(Clone, Copy, Debug)]
struct Local<'a> {
    path: Option<Path<'a>>,
    size: Option<Size>,
    entries: Option<Entries>,
}

/// A target or an argument of a call.
#[derive(Clone, Debug)]
struct Node<'a> {
    id: Option<Id>,
    path: Option<Path<'a>>,
    of: Type,
    size: Option<Size>,
}

struct Estimator<'a> {
    checked: &'a Checked,
    root: &'a Shape,
    sizes: Vec<Option<Size>>,
    entries: Vec<Option<Entries>>,
    paths: Vec<Option<Path<'a>>>,
    locals: BTreeMap<Arc<str>, Vec<Local<'a>>>,
}

impl<'a> Path<'a> {
    fn child(self, name: &str) -> Self {
        let place = match self.place {
            Place::Node(shape) => match (name, &shape.kind) {
                ("@items" | "@values", _) => {
                    shape.element().map_or(Place::Nowhere, |element| Place::Node(element))
                }
                ("@keys", Kind::Map(_)) => Place::Key,
                (_, Kind::Object(fields)) => fields
                    .find_escaped(name)
                    .map_or(Place::Nowhere, |field| Place::Node(&field.shape)),
                _ => Place::Nowhere,
            },
            Place::Key | Place::Nowhere => Place::Nowhere,
        };
        Self { place, ..self }
    }

    fn size(self) -> Option<Size> {
        match self.place {
            Place::Node(shape) => Some(Size::up_to(shape.elements_max)),
            Place::Key => Some(Size::up_to(0)),
            Place::Nowhere => None,
        }
    }
}

impl<'a> Estimator<'a> {
    fn value_type(&self, id: Id) -> &'a Type {
        self.checked.value_type(id)
    }

    fn cost(&mut self, id: Id) -> Cost {
        let checked = self.checked;
        match checked.reference(id) {
            Reference::Type(name) => return self.identifier(id, name),
            Reference::Variable(name) => return self.identifier(id, name),
            Reference::None | Reference::Function { .. } => {}
        }
        match checked.ast.get(id) {
            Expression::Literal(_) => Cost::default(),
            Expression::Identifier(name) => self.identifier(id, name),
            Expression::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Expression::Call { target, arguments, .. } => self.call(id, *target, arguments),
            Expression::List(elements) => {
                let values: Vec<Id> = elements.iter().map(|element| element.value).collect();
                let cost = self.sum(&values);
                let value = self.joined_size(&values);
                let entries = Entries { is_list: true, key: Size::fixed(1), value };
                self.entries[id.index()] = Some(entries);
                cost + Cost::fixed(LIST)
            }
            Expression::Map(entries) => {
                let keys: Vec<Id> = entries.iter().map(|entry| entry.key).collect();
                let values: Vec<Id> = entries.iter().map(|entry| entry.value).collect();
                let cost = self.sum(&keys) + self.sum(&values);
                let (key, value) = (self.joined_size(&keys), self.joined_size(&values));
                self.entries[id.index()] = Some(Entries { is_list: false, key, value });
                cost + Cost::fixed(MAP)
            }
            Expression::Struct { fields, .. } => self.sum(fields),
            Expression::Fold(fold) if is_binding(checked, fold) => self.binding(id, fold),
            Expression::Fold(fold) => self.fold(id, fold),
        }
    }

    fn sum(&mut self, ids: &[Id]) -> Cost {
        ids.iter().fold(Cost::default(), |sum, id| sum + self.cost(*id))
    }

    /// The range of sizes of several values.
    fn joined_size(&mut self, ids: &[Id]) -> Size {
        let mut sizes =
            ids.iter().map(|id| self.size_or_unknown(*id)).collect::<Vec<_>>().into_iter();
        let first = sizes.next();
        first.map_or(Size::fixed(0), |first| sizes.fold(first, Size::union))
    }

    fn identifier(&mut self, id: Id, name: &str) -> Cost {
        let path = match self.local(name) {
            Some(local) => local.path,
            None => Some(Path { place: Place::Node(self.root), is_result: is_result_name(name) }),
        };
        self.paths[id.index()] = path;
        Cost::fixed(SELECT)
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test: bool) -> Cost {
        let mut cost = self.cost(operand);
        if test {
            return cost;
        }
        if matches!(
            self.value_type(operand),
            Type::Map(_) | Type::Object(_) | Type::Library(_) | Type::Variable(_)
        ) {
            cost = cost + Cost::fixed(SELECT);
        }
        self.paths[id.index()] = Some(self.child(self.path(operand), field));
        cost
    }

    /// A path that starts nowhere starts at the root: so does cel-go's.
    fn child(&self, path: Option<Path<'a>>, name: &str) -> Path<'a> {
        match path {
            Some(path) => path.child(name),
            None => Path { place: Place::Node(self.root), is_result: false },
        }
    }

    fn path(&self, id: Id) -> Option<Path<'a>> {
        match self.variable(id).and_then(|name| self.local(name)) {
            Some(local) => local.path,
            None => self.paths[id.index()],
        }
    }

    fn variable(&self, id: Id) -> Option<&'a Arc<str>> {
        match self.checked.ast.get(id) {
            Expression::Identifier(name) => Some(name),
            _ => None,
        }
    }

    fn local(&self, name: &str) -> Option<Local<'a>> {
        self.locals.get(name)?.last().copied()
    }

    fn push(&mut self, name: &Arc<str>, local: Local<'a>) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &str) {
        if let Some(locals) = self.locals.get_mut(name) {
            locals.pop();
        }
    }

    fn size(&mut self, id: Id) -> Option<Size> {
        if let Some(size) = self.sizes[id.index()].or_else(|| literal_size(self.checked, id)) {
            return Some(size);
        }
        if let Some(size) = self.path(id).and_then(Path::size) {
            self.sizes[id.index()] = Some(size);
            return Some(size);
        }
        if is_scalar(self.value_type(id)) {
            return Some(Size::fixed(1));
        }
        self.local(self.variable(id)?)?.size
    }

    fn size_or_unknown(&mut self, id: Id) -> Size {
        self.size(id).unwrap_or(Size::UNKNOWN)
    }

    fn entry_sizes(&self, id: Id) -> Option<Entries> {
        self.entries[id.index()].or_else(|| self.local(self.variable(id)?)?.entries)
    }

    fn node(&mut self, id: Id) -> Node<'a> {
        let path = self.path(id).filter(|path| !path.is_result);
        Node { id: Some(id), path, of: self.value_type(id).clone(), size: self.size(id) }
    }

    fn call(&mut self, id: Id, target: Option<Id>, arguments: &[Id]) -> Cost {
        let Reference::Function { name, is_method, overloads } = self.checked.reference(id) else {
            return Cost::default();
        };
        if *name == "dyn" {
            let cost = self.cost(arguments[0]) + Cost::fixed(1);
            self.copy_sizes(id, arguments[0]);
            return cost;
        }
        let mut costs = Vec::new();
        let mut nodes = Vec::new();
        for argument in arguments {
            costs.push(self.cost(*argument));
            nodes.push(self.node(*argument));
        }
        let mut sum = Cost::default();
        let target = match target.filter(|_| *is_method) {
            Some(target) => {
                sum = self.cost(target);
                Some(self.node(target))
            }
            None => None,
        };
        let mut cost: Option<Cost> = None;
        let mut size: Option<Size> = None;
        for overload in overloads {
            let call = calls::Call { id, function: name, overload, target: target.as_ref() };
            let (one, result) = self.overload(&call, &nodes, &costs);
            cost = Some(cost.map_or(one, |cost| cost.union(one)));
            size = match (size, result) {
                (Some(size), Some(result)) => Some(size.union(result)),
                (size, result) => size.or(result),
            };
            let step = match *overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(first)) = (step, arguments.first()) {
                size = self.entry_sizes(*first).map(|entries| entries.value);
                self.paths[id.index()] = Some(self.child(self.path(*first), step));
            }
            size = size.or_else(|| self.size(id));
        }
        if size.is_some() {
            self.sizes[id.index()] = size;
        }
        sum + cost.unwrap_or_default()
    }

    fn copy_sizes(&mut self, to: Id, from: Id) {
        if let Some(size) = self.size(from) {
            self.sizes[to.index()] = Some(size);
        }
        if let Some(entries) = self.entry_sizes(from) {
            self.entries[to.index()] = Some(entries);
        }
    }

    fn binding(&mut self, id: Id, fold: &Fold) -> Cost {
        let cost = self.cost(fold.range) + self.cost(fold.init);
        self.push_result(fold);
        let result = self.cost(fold.result);
        self.pop(&fold.accumulator);
        self.copy_sizes(id, fold.result);
        cost + result
    }

    fn push_result(&mut self, fold: &Fold) {
        let path = self.path(fold.init);
        let entries = self.entry_sizes(fold.init);
        let size = self.size(fold.init);
        self.push(&fold.accumulator, Local { path, size, entries });
    }

    /// A variable of a loop: the keys or the values of its range.
    fn push_variable(&mut self, name: &Arc<str>, range: Id, is_key: Option<bool>) {
        let entries = self.entry_sizes(range);
        let is_list = match entries {
            Some(entries) => entries.is_list,
            None => matches!(self.value_type(range), Type::List(_)),
        };
        let takes_key = is_key.unwrap_or(!is_list);
        let size = entries.map(|entries| if takes_key { entries.key } else { entries.value });
        let step = match (takes_key, is_list) {
            (true, true) => "@indices",
            (true, false) => "@keys",
            (false, true) => "@items",
            (false, false) => "@values",
        };
        let path = Some(self.child(self.path(range), step));
        self.push(name, Local { path, size, entries: None });
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> Cost {
        let mut cost = self.cost(fold.range) + self.cost(fold.init);
        self.push_result(fold);
        match &fold.second {
            Some(second) => {
                self.push_variable(&fold.variable, fold.range, Some(true));
                self.push_variable(second, fold.range, Some(false));
            }
            None => self.push_variable(&fold.variable, fold.range, None),
        }
        let condition = self.cost(fold.condition);
        let step = self.cost(fold.step);
        self.pop(&fold.variable);
        if let Some(second) = &fold.second {
            self.pop(second);
        }
        cost = cost + self.cost(fold.result);
        self.pop(&fold.accumulator);
        let count = self.size_or_unknown(fold.range);
        cost = cost + count.times(step + condition);
        match self.checked.ast.get(fold.init) {
            Expression::Literal(_) => {
                if let Some(size) = self.size(fold.init) {
                    self.sizes[id.index()] = Some(size);
                }
            }
            Expression::List(_) | Expression::Map(_) => {
                self.sizes[id.index()] = Some(count);
                if let Some(entries) = self.entry_sizes(fold.step) {
                    self.entries[id.index()] = Some(entries);
                }
            }
            _ => {}
        }
        cost
    }
}

fn is_result_name(name: &str) -> bool {
    name == RESULT || name == "__result__"
}

/// A loop over nothing, which gives a value a name.
fn is_binding(checked: &Checked, fold: &Fold) -> bool {
    matches!(checked.ast.get(fold.range), Expression::List(elements) if elements.is_empty())
        && matches!(checked.ast.get(fold.condition), Expression::Literal(Literal::Bool(false)))
        && !is_result_name(&fold.accumulator)
}

fn literal_size(checked: &Checked, id: Id) -> Option<Size> {
    let length = match checked.ast.get(id) {
        Expression::Literal(Literal::String(text)) => text.chars().count(),
        Expression::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Expression::Literal(_) => 1,
        Expression::List(elements) => elements.len(),
        Expression::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(Size::fixed(u64::try_from(length).unwrap_or(u64::MAX)))
}

fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        Type::Optional(of) => is_scalar(of),
        _ => false,
    }
}

/// What all strings cost to look at.
fn traversed(size: Size) -> Cost {
    size.scaled(TRAVERSAL)
}
