//! Kubernetes' libraries `ip` and `cidr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Native;
use crate::schema::cel::{
    value::{
        Val,
        extension::{Extension, Network},
    },
    work::Failure,
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "ip" => |_, a| match &a[0] {
            Val::Text(text) => address(text).map(from_address).map_err(Failure::error),
            other => Ok(from_address(network_of(other)?.address)),
        },
        "isIP" => |_, a| Ok(Val::Bool(address(a[0].as_text()?).is_ok())),
        "ip.isCanonical" => |_, a| {
            let text = a[0].as_text()?;
            let address = address(text).map_err(Failure::error)?;
            Ok(Val::Bool(address.to_string() == text))
        },
        "family" => |_, a| Ok(Val::Int(if address_of(&a[0])?.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |_, a| Ok(Val::Bool(address_of(&a[0])?.is_unspecified())),
        "isLoopback" => |_, a| Ok(Val::Bool(address_of(&a[0])?.is_loopback())),
        "isLinkLocalMulticast" => |_, a| {
            Ok(Val::Bool(match address_of(&a[0])? {
                IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
                IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
            }))
        },
        "isLinkLocalUnicast" => |_, a| Ok(Val::Bool(is_link_local(address_of(&a[0])?))),
        "isGlobalUnicast" => |_, a| {
            let address = address_of(&a[0])?;
            let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
            Ok(Val::Bool(
                !is_broadcast
                    && !address.is_unspecified()
                    && !address.is_loopback()
                    && !address.is_multicast()
                    && !is_link_local(address),
            ))
        },
        "cidr" => |_, a| {
            let network = network(a[0].as_text()?);
            network.map(from_network).map_err(|error| {
                let prefix = "network address parse error during conversion from string";
                Failure::error(format!("{prefix}: {error}"))
            })
        },
        "isCIDR" => |_, a| Ok(Val::Bool(network(a[0].as_text()?).is_ok())),
        "containsIP" => |_, a| {
            let network = network_of(&a[0])?;
            let address = match &a[1] {
                Val::Text(text) => address(text).map_err(Failure::error)?,
                other => address_of(other)?,
            };
            Ok(Val::Bool(contains(network, address)))
        },
        "containsCIDR" => |_, a| {
            let outer = network_of(&a[0])?;
            let inner = match &a[1] {
                Val::Text(text) => network(text).map_err(|error| {
                    let prefix = "network address parse error during conversion from string";
                    Failure::error(format!("{prefix}: {error}"))
                })?,
                other => network_of(other)?,
            };
            Ok(Val::Bool(outer.bits <= inner.bits && contains(outer, inner.address)))
        },
        "prefixLength" => |_, a| Ok(Val::Int(network_of(&a[0])?.bits.into())),
        "masked" => |_, a| {
            let network = network_of(&a[0])?;
            let address = masked(network.address, network.bits);
            Ok(from_network(Network { address, ..network }))
        },
        _ => return None,
    })
}

fn from_address<'a>(address: IpAddr) -> Val<'a> {
    Val::extension(Extension::Address(address))
}

fn from_network<'a>(network: Network) -> Val<'a> {
    Val::extension(Extension::Network(network))
}

fn address_of(value: &Val<'_>) -> Result<IpAddr, Failure> {
    match value {
        Val::Extension(extension) => match **extension {
            Extension::Address(address) => Ok(address),
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    }
}

fn network_of(value: &Val<'_>) -> Result<Network, Failure> {
    match value {
        Val::Extension(extension) => match **extension {
            Extension::Network(network) => Ok(network),
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    let unreadable = || {
        format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )
    };
    let address: IpAddr = text.parse().ok().ok_or_else(unreadable)?;
    match address {
        IpAddr::V6(mapped) if mapped.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        other => Ok(other),
    }
}

fn network(text: &str) -> Result<Network, String> {
    let wrong = |why: &str| {
        format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        )
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    if address.contains('%') {
        return Err(wrong("IPv6 zones cannot be present in a prefix"));
    }
    let address: IpAddr = address
        .parse()
        .ok()
        .ok_or_else(|| wrong(&format!("ParseAddr({address:?}): unable to parse IP")))?;
    if matches!(address, IpAddr::V6(mapped) if mapped.to_ipv4_mapped().is_some()) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    let is_number = bits.bytes().all(|byte| byte.is_ascii_digit())
        && !(bits.len() > 1 && bits.starts_with('0'));
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bad = || wrong(&format!("bad bits after slash: {bits:?}"));
    let bits: u8 = bits.parse().ok().filter(|_| is_number).ok_or_else(bad)?;
    if bits > most {
        return Err(wrong("prefix length out of range"));
    }
    Ok(Network { address, bits })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

fn contains(network: Network, address: IpAddr) -> bool {
    network.address.is_ipv4() == address.is_ipv4()
        && masked(network.address, network.bits) == masked(address, network.bits)
}
