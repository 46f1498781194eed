//! ServiceCIDRs: one range a family, which stays.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::Deserialize;

use crate::{
    model::{Cause, kind, well_known::SERVICE_CIDR_READY},
    registry::{
        Subresource,
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, Rules, address,
            checks::{IMMUTABLE, shown},
            fields::items,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::SERVICE_CIDR,
    rules: &RULES,
    columns: &[Column::NAME, Column::text("CIDRs", "Ranges, one a family."), Column::AGE],
    cells: |object, now| {
        let ranges = object.parse::<ServiceCIDR>()?.spec.and_then(|spec| spec.cidrs);
        Ok(row::plain(object, now, [row::joined(ranges.into_iter().flatten())]))
    },
    ..BuiltIn::STORED
};

static RULES: Rules<ServiceCIDR> = Rules { default, validate, ..Rules::STORED };

const RANGES: &str = "spec.cidrs";
const RANGES_MAX: usize = 2;

fn default(new: &mut ServiceCIDR, _old: Option<&ServiceCIDR>, _context: &Context<'_>) {
    new.status.get_or_insert_default();
}

fn ranges(object: &ServiceCIDR) -> &[String] {
    object.spec.as_ref().map(|spec| items(&spec.cidrs)).unwrap_or_default()
}

fn validate(new: &ServiceCIDR, old: Option<&ServiceCIDR>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        return causes;
    }
    let ranges_now = ranges(new);
    match old.map(ranges) {
        None => validate_ranges(&mut causes, ranges_now),
        Some(before) if before.len() == ranges_now.len() => {
            keep(&mut causes, ranges_now, before);
        }
        // A second family may be added later.
        Some(before @ [_]) if ranges_now.len() == RANGES_MAX => {
            keep(&mut causes, ranges_now, before);
            validate_ranges(&mut causes, ranges_now);
        }
        Some(_) => causes.push(Cause::invalid(RANGES, shown(&ranges_now), IMMUTABLE)),
    }
    causes
}

fn keep(causes: &mut Vec<Cause>, now: &[String], before: &[String]) {
    for (i, (now, before)) in now.iter().zip(before).enumerate() {
        if now != before {
            causes.push(Cause::invalid(format!("{RANGES}[{i}]"), now.as_str(), IMMUTABLE));
        }
    }
}

/// What allocation reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Digest {
    spec: DigestSpec,
    status: DigestStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DigestSpec {
    cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DigestStatus {
    conditions: Vec<DigestCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DigestCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// The ranges that Services get addresses of: those of `--service-cidr`, then all that are ready.
pub(super) fn service_ranges(context: &Context<'_>) -> Vec<IpNet> {
    let mut ranges = context.options.service_cidrs.clone();
    let objects = context.view.list(&kind::SERVICE_CIDR, None);
    for object in objects.filter(|object| !object.is_terminating()) {
        let digest = object.digest::<Digest>();
        let mut conditions = digest.status.conditions.iter();
        if conditions
            .any(|condition| condition.kind == SERVICE_CIDR_READY && condition.status == "True")
        {
            ranges.extend(digest.spec.cidrs.iter().filter_map(|text| text.parse::<IpNet>().ok()));
        }
    }
    ranges
}

fn validate_ranges(causes: &mut Vec<Cause>, ranges: &[String]) {
    if ranges.is_empty() {
        causes.push(Cause::required(RANGES, "at least one CIDR required"));
        return;
    }
    if ranges.len() > RANGES_MAX {
        let rule = "may only hold up to 2 values";
        causes.push(Cause::invalid(RANGES, shown(&ranges), rule));
        return;
    }
    let parsed: Vec<Option<IpNet>> = ranges
        .iter()
        .enumerate()
        .map(|(i, text)| address::exact_range(causes, &format!("{RANGES}[{i}]"), text))
        .collect();
    if let [Some(first), Some(second)] = parsed.as_slice()
        && first.addr().is_ipv4() == second.addr().is_ipv4()
    {
        let rule = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        causes.push(Cause::invalid(RANGES, shown(&ranges), rule));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        View,
        strategy::checks::testing::{context, lines, object, options},
    };

    #[test]
    fn rules() {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let make = |ranges: &Value| -> ServiceCIDR {
            object(json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                "metadata": {"name": "a"}, "spec": {"cidrs": ranges}}))
        };
        let both = json!(["127.97.0.0/16", "fd00::/112"]);
        for (ranges, expected) in [
            (both.clone(), vec![]),
            (json!([]), vec!["spec.cidrs: Required value: at least one CIDR required"]),
            (
                json!(["127.97.0.1/16", "x"]),
                vec![
                    "spec.cidrs[0]: Invalid value: \"127.97.0.1/16\": must not have bits set beyond the prefix length",
                    "spec.cidrs[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                json!(["FD00::/112"]),
                vec![
                    "spec.cidrs[0]: Invalid value: \"FD00::/112\": must be in canonical form (\"fd00::/112\")",
                ],
            ),
            (
                json!(["10.0.0.0/24", "10.1.0.0/24"]),
                vec![
                    "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP \
                     family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
        ] {
            assert_eq!(lines(&validate(&make(&ranges), None, &context)), expected);
        }
        let old = make(&json!(["127.97.0.0/16"]));
        assert_eq!(lines(&validate(&make(&both), Some(&old), &context)), [""; 0]);
        assert_eq!(
            lines(&validate(&make(&json!(["127.98.0.0/16"])), Some(&old), &context)),
            ["spec.cidrs[0]: Invalid value: \"127.98.0.0/16\": field is immutable"]
        );
    }
}
