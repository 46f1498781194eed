//! Messages are built by hand here: a field is its tag, then its value.

mod properties;

use serde_json::json;

use super::*;

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
    out
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value.cast_unsigned())].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = u64::try_from(value.len()).unwrap();
    [varint(field << 3 | 2), varint(length), value.to_vec()].concat()
}

fn message(field: u64, fields: &[Vec<u8>]) -> Vec<u8> {
    bytes(field, fields.concat())
}

fn body(api_version: &str, kind: &str, fields: &[Vec<u8>]) -> Vec<u8> {
    let type_meta = message(1, &[bytes(1, api_version), bytes(2, kind)]);
    [MAGIC.to_vec(), type_meta, message(2, fields), bytes(3, ""), bytes(4, "")].concat()
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
fn check(body: &[u8], expected: Value) {
    assert_eq!(decode(body).unwrap(), expected);
}

#[test]
fn config_maps_and_secrets() {
    let metadata = message(
        1,
        &[bytes(1, "c"), bytes(3, ""), bytes(8, ""), message(11, &[bytes(1, "k"), bytes(2, "v")])],
    );
    check(
        &body(
            "v1",
            "ConfigMap",
            &[
                metadata,
                message(2, &[bytes(1, "a"), bytes(2, "")]),
                message(3, &[bytes(1, "b"), bytes(2, [1, 2])]),
            ],
        ),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"k": "v"}},
               "data": {"a": ""}, "binaryData": {"b": "AQI="}}),
    );
}

#[test]
fn services_with_target_ports() {
    let port = |target: Vec<u8>| {
        message(1, &[bytes(1, ""), bytes(2, "TCP"), number(3, 80), bytes(4, target), number(5, 0)])
    };
    let numeric = [number(1, 0), number(2, 8080), bytes(3, "")].concat();
    let named = [number(1, 1), number(2, 0), bytes(3, "http")].concat();
    let unset = [number(1, 0), number(2, 0), bytes(3, "")].concat();
    check(
        &body(
            "v1",
            "Service",
            &[message(
                2,
                &[
                    port(numeric),
                    port(named),
                    port(unset),
                    message(2, &[bytes(1, "app"), bytes(2, "web")]),
                    bytes(3, ""),
                    bytes(18, "10.0.0.1"),
                    number(20, 0),
                    number(13, 1),
                ],
            )],
        ),
        json!({"apiVersion": "v1", "kind": "Service", "spec": {
            "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080},
                      {"protocol": "TCP", "port": 80, "targetPort": "http"},
                      {"protocol": "TCP", "port": 80}],
            "selector": {"app": "web"}, "clusterIPs": ["10.0.0.1"],
            "allocateLoadBalancerNodePorts": false, "publishNotReadyAddresses": true}}),
    );
}

#[test]
fn deployments_with_volumes_and_resources() {
    let container = message(
        2,
        &[
            bytes(1, "a"),
            message(8, &[message(1, &[bytes(1, "cpu"), message(2, &[bytes(1, "100m")])])]),
        ],
    );
    let volume = message(1, &[bytes(1, "v"), message(2, &[message(2, &[bytes(1, "")])])]);
    let security = message(14, &[number(4, 1), bytes(4, [2, 3])]);
    let template = message(3, &[message(2, &[volume, container, security])]);
    check(
        &body("apps/v1", "Deployment", &[message(2, &[number(1, 0), template])]),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0, "template": {"spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "a", "resources": {"limits": {"cpu": "100m"}}}],
            "securityContext": {"supplementalGroups": [1, 2, 3]}}}}}),
    );
}

#[test]
fn times_and_delete_options() {
    check(
        &body(
            "coordination.k8s.io/v1",
            "Lease",
            &[
                message(1, &[message(8, &[number(1, 1_767_225_600), number(2, 0)])]),
                message(
                    2,
                    &[number(2, -1), message(4, &[number(1, 1_767_225_600), number(2, 5000)])],
                ),
            ],
        ),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"leaseDurationSeconds": -1, "renewTime": "2026-01-01T00:00:00.000005Z"}}),
    );
    check(
        &body("v1", "DeleteOptions", &[number(1, 0), bytes(4, "Background")]),
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
               "propagationPolicy": "Background"}),
    );
}

#[test]
fn broken_bodies_are_refused() {
    let whole = body("v1", "ConfigMap", &[message(1, &[bytes(1, "c")])]);
    for broken in [
        &b"{}"[..],
        b"k8s\0",
        b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        &whole[..whole.len() - 8],
        &body("v1", "ConfigMap", &[number(1, 3)]),
    ] {
        assert_eq!(decode(broken).unwrap_err().code, 400, "{broken:?}");
    }
    // No prefix of a good body may panic.
    for end in 0..whole.len() {
        let _either = decode(&whole[..end]);
    }
}

#[test]
fn controller_revisions_carry_json() {
    let data = bytes(2, bytes(1, br#"{"spec": {"x": [1]}}"#));
    check(
        &body("apps/v1", "ControllerRevision", &[message(1, &[bytes(1, "r")]), data, number(3, 4)]),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"},
               "data": {"spec": {"x": [1]}}, "revision": 4}),
    );
}

#[test]
fn evictions_carry_options() {
    let options = message(2, &[number(1, 30), bytes(5, "All")]);
    check(
        &body("policy/v1", "Eviction", &[message(1, &[bytes(1, "web")]), options]),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"},
               "deleteOptions": {"gracePeriodSeconds": 30, "dryRun": ["All"]}}),
    );
}

#[test]
fn unknown_kinds_are_told() {
    let status = decode(&body("x.dev/v1", "Thing", &[])).unwrap_err();
    assert_eq!((status.code, status.reason), (415, "UnsupportedMediaType"));
    assert!(status.message.contains("Thing"), "{}", status.message);
}
