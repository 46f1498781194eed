use serde_json::json;

use super::*;
use crate::{
    model::{kind, object},
    registry::Subscription,
    store::{Memory, Write},
};

fn create(name: &str) -> Write {
    let key = ObjectKey::new(&kind::CONFIG_MAP, "default", name);
    let document = json!({"metadata": {"name": name, "namespace": "default"}});
    let value = Some(object::to_stored(&kind::CONFIG_MAP, document));
    Write { key: key.to_store_key().into(), expect: Expect::Absent, value }
}

fn maps_only() -> Watched {
    Watched::These(vec![kind::CONFIG_MAP.clone()])
}

/// The definition of `lamps.example.com`, as it is stored.
fn definition(established: &str) -> Write {
    let key = ObjectKey::cluster(&kind::CUSTOM_RESOURCE_DEFINITION, "lamps.example.com");
    let names = json!({"plural": "lamps", "kind": "Lamp"});
    let document = json!({"metadata": {"name": "lamps.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names,
            "versions": [{"name": "v1", "served": true, "storage": true}]},
        "status": {"acceptedNames": names,
            "conditions": [{"type": "Established", "status": established}]}});
    let value = Some(object::to_stored(&kind::CUSTOM_RESOURCE_DEFINITION, document));
    Write { key: key.to_store_key().into(), expect: Expect::Absent, value }
}

/// An earlier version wrote a lamp, whose kind nothing defines now.
#[tokio::test]
async fn what_is_stored_of_an_unknown_kind_is_kept() {
    let store = Memory::new();
    let lamp = json!({"apiVersion": "example.com/v1", "kind": "Lamp",
        "metadata": {"name": "desk", "namespace": "default"}, "spec": {"colour": "red"}});
    let lamp_key = Bytes::from("objects/lamps.example.com/default/desk");
    let value = Some(Bytes::from(lamp.to_string()));
    let write = Write { key: lamp_key.clone(), expect: Expect::Absent, value: value.clone() };
    store.commit(vec![write]).await.unwrap();
    let cache = Cache::load(&store).await.unwrap();
    let names = |view: &View| -> Vec<String> {
        let kind = view.kinds().by_api_version("example.com/v1", "Lamp").cloned();
        let lamps = kind.iter().flat_map(|kind| view.list(kind, None));
        lamps.map(|lamp| lamp.key.name.clone()).collect()
    };
    assert_eq!(names(&cache.view()), Vec::<String>::new());
    assert_eq!(cache.view().revision_of(&lamp_key), Some(1));
    let apply = async |write: Write| {
        let Revision(revision) = store.commit(vec![write.clone()]).await.unwrap();
        let Write { key, value, .. } = write;
        cache.apply(&[Change { key, revision: Revision(revision), value }]);
        revision
    };
    let mut everything =
        Subscription::new(Arc::new(Cache::load(&store).await.unwrap()), Watched::All, 1);
    assert_eq!(everything.take().unwrap().len(), 0);
    let established = apply(definition("True")).await;
    assert_eq!(names(&cache.view()), ["desk"]);
    let (events, _) = cache.events_after(&Watched::All, 1, usize::MAX).unwrap();
    let told: Vec<_> = events.iter().map(|event| event.object.key.name.as_str()).collect();
    assert_eq!(told, ["lamps.example.com", "desk"]);
    let kind = cache.view().kinds().by_api_version("example.com/v1", "Lamp").unwrap().clone();
    let lamps = Watched::These(vec![kind]);
    assert_eq!(cache.events_after(&lamps, established - 1, usize::MAX).unwrap_err().code, 410);
    // The start finds the same.
    assert_eq!(names(&Cache::load(&store).await.unwrap().view()), ["desk"]);
    let gone =
        Write { value: None, expect: Expect::At(Revision(established)), ..definition("True") };
    apply(gone).await;
    assert_eq!(names(&cache.view()), Vec::<String>::new());
    assert_eq!(cache.events_after(&lamps, established, usize::MAX).unwrap_err().code, 404);
    assert_eq!(store.get(&lamp_key, None).await.unwrap().map(|record| record.value), value);
    apply(definition("False")).await;
    assert_eq!(names(&cache.view()), Vec::<String>::new());
}

#[tokio::test]
async fn all_is_read_again_when_history_is_gone() {
    let store = Memory::new();
    store.commit(vec![create("first")]).await.unwrap();
    let cache = Cache::load(&store).await.unwrap();
    for name in ["second", "third", "fourth"] {
        store.commit(vec![create(name)]).await.unwrap();
    }
    store.compact(Revision(4)).await.unwrap();
    let token = CancellationToken::new();
    let mut maps = cache.revisions_of(&kind::CONFIG_MAP);
    let watched = async {
        maps.wait_for(|now| *now == 4).await.unwrap();
        assert_eq!(cache.view().list(&kind::CONFIG_MAP, None).count(), 4);
        let behind = cache.events_after(&maps_only(), 1, usize::MAX).unwrap_err();
        assert_eq!((behind.code, behind.reason), (410, "Expired"));
        assert_eq!(cache.events_after(&maps_only(), 4, usize::MAX).unwrap().0.len(), 0);
        store.commit(vec![create("fifth")]).await.unwrap();
        cache.wait_for(5).await.unwrap();
        assert_eq!(cache.events_after(&maps_only(), 4, usize::MAX).unwrap().0.len(), 1);
        token.cancel();
    };
    let (followed, ()) = tokio::join!(cache.follow(&store, &token), watched);
    followed.unwrap();
}

/// A cache of one map that was changed so often.
async fn changed(times: u64, bytes: usize) -> Cache {
    let store = Memory::new();
    let cache = Cache::load(&store).await.unwrap();
    let name = "large";
    let mut write = create(name);
    for nth in 0..times {
        let data = char::from(b'a').to_string().repeat(bytes);
        let document = json!({"metadata": {"name": name, "namespace": "default"},
            "data": {"nth": nth.to_string(), "a": data}});
        write.value = Some(object::to_stored(&kind::CONFIG_MAP, document));
        let at = store.commit(vec![write.clone()]).await.unwrap();
        write.expect = Expect::At(at);
        let change = Change { key: write.key.clone(), revision: at, value: write.value.clone() };
        cache.apply(&[change]);
    }
    cache
}

#[tokio::test]
async fn history_has_a_bound_in_bytes() {
    let cache = changed(100, 1024 * 1024).await;
    let after = |revision| cache.events_after(&maps_only(), revision, usize::MAX);
    assert_eq!(after(60).unwrap_err().code, 410);
    assert_eq!(after(75).unwrap().0.len(), 25);
    let state = cache.state.read();
    let history = &state.histories[&kind::CONFIG_MAP];
    let held: usize = history.events.iter().map(|event| event.superseded_bytes()).sum();
    assert_eq!((held, held), (history.bytes, state.history_bytes));
    assert!(held <= HISTORY_BYTES_MAX);
}

#[tokio::test]
async fn events_come_in_batches() {
    let cache = Arc::new(changed(10, 1000).await);
    let subscribe = || Subscription::new(cache.clone(), maps_only(), 0);
    assert_eq!(subscribe().take().unwrap().len(), 10);
    let mut few = subscribe().in_batches_of(2500);
    for (count, position) in [(3, 3), (3, 6), (3, 9), (1, 10), (0, 10)] {
        let events = few.take().unwrap();
        assert_eq!((events.len(), few.position()), (count, position));
    }
    let mut one = subscribe().in_batches_of(1);
    assert_eq!((one.next().await.unwrap().len(), one.position()), (1, 1));
}

#[tokio::test]
async fn a_conflict_is_waited_for() {
    let store = Memory::new();
    let cache = Cache::load(&store).await.unwrap();
    let write = create("first");
    let (key, token) = (write.key.clone(), CancellationToken::new());
    let at = store.commit(vec![write]).await.unwrap();
    let gone = Write { key: key.clone(), expect: Expect::At(at), value: None };
    let waited = async {
        cache.wait_for_conflict(&key, Expect::Absent, Some(at)).await.unwrap();
        assert_eq!(cache.view().revision_of(&key), Some(1));
        store.commit(vec![gone]).await.unwrap();
        cache.wait_for_conflict(&key, Expect::At(at), None).await.unwrap();
        assert_eq!(cache.view().revision_of(&key), None);
        token.cancel();
    };
    let (followed, ()) = tokio::join!(cache.follow(&store, &token), waited);
    followed.unwrap();
}
