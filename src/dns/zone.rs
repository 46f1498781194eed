//! [`Zone`]: the zones that are served, as plain options, and how names relate to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    ProtoError,
    rr::{Name, RData, Record, rdata::SOA},
};

/// The zones of the cluster and how they are answered, like the `kubernetes` block of a Corefile.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The names of the zones. At least one of them is not a reverse zone. PTR records point into the first such
    /// zone.
    pub origins: Vec<Name>,
    /// TTL of records, in seconds (0 to 3600).
    pub ttl: u32,
    /// How `a-b-c-d.NAMESPACE.pod` is answered.
    pub pods: PodRecords,
    /// The addresses at which clients reach the server. NS records point to them if no Service has them.
    pub nameservers: Vec<IpAddr>,
}

/// How address names of pods are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodRecords {
    /// They are not.
    Disabled,
    /// With the address in the name, if the namespace exists.
    Insecure,
}

/// The TTL of kubeadm's Corefile.
const TTL_DEFAULT: u32 = 30;
/// The TTL of an SOA record is at most this, whatever the TTL of the zone.
const SOA_TTL_MAX: u32 = 300;
/// The timers of SOA records, as in CoreDNS.
const REFRESH: i32 = 7200;
const RETRY: i32 = 1800;
const EXPIRE: i32 = 86_400;

impl Zone {
    /// The zones of kubeadm's Corefile: the cluster domain and both reverse zones, TTL 30, `pods insecure`.
    pub fn new(domain: &str) -> Result<Self, ProtoError> {
        let origins = [domain, "in-addr.arpa", "ip6.arpa"].map(absolute);
        Ok(Self {
            origins: origins.into_iter().collect::<Result<_, _>>()?,
            ttl: TTL_DEFAULT,
            pods: PodRecords::Insecure,
            nameservers: Vec::new(),
        })
    }

    /// The longest zone that contains a name, as an index into `origins`.
    pub(crate) fn find(&self, name: &Name) -> Option<usize> {
        let fitting = self.origins.iter().enumerate().filter(|(_, origin)| is_in(name, origin));
        fitting.max_by_key(|(_, origin)| origin.iter().len()).map(|(index, _)| index)
    }

    /// The zone that PTR and NS records point into.
    pub(crate) fn primary(&self) -> Name {
        self.origins.iter().find(|origin| !is_reverse(origin)).cloned().unwrap_or_default()
    }

    /// The SOA record of a zone. `origin` is the zone as the client spelt it.
    pub(crate) fn soa(&self, origin: &Name, serial: u32) -> Option<Record> {
        let below = |labels: &[&str]| prepend(labels, origin);
        let (mname, rname) = (below(&["ns", "dns"])?, below(&["hostmaster"])?);
        let soa = SOA::new(mname, rname, serial, REFRESH, RETRY, EXPIRE, self.ttl);
        Some(Record::from_rdata(origin.clone(), self.ttl.min(SOA_TTL_MAX), RData::SOA(soa)))
    }
}

/// A name that is absolute, whether or not the text ends with a dot.
pub(crate) fn absolute(text: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(text)?;
    name.set_fqdn(true);
    Ok(name)
}

/// `labels` in front of `origin`; `None` if the result is too long for a name.
pub(crate) fn prepend(labels: &[&str], origin: &Name) -> Option<Name> {
    Name::from_labels(labels.iter().map(|label| label.as_bytes()).chain(origin.iter())).ok()
}

/// Whether a zone contains addresses instead of names.
pub(crate) fn is_reverse(origin: &Name) -> bool {
    let under = |top: &str| {
        let mut labels = origin.iter().rev();
        labels.next().is_some_and(|label| label.eq_ignore_ascii_case(b"arpa"))
            && labels.next().is_some_and(|label| label.eq_ignore_ascii_case(top.as_bytes()))
    };
    under("in-addr") || under("ip6")
}

/// The first and the last address below a name in `in-addr.arpa` or `ip6.arpa`. They are equal for a complete
/// address. `None` for a name that belongs to no address.
pub(crate) fn address_range(name: &Name) -> Option<(IpAddr, IpAddr)> {
    let mut labels = name.iter().rev().map(|label| std::str::from_utf8(label).unwrap_or(""));
    let arpa = labels.next()?;
    let family = labels.next()?;
    if !arpa.eq_ignore_ascii_case("arpa") {
        return None;
    }
    if family.eq_ignore_ascii_case("in-addr") {
        let mut bits: u32 = 0;
        let mut free: u32 = 32;
        for label in labels {
            free = free.checked_sub(8)?;
            bits |= octet(label)? << free;
        }
        let rest = u32::MAX.checked_shr(32 - free).unwrap_or(0);
        return Some((Ipv4Addr::from(bits).into(), Ipv4Addr::from(bits | rest).into()));
    }
    if family.eq_ignore_ascii_case("ip6") {
        let mut bits: u128 = 0;
        let mut free: u32 = 128;
        for label in labels {
            free = free.checked_sub(4)?;
            bits |= nibble(label)? << free;
        }
        let rest = u128::MAX.checked_shr(128 - free).unwrap_or(0);
        return Some((Ipv6Addr::from(bits).into(), Ipv6Addr::from(bits | rest).into()));
    }
    None
}

/// A decimal number without leading zeros, because each address has only one name.
fn octet(label: &str) -> Option<u32> {
    let plain =
        label.bytes().all(|b| b.is_ascii_digit()) && (label.len() == 1 || !label.starts_with('0'));
    label.parse::<u8>().ok().filter(|_| plain).map(u32::from)
}

fn nibble(label: &str) -> Option<u128> {
    let mut chars = label.chars();
    let digit = chars.next()?.to_digit(16)?;
    chars.next().is_none().then_some(u128::from(digit))
}

/// Whether a name is equal to the name of a zone or below it. The case of letters does not matter.
fn is_in(name: &Name, origin: &Name) -> bool {
    let mut labels = name.iter().rev();
    origin.iter().rev().all(|label| labels.next().is_some_and(|l| l.eq_ignore_ascii_case(label)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_zone_is_found_in_any_case() {
        let mut zone = Zone::new("cluster.local").unwrap();
        zone.origins.push(absolute("10.in-addr.arpa").unwrap());
        for (name, origin) in [
            ("a.CLUSTER.local", Some(0)),
            ("cluster.local", Some(0)),
            ("acluster.local", None),
            ("local", None),
            (".", None),
            ("1.0.0.127.in-addr.arpa", Some(1)),
            ("1.0.0.10.IN-ADDR.arpa", Some(3)),
        ] {
            assert_eq!(zone.find(&absolute(name).unwrap()), origin, "{name}");
        }
        assert_eq!(zone.primary(), absolute("cluster.local").unwrap());
    }

    #[test]
    fn reverse_names_are_address_ranges() {
        assert_eq!((octet("+1"), octet("1"), octet("")), (None, Some(1), None));
        let whole = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (name, range) in [
            ("1.2.96.127.in-addr.arpa", Some(("127.96.2.1", "127.96.2.1"))),
            ("96.127.in-addr.arpa", Some(("127.96.0.0", "127.96.255.255"))),
            ("in-addr.arpa", Some(("0.0.0.0", "255.255.255.255"))),
            (whole, Some(("2001:db8::567:89ab", "2001:db8::567:89ab"))),
            ("1.0.0.2.ip6.ARPA", Some(("2001::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))),
            ("5.1.2.96.127.in-addr.arpa", None),
            ("01.2.96.127.in-addr.arpa", None),
            ("256.2.96.127.in-addr.arpa", None),
            ("g.0.0.2.ip6.arpa", None),
            ("10.0.0.2.ip6.arpa", None),
            ("arpa", None),
        ] {
            let range = range.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
            assert_eq!(address_range(&absolute(name).unwrap()), range, "{name}");
        }
    }
}
