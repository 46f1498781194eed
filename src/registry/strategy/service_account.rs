//! ServiceAccounts. They are stored as they are.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::{
    model::kind,
    registry::{
        printing::{Column, row},
        strategy::{BuiltIn, Rules},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::SERVICE_ACCOUNT,
    rules: &Rules::<ServiceAccount>::STORED,
    columns: &[
        Column::NAME,
        Column::text("Secrets", "Number of secrets that its pods may mount."),
        Column::AGE,
    ],
    cells: |object, now| {
        let secrets = object.parse::<ServiceAccount>()?.secrets.unwrap_or_default();
        Ok(row::plain(object, now, [secrets.len()]))
    },
    ..BuiltIn::STORED
};
