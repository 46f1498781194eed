//! Kinds of questions about users and rights.

use std::borrow::Cow::Borrowed;

use crate::model::kind::{Identity, Kind, STORED};

const REVIEW: Identity = Identity { namespaced: false, ..STORED };
const AUTHENTICATION: Identity = Identity { group: Borrowed("authentication.k8s.io"), ..REVIEW };
const AUTHORIZATION: Identity = Identity { group: Borrowed("authorization.k8s.io"), ..REVIEW };

/// The body and the answer of `serviceaccounts/token`.
pub static TOKEN_REQUEST: Kind =
    Kind::BuiltIn(&Identity { kind: Borrowed("TokenRequest"), ..AUTHENTICATION });

/// Questions about users and rights. They are answered when they are created, and never stored.
pub static REVIEWS: &[&Kind] = &[
    &Kind::BuiltIn(&Identity {
        kind: Borrowed("SelfSubjectReview"),
        plural: Borrowed("selfsubjectreviews"),
        singular: Borrowed("selfsubjectreview"),
        ..AUTHENTICATION
    }),
    &Kind::BuiltIn(&Identity {
        kind: Borrowed("TokenReview"),
        plural: Borrowed("tokenreviews"),
        singular: Borrowed("tokenreview"),
        ..AUTHENTICATION
    }),
    &Kind::BuiltIn(&Identity {
        kind: Borrowed("LocalSubjectAccessReview"),
        plural: Borrowed("localsubjectaccessreviews"),
        singular: Borrowed("localsubjectaccessreview"),
        namespaced: true,
        ..AUTHORIZATION
    }),
    &Kind::BuiltIn(&Identity {
        kind: Borrowed("SelfSubjectAccessReview"),
        plural: Borrowed("selfsubjectaccessreviews"),
        singular: Borrowed("selfsubjectaccessreview"),
        ..AUTHORIZATION
    }),
    &Kind::BuiltIn(&Identity {
        kind: Borrowed("SelfSubjectRulesReview"),
        plural: Borrowed("selfsubjectrulesreviews"),
        singular: Borrowed("selfsubjectrulesreview"),
        ..AUTHORIZATION
    }),
    &Kind::BuiltIn(&Identity {
        kind: Borrowed("SubjectAccessReview"),
        plural: Borrowed("subjectaccessreviews"),
        singular: Borrowed("subjectaccessreview"),
        ..AUTHORIZATION
    }),
];
