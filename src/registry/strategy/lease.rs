//! Leases: positive durations.

use k8s_openapi::api::coordination::v1::Lease;

use crate::{
    model::{Cause, kind},
    registry::{
        printing::{Column, row},
        strategy::{BuiltIn, Context, Rules, checks},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::LEASE,
    rules: &RULES,
    columns: &[Column::NAME, Column::text("Holder", "Who holds the lease."), Column::AGE],
    cells: |object, now| {
        let holder = object.parse::<Lease>()?.spec.and_then(|spec| spec.holder_identity);
        Ok(row::plain(object, now, [holder.unwrap_or_default()]))
    },
    replaced_by_revision: true,
    created_by_put: true,
    ..BuiltIn::STORED
};

static RULES: Rules<Lease> = Rules { validate, ..Rules::STORED };

fn validate(new: &Lease, _old: Option<&Lease>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        causes.push(Cause::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    checks::not_negative(&mut causes, "spec.leaseTransitions", spec.lease_transitions);
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
        let lease = object(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}));
        assert_eq!(
            lines(&validate(&lease, None, &context(&view, &options, Subresource::None))),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
