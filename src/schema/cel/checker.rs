//! The type check: gives each node a type, finds the overloads of each call, and reports what does not fit, in the
//! words of cel-go's `checker`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ast::{Ast, Element, Entry, Expression, Fold, Id, Literal},
    declarations::{self, Function, Overload},
    parser::Parsed,
    shape::{Kind, Shape},
    source::Faults,
    value_type::{Bindings, Type, most_general},
};

/// What a name or a call stands for.
#[derive(Clone, Debug, Default)]
pub(super) enum Reference {
    /// Nothing but itself: a literal, a field, a loop.
    #[default]
    None,
    /// A variable.
    Variable(Arc<str>),
    /// A type.
    Type(&'static str),
    /// A function, and the overloads that fit. A namespaced one has no target: what stands before the last dot is a
    /// part of its name.
    Function { name: &'static str, is_method: bool, overloads: Vec<&'static str> },
}

/// What the check has found out, by node.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) ast: Ast,
    pub(super) root: Id,
    types: Vec<Type>,
    references: Vec<Reference>,
}

impl Checked {
    pub(super) fn value_type(&self, id: Id) -> &Type {
        &self.types[id.index()]
    }

    pub(super) fn reference(&self, id: Id) -> &Reference {
        &self.references[id.index()]
    }

    /// Whether a name stands for this variable anywhere.
    pub(super) fn uses(&self, variable: &str) -> bool {
        let is_it = |r: &Reference| matches!(r, Reference::Variable(name) if **name == *variable);
        self.references.iter().any(is_it)
    }

    /// The overloads that fit a call.
    pub(super) fn overloads(&self, id: Id) -> &[&'static str] {
        match self.reference(id) {
            Reference::Function { overloads, .. } => overloads,
            _ => &[],
        }
    }
}

/// Checks an expression in which `variables` are known.
///
/// # Errors
/// All that does not fit.
pub(super) fn check(
    parsed: Parsed,
    variables: &[(&str, Type)],
    faults: &mut Faults,
) -> Option<Checked> {
    let Parsed { ast, root } = parsed;
    let variables = variables.iter().map(|(name, of)| (Arc::from(*name), of.clone()));
    let mut checker = Checker {
        types: vec![Type::Error; ast.len()],
        references: vec![Reference::None; ast.len()],
        ast: &ast,
        bindings: Bindings::default(),
        scopes: variables.collect(),
        faults,
    };
    checker.node(root);
    let Checker { types, references, bindings, faults, .. } = checker;
    if !faults.is_empty() {
        return None;
    }
    let types = types.iter().map(|of| bindings.resolve(of, true)).collect();
    Some(Checked { ast, root, types, references })
}

struct Checker<'a> {
    ast: &'a Ast,
    types: Vec<Type>,
    references: Vec<Reference>,
    bindings: Bindings,
    /// Variables, inner ones last.
    scopes: Vec<(Arc<str>, Type)>,
    faults: &'a mut Faults,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.faults.report(self.ast.offset(id), message);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn value_type(&self, id: Id) -> Type {
        self.types[id.index()].clone()
    }

    fn node(&mut self, id: Id) {
        let ast = self.ast;
        let found = match ast.get(id) {
            Expression::Literal(literal) => literal_type(literal),
            Expression::Identifier(name) => self.identifier(id, name),
            Expression::Select { operand, field, test } => {
                self.select_or_name(id, *operand, field, *test)
            }
            Expression::Call { function, target, arguments } => {
                self.call(id, function, *target, arguments)
            }
            Expression::List(elements) => self.list(elements),
            Expression::Map(entries) => self.map(entries),
            Expression::Struct { name, fields } => {
                self.undeclared(id, name);
                fields.iter().for_each(|field| self.node(*field));
                Type::Error
            }
            Expression::Fold(fold) => self.fold(fold),
        };
        self.types[id.index()] = found;
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn variable(&self, name: &str) -> Option<(Arc<str>, Type)> {
        let known = name.strip_prefix('.').unwrap_or(name);
        self.scopes.iter().rev().find(|(other, _)| **other == *known).cloned()
    }

    /// The type of a variable or of a type's name.
    fn resolve(&mut self, id: Id, name: &str) -> Option<Type> {
        if let Some((name, of)) = self.variable(name) {
            self.references[id.index()] = Reference::Variable(name);
            return Some(of);
        }
        let name = declarations::type_name(name)?;
        self.references[id.index()] = Reference::Type(name);
        Some(Type::Meta(named_type(name).map(Arc::new)))
    }

    fn identifier(&mut self, id: Id, name: &str) -> Type {
        self.resolve(id, name).unwrap_or_else(|| {
            self.undeclared(id, name);
            Type::Error
        })
    }

    fn select_or_name(&mut self, id: Id, operand: Id, field: &str, test: bool) -> Type {
        if !test
            && let Some(name) = self.ast.qualified_name(id)
            && let Some(found) =
                declarations::type_name(&name).and_then(|_| self.resolve(id, &name))
        {
            return found;
        }
        let found = self.select(id, operand, field, false);
        if test { Type::Bool } else { self.bindings.resolve(&found, false) }
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        self.node(operand);
        let of = self.bindings.resolve(&self.value_type(operand), false);
        let (of, is_optional) = match of {
            Type::Optional(inner) => ((*inner).clone(), true),
            other => (other, false),
        };
        let found = match &of {
            Type::Map(parts) => parts.1.clone(),
            Type::Object(shape) => self.field(id, shape, field),
            Type::Variable(_) => {
                self.bindings.is_assignable(&Type::Dyn, &of);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            // Messages of libraries have no fields.
            Type::Library(_) => {
                self.report(id, format!("undefined field '{field}'"));
                Type::Error
            }
            _ => {
                self.report(id, format!("type '{of}' does not support field selection"));
                Type::Dyn
            }
        };
        if is_optional || optional { Type::optional(found) } else { found }
    }

    fn field(&mut self, id: Id, shape: &Shape, field: &str) -> Type {
        if let Kind::Object(fields) = &shape.kind
            && let Some(found) = fields.find_escaped(field)
        {
            return Type::of_shape(&found.shape);
        }
        self.report(id, format!("undefined field '{field}'"));
        Type::Error
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, arguments: &[Id]) -> Type {
        if let ("_?._", [operand, field]) = (function, arguments) {
            // The parser writes the field as a string.
            let field = self.ast.string(*field).cloned().unwrap_or_default();
            self.types[arguments[1].index()] = Type::String;
            let found = self.select(id, *operand, &field, true);
            let overloads = vec!["select_optional_field"];
            let reference = Reference::Function { name: "_?._", is_method: false, overloads };
            self.references[id.index()] = reference;
            return self.bindings.resolve(&found, false);
        }
        for argument in arguments {
            self.node(*argument);
        }
        let Some(target) = target else {
            let Some(declared) = declarations::function(function) else {
                self.undeclared(id, function);
                return Type::Error;
            };
            return self.overload(id, declared, None, arguments);
        };
        if let Some(prefix) = self.ast.qualified_name(target)
            && let Some(declared) = declarations::function(&format!("{prefix}.{function}"))
        {
            return self.overload(id, declared, None, arguments);
        }
        self.node(target);
        let Some(declared) = declarations::function(function) else {
            self.undeclared(id, function);
            return Type::Error;
        };
        self.overload(id, declared, Some(target), arguments)
    }

    fn overload(
        &mut self,
        id: Id,
        function: &'static Function,
        target: Option<Id>,
        arguments: &[Id],
    ) -> Type {
        let is_method = target.is_some();
        let given: Vec<Id> = target.iter().chain(arguments).copied().collect();
        let types: Vec<Type> = given.iter().map(|id| self.value_type(*id)).collect();
        let name = function.name;
        if matches!(name, "_&&_" | "_||_") {
            return self.logical(id, function, &given, &types);
        }
        let mut overloads = Vec::new();
        let mut result: Option<Type> = None;
        for overload in function.overloads.iter().filter(|other| other.is_method == is_method) {
            let Some(found) = self.fitting(overload, &types) else { continue };
            overloads.push(overload.id);
            result = Some(match result {
                None => found,
                Some(Type::Dyn) => Type::Dyn,
                Some(before) if found.is_exactly(&before) => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let types: Vec<Type> = types.iter().map(|of| self.bindings.resolve(of, true)).collect();
            let applied = signature(&types, is_method);
            let message = format!("found no matching overload for '{name}' applied to '{applied}'");
            self.report(id, message);
            return Type::Error;
        };
        self.references[id.index()] = Reference::Function { name, is_method, overloads };
        result
    }

    fn logical(&mut self, id: Id, function: &Function, given: &[Id], types: &[Type]) -> Type {
        let overloads = vec![function.overloads[0].id];
        let mut result = Type::Bool;
        for (argument, of) in given.iter().zip(types) {
            if !self.bindings.is_assignable(of, &Type::Bool) {
                self.mismatch(*argument, &Type::Bool, of);
                result = Type::Error;
            }
        }
        let name = function.name;
        self.references[id.index()] = Reference::Function { name, is_method: false, overloads };
        result
    }

    /// The result of an overload for arguments of these types, if they fit.
    fn fitting(&mut self, overload: &Overload, types: &[Type]) -> Option<Type> {
        if overload.arguments.len() != types.len() {
            return None;
        }
        let mut fresh: BTreeMap<char, usize> = BTreeMap::new();
        for of in overload.arguments.iter().chain([&overload.result]) {
            parameters(of, &mut |name| {
                fresh.entry(name).or_insert_with(|| self.bindings.variable());
            });
        }
        let variable = |name: char| fresh.get(&name).copied().unwrap_or_default();
        let wanted: Vec<Type> =
            overload.arguments.iter().map(|of| of.instance(&variable)).collect();
        let result = overload.result.instance(&variable);
        self.bindings.are_assignable(types, &wanted).then(|| self.bindings.resolve(&result, false))
    }

    /// The type inside of an optional element or entry.
    fn unwrapped(&mut self, id: Id, of: Type) -> Type {
        match of {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                self.mismatch(id, &Type::optional(other.clone()), &other);
                other
            }
        }
    }

    /// The type of elements so far and of one more.
    fn joined(&mut self, before: Option<Type>, of: Type) -> Type {
        let Some(before) = before else { return of };
        if self.bindings.is_assignable(&before, &of) {
            return most_general(&before, &of);
        }
        // Whether that may be is checked later: arguments of `format` may differ.
        Type::Dyn
    }

    fn list(&mut self, elements: &[Element]) -> Type {
        let mut of = None;
        for element in elements {
            self.node(element.value);
            let mut found = self.value_type(element.value);
            if element.optional {
                found = self.unwrapped(element.value, found);
            }
            of = Some(self.joined(of, found));
        }
        let of = of.unwrap_or_else(|| Type::Variable(self.bindings.variable()));
        self.bounded(elements.first().map(|element| element.value), Type::list(of))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.node(entry.key);
            let found = self.value_type(entry.key);
            keys = Some(self.joined(keys, found));
            self.node(entry.value);
            let mut found = self.value_type(entry.value);
            if entry.optional {
                found = self.unwrapped(entry.value, found);
            }
            values = Some(self.joined(values, found));
        }
        let keys = keys.unwrap_or_else(|| Type::Variable(self.bindings.variable()));
        let values = values.unwrap_or_else(|| Type::Variable(self.bindings.variable()));
        self.bounded(entries.first().map(|entry| entry.key), Type::map(keys, values))
    }

    /// The type, unless it is too large to work with.
    fn bounded(&mut self, id: Option<Id>, of: Type) -> Type {
        let full = self.bindings.resolve(&of, false);
        match id {
            Some(id) if full.is_too_large() => {
                self.report(id, "the type of this literal is too large".to_owned());
                Type::Error
            }
            _ => of,
        }
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        self.node(fold.range);
        self.node(fold.init);
        let range = self.bindings.resolve(&self.value_type(fold.range), false);
        let (first, second) = match &range {
            Type::List(of) if fold.second.is_some() => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Error),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            Type::Dyn | Type::Error | Type::Variable(_) => {
                self.bindings.is_assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            _ => {
                self.report(
                    fold.range,
                    format!(
                        "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        let result = self.value_type(fold.init);
        let outside = self.scopes.len();
        self.scopes.push((fold.accumulator.clone(), result.clone()));
        let inside = self.scopes.len();
        self.scopes.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.node(fold.condition);
        self.assert_type(fold.condition, &Type::Bool);
        self.node(fold.step);
        self.assert_type(fold.step, &result);
        self.scopes.truncate(inside);
        self.node(fold.result);
        self.scopes.truncate(outside);
        self.bindings.resolve(&self.value_type(fold.result), false)
    }

    fn assert_type(&mut self, id: Id, of: &Type) {
        let found = self.value_type(id);
        if !self.bindings.is_assignable(of, &found) {
            self.mismatch(id, of, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The type that a name says, as far as that matters to the check.
fn named_type(name: &'static str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "dyn" => Type::Dyn,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "uint" => Type::Uint,
        "optional_type" => Type::optional(Type::Dyn),
        "net.IP" | "net.CIDR" => Type::Opaque(name),
        _ => return None,
    })
}

/// `(int, string)`, or `list(int).(string)` for a method.
fn signature(types: &[Type], is_method: bool) -> String {
    let (target, arguments) = types.split_at(usize::from(is_method));
    let arguments: Vec<String> = arguments.iter().map(Type::to_string).collect();
    let target: String = target.iter().map(|of| format!("{of}.")).collect();
    format!("{target}({})", arguments.join(", "))
}

/// Calls `visit` with each type parameter.
fn parameters(of: &Type, visit: &mut dyn FnMut(char)) {
    match of {
        Type::Parameter(name) => visit(*name),
        Type::List(of) | Type::Optional(of) | Type::Meta(Some(of)) => parameters(of, visit),
        Type::Map(of) => {
            parameters(&of.0, visit);
            parameters(&of.1, visit);
        }
        _ => {}
    }
}
