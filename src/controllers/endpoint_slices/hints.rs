//! Hints: which clients an endpoint is meant for. What a Service asks for is a [`Request`].
//!
//! Hints by `spec.trafficDistribution` follow from each endpoint alone ([`distribution`]); those by topology mode `Auto`
//! from all endpoints and nodes together ([`auto`], with the nodes' CPU from [`capacity`]). The rules are Kubernetes'
//! (k8s.io/endpointslice, packages `trafficdist` and `topologycache`), for headless Services too.

pub(crate) mod auto;
pub(crate) mod capacity;
pub(crate) mod distribution;

use std::collections::BTreeMap;

use crate::model::well_known::{TOPOLOGY_HINTS_ANNOTATION, TOPOLOGY_MODE_ANNOTATION};

/// The hints that a Service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// None.
    Nothing,
    /// In proportion to the CPU of each zone.
    Auto,
    /// Each endpoint for its own zone.
    SameZone,
    /// Each endpoint for its own node, and its zone.
    SameNode,
}

impl Request {
    /// By the annotations of a Service and its `spec.trafficDistribution`. Topology mode `Auto` goes before the field.
    pub(crate) fn of(annotations: &BTreeMap<String, String>, distribution: Option<&str>) -> Self {
        match distribution {
            _ if is_auto(annotations) => Self::Auto,
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Nothing,
        }
    }
}

/// Whether the annotations of a Service ask for topology mode `Auto`. Only these two spellings count.
pub(crate) fn is_auto(annotations: &BTreeMap<String, String>) -> bool {
    let former = annotations.get(TOPOLOGY_HINTS_ANNOTATION);
    let mode = former.or_else(|| annotations.get(TOPOLOGY_MODE_ANNOTATION));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_goes_before_the_field() {
        let check = |former: &str, mode: &str, distribution: &str, expected: Request| {
            let annotations =
                [(TOPOLOGY_HINTS_ANNOTATION, former), (TOPOLOGY_MODE_ANNOTATION, mode)];
            let annotations = annotations.into_iter().filter(|(_, value)| !value.is_empty());
            let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let distribution = Some(distribution).filter(|value| !value.is_empty());
            let asked = Request::of(&annotations, distribution);
            assert_eq!(asked, expected, "{former} {mode} {distribution:?}");
        };
        check("", "", "", Request::Nothing);
        check("", "", "PreferClose", Request::SameZone);
        check("", "", "PreferSameZone", Request::SameZone);
        check("", "", "PreferSameNode", Request::SameNode);
        check("", "", "Unknown", Request::Nothing);
        check("", "Auto", "", Request::Auto);
        check("", "auto", "PreferSameNode", Request::Auto);
        check("auto", "", "PreferClose", Request::Auto);
        check("", "aUto", "", Request::Nothing);
        check("", "example.com/lowest-rtt", "PreferClose", Request::SameZone);
        check("", "Disabled", "PreferClose", Request::SameZone);
        check("Disabled", "Auto", "", Request::Nothing);
        check("Auto", "Disabled", "PreferClose", Request::Auto);
    }
}
