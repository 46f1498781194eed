//! Addresses and ports that objects hold exclusively. Each is a stored key, written and deleted in the same commit as
//! the object that holds it, so that no crash and no second process can hand one out twice.
//!
//! Choosing is a pure function of the [`View`]; when another writer was faster the commit conflicts, and the
//! registry chooses again from the newer view.

use std::{net::IpAddr, ops::RangeInclusive};

use bytes::Bytes;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{
    model::{ObjectKey, kind, object, service::ip_family},
    registry::View,
    store::{Expect, Revision, Write},
};

/// Store keys of allocations that are not objects begin with this.
pub(crate) const ALLOCATIONS: &str = "allocations/";

/// One thing that an object holds exclusively.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// An address of the service range; stored as an IPAddress object, as Kubernetes does.
    ServiceAddress(IpAddr),
    /// A node port (also health-check node ports), whatever the protocol.
    NodePort(u16),
    /// An address of the load balancer range.
    LoadBalancerAddress(IpAddr),
}

/// Who holds an allocation, and since which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) owner: String,
    pub(crate) revision: u64,
}

impl Claim {
    fn address_key(address: IpAddr) -> ObjectKey {
        ObjectKey::cluster(&kind::IP_ADDRESS, address.to_string())
    }

    fn store_key(&self) -> Bytes {
        match self {
            Self::ServiceAddress(address) => Self::address_key(*address).to_store_key().into(),
            Self::NodePort(port) => format!("{ALLOCATIONS}node-ports/{port}").into(),
            Self::LoadBalancerAddress(address) => {
                format!("{ALLOCATIONS}load-balancer-addresses/{address}").into()
            }
        }
    }

    fn revision(&self, view: &View) -> Option<u64> {
        match self {
            Self::ServiceAddress(address) => {
                view.get(&Self::address_key(*address)).map(|object| object.revision)
            }
            _ => {
                let key = self.store_key();
                view.allocations.get(std::str::from_utf8(&key).ok()?).map(|held| held.revision)
            }
        }
    }

    /// Whether somebody holds it.
    pub(crate) fn is_taken(&self, view: &View) -> bool {
        self.revision(view).is_some()
    }
}

/// The writes that turn what an object held into what it shall hold. `stamp` is the creation time of IPAddress objects.
pub(crate) fn writes(
    view: &View,
    owner: &ObjectKey,
    old: &[Claim],
    new: &[Claim],
    stamp: &str,
) -> Vec<Write> {
    let taken = new.iter().filter(|claim| !old.contains(claim)).map(|claim| Write {
        key: claim.store_key(),
        expect: Expect::Absent,
        value: Some(claim_value(claim, owner, stamp)),
    });
    let released = old.iter().filter(|claim| !new.contains(claim)).filter_map(|claim| {
        let expect = Expect::At(Revision(claim.revision(view)?));
        Some(Write { key: claim.store_key(), expect, value: None })
    });
    taken.chain(released).collect()
}

/// The writes that free all that an owner holds, when nothing is known of it but its name.
pub(crate) fn releases(view: &View, owner: &ObjectKey) -> Vec<Write> {
    let name = format!("{}/{}", owner.namespace, owner.name);
    let held = view.allocations.iter().filter(|(_, held)| held.owner == name);
    let held = held.map(|(key, held)| (Bytes::from(key.clone()), held.revision));
    let addresses = view.list(&kind::IP_ADDRESS, None).filter(|address| {
        let parent = address.parse::<Value>().unwrap_or_default()["spec"]["parentRef"].take();
        parent["resource"] == *owner.kind.plural
            && parent["namespace"] == owner.namespace.as_str()
            && parent["name"] == owner.name.as_str()
    });
    let addresses = addresses.map(|address| (address.key.to_store_key().into(), address.revision));
    held.chain(addresses)
        .map(|(key, revision)| Write { key, expect: Expect::At(Revision(revision)), value: None })
        .collect()
}

fn claim_value(claim: &Claim, owner: &ObjectKey, stamp: &str) -> Bytes {
    let Claim::ServiceAddress(address) = claim else {
        return format!("{}/{}", owner.namespace, owner.name).into();
    };
    let family = ip_family(*address);
    let document = json!({
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": stamp,
            "labels": {"ipaddress.kubernetes.io/ip-family": family,
                       "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"group": owner.kind.group, "resource": owner.kind.plural,
                               "namespace": owner.namespace, "name": owner.name}},
    });
    object::to_stored(&kind::IP_ADDRESS, document)
}

/// The n-th address of a range, counted from its network address.
pub(crate) fn nth_address(range: IpNet, n: u32) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(n)?.into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(n.into())?.into()),
    };
    range.contains(&address).then_some(address)
}

/// A free address of the service range. As in Kubernetes (KEP 3070) the low end is left to requested addresses
/// as long as the rest has room. `seed` spreads the choice.
pub(crate) fn free_service_address(view: &View, range: IpNet, seed: u64) -> Option<IpAddr> {
    let last = usable_offsets(range);
    let band = (last / 16).clamp(16, 256).min(last);
    let free =
        |n: &u32| nth_address(range, *n).is_some_and(|a| !Claim::ServiceAddress(a).is_taken(view));
    rotated(band + 1..=last, seed)
        .find(free)
        .or_else(|| rotated(1..=band, seed).find(free))
        .and_then(|n| nth_address(range, n))
}

impl View {
    /// The first free address of the load balancer range. It is taken once it stands in a Service's
    /// `status.loadBalancer.ingress`; a write that comes second is refused.
    pub fn free_load_balancer_address(&self, range: IpNet) -> Option<IpAddr> {
        (1..=usable_offsets(range))
            .filter_map(|n| nth_address(range, n))
            .find(|address| !Claim::LoadBalancerAddress(*address).is_taken(self))
    }
}

/// Whether an object may ask for this address: within the range, neither its network nor its broadcast address.
pub(crate) fn is_usable(range: IpNet, address: IpAddr) -> bool {
    let broadcast = address.is_ipv4() && address == range.broadcast();
    range.contains(&address) && address != range.network() && !broadcast
}

/// A free node port; `seed` spreads the choice, `own` are ports that this write already chose.
pub(crate) fn free_node_port(
    view: &View,
    range: &RangeInclusive<u16>,
    own: &[u16],
    seed: u64,
) -> Option<u16> {
    rotated(u32::from(*range.start())..=u32::from(*range.end()), seed)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| !own.contains(port) && !Claim::NodePort(*port).is_taken(view))
}

/// Offsets 1..=n without network and broadcast address, at most 65,534 (as much of a huge IPv6 range as is ever used).
fn usable_offsets(range: IpNet) -> u32 {
    const OFFSETS_MAX: u32 = 65_534;
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    2_u32.checked_pow(bits).map_or(OFFSETS_MAX, |size| size.saturating_sub(2).min(OFFSETS_MAX))
}

/// The numbers of a range, beginning at a place that the seed chooses.
fn rotated(range: RangeInclusive<u32>, seed: u64) -> impl Iterator<Item = u32> {
    let (first, last) = (*range.start(), *range.end());
    let length = if range.is_empty() { 0 } else { last - first + 1 };
    let start = u32::try_from(seed % u64::from(length.max(1))).unwrap_or(0);
    (0..length).map(move |i| first + (start + i) % length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_addresses_avoid_the_static_band() {
        let range: IpNet = "127.96.0.0/16".parse().unwrap();
        for seed in 0..1000 {
            let IpAddr::V4(address) =
                free_service_address(&View::for_tests(), range, seed * 7919).unwrap()
            else {
                panic!("family of the range")
            };
            assert!(u32::from(address) > u32::from(std::net::Ipv4Addr::new(127, 96, 1, 0)));
        }
    }

    #[test]
    fn small_ranges_are_used_up_to_the_last() {
        let range: IpNet = "10.0.0.0/30".parse().unwrap();
        assert!(free_service_address(&View::for_tests(), range, 5).is_some());
        assert_eq!(nth_address(range, 4), None);
        assert_eq!(rotated(3..=5, 4).collect::<Vec<_>>(), [4, 5, 3]);
    }
}
