//! Checks of IP addresses, address ranges and domain names in fields.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    model::Cause,
    registry::strategy::{checks, metadata::NameForm},
};

const ADDRESS_RULE: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE_RULE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An IP address of either family.
pub(super) fn ip(causes: &mut Vec<Cause>, path: &str, text: &str) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        causes.push(Cause::invalid(path, text, ADDRESS_RULE));
    }
    address
}

/// An address range.
pub(super) fn range(causes: &mut Vec<Cause>, path: &str, text: &str) {
    if text.parse::<IpNet>().is_err() {
        causes.push(Cause::invalid(path, text, RANGE_RULE));
    }
}

/// An address range in its one canonical form.
pub(super) fn exact_range(causes: &mut Vec<Cause>, path: &str, text: &str) -> Option<IpNet> {
    let Ok(range) = text.parse::<IpNet>() else {
        causes.push(Cause::invalid(path, text, RANGE_RULE));
        return None;
    };
    if range.to_string() != text {
        let rule = format!("must be in canonical form (\"{range}\")");
        causes.push(Cause::invalid(path, text, &rule));
    }
    if range.addr() != range.network() {
        causes.push(Cause::invalid(path, text, "must not have bits set beyond the prefix length"));
    }
    Some(range)
}

/// An address that can be an endpoint: not unspecified, link-local or multicast; 127/8 only where the data plane
/// lives there.
pub(super) fn endpoint(
    causes: &mut Vec<Cause>,
    path: &str,
    address: IpAddr,
    loopback_allowed: bool,
) {
    let text = address.to_string();
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let unspecified = format!("may not be unspecified ({text})");
    let rules = [
        (address.is_unspecified(), unspecified.as_str()),
        (
            address.is_loopback() && !(loopback_allowed && address.is_ipv4()),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
        // Kubernetes leaves other multicast groups alone; no connection can ever be made to one.
        (
            address.is_multicast() && !link_local_multicast,
            "may not be in the multicast range (224.0.0.0/4, ff00::/8)",
        ),
    ];
    for (_, rule) in rules.into_iter().filter(|(broken, _)| *broken) {
        causes.push(Cause::invalid(path, text.as_str(), rule));
    }
}

/// A domain name of at least two labels; a trailing dot is allowed.
pub(super) fn domain(causes: &mut Vec<Cause>, path: &str, text: &str) {
    if text.is_empty() {
        causes.push(Cause::required(path, ""));
        return;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let before = causes.len();
    checks::name(causes, path, name, NameForm::Subdomain);
    if causes.len() == before && !name.contains('.') {
        let rule = "should be a domain with at least two segments separated by dots";
        causes.push(Cause::invalid(path, name, rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_addresses() {
        for (address, loopback_allowed, expected) in [
            ("10.0.0.1", false, None),
            ("127.0.0.1", true, None),
            ("127.0.0.1", false, Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")),
            ("::1", false, Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")),
            ("0.0.0.0", true, Some("may not be unspecified (0.0.0.0)")),
            (
                "169.254.1.1",
                true,
                Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ),
            (
                "fe80::1",
                true,
                Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
            ),
            (
                "224.0.0.5",
                true,
                Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ),
            (
                "ff02::1",
                true,
                Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ),
            ("239.1.1.1", true, Some("may not be in the multicast range (224.0.0.0/4, ff00::/8)")),
        ] {
            let mut causes = Vec::new();
            endpoint(&mut causes, "a", address.parse().unwrap(), loopback_allowed);
            let got = causes.first().map(|cause| cause.message.clone());
            let expected = expected.map(|rule| format!("Invalid value: \"{address}\": {rule}"));
            assert_eq!(got, expected, "{address}");
        }
    }

    #[test]
    fn domains() {
        for (text, faults) in [("a.example.com", 0), ("a.b.", 0), ("a", 1), ("A.b", 1), ("", 1)] {
            let mut causes = Vec::new();
            domain(&mut causes, "a", text);
            assert_eq!(causes.len(), faults, "{text}");
        }
    }
}
