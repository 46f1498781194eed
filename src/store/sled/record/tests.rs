use crate::store::index::Garbage;

use super::*;

fn commit(revision: u64, keys: &[&str]) -> Commit {
    keys.iter()
        .map(|key| Change {
            revision: Revision(revision),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: (!key.starts_with('-')).then(|| Bytes::from(key.repeat(3))),
        })
        .collect()
}

fn encoded(commit: &Commit, group: Group) -> Vec<Pair> {
    let mut pairs = Vec::new();
    encode(commit, group, &mut pairs);
    pairs
}

fn read(pairs: &[Pair]) -> Result<Vec<Stored>, String> {
    let mut reader = Reader::default();
    for (key, value) in pairs {
        reader.feed(key, value)?;
    }
    Ok(reader.into_stored())
}

/// The stored versions of groups of commits, each named by its keys.
fn groups(groups: &[&[&[&str]]]) -> Vec<Stored> {
    let mut pairs = Vec::new();
    let mut revision = 0;
    for group in groups {
        let commits = u16::try_from(group.len()).unwrap();
        for (keys, nth) in group.iter().zip(0..) {
            revision += 1;
            encode(&commit(revision, keys), Group { nth, commits }, &mut pairs);
        }
    }
    read(&pairs).unwrap()
}

#[test]
fn values_of_any_size_come_back() {
    for bytes in [0, 1, 4070, 4076, 4077, 4078, 4079, 8168, 8169, 8170, 8171, 100_000, 2 << 20] {
        let value: Bytes = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let change = Change {
            revision: Revision(7),
            key: Bytes::from_static(b"k"),
            value: Some(value.clone()),
        };
        let pairs = encoded(&[change].into(), ALONE);
        assert!(pairs.iter().all(|(_, stored)| stored.len() <= CHUNK_BYTES));
        assert!(pairs.is_sorted());
        let stored = read(&pairs).unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].change.value, Some(value));
        let expected: Vec<_> = keys(stored[0].version()).collect();
        let actual: Vec<_> = pairs.into_iter().map(|(key, _)| key).collect();
        assert_eq!(actual, expected, "{bytes} bytes");
    }
}

#[test]
fn damage_is_noticed() {
    let value = Some(Bytes::from(vec![b'v'; 10_000]));
    let change = Change { revision: Revision(3), key: Bytes::from_static(b"key"), value };
    let pairs = encoded(&[change].into(), ALONE);
    assert_eq!(pairs.len(), 3);
    let settled = Compaction { revision: Revision(3), versions: 1 };
    let later = Compaction { revision: Revision(2), versions: 0 };
    let is_damaged = |pairs: &[Pair]| {
        [settled, later].into_iter().all(|compaction| {
            read(pairs).and_then(|stored| verify(&stored, compaction, Revision(3))).is_err()
        })
    };
    for missing in 0..3 {
        let mut rest = pairs.clone();
        rest.remove(missing);
        assert!(is_damaged(&rest), "chunk {missing} is missing");
    }
    for left in 1..3 {
        let torn = read(&pairs[..left]).unwrap();
        let verdict = verify(&torn, later, Revision(2));
        assert_eq!(verdict, Ok(Verdict { settled: 0, whole: 0 }), "nobody was told of it");
        let keys: Vec<_> = keys(torn[0].version()).collect();
        assert!(keys.iter().eq(pairs[..left].iter().map(|(key, _)| key)));
    }
    for (at, (key, value)) in pairs.iter().enumerate() {
        for byte in [0, 3, 4, 5, 14, 20, value.len() - 1] {
            let mut spoiled = pairs.clone();
            spoiled[at].1[byte] ^= 1;
            assert!(is_damaged(&spoiled), "byte {byte} of chunk {at}");
        }
        let mut moved = pairs.clone();
        moved[at].0[8] ^= 1;
        assert!(is_damaged(&moved), "chunk {at} under another key");
        for length in [0, 3, 4, 10, value.len() - 1] {
            let mut cut = pairs.clone();
            cut[at].1.truncate(length);
            assert!(is_damaged(&cut), "{length} bytes of chunk {at}");
        }
        assert!(Reader::default().feed(&key[..12], value).is_err());
    }
}

#[test]
fn compaction_points_come_back() {
    let compaction = Compaction { revision: Revision(5), versions: 3 };
    let stored = compaction.encode();
    assert_eq!(Compaction::decode(&stored), Ok(compaction));
    for byte in 0..stored.len() {
        let mut spoiled = stored.clone();
        spoiled[byte] ^= 1;
        assert!(Compaction::decode(&spoiled).is_err());
    }
    assert!(Compaction::decode(b"").is_err());
}

#[test]
fn missing_versions_are_damage_unless_nobody_knew_them() {
    // Revisions 1, 2 and 3, 4 and 5: six versions.
    let all = groups(&[&[&["a"]], &[&["b", "c"], &["-b"]], &[&["d"], &["e"]]]);
    assert_eq!(all.len(), 6);
    let none = Compaction::default();
    let at = |revision, versions| Compaction { revision: Revision(revision), versions };
    type Case<'a> = (&'a str, &'a [usize], Compaction, u64, Option<usize>);
    let cases: &[Case<'_>] = &[
        ("all", &[], none, 5, Some(6)),
        ("all, unacknowledged", &[], none, 0, Some(6)),
        ("acknowledged beyond the end", &[], none, 6, None),
        ("last group gone", &[4, 5], none, 3, Some(4)),
        ("last group gone, acknowledged", &[4, 5], none, 5, None),
        ("last group torn", &[5], none, 3, Some(4)),
        ("last group torn at its start", &[4], none, 3, Some(4)),
        ("last group torn, acknowledged", &[5], none, 4, None),
        ("commit torn", &[2, 3, 4, 5], none, 1, Some(1)),
        ("commit torn, acknowledged", &[2, 3, 4, 5], none, 2, None),
        ("a group in the middle torn", &[2], none, 1, None),
        ("a group in the middle gone", &[1, 2, 3], none, 1, None),
        ("the first gone", &[0], none, 0, None),
        ("compacted", &[], at(1, 1), 5, Some(6)),
        ("compacted, superseded removed", &[1, 3], at(3, 2), 5, Some(4)),
        ("compacted, more is gone", &[1, 2, 3], at(3, 2), 5, None),
        ("compacted within a group", &[], at(2, 3), 5, Some(6)),
        ("compacted within a group, torn", &[3, 4, 5], at(2, 3), 3, None),
        ("compacted to the last", &[1, 3], at(4, 3), 5, Some(4)),
        ("everything gone", &[0, 1, 2, 3, 4, 5], none, 5, None),
        ("never anything", &[0, 1, 2, 3, 4, 5], none, 0, Some(0)),
    ];
    for (name, missing, compaction, acknowledged, whole) in cases {
        let stored: Vec<_> =
            (0..all.len()).filter(|i| !missing.contains(i)).map(|i| all[i].clone()).collect();
        let verdict = verify(&stored, *compaction, Revision(*acknowledged));
        assert_eq!(verdict.as_ref().ok().map(|v| v.whole), *whole, "{name}: {verdict:?}");
    }
}

#[test]
fn prepared_keys_hold_nothing() {
    let mut pairs = encoded(&commit(1, &["a", "b"]), ALONE);
    let first: Vec<_> = first_keys(Revision(1)..Revision(4)).collect();
    assert_eq!(first[0], pairs[0].0);
    assert!(first.iter().all(|key| is_first(key)) && !is_first(&pairs[1].0));
    let revisions: Vec<_> = first.iter().filter_map(|key| revision(key)).collect();
    assert_eq!(revisions, [1, 2, 3].map(Revision));
    assert_eq!((revision(FORMAT_KEY), revision(&first[0][1..])), (None, None));
    let before = read(&pairs).unwrap();
    pairs.extend(first[1..].iter().map(|key| (key.clone(), PREPARED.to_vec())));
    assert_eq!(read(&pairs).unwrap(), before);
}

#[test]
fn an_image_is_written_in_the_order_of_the_tree() {
    let change = |revision, key| (commit(revision, &[key])[0].clone(), 1);
    let image = Image {
        compacted: Revision(5),
        settled: vec![change(4, "a"), change(2, "b"), change(3, "c")],
        history: vec![commit(6, &["d", "a"]), commit(7, &["-d"])],
        garbage: Garbage::default(),
    };
    let changes = image_changes(&image);
    let pairs: Vec<_> = changes.iter().flat_map(|change| encode_alone(*change)).collect();
    assert!(pairs.is_sorted() && pairs.len() == 6);
    let keys: Vec<_> = changes.iter().flat_map(|change| change_keys(*change)).collect();
    assert!(keys.iter().eq(pairs.iter().map(|(key, _)| key)));
    let stored = read(&pairs).unwrap();
    let compaction = Compaction { revision: Revision(5), versions: 3 };
    assert_eq!(verify(&stored, compaction, Revision(7)), Ok(Verdict { settled: 3, whole: 6 }));
}
