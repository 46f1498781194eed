//! Which pod address is given next.

use std::net::IpAddr;

use ipnet::IpNet;

/// Hands out the addresses of one node's pod range in turn, so that an address rests before it is used again.
pub(crate) struct Addresses {
    range: IpNet,
    /// Where the search begins, counted from the first address that pods may have.
    start: u32,
}

/// The first address of a range is the gateway's by custom.
const FIRST: u32 = 2;

impl Addresses {
    pub(crate) fn new(range: IpNet) -> Self {
        Self { range, start: 0 }
    }

    /// The next address that is not in use; `None` when all are.
    pub(crate) fn next(&mut self, is_used: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let length = self.end().checked_sub(FIRST)? + 1;
        let (place, address) = (0..length)
            .map(|i| (self.start + i) % length)
            .filter_map(|place| Some((place, nth(self.range, FIRST + place)?)))
            .find(|(_, address)| !is_used(address))?;
        self.start = place + 1;
        Some(address)
    }

    /// The last offset before the broadcast address.
    fn end(&self) -> u32 {
        const OFFSET_MAX: u32 = 65_533;
        let bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len());
        2_u32.checked_pow(bits).map_or(OFFSET_MAX, |size| size.saturating_sub(2).min(OFFSET_MAX))
    }
}

fn nth(range: IpNet, offset: u32) -> Option<IpAddr> {
    Some(match range.network() {
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).checked_add(offset)?.into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).checked_add(offset.into())?.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_rotate_and_run_out() {
        let mut addresses = Addresses::new("127.244.1.0/29".parse().unwrap());
        let mut used = BTreeSet::new();
        for expected in ["127.244.1.2", "127.244.1.3"] {
            let address = addresses.next(|address| used.contains(address)).unwrap();
            assert_eq!(address.to_string(), expected);
            used.insert(address);
        }
        used.clear();
        assert_eq!(
            addresses.next(|address| used.contains(address)).unwrap().to_string(),
            "127.244.1.4",
            "rests before reuse"
        );
        for _ in 0..4 {
            let address = addresses.next(|address| used.contains(address)).unwrap();
            used.insert(address);
        }
        used.insert("127.244.1.4".parse().unwrap());
        assert_eq!(addresses.next(|address| used.contains(address)), None);
    }
}
