//! The arithmetic of rollouts: how many pods each ReplicaSet may have. Pure.

use std::cmp::Reverse;

use k8s_openapi::{api::apps::v1::DeploymentSpec, apimachinery::pkg::util::intstr::IntOrString};

use crate::controllers::deployment::{
    DESIRED_REPLICAS, MAX_REPLICAS,
    sets::{ReplicaSets, Set, Which, sum},
};

/// `maxSurge` and `maxUnavailable` as numbers of pods: percentages round up and down; at least one of them is not
/// zero, else nothing could ever move.
pub(super) fn limits(spec: &DeploymentSpec, replicas: i32) -> (i32, i32) {
    let strategy = spec.strategy.as_ref();
    if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let gone = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let (surge, gone) = (portion(surge, replicas, true), portion(gone, replicas, false));
    if surge == 0 && gone == 0 { (0, 1.min(replicas)) } else { (surge, gone.min(replicas)) }
}

fn portion(limit: &IntOrString, replicas: i32, round_up: bool) -> i32 {
    match limit {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0);
            let product = percent.max(0).saturating_mul(i64::from(replicas));
            let rounded = if round_up { product.saturating_add(99) / 100 } else { product / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// How many pods the newest ReplicaSet shall have: as many as the surge leaves room for.
pub(super) fn new_set_size(
    replicas: i32,
    surge: i32,
    total: i32,
    current: i32,
    recreate: bool,
) -> i32 {
    if recreate || current > replicas {
        return replicas;
    }
    let room = replicas.saturating_add(surge).saturating_sub(total).max(0);
    current + room.min(replicas - current)
}

/// The sizes, one after the other, that old sets are scaled to when so many pods must stay available.
pub(super) fn shrink_old(sets: &ReplicaSets, available_min: i32) -> Vec<(usize, Vec<i32>)> {
    let starting =
        sets.new.as_ref().map_or(0, |new| new.replicas().saturating_sub(new.available()));
    let mut room = sets.total().saturating_sub(available_min).saturating_sub(starting);
    let mut targets: Vec<(usize, Vec<i32>)> = Vec::new();
    if room <= 0 || sets.active_old().next().is_none() {
        return targets;
    }
    let mut sizes: Vec<_> = sets.old.iter().map(Set::replicas).collect();
    targets.extend((0..sizes.len()).map(|index| (index, Vec::new())));
    let mut shrink = |sizes: &mut Vec<i32>, index: usize, count: i32| {
        if count > 0 {
            sizes[index] -= count;
            targets[index].1.push(sizes[index]);
        }
    };
    // Pods that are not available cost nothing.
    for (index, set) in sets.old.iter().enumerate() {
        let count = sizes[index].saturating_sub(set.available()).clamp(0, room);
        shrink(&mut sizes, index, count);
        room -= count;
    }
    let available = sum(sets.all().map(Set::available));
    let mut spare = available.saturating_sub(available_min).max(0);
    for index in 0..sizes.len() {
        let count = sizes[index].min(spare);
        shrink(&mut sizes, index, count);
        spare -= count;
    }
    targets
}

/// The sizes after `spec.replicas` changed (or while paused).
pub(super) fn scaled(
    sets: &ReplicaSets,
    replicas: i32,
    surge: i32,
    rolling: bool,
) -> Vec<(Which, i32)> {
    let old: Vec<_> = sets.active_old().map(Which::Old).collect();
    let new_is_active = sets.new.as_ref().is_some_and(|new| new.replicas() > 0);
    let newest_old = sets.old.len().checked_sub(1).map(Which::Old);
    match (old.as_slice(), new_is_active) {
        ([], true) => return vec![(Which::New, replicas)],
        ([only], false) => return vec![(*only, replicas)],
        ([], false) => {
            let one = sets.new.is_some().then_some(Which::New).or(newest_old);
            return one.map(|which| (which, replicas)).into_iter().collect();
        }
        _ => {}
    }
    let saturated = sets.new.as_ref().is_some_and(|new| {
        new.number(DESIRED_REPLICAS) == Some(replicas)
            && new.replicas() == replicas
            && new.available() == replicas
    });
    if saturated {
        return old.into_iter().map(|which| (which, 0)).collect();
    }
    if !rolling {
        return Vec::new();
    }
    let active = old.into_iter().chain(new_is_active.then_some(Which::New)).collect();
    proportional(sets, active, replicas, surge)
}

/// Spreads the difference over the active sets by their size; the largest takes what rounding leaves.
fn proportional(
    sets: &ReplicaSets,
    mut active: Vec<Which>,
    replicas: i32,
    surge: i32,
) -> Vec<(Which, i32)> {
    let size = |which: &Which| sets.get(*which).map_or(0, Set::replicas);
    let total = sum(active.iter().map(size));
    let allowed = if replicas > 0 { replicas.saturating_add(surge) } else { 0 };
    let to_add = allowed.saturating_sub(total);
    // Growing favours the newer of equally large sets, shrinking takes from the older.
    let age = |which: &Which| match which {
        Which::New => usize::MAX,
        Which::Old(index) => *index,
    };
    if to_add > 0 {
        active.sort_by_key(|which| (Reverse(size(which)), Reverse(age(which))));
    } else {
        active.sort_by_key(|which| (Reverse(size(which)), age(which)));
    }
    let mut added = 0;
    let mut targets: Vec<_> = active
        .into_iter()
        .map(|which| {
            let current = size(&which);
            let share = fraction(sets, which, replicas, surge);
            let left = to_add.saturating_sub(added);
            let share = if to_add > 0 { share.min(left) } else { share.max(left) };
            let share = if to_add == 0 || left == 0 { 0 } else { share };
            added = added.saturating_add(share);
            (which, current.saturating_add(share))
        })
        .collect();
    if let Some((_, largest)) = targets.first_mut() {
        *largest = largest.saturating_add(to_add.saturating_sub(added)).max(0);
    }
    targets
}

/// How much a set would grow if it kept its part of the whole.
fn fraction(sets: &ReplicaSets, which: Which, replicas: i32, surge: i32) -> i32 {
    let Some(set) = sets.get(which) else { return 0 };
    if replicas == 0 {
        return -set.replicas();
    }
    let before = set.number(MAX_REPLICAS).filter(|most| *most > 0);
    let before = i64::from(before.unwrap_or_else(|| sets.total().max(1)));
    let product = i64::from(set.replicas()) * i64::from(replicas.saturating_add(surge));
    // Rounded to the nearest.
    let rounded = (2 * product + before) / (2 * before);
    i32::try_from(rounded).unwrap_or(i32::MAX) - set.replicas()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn percentages() {
        for (surge, unavailable, replicas, expected) in [
            (json!("25%"), json!("25%"), 4, (1, 1)),
            (json!("25%"), json!("25%"), 3, (1, 0)),
            (json!("25%"), json!("25%"), 10, (3, 2)),
            (json!(0), json!("10%"), 5, (0, 1)),
            (json!(2), json!(0), 5, (2, 0)),
            (json!(0), json!(0), 5, (0, 1)),
            (Value::Null, Value::Null, 8, (2, 2)),
            (json!(1), json!(9), 5, (1, 5)),
        ] {
            let spec = serde_json::from_value(json!({"selector": {}, "template": {},
                "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}))
            .unwrap();
            assert_eq!(limits(&spec, replicas), expected, "{surge} {unavailable} of {replicas}");
        }
    }

    #[test]
    fn the_new_set_grows_into_the_surge() {
        for (replicas, surge, total, current, expected) in [
            (10, 3, 10, 0, 3),
            (10, 3, 13, 3, 3),
            (10, 3, 8, 5, 10),
            (10, 3, 4, 0, 9),
            (2, 1, 5, 5, 2),
        ] {
            assert_eq!(new_set_size(replicas, surge, total, current, false), expected);
        }
        assert_eq!(new_set_size(10, 0, 0, 0, true), 10);
    }
}
