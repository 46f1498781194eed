//! Validation rules in CEL (`x-kubernetes-validations`).
//!
//! [`Compiled::compile`] checks all rules of a schema when a `CustomResourceDefinition` is written: types, functions, and
//! what the rules may cost. [`Compiled::validate`] evaluates them on an object. Types, messages, libraries and costs are
//! those of Kubernetes 1.36 (cel-go, and `k8s.io/apiserver/pkg/cel`).
//!
//! An expression goes from text to nodes (`parser`, `macros`), is checked (`checker`, `checks`), estimated (`estimate`),
//! planned (`plan`) and evaluated (`eval`) on values that borrow from the object (`value`). This module must never know a
//! kind, the registry or a clock.

mod ast;
mod checker;
mod checks;
mod compile;
mod declarations;
mod escape;
#[expect(clippy::arithmetic_side_effects, reason = "sums of sizes and costs saturate")]
mod estimate;
mod eval;
mod expression;
mod functions;
mod lexer;
mod literal;
mod macros;
mod numbers;
mod parser;
mod plan;
mod runtime_cost;
mod shape;
mod source;
mod validate;
mod value;
mod value_type;
mod work;

#[cfg(test)]
mod tests;

pub use compile::Compiled;
pub use validate::Findings;
