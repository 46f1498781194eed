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

/// The pairs of groups of commits with the revisions 1, 2, ... Each change is named by its key.
fn encode_all(groups: &[&[&[&str]]]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut revision = 0;
    for group in groups {
        let mut group_entries = Vec::new();
        for keys in *group {
            revision += 1;
            group_entries.extend(entries(&commit(revision, keys)));
        }
        let end = FIRST_CHUNK + u64::try_from(pairs.len()).unwrap();
        pairs.extend(encode(&group_entries, end));
    }
    pairs
}

fn compaction(revision: u64, chunks: Range<u64>) -> Compaction {
    Compaction { revision: Revision(revision), chunks }
}

/// Reads and verifies a log. An incomplete group at its end is dropped.
fn read(pairs: &[Pair], compaction: &Compaction, acknowledged: u64) -> Result<Log, String> {
    let mut reader = Reader::new(compaction.chunks.start);
    let mut log = Log::new(compaction.chunks.start);
    for (key, value) in pairs {
        if let Some(group) = reader.feed(key, value)? {
            log.push(group);
        }
    }
    log.verify(reader.into_tail().torn.as_ref(), compaction, Revision(acknowledged)).map(|()| log)
}

/// One change whose group has three chunks.
fn large() -> Vec<Pair> {
    let value = Some(Bytes::from(vec![b'v'; 2 * CHUNK_BYTES]));
    let change = Change { revision: Revision(1), key: Bytes::from_static(b"key"), value };
    let group: Vec<_> = entries(&[change].into()).collect();
    let pairs = encode(&group, FIRST_CHUNK);
    assert_eq!(pairs.len(), 3);
    pairs
}

#[test]
fn groups_of_any_size_come_back() {
    let part = CHUNK_BYTES - CHUNK_HEAD_BYTES;
    let rest = part - ENTRY_HEAD_BYTES - 1;
    for bytes in [0, 1, rest - 1, rest, rest + 1, rest + part, rest + part + 1, 100_000, 2 << 20] {
        let value: Bytes = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let key = |name: &'static str| Bytes::from_static(name.as_bytes());
        let commit: Commit = [
            Change { revision: Revision(1), key: key("k"), value: Some(value) },
            Change { revision: Revision(1), key: key("gone"), value: None },
            Change { revision: Revision(1), key: key("l"), value: Some(Bytes::new()) },
        ]
        .into();
        let group: Vec<_> = entries(&commit).collect();
        let pairs = encode(&group, 7);
        assert!(pairs.iter().all(|(_, stored)| stored.len() <= CHUNK_BYTES));
        assert!(pairs.is_sorted());
        assert_eq!(pairs.iter().map(|(_, v)| v.len()).sum::<usize>(), group_bytes(&group));
        let log = read(&pairs, &compaction(0, 7..7), 1).unwrap();
        assert_eq!((log.bytes, log.chunks.end), (group_bytes(&group), 7 + pairs.len() as u64));
        let image = log.into_image(Revision(0));
        assert_eq!((image.settled, image.history), (vec![], vec![commit]), "{bytes} bytes");
    }
}

#[test]
fn damage_is_noticed() {
    let pairs = large();
    let settled = compaction(1, 1..4);
    let later = compaction(0, 1..1);
    let is_damaged =
        |pairs: &[Pair]| [&settled, &later].into_iter().all(|c| read(pairs, c, 1).is_err());
    for missing in 0..3 {
        let mut rest = pairs.clone();
        rest.remove(missing);
        assert!(is_damaged(&rest), "chunk {missing} is missing");
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
        assert!(Reader::new(1).feed(&key[..8], value).is_err());
    }
}

#[test]
fn what_was_torn_is_told() {
    let pairs = large();
    for left in 1..3 {
        let mut reader = Reader::new(FIRST_CHUNK);
        for (key, value) in &pairs[..left] {
            assert!(reader.feed(key, value).unwrap().is_none());
        }
        reader.feed(&chunk_key(9), PREPARED).unwrap();
        let rest = Tail { torn: Some(Torn(Some(Revision(1)))), end: 10 };
        assert_eq!(reader.into_tail(), rest, "{left} chunks");
    }
}

#[test]
fn compaction_points_come_back() {
    let compaction = compaction(5, 3..9);
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
fn missing_chunks_are_damage_unless_nobody_knew_them() {
    // The value is three times as long: three chunks in all.
    let long = "x".repeat(5 * CHUNK_BYTES / 8);
    let all = encode_all(&[&[&["a"]], &[&["b", "c", &long[1..]], &["-b"]], &[&[&long]], &[&["e"]]]);
    assert_eq!(all.len(), 1 + 3 + 3 + 1);
    let none = compaction(0, 1..1);
    type Case<'a> = (&'a str, Range<usize>, Compaction, u64, Option<usize>);
    let cases: &[Case<'_>] = &[
        ("all", 0..8, none.clone(), 5, Some(8)),
        ("all, unacknowledged", 0..8, none.clone(), 0, Some(8)),
        ("acknowledged beyond the end", 0..8, none.clone(), 6, None),
        ("last group gone", 0..7, none.clone(), 4, Some(7)),
        ("last group gone, acknowledged", 0..7, none.clone(), 5, None),
        ("last group torn", 0..6, none.clone(), 3, Some(4)),
        ("last group torn, acknowledged", 0..6, none.clone(), 4, None),
        ("several commits torn", 0..3, none.clone(), 1, Some(1)),
        ("several commits torn, one acknowledged", 0..3, none.clone(), 2, None),
        ("the first gone", 1..8, none.clone(), 0, None),
        ("compacted", 0..8, compaction(3, 1..5), 5, Some(8)),
        ("compacted, known chunks gone", 0..4, compaction(3, 1..6), 3, None),
        ("compacted and cleaned", 4..8, compaction(3, 5..5), 5, Some(8)),
        ("cleaned without being compacted", 4..8, compaction(2, 5..5), 5, None),
        ("more is gone than was cleaned", 4..8, compaction(3, 4..5), 5, None),
        ("compacted within a group", 0..8, compaction(2, 1..2), 5, Some(8)),
        ("compacted to the last", 0..8, compaction(5, 1..9), 5, Some(8)),
        ("everything gone", 0..0, none.clone(), 5, None),
        ("everything gone, compacted", 0..0, compaction(5, 1..9), 5, None),
        ("never anything", 0..0, none, 0, Some(0)),
    ];
    for (name, left, compaction, acknowledged, whole) in cases {
        let verdict = read(&all[left.clone()], compaction, *acknowledged);
        let whole = whole.map(|chunks| 1 + u64::try_from(chunks).unwrap());
        let found = verdict.as_ref().map(|log| log.chunks.end);
        assert_eq!(found.as_ref().ok(), whole.as_ref(), "{name}: {found:?}");
    }
}

#[test]
fn prepared_keys_hold_nothing() {
    let mut pairs = encode_all(&[&[&["a", "b"]], &[&["c"]]]);
    for number in 3..6 {
        pairs.push((chunk_key(number), PREPARED.to_vec()));
    }
    let none = compaction(0, 1..1);
    assert_eq!(read(&pairs, &none, 2).unwrap().chunks, 1..3);
    pairs[1].1.clear();
    assert_eq!(read(&pairs, &none, 1).unwrap().chunks, 1..2);
    pairs.swap(0, 1);
    pairs[0].0.clone_from(&chunk_key(1));
    pairs[1].0.clone_from(&chunk_key(2));
    assert!(read(&pairs, &none, 0).is_err(), "a hole is no end");
}

#[test]
fn the_last_group_can_be_cut() {
    let pairs = encode_all(&[&[&["a"]], &[&["b"], &["c"]]]);
    for (after, chunks) in [(0, 1..2), (1, 1..2), (2, 1..3), (3, 1..3)] {
        let mut log = read(&pairs, &compaction(0, 1..1), 0).unwrap();
        log.cut(Revision(after));
        assert_eq!(log.chunks, chunks, "after {after}");
        let bytes: usize = pairs[..log.entries.len().min(2)].iter().map(|(_, v)| v.len()).sum();
        assert_eq!(log.bytes, bytes);
    }
}

#[test]
fn an_image_comes_back() {
    let settled = |revision, key: &'static str| commit(revision, &[key])[0].clone();
    let image = Image {
        compacted: Revision(5),
        settled: vec![settled(2, "b"), settled(2, "c"), settled(4, "a")],
        history: vec![commit(6, &["d", "a"]), commit(7, &["-d"])],
    };
    let group: Vec<_> = image_entries(&image).collect();
    let log = read(&encode(&group, 1), &compaction(5, 1..2), 7).unwrap();
    let Image { compacted, settled, history } = log.into_image(Revision(5));
    assert_eq!((compacted, settled, history), (image.compacted, image.settled, image.history));
}

#[test]
fn what_is_needed_survives_cleaning() {
    let group = |commits: &[(u64, &[&str])]| -> Vec<Entry> {
        commits
            .iter()
            .flat_map(|(revision, keys)| entries(&commit(*revision, keys)).collect::<Vec<_>>())
            .collect()
    };
    let image = Image {
        compacted: Revision(3),
        settled: vec![commit(1, &["b"])[0].clone(), commit(3, &["a"])[0].clone()],
        history: vec![commit(4, &["-a"])],
    };
    let survivors = |group| survivors(group, &image);
    let of = |entries: Option<Vec<Entry>>| -> Option<Vec<(u64, Bytes)>> {
        let entries = entries?;
        assert!(entries.iter().all(|entry| entry.copied));
        Some(entries.into_iter().map(|e| (e.change.revision.0, e.change.key)).collect())
    };
    let named = |names: &[(u64, &'static str)]| {
        Some(names.iter().map(|(r, key)| (*r, Bytes::from_static(key.as_bytes()))).collect())
    };
    let first = survivors(group(&[(1, &["a", "b"]), (2, &["-c"])]));
    assert_eq!(of(first.clone()), named(&[(1, "b"), (2, "-c")]), "a was replaced");
    assert_eq!(of(survivors(first.unwrap())), named(&[(1, "b")]), "a deletion is copied once");
    assert_eq!(of(survivors(group(&[(3, &["a"])]))), named(&[(3, "a")]), "history still shows it");
    assert_eq!(of(survivors(group(&[(3, &["a"]), (4, &["-a"])]))), None, "it is history");
    assert_eq!(of(survivors(Vec::new())), named(&[]));
}
