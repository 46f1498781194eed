//! RuntimeClasses: the handler is a label and stays what it was.

use k8s_openapi::api::node::v1::RuntimeClass;

use crate::{
    model::{Cause, kind},
    registry::{
        printing::{Column, row},
        strategy::{BuiltIn, Context, Rules, checks},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::RUNTIME_CLASS,
    rules: &RULES,
    columns: &[Column::NAME, Column::text("Handler", "Runtime that runs such pods."), Column::AGE],
    cells: |object, now| Ok(row::plain(object, now, [object.parse::<RuntimeClass>()?.handler])),
    replaced_by_revision: true,
    created_by_put: true,
    ..BuiltIn::STORED
};

static RULES: Rules<RuntimeClass> = Rules { validate, ..Rules::STORED };

fn validate(new: &RuntimeClass, old: Option<&RuntimeClass>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(old) = old {
        checks::immutable(&mut causes, "handler", &new.handler, &old.handler);
    } else {
        checks::label(&mut causes, "handler", &new.handler);
    }
    causes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, object, options},
    };

    #[test]
    fn rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let class = |handler: &str| {
            object::<RuntimeClass>(json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                "metadata": {"name": "a"}, "handler": handler}))
        };
        assert_eq!(lines(&validate(&class("process"), None, &context)), [""; 0]);
        assert!(
            lines(&validate(&class(""), None, &context))[0]
                .starts_with("handler: Invalid value: \"\": a lowercase RFC 1123 label must")
        );
        assert_eq!(
            lines(&validate(&class("b"), Some(&class("a")), &context)),
            ["handler: Invalid value: \"b\": field is immutable"]
        );
    }
}
