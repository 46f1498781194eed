//! IPAddresses: the name is the address, the parent is who holds it.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::IPAddress;

use crate::{
    model::{Cause, kind},
    registry::{
        printing::{Column, row},
        strategy::{BuiltIn, Context, Rules, checks, fields::text, metadata::NameForm},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::IP_ADDRESS,
    rules: &RULES,
    columns: &[Column::NAME, Column::text("ParentRef", "Object that the address belongs to.")],
    cells: |object, _| {
        let parent = parent(&object.parse()?);
        Ok(vec![object.key.name.as_str().into(), parent.into()])
    },
    ..BuiltIn::STORED
};

static RULES: Rules<IPAddress> = Rules { validate, name: NameForm::PathSegment, ..Rules::STORED };

fn validate(new: &IPAddress, old: Option<&IPAddress>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = text(&new.metadata.name);
    if name.parse::<IpAddr>().map(|address| address.to_string()).as_deref() != Ok(name) {
        let rule = "must be a valid IP address in canonical form";
        causes.push(Cause::invalid("metadata.name", name, rule));
    }
    let parent = &new.spec.parent_ref;
    for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
        if value.is_empty() {
            causes.push(Cause::required(format!("spec.parentRef.{field}"), ""));
        }
    }
    if let Some(old) = old {
        checks::immutable(&mut causes, "spec.parentRef", parent, &old.spec.parent_ref);
    }
    causes
}

fn parent(address: &IPAddress) -> String {
    let parent = &address.spec.parent_ref;
    if parent.name.is_empty() {
        return row::NONE.to_owned();
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut text = parent.resource.to_lowercase();
    if let Some(group) = given(&parent.group) {
        text += &format!(".{}", group.to_lowercase());
    }
    if let Some(namespace) = given(&parent.namespace) {
        text += &format!("/{namespace}");
    }
    format!("{text}/{}", parent.name)
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
        let check = |name: &str, parent: &str| {
            let address = object(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": name},
                "spec": {"parentRef": {"resource": "services", "name": parent}}}));
            lines(&validate(&address, None, &context))
        };
        assert_eq!(check("127.96.0.1", "kubernetes"), [""; 0]);
        assert_eq!(check("fd00::1", "kubernetes"), [""; 0]);
        assert_eq!(
            check("FD00::1", ""),
            [
                "metadata.name: Invalid value: \"FD00::1\": must be a valid IP address in canonical form",
                "spec.parentRef.name: Required value",
            ]
        );
    }
}
