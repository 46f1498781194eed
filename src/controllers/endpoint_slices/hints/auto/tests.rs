use std::{cell::Cell, sync::Arc};

use k8s_openapi::api::discovery::v1::EndpointConditions;

use super::*;

/// Endpoints as a word each: `a`, ready in zone `a`; `a>b`, with a hint for `b`; `a!`, not ready; `-`, ready without a
/// zone; `a>b+c`, with two hints.
fn slice(changed: bool, endpoints: &str) -> Packed<'static> {
    let endpoint = |text: &str| {
        let ready = !text.ends_with('!');
        let (zone, hint) = text
            .trim_end_matches('!')
            .split_once('>')
            .map_or((text.trim_end_matches('!'), None), |(zone, hint)| (zone, Some(hint)));
        let zones =
            |hint: &str| hint.split('+').map(|name| ForZone { name: name.into() }).collect();
        Endpoint {
            conditions: Some(EndpointConditions { ready: Some(ready), ..<_>::default() }),
            zone: (zone != "-").then(|| zone.to_owned()),
            hints: hint.map(|hint| EndpointHints { for_zones: Some(zones(hint)), for_nodes: None }),
            ..Endpoint::default()
        }
    };
    let endpoints = endpoints.split_whitespace().map(endpoint).collect();
    Packed { object: None, ports: Arc::default(), endpoints, changed }
}

/// Likewise, with `*` before the slices that are to be written.
fn show(slices: &[Packed<'_>]) -> Vec<String> {
    let endpoint = |endpoint: &Endpoint| {
        let zone = endpoint.zone.as_deref().unwrap_or("-");
        let hints = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
        let hints: Vec<_> = hints.map(|zone| zone.name.as_str()).collect();
        let hints = if hints.is_empty() { String::new() } else { format!(">{}", hints.join("+")) };
        format!("{zone}{hints}{}", if is_ready(endpoint) { "" } else { "!" })
    };
    let slice = |slice: &Packed<'_>| {
        let endpoints: Vec<_> = slice.endpoints.iter().map(endpoint).collect();
        format!("{}{}", if slice.changed { "*" } else { "" }, endpoints.join(" "))
    };
    slices.iter().map(slice).collect()
}

fn shares(shares: &[(&str, f64)]) -> Shares {
    shares.iter().map(|(zone, share)| ((*zone).to_owned(), *share)).collect()
}

fn check(given: &[(&str, f64)], before: &[&str], refusal: Option<&str>, after: &[&str]) {
    let mut slices: Vec<_> = before
        .iter()
        .map(|text| slice(text.starts_with('*'), text.trim_start_matches('*')))
        .collect();
    let done = assign(&mut slices, &shares(given));
    assert_eq!(done.err().map(|refusal| refusal.to_string()).as_deref(), refusal, "{before:?}");
    assert_eq!(show(&slices), after, "{before:?}");
}

const TWO: &[(&str, f64)] = &[("a", 0.45), ("b", 0.55)];
const THREE: &[(&str, f64)] = &[("a", 0.35), ("b", 0.35), ("c", 0.3)];

#[test]
fn no_hints_without_the_means() {
    let nodes =
        "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    check(&[], &[], Some(nodes), &[]);
    check(&[], &["*a"], Some(nodes), &["*a"]);
    check(&[], &["*a>a", "b>b c!", "a"], Some(nodes), &["*a", "*b c!", "a"]);
    let few = "Insufficient number of endpoints (2 endpoints, 3 zones)";
    check(THREE, &["*a b c!"], Some(few), &["*a b c!"]);
    let overload = "Unable to allocate minimum required endpoints to each zone without exceeding overload \
                    threshold (2 endpoints, 2 zones)";
    check(&[("a", 0.7), ("b", 0.3)], &["a>a b>b"], Some(overload), &["*a b"]);
    let zone = "One or more endpoints do not have a zone specified";
    check(TWO, &["*a b", "a>a", "*-"], Some(zone), &["*a b", "*a", "*-"]);
    check(TWO, &["a>a b>b - b>b"], Some(zone), &["*a b - b"]);
    check(TWO, &["*a b -!"], None, &["*a>a b>b -!"]);
}

#[test]
fn endpoints_serve_their_zone_as_far_as_that_is_fair() {
    check(TWO, &["*a b"], None, &["*a>a b>b"]);
    check(TWO, &["*a b b!"], None, &["*a>a b>b b!"]);
    check(
        THREE,
        &["*a b", "*c c a", "*a a", "*b c a"],
        None,
        &["*a>b b>b", "*c>c c>c a>a", "*a>a a>a", "*b>b c>c a>a"],
    );
    // A zone without endpoints gets its share; one without nodes keeps its own.
    check(TWO, &["*a a a a"], None, &["*a>b a>b a>a a>a"]);
    check(TWO, &["*a b x b"], None, &["*a>a b>b x>x b>b"]);
}

#[test]
fn unchanged_slices_keep_their_hints_while_that_is_fair() {
    check(TWO, &["a>a b>b"], None, &["a>a b>b"]);
    check(TWO, &["a>b b>a"], None, &["a>b b>a"]);
    check(TWO, &["a>a b>b", "*a b"], None, &["a>a b>b", "*a>a b>b"]);
    check(TWO, &["a>b b>a b!"], None, &["a>b b>a b!"]);
    // Not when a hint is missing, or is for a zone without nodes.
    check(TWO, &["a>a b"], None, &["*a>a b>b"]);
    check(TWO, &["a>a b>x"], None, &["*a>a b>b"]);
    let double = "a>a+b a>a a>a a>a b>b b>b b>b b>b";
    check(TWO, &[double], None, &[double]);
    // The second slice would give zone `a` more than it may have: it is dealt out anew.
    check(&[("a", 0.5), ("b", 0.5)], &["a>a b>a", "a>a b>b"], None, &["a>a b>a", "*a>b b>b"]);
    // What is dealt out as before is not written.
    check(TWO, &["a>a b>b x>x b>b"], None, &["a>a b>b x>x b>b"]);
}

#[test]
fn hints_for_nodes_do_not_stay() {
    let mut slices = [slice(false, "a>a b>b")];
    let nodes = vec![k8s_openapi::api::discovery::v1::ForNode { name: "n".into() }];
    slices[0].endpoints[0].hints.as_mut().unwrap().for_nodes = Some(nodes);
    assign(&mut slices, &shares(TWO)).unwrap();
    assert!(
        slices[0].changed && slices[0].endpoints[0].hints.as_ref().unwrap().for_nodes.is_none()
    );
}

#[test]
fn whole_endpoints_move_between_zones() {
    let check = |desired: [f64; 3], counts: [usize; 3], give: &str, get: &str| {
        let zones = ["a", "b", "c"];
        let allocation = |desired| Allocation { desired, ..Allocation::default() };
        let allocations = zones.into_iter().zip(desired.map(allocation)).collect();
        let counts = zones.into_iter().map(str::to_owned).zip(counts).collect();
        let (givers, receivers) = balance(&allocations, &counts);
        let show = |zones: BTreeMap<&str, usize>| {
            zones.iter().map(|(zone, n)| format!("{zone}{n}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((show(givers).as_str(), show(receivers).as_str()), (give, get), "{desired:?}");
    };
    check([1.2, 1.1, 1.0], [1, 1, 1], "", "");
    // The own zone goes before a slightly better distribution.
    check([5.1, 5.1, 5.8], [16, 0, 0], "a10", "b5 c5");
    // The zone that lacks most gets the endpoint; the one that has most gives it.
    check([5.0, 5.6, 5.4], [16, 0, 0], "a11", "b6 c5");
    check([5.0, 5.6, 5.4], [0, 8, 8], "b2 c3", "a5");
    check([5.0, 5.0, 5.0], [6, 6, 6], "", "");
}

#[test]
fn givers_give_to_receivers_in_order() {
    let check =
        |zones: &str, givers: &[(&str, usize)], receivers: &[(&str, usize)], after: &str| {
            let mut zones: Vec<_> =
                zones.split(' ').map(|zone| (zone != "-").then(|| zone.to_owned())).collect();
            redistribute(
                &mut zones,
                givers.iter().copied().collect(),
                receivers.iter().copied().collect(),
            );
            let zones: Vec<_> = zones.iter().map(|zone| zone.as_deref().unwrap_or("-")).collect();
            assert_eq!(zones.join(" "), after);
        };
    check("a", &[], &[], "a");
    check("a", &[("a", 1)], &[("b", 1)], "b");
    check("a a a", &[("a", 2)], &[("b", 1), ("c", 1)], "b c a");
    check("- c a b a", &[("a", 2)], &[("b", 2)], "- c b b b");
}

#[test]
fn an_unchanged_slice_is_kept_by_its_hints() {
    let check = |endpoints: &str, known: &[(&str, usize)], maxima: &[(&str, usize)], kept: bool| {
        let mut counts: Counts = known.iter().map(|(zone, n)| ((*zone).to_owned(), *n)).collect();
        let allocation = |maximum| Allocation { maximum, ..Allocation::default() };
        let allocations = maxima.iter().map(|(zone, maximum)| (*zone, allocation(*maximum)));
        let allocations = allocations.collect();
        let before: usize = counts.values().sum();
        let is_kept = keep(&slice(false, endpoints).endpoints, &mut counts, &allocations);
        let counted = endpoints.split_whitespace().filter(|text| !text.ends_with('!')).count();
        let expected = if kept { before + counted } else { before };
        assert_eq!((is_kept, counts.values().sum::<usize>()), (kept, expected), "{endpoints}");
    };
    let three: &[_] = &[("a", 3), ("b", 3), ("c", 3)];
    let one: &[_] = &[("a", 1), ("b", 1), ("c", 1)];
    check("", &[], &[], true);
    check("a>a", &[("a", 1)], &[("a", 3)], true);
    check("a>a a>a!", &[("a", 1)], &[("a", 3)], true);
    check("a>a a>b b>b", one, three, true);
    check("a>x", one, three, false);
    check("a", &[], three, false);
    check("a>a a>a", &[("a", 1)], &[("a", 2)], false);
}

/// Plans come to rest: after a few of them nothing is left to write, whatever the hints were.
#[test]
fn hints_come_to_rest() {
    const ZONES: [&str; 5] = ["a", "b", "c", "d", "x"];
    let state = Cell::new(7_u64);
    let random = |below: usize| {
        state.set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040));
        usize::try_from(state.get() >> 33).unwrap() % below
    };
    for round in 0..2000 {
        let cpu: Vec<_> = (0..2 + random(3)).map(|_| 1 + random(8)).collect();
        let total: usize = cpu.iter().sum();
        let share = |cpu: &usize| *cpu as f64 / total as f64;
        let shares: Shares =
            ZONES.into_iter().map(str::to_owned).zip(cpu.iter().map(share)).collect();
        let endpoint = |_| format!("{}>{} ", ZONES[random(5)], ZONES[random(5)]);
        let endpoints = || (0..1 + random(8)).map(endpoint).collect::<String>();
        let mut slices: Vec<_> = (0..1 + random(5)).map(|_| slice(false, &endpoints())).collect();
        let mut plans = 0;
        loop {
            slices.iter_mut().for_each(|slice| slice.changed = false);
            assign(&mut slices, &shares).ok();
            if slices.iter().all(|slice| !slice.changed) {
                break;
            }
            plans += 1;
            assert!(plans < 20, "round {round}: {:?} {shares:?}", show(&slices));
        }
    }
}
