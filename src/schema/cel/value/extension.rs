//! Values of Kubernetes' libraries.

use std::{cmp::Ordering, net::IpAddr};

use serde_json::Value;

/// A value of a library.
#[derive(Clone, Debug)]
pub(crate) enum Extension {
    Address(IpAddr),
    Network(Network),
    Url(Url),
    /// Billionths.
    Quantity(i128),
    Semver(Semver),
    /// The name of a format.
    Format(&'static str),
    /// What rules cannot see; it can only be compared.
    Unknown(Value),
}

/// An address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

/// The parts of a URL, as Go's `net/url` reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) escaped_path: String,
    pub(crate) query: String,
    /// Written again; what equality compares.
    pub(crate) text: String,
}

/// A version of <https://semver.org>.
#[derive(Clone, Debug)]
pub(crate) struct Semver {
    pub(crate) numbers: [u64; 3],
    pub(crate) before: Vec<Part>,
}

/// A part of what follows the hyphen of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Number(u64),
    Text(String),
}

impl Extension {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Address(_) => "net.IP",
            Self::Network(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The bytes of an address or of a prefix; 1 for all else.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Address(IpAddr::V4(_)) => 4,
            Self::Address(IpAddr::V6(_)) => 16,
            Self::Network(network) => usize::from(network.bits.div_ceil(8)),
            _ => 1,
        }
    }

    /// Whether both are the same; none if they cannot be compared.
    pub(crate) fn equals(&self, other: &Self) -> Option<bool> {
        Some(match (self, other) {
            (Self::Address(a), Self::Address(b)) => a == b,
            (Self::Network(a), Self::Network(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.compare(b) == Ordering::Equal,
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Unknown(a), Self::Unknown(b)) => a == b,
            _ => return None,
        })
    }
}

impl Semver {
    /// Which version is older. A version before a release is older than the release.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        let is_release = self.before.is_empty().cmp(&other.before.is_empty());
        let parts = self.before.iter().zip(&other.before).map(|(one, other)| match (one, other) {
            (Part::Number(a), Part::Number(b)) => a.cmp(b),
            (Part::Number(_), Part::Text(_)) => Ordering::Less,
            (Part::Text(_), Part::Number(_)) => Ordering::Greater,
            (Part::Text(a), Part::Text(b)) => a.cmp(b),
        });
        let parts = parts.fold(Ordering::Equal, Ordering::then);
        numbers.then(is_release).then(parts).then(self.before.len().cmp(&other.before.len()))
    }
}
