//! [`Type`]: what the type check knows about a value, and which types may stand for which (cel-go's `checker`).

use std::{fmt, sync::Arc};

use super::shape::{Kind, Shape};

/// Most parts of one type. Literals could build types that are much larger than the text.
const PARTS_MAX: usize = 500;

/// The type of an expression.
#[derive(Clone, Debug)]
pub(super) enum Type {
    /// A fault was reported already.
    Error,
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// The type of a type; of which, if that is known.
    Meta(Option<Arc<Self>>),
    List(Arc<Self>),
    Map(Arc<(Self, Self)>),
    Optional(Arc<Self>),
    /// `net.IP` and `net.CIDR`.
    Opaque(&'static str),
    /// `kubernetes.URL` and others that count as messages.
    Library(&'static str),
    /// An object that the schema describes.
    Object(Arc<Shape>),
    /// Still to be found out.
    Variable(usize),
    /// A type parameter in the declaration of a function.
    Parameter(char),
}

impl Type {
    /// The type of values of this shape.
    pub(super) fn of_shape(shape: &Arc<Shape>) -> Self {
        match &shape.kind {
            Kind::Object(_) => Self::Object(shape.clone()),
            Kind::Map(values) => Self::map(Self::String, Self::of_shape(values)),
            Kind::List(items) => Self::list(Self::of_shape(&items.shape)),
            Kind::String => Self::String,
            Kind::Bytes => Self::Bytes,
            Kind::Duration => Self::Duration,
            Kind::Date | Kind::DateTime => Self::Timestamp,
            Kind::Integer => Self::Int,
            Kind::Number => Self::Double,
            Kind::Boolean => Self::Bool,
            Kind::IntOrString | Kind::Unknown => Self::Dyn,
        }
    }

    pub(super) fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    pub(super) fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub(super) fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    pub(super) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether the type has too many parts.
    pub(super) fn is_too_large(&self) -> bool {
        self.count(PARTS_MAX) > PARTS_MAX
    }

    fn count(&self, limit: usize) -> usize {
        if limit == 0 {
            return 1;
        }
        let left = limit - 1;
        1 + match self {
            Self::List(of) | Self::Optional(of) | Self::Meta(Some(of)) => of.count(left),
            Self::Map(of) => {
                let keys = of.0.count(left);
                keys + of.1.count(left.saturating_sub(keys))
            }
            _ => 0,
        }
    }

    /// Whether both are the same, part by part.
    pub(super) fn is_exactly(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => {
                a.is_exactly(b)
            }
            (Self::Map(a), Self::Map(b)) => a.0.is_exactly(&b.0) && a.1.is_exactly(&b.1),
            (Self::Meta(Some(a)), Self::Meta(Some(b))) => a.is_exactly(b),
            _ => self.is_same_leaf(other),
        }
    }

    fn is_same_leaf(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Opaque(a), Self::Opaque(b)) | (Self::Library(a), Self::Library(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (Self::Variable(a), Self::Variable(b)) => a == b,
            (Self::Parameter(a), Self::Parameter(b)) => a == b,
            (
                Self::List(_) | Self::Map(_) | Self::Optional(_) | Self::Meta(_),
                Self::List(_) | Self::Map(_) | Self::Optional(_) | Self::Meta(_),
            ) => matches!((self, other), (Self::Meta(None), Self::Meta(None))),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether this is the other, or says less about a part of it.
    fn is_equal_or_less_specific(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Variable(_), _) => true,
            (_, Self::Dyn | Self::Variable(_)) => false,
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => {
                a.is_equal_or_less_specific(b)
            }
            (Self::Map(a), Self::Map(b)) => {
                a.0.is_equal_or_less_specific(&b.0) && a.1.is_equal_or_less_specific(&b.1)
            }
            (Self::Meta(_), Self::Meta(_)) => true,
            _ => self.is_exactly(other),
        }
    }

    /// Whether null may stand for it.
    fn is_nullable(&self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::Optional(_)
                | Self::Opaque(_)
                | Self::Library(_)
                | Self::Object(_)
                | Self::Duration
                | Self::Timestamp
        )
    }

    /// The parts that a type has as parameters, mapped.
    fn map_parts(&self, mut change: impl FnMut(&Self) -> Self) -> Self {
        match self {
            Self::List(of) => Self::list(change(of)),
            Self::Optional(of) => Self::optional(change(of)),
            Self::Map(of) => Self::map(change(&of.0), change(&of.1)),
            Self::Meta(Some(of)) => Self::Meta(Some(Arc::new(change(of)))),
            other => other.clone(),
        }
    }

    /// The type with variables for its parameters.
    pub(super) fn instance(&self, variables: &dyn Fn(char) -> usize) -> Self {
        match self {
            Self::Parameter(name) => Self::Variable(variables(*name)),
            other => other.map_parts(|part| part.instance(variables)),
        }
    }
}

/// What is known about type variables.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    known: Vec<Option<Type>>,
    /// Earlier values of variables, so that an attempt can be taken back.
    before: Vec<(usize, Option<Type>)>,
}

impl Bindings {
    pub(super) fn variable(&mut self) -> usize {
        self.known.push(None);
        self.known.len() - 1
    }

    /// Whether each of `from` may stand for its counterpart. What that says about variables is kept only if so.
    pub(super) fn are_assignable(&mut self, from: &[Type], to: &[Type]) -> bool {
        self.before.clear();
        let fits =
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.unify(from, to));
        if !fits {
            while let Some((variable, known)) = self.before.pop() {
                self.known[variable] = known;
            }
        }
        fits
    }

    pub(super) fn is_assignable(&mut self, from: &Type, to: &Type) -> bool {
        self.are_assignable(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    /// The type with all that is known put in; what is not known becomes dyn if `finally` is set.
    pub(super) fn resolve(&self, of: &Type, finally: bool) -> Type {
        match of {
            Type::Variable(variable) => match &self.known[*variable] {
                Some(known) => self.resolve(known, finally),
                None if finally => Type::Dyn,
                None => of.clone(),
            },
            Type::List(_) | Type::Map(_) | Type::Optional(_) | Type::Meta(_) => {
                of.map_parts(|part| self.resolve(part, finally))
            }
            other => other.clone(),
        }
    }

    fn bind(&mut self, variable: usize, to: Type) {
        let known = self.known[variable].replace(to);
        self.before.push((variable, known));
    }

    fn unify(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Variable(variable) = to {
            match self.substitutes(from, *variable) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Variable(variable) = from {
            return self.substitutes(to, *variable).0;
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => other.is_nullable(),
            (Type::Meta(_), Type::Meta(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
                self.unify(a, b)
            }
            (Type::Map(a), Type::Map(b)) => self.unify(&a.0, &b.0) && self.unify(&a.1, &b.1),
            _ => from.is_exactly(to),
        }
    }

    /// Whether the type may be what the variable stands for, and whether the variable stands for something already.
    fn substitutes(&mut self, of: &Type, variable: usize) -> (bool, bool) {
        if matches!(of, Type::Variable(other) if *other == variable) {
            return (true, true);
        }
        let Some(known) = self.known[variable].clone() else {
            let fits = !self.occurs(variable, of);
            if fits {
                self.bind(variable, of.clone());
            }
            return (fits, false);
        };
        if of.is_exactly(&known) {
            return (true, true);
        }
        if !self.unify(of, &known) {
            return (false, true);
        }
        let general = if of.is_equal_or_less_specific(&known) { of.clone() } else { known };
        if !self.occurs(variable, &general) {
            self.bind(variable, general);
        }
        (true, true)
    }

    fn occurs(&self, variable: usize, within: &Type) -> bool {
        match within {
            Type::Variable(other) => {
                *other == variable
                    || self.known[*other].as_ref().is_some_and(|known| self.occurs(variable, known))
            }
            Type::List(of) | Type::Optional(of) | Type::Meta(Some(of)) => self.occurs(variable, of),
            Type::Map(of) => self.occurs(variable, &of.0) || self.occurs(variable, &of.1),
            _ => false,
        }
    }
}

/// The more general of two types of which one may stand for the other.
pub(super) fn most_general(one: &Type, other: &Type) -> Type {
    if one.is_equal_or_less_specific(other) { one.clone() } else { other.clone() }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "!error!",
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::Meta(None) => "type",
            Self::Opaque(name) | Self::Library(name) => name,
            Self::Meta(Some(of)) => return write!(f, "type({of})"),
            Self::List(of) => return write!(f, "list({of})"),
            Self::Optional(of) => return write!(f, "optional_type({of})"),
            Self::Map(of) => return write!(f, "map({}, {})", of.0, of.1),
            Self::Object(shape) => return f.write_str(shape.name()),
            Self::Variable(variable) => return write!(f, "_var{variable}"),
            Self::Parameter(name) => return write!(f, "{name}"),
        })
    }
}
