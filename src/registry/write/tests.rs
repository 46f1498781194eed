use super::*;

#[test]
fn what_a_write_may_change() {
    let old = json!({"metadata": {"name": "a", "uid": "1", "generation": 2, "labels": {"l": "old"},
        "annotations": {"a": "old"}, "ownerReferences": ["old"], "finalizers": ["old"],
        "managedFields": ["old"]}, "spec": {"nodeName": "", "x": "old"}, "status": {"s": "old"}});
    let new = json!({"metadata": {"name": "b", "uid": "2", "generation": 7, "labels": {"l": "new"},
        "annotations": {"a": "new"}, "ownerReferences": ["new"], "finalizers": ["new"],
        "managedFields": ["new"]}, "spec": {"nodeName": "new", "x": "new"}, "status": {"s": "new"}});
    let all = [
        "/metadata/labels/l",
        "/metadata/annotations/a",
        "/metadata/ownerReferences/0",
        "/metadata/finalizers/0",
        "/metadata/managedFields/0",
        "/spec/nodeName",
        "/spec/x",
        "/status/s",
    ];
    for (kind, subresource, changed) in [
        (&kind::SERVICE, Subresource::None, "nnnnnnn."),
        (&kind::CONFIG_MAP, Subresource::None, "nnnnnnnn"),
        (&kind::SERVICE, Subresource::Status, "nnnnn..n"),
        (&kind::DEPLOYMENT, Subresource::Status, ".nnnn..n"),
        (&kind::POD, Subresource::Status, "nn.nn..n"),
        (&kind::LOAD_BALANCER_POLICY, Subresource::Status, "....n..n"),
        (&kind::POD, Subresource::Binding, ".n...n.."),
        (&kind::NAMESPACE, Subresource::Finalize, "nnnnnnn."),
    ] {
        let merged = merge_parts(kind, subresource, new.clone(), &old);
        let is_new = |path: &&str| merged.pointer(path) == Some(&"new".into());
        let found: String = all.iter().map(|path| if is_new(path) { 'n' } else { '.' }).collect();
        assert_eq!(found, changed, "{} {subresource:?}", kind.kind);
        assert_eq!(merged["metadata"]["uid"], "1");
        assert_eq!(merged["metadata"]["generation"], 2);
    }
}
