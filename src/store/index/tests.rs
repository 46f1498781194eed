use super::*;

const LIMITS: Limits =
    Limits { age: Duration::from_secs(300), revisions_min: 3, revisions_max: 6, bytes_max: 100 };

fn put(index: &Index, key: &str, value_bytes: usize) -> Revision {
    let expect =
        index.get(key.as_bytes(), None).unwrap().map_or(Expect::Absent, |r| Expect::At(r.revision));
    let value = Some(Bytes::from(vec![b'x'; value_bytes]));
    index
        .commit(vec![Write { key: Bytes::copy_from_slice(key.as_bytes()), expect, value }])
        .unwrap()
}

fn delete(index: &Index, key: &str) -> Revision {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let expect = Expect::At(index.get(&key, None).unwrap().unwrap().revision);
    index.commit(vec![Write { key, expect, value: None }]).unwrap()
}

fn kept(index: &Index) -> (u64, u64) {
    let state = index.state.read();
    (state.compacted.0 + 1, state.revision.0)
}

fn collecting() -> Index {
    Index::restore(LIMITS, Revision(0), Vec::new(), Vec::new())
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded() {
    let index = Index::new(LIMITS);
    for _ in 0..6 {
        put(&index, "a", 1);
    }
    assert_eq!(kept(&index), (1, 6));
    put(&index, "a", 1);
    assert_eq!(kept(&index), (2, 7), "the bound on revisions");
    put(&index, "big", 60);
    put(&index, "big", 60);
    assert_eq!(kept(&index), (4, 9), "a current value costs nothing");
    put(&index, "big", 60);
    assert_eq!(kept(&index), (8, 10), "the bound on bytes, down to the minimum");
    for _ in 0..3 {
        put(&index, "a", 1);
    }
    tokio::time::advance(Duration::from_secs(200)).await;
    put(&index, "a", 1);
    put(&index, "a", 1);
    index.trim();
    assert_eq!(kept(&index), (10, 15));
    tokio::time::advance(Duration::from_secs(200)).await;
    index.trim();
    assert_eq!(kept(&index), (13, 15), "the bound on age, down to the minimum");
}

#[test]
fn accounts_add_up() {
    let index = collecting();
    for round in 0..40 {
        put(&index, "a", round);
        put(&index, "b", 7);
        if round % 3 == 0 {
            delete(&index, "a");
        }
        let state = index.state.read();
        let current = state.current.iter().map(|(k, e)| k.len() + e.value.len()).sum::<usize>();
        let superseded = state
            .history
            .iter()
            .flat_map(|kept| kept.commit.iter().zip(&kept.replaced))
            .filter_map(|(change, replaced)| Some(replaced.as_ref()?.bytes(&change.key)))
            .sum::<usize>();
        assert_eq!((state.current_bytes, state.superseded_bytes), (current, superseded));
    }
}

#[test]
fn garbage_is_what_nobody_needs_and_in_order() {
    let index = collecting();
    put(&index, "a", 1); // 1
    put(&index, "b", 1); // 2
    put(&index, "a", 2); // 3
    delete(&index, "a"); // 4
    index.compact(Revision(3));
    let garbage = index.take_garbage(10);
    assert_eq!((garbage.compacted, garbage.passed), (Revision(2), 2));
    assert_eq!(garbage.versions, [], "revision 2 shows both");
    put(&index, "b", 3); // 5
    let revisions =
        |garbage: Garbage| -> Vec<_> { garbage.versions.iter().map(|v| v.revision.0).collect() };
    put(&index, "c", 1); // 6
    index.compact(Revision(6));
    assert_eq!(revisions(index.take_garbage(2)), [1, 3], "values before their deletion");
    assert_eq!(revisions(index.take_garbage(10)), [4, 2]);
    let image = index.image();
    let settled: Vec<_> = image.settled.iter().map(|(c, _)| c.revision.0).collect();
    assert_eq!((image.compacted, settled), (Revision(5), vec![5]));
    assert_eq!(image.history.len(), 1);
}

#[tokio::test]
async fn ended_watches_hand_over_everything_first() {
    let index = Arc::new(Index::new(LIMITS));
    let mut watch = index.watch(Revision(0)).unwrap();
    put(&index, "a", 1);
    index.end(Error::Closed);
    assert_eq!(watch.next().await.unwrap().unwrap()[0].key, "a");
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    assert!(watch.next().await.is_none());
    assert!(matches!(index.watch(Revision(0)), Err(Error::Closed)));
}
