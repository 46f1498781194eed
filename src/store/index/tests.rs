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
    let index = Index::new(LIMITS);
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
fn an_image_is_the_past_and_what_came_after() {
    let index = Index::new(LIMITS);
    put(&index, "a", 1); // 1
    put(&index, "b", 1); // 2
    put(&index, "a", 2); // 3
    delete(&index, "a"); // 4
    put(&index, "c", 1); // 5
    index.compact(Revision(4));
    let image = index.image();
    let settled: Vec<_> = image.settled.iter().map(|change| change.revision.0).collect();
    assert_eq!((image.compacted, settled), (Revision(3), vec![2, 3]));
    assert_eq!(image.history.len(), 2);
    let restored = Index::restore(LIMITS, image);
    for at in [None, Some(Revision(3)), Some(Revision(4))] {
        assert_eq!(restored.list(b"", at).unwrap(), index.list(b"", at).unwrap());
    }
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
