//! The messages of etcd's API that the store uses, with the field numbers of `rpc.proto` and `kv.proto` in etcd.
//!
//! Unused fields are left out; prost skips them. A `oneof` is declared as optional fields of which one is set, which
//! has the same encoding. Received bytes are copied (`Vec`), so that one small value does not keep a whole page in
//! memory.

use bytes::Bytes;

/// The methods as HTTP paths.
pub(super) mod path {
    pub(in crate::store::etcd) const RANGE: &str = "/etcdserverpb.KV/Range";
    pub(in crate::store::etcd) const TXN: &str = "/etcdserverpb.KV/Txn";
    pub(in crate::store::etcd) const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub(in crate::store::etcd) const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub(in crate::store::etcd) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub(in crate::store::etcd) const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub(in crate::store::etcd) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub(in crate::store::etcd) const LEASE_TIME_TO_LIVE: &str =
        "/etcdserverpb.Lease/LeaseTimeToLive";
    pub(in crate::store::etcd) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
}

/// `Compare.CompareResult`.
pub(super) const EQUAL: i32 = 0;
const LESS: i32 = 2;
/// `Compare.CompareTarget`.
const CREATE: i32 = 1;
const MOD: i32 = 2;
const VALUE: i32 = 3;
/// `Event.EventType`.
pub(super) const DELETE: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Event {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    /// The end of the range (exclusive); empty for a single key.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    /// Zero for the current revision.
    #[prost(int64, tag = "4")]
    pub(super) revision: i64,
    #[prost(bool, tag = "8")]
    pub(super) keys_only: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) lease: i64,
    /// Keeps the current value. The key must exist.
    #[prost(bool, tag = "5")]
    pub(super) ignore_value: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RequestOp {
    #[prost(message, optional, tag = "1")]
    range: Option<RangeRequest>,
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
    #[prost(message, optional, tag = "3")]
    delete_range: Option<DeleteRangeRequest>,
}

impl RequestOp {
    pub(super) fn range(range: RangeRequest) -> Self {
        Self { range: Some(range), ..Self::default() }
    }

    pub(super) fn put(put: PutRequest) -> Self {
        Self { put: Some(put), ..Self::default() }
    }

    pub(super) fn delete(key: Bytes, range_end: Bytes) -> Self {
        Self { delete_range: Some(DeleteRangeRequest { key, range_end }), ..Self::default() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Compare {
    #[prost(int32, tag = "1")]
    result: i32,
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(int64, optional, tag = "5")]
    create_revision: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    mod_revision: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    value: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "64")]
    range_end: Bytes,
}

impl Compare {
    /// No key of the range exists. With an empty end, the key does not exist.
    pub(super) fn absent(key: Bytes, range_end: Bytes) -> Self {
        let (result, target) = (EQUAL, CREATE);
        Self { result, target, key, create_revision: Some(0), range_end, ..Self::default() }
    }

    /// The last write of the key was at this revision.
    pub(super) fn written_at(key: Bytes, revision: i64) -> Self {
        let (result, target) = (EQUAL, MOD);
        Self { result, target, key, mod_revision: Some(revision), ..Self::default() }
    }

    /// The value of the key sorts before this value.
    pub(super) fn value_below(key: Bytes, value: &'static [u8]) -> Self {
        let (result, target) = (LESS, VALUE);
        Self { result, target, key, value: Some(Bytes::from_static(value)), ..Self::default() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

impl TxnResponse {
    /// The result of the n-th operation, which was a range of one key.
    pub(super) fn found(&self, n: usize) -> Option<&KeyValue> {
        self.responses.get(n)?.range.as_ref()?.kvs.first()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CompactionRequest {
    #[prost(int64, tag = "1")]
    pub(super) revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CompactionResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseGrantRequest {
    /// In seconds.
    #[prost(int64, tag = "1")]
    pub(super) ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
}

/// The request of `LeaseKeepAlive` and of `LeaseTimeToLive`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// The response to both.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseResponse {
    /// The remaining seconds; zero or less if the lease does not exist.
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseRevokeRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseRevokeResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    /// The first revision of the watch.
    #[prost(int64, tag = "3")]
    pub(super) start_revision: i64,
    /// Asks etcd to send an empty response from time to time, which says up to which revision an idle watch is
    /// complete.
    #[prost(bool, tag = "4")]
    pub(super) progress_notify: bool,
    /// Allows etcd to split large responses.
    #[prost(bool, tag = "8")]
    pub(super) fragment: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) create: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    /// If the watch was cancelled because of compaction: the oldest revision that can be watched.
    #[prost(int64, tag = "5")]
    pub(super) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    /// More fragments of this response follow.
    #[prost(bool, tag = "7")]
    pub(super) fragment: bool,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<Event>,
}
