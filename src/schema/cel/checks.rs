//! What is checked beyond types: literals that can have only one meaning must have it, and literals of lists and maps
//! have elements of one type (cel-go's AST validators, those that Kubernetes uses).

use super::{
    ast::{Expression, Id, Literal},
    checker::Checked,
    functions,
    source::Faults,
    value::Val,
    value_type::Type,
    work::Work,
};
use crate::schema::pattern::Pattern;

/// Reports all that is wrong.
pub(super) fn check(checked: &Checked, faults: &mut Faults) {
    let mut is_format = vec![false; checked.ast.len()];
    // Parts come before what they are parts of.
    let nodes: Vec<(Id, &Expression)> = checked.ast.iter().collect();
    for (id, expression) in nodes.into_iter().rev() {
        let is_call =
            matches!(expression, Expression::Call { function, .. } if **function == *"format");
        if is_call || is_format[id.index()] {
            for part in expression.parts() {
                is_format[part.index()] = true;
            }
        }
        match expression {
            Expression::Call { function, target, arguments } => {
                literal_argument(checked, function, arguments, faults);
                format_call(checked, id, function, *target, arguments, faults);
            }
            Expression::List(elements) if !is_format[id.index()] => {
                let of = |element: &super::ast::Element| (element.value, element.optional);
                one_type(checked, elements.iter().map(of), true, faults);
            }
            Expression::Map(entries) if !is_format[id.index()] => {
                one_type(checked, entries.iter().map(|entry| (entry.key, false)), false, faults);
                let values = entries.iter().map(|entry| (entry.value, entry.optional));
                one_type(checked, values, false, faults);
            }
            _ => {}
        }
    }
}

fn literal_argument(checked: &Checked, function: &str, arguments: &[Id], faults: &mut Faults) {
    let Some(argument) = arguments.first() else { return };
    let Expression::Literal(literal) = checked.ast.get(*argument) else { return };
    let is_valid = match (function, literal) {
        ("duration" | "timestamp", _) => {
            let value = match literal {
                Literal::String(text) => Val::text(text.clone()),
                Literal::Int(value) => Val::Int(*value),
                _ => return,
            };
            functions::find(function, "")
                .is_none_or(|convert| convert(&mut Work::new(u64::MAX), &[value]).is_ok())
        }
        ("matches", Literal::String(text)) => Pattern::new(text).regex().is_ok(),
        _ => return,
    };
    if !is_valid {
        faults.report(checked.ast.offset(*argument), format!("invalid {function} argument"));
    }
}

fn format_call(
    checked: &Checked,
    id: Id,
    function: &str,
    target: Option<Id>,
    arguments: &[Id],
    faults: &mut Faults,
) {
    let (Some(target), [list]) = (target, arguments) else { return };
    if function != "format" || !checked.overloads(id).contains(&"string_format") {
        return;
    }
    let (Some(format), Expression::List(elements)) =
        (checked.ast.string(target), checked.ast.get(*list))
    else {
        return;
    };
    let types: Vec<Type> =
        elements.iter().map(|element| checked.value_type(element.value).clone()).collect();
    if let Err((argument, message)) = functions::check_format(format, &types) {
        let place = argument.map_or(id, |at| elements[at].value);
        faults.report(checked.ast.offset(place), message);
    }
}

fn one_type(
    checked: &Checked,
    elements: impl Iterator<Item = (Id, bool)>,
    only_first: bool,
    faults: &mut Faults,
) {
    let mut expected: Option<Type> = None;
    for (id, optional) in elements {
        let found = match (checked.value_type(id), optional) {
            (Type::Optional(of), true) => (**of).clone(),
            (of, _) => of.clone(),
        };
        let Some(expected) = &expected else {
            expected = Some(found);
            continue;
        };
        if !expected.is_exactly(&found) {
            let message = format!("expected type '{expected}' but found '{found}'");
            faults.report(checked.ast.offset(id), message);
            if only_first {
                return;
            }
        }
    }
}
