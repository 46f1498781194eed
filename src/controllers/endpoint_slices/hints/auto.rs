//! Hints by topology mode `Auto`: each zone gets endpoints in proportion to its share of the CPU, its own ones as far as
//! possible. Pure; Kubernetes' `topologycache.AddHints`.
//!
//! Enter at [`assign`]. Unchanged slices keep their hints while no zone has more endpoints by that than it may have, so
//! few slices are written; the endpoints of all other slices are dealt out anew.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForZone};

use crate::controllers::{endpoint_packing::Packed, endpoint_slices::hints::capacity::Shares};

/// By how much the load of one endpoint may exceed the average.
const OVERLOAD_MAX: f64 = 0.2;

/// Why no hints are given, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A node does not tell its zone or CPU, or there are no two zones with nodes.
    NodesUnknown,
    /// Fewer ready endpoints than zones.
    TooFew { endpoints: usize, zones: usize },
    /// A fair share for one zone would leave too few endpoints for another.
    Overload { endpoints: usize, zones: usize },
    /// A ready endpoint has no zone.
    NoZone,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodesUnknown => f.write_str(
                "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
            ),
            Self::TooFew { endpoints, zones } => write!(
                f,
                "Insufficient number of endpoints ({endpoints} endpoints, {zones} zones)"
            ),
            Self::Overload { endpoints, zones } => write!(
                f,
                "Unable to allocate minimum required endpoints to each zone without exceeding overload \
                 threshold ({endpoints} endpoints, {zones} zones)"
            ),
            Self::NoZone => f.write_str("One or more endpoints do not have a zone specified"),
        }
    }
}

/// How many endpoints a zone may and should have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Allocation {
    /// With fewer its endpoints would be overloaded.
    minimum: usize,
    /// With more another zone could not have its minimum.
    maximum: usize,
    desired: f64,
}

/// Endpoints by the zone that they are meant for.
type Counts = BTreeMap<String, usize>;

/// Gives the ready endpoints of a Service their hints, or takes away all that they have. Slices whose hints change are
/// marked as changed.
pub(crate) fn assign(slices: &mut [Packed<'_>], shares: &Shares) -> Result<(), Refusal> {
    let done = try_assign(slices, shares);
    if done.is_err() {
        for slice in slices {
            for endpoint in &mut slice.endpoints {
                slice.changed |= endpoint.hints.take().is_some();
            }
        }
    }
    done
}

fn try_assign(slices: &mut [Packed<'_>], shares: &Shares) -> Result<(), Refusal> {
    let ready = slices.iter().flat_map(|slice| &slice.endpoints).filter(|e| is_ready(e)).count();
    let allocations = allocate(shares, ready)?;
    let mut counts = Counts::new();
    let mut open: Vec<&mut Packed<'_>> = Vec::new();
    for slice in slices {
        if slice.changed || !keep(&slice.endpoints, &mut counts, &allocations) {
            open.push(slice);
        }
    }
    let endpoints = open.iter().flat_map(|slice| &slice.endpoints);
    let mut zones = endpoints.map(own_zone).collect::<Result<Vec<_>, _>>()?;
    for zone in zones.iter().flatten() {
        *counts.entry(zone.clone()).or_default() += 1;
    }
    let (givers, receivers) = balance(&allocations, &counts);
    redistribute(&mut zones, givers, receivers);
    let mut zones = zones.into_iter();
    for slice in open {
        for (endpoint, zone) in slice.endpoints.iter_mut().zip(&mut zones) {
            let hints = zone.map(hint);
            slice.changed |= endpoint.hints != hints;
            endpoint.hints = hints;
        }
    }
    Ok(())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
}

/// The zone of a ready endpoint; `None` for an unready one, which gets no hint.
fn own_zone(endpoint: &Endpoint) -> Result<Option<String>, Refusal> {
    if !is_ready(endpoint) {
        return Ok(None);
    }
    endpoint.zone.clone().filter(|zone| !zone.is_empty()).map(Some).ok_or(Refusal::NoZone)
}

fn hint(zone: String) -> EndpointHints {
    EndpointHints { for_zones: Some(vec![ForZone { name: zone }]), for_nodes: None }
}

/// Each zone's share of so many endpoints.
fn allocate<'a>(
    shares: &'a Shares,
    endpoints: usize,
) -> Result<BTreeMap<&'a str, Allocation>, Refusal> {
    let zones = shares.len();
    if zones == 0 {
        return Err(Refusal::NodesUnknown);
    }
    if zones > endpoints {
        return Err(Refusal::TooFew { endpoints, zones });
    }
    let average = 1.0 / (1.0 + OVERLOAD_MAX);
    let of = |(zone, share): (&'a String, &f64)| {
        let desired = share * endpoints as f64;
        let minimum = round_up(desired * average);
        let desired = desired.max(minimum as f64);
        (zone.as_str(), Allocation { minimum, maximum: minimum, desired })
    };
    let mut allocations: BTreeMap<_, _> = shares.iter().map(of).collect();
    let needed: usize = allocations.values().map(|allocation| allocation.minimum).sum();
    let spare = endpoints.checked_sub(needed).ok_or(Refusal::Overload { endpoints, zones })?;
    allocations.values_mut().for_each(|allocation| allocation.maximum += spare);
    Ok(allocations)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never below zero, and at most the number of endpoints"
)]
fn round_up(number: f64) -> usize {
    number.ceil() as usize
}

/// Counts the hints of an unchanged slice, if it can keep them: each ready endpoint has some, only for zones that
/// endpoints are allocated to, and no zone gets more than it may have.
fn keep(
    endpoints: &[Endpoint],
    counts: &mut Counts,
    allocations: &BTreeMap<&str, Allocation>,
) -> bool {
    let mut own: BTreeMap<&str, usize> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        let Some(EndpointHints { for_zones: Some(zones), for_nodes: None }) = &endpoint.hints
        else {
            return false;
        };
        if zones.is_empty() {
            return false;
        }
        for zone in zones {
            *own.entry(&zone.name).or_default() += 1;
        }
    }
    let fits = |(zone, count): (&&str, &usize)| {
        let known = counts.get(*zone).copied().unwrap_or(0);
        allocations.get(*zone).is_some_and(|allocation| known + count <= allocation.maximum)
    };
    let fits = own.iter().all(fits);
    if fits {
        own.into_iter()
            .for_each(|(zone, count)| *counts.entry(zone.to_owned()).or_default() += count);
    }
    fits
}

/// How many endpoints each zone gives to others, and gets from others. Whole endpoints only, so a zone keeps its own
/// when that comes close enough.
fn balance<'a>(
    allocations: &BTreeMap<&'a str, Allocation>,
    counts: &Counts,
) -> (BTreeMap<&'a str, usize>, BTreeMap<&'a str, usize>) {
    let (mut surplus, mut shortage) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in allocations {
        let more = counts.get(*zone).copied().unwrap_or(0) as f64 - allocation.desired;
        if more > 0.0 {
            surplus.insert(*zone, more);
        } else {
            shortage.insert(*zone, -more);
        }
    }
    let (mut givers, mut receivers) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((giver, give)), Some((receiver, get))) = (most(&surplus), most(&shortage))
        && (give >= 1.0 || get >= 1.0)
        && give >= 0.5
        && get >= 0.5
    {
        *givers.entry(giver).or_default() += 1;
        *receivers.entry(receiver).or_default() += 1;
        surplus.insert(giver, give - 1.0);
        shortage.insert(receiver, get - 1.0);
    }
    (givers, receivers)
}

/// The zone with the greatest number above zero.
fn most<'a>(zones: &BTreeMap<&'a str, f64>) -> Option<(&'a str, f64)> {
    let above_zero = zones.iter().filter(|(_, number)| **number > 0.0);
    let greater =
        |best: (&'a str, f64), next: (&'a str, f64)| if next.1 > best.1 { next } else { best };
    above_zero.map(|(zone, number)| (*zone, *number)).reduce(greater)
}

/// Changes the zones of endpoints, one for each, so that the givers' go to the receivers.
fn redistribute(
    zones: &mut [Option<String>],
    mut givers: BTreeMap<&str, usize>,
    mut receivers: BTreeMap<&str, usize>,
) {
    for zone in zones.iter_mut().flatten() {
        let Some(mut receiver) = receivers.first_entry() else { return };
        let Some(left) = givers.get_mut(zone.as_str()).filter(|left| **left > 0) else { continue };
        *left -= 1;
        (*receiver.key()).clone_into(zone);
        *receiver.get_mut() -= 1;
        if *receiver.get() == 0 {
            receiver.remove();
        }
    }
}

#[cfg(test)]
mod tests;
