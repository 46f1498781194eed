mod properties;

use std::sync::Arc;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Handled, Transport, fail, respond};
use crate::{
    dns::zone::{Zone, absolute},
    route::{RouteTable, build::fixture::table},
};

/// A headless Service `big` with `count` ready endpoints, all on port x, and a ClusterIP Service `web`.
fn big(count: u16) -> Arc<RouteTable> {
    let [mut addresses, mut separator] = ["", ""].map(String::from);
    for i in 0..count {
        addresses += &format!("{separator}{{addresses: [127.9.{}.{}]}}", i / 250, i % 250);
        ", ".clone_into(&mut separator);
    }
    table(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: big}}, spec: {{clusterIP: None, clusterIPs: [None]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: web}},
  spec: {{clusterIPs: [127.96.0.20], ports: [{{name: x, port: 80}}]}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
  metadata: {{name: big, labels: {{kubernetes.io/service-name: big}}}},
  ports: [{{name: x, port: 80}}], endpoints: [{addresses}]}}"
    ))
}

fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(absolute(name).unwrap(), rtype));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn send_bytes(
    table: &RouteTable,
    packet: &[u8],
    transport: Transport,
) -> Option<(Handled, Vec<u8>)> {
    let zone = Zone::new("cluster.local").unwrap();
    let mut out = b"stale".to_vec();
    let mut rng = StdRng::seed_from_u64(1);
    respond(packet, transport, (table, &zone), &mut rng, &mut out).map(|handled| (handled, out))
}

fn send(table: &RouteTable, message: &Message, transport: Transport) -> (Message, Vec<u8>) {
    let packet = message.to_vec().unwrap();
    let (_, bytes) = send_bytes(table, &packet, transport).expect("is answered");
    (Message::from_vec(&bytes).unwrap(), bytes)
}

const BIG: &str = "big.default.svc.cluster.local";
const WEB: &str = "web.default.svc.cluster.local";

#[test]
fn a_plain_answer_echoes_the_question_and_its_case() {
    let request = query("wEb.deFault.svc.cluSter.local", RecordType::A);
    let (response, bytes) = send(&big(1), &request, Transport::Udp);
    assert_eq!((response.id, response.message_type), (4711, MessageType::Response));
    assert!(response.authoritative && response.recursion_desired);
    assert!(!response.recursion_available && !response.truncation);
    assert!(response.queries[0].name().eq_case(request.queries[0].name()), "8.1");
    assert!(response.answers[0].name.eq_case(request.queries[0].name()), "8.1");
    assert_eq!(response.edns, None, "8.2");
    assert_eq!(bytes.len(), 12 + 31 + 4 + 16, "8.5: the owner is a pointer");
}

#[test]
fn opt_is_answered_iff_asked() {
    let mut request = with_edns(query(WEB, RecordType::A), 4096);
    request.edns.as_mut().unwrap().flags_mut().dnssec_ok = true;
    let (response, _) = send(&big(1), &request, Transport::Udp);
    let edns = response.edns.expect("8.2");
    assert_eq!((edns.version(), edns.max_payload()), (0, 1232));
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
}

#[test]
fn udp_answers_keep_to_their_size() {
    let table = big(1000);
    for (edns, limit) in [
        (None, 512),
        (Some(0), 512),
        (Some(512), 512),
        (Some(600), 600),
        (Some(1232), 1232),
        (Some(65_000), 1232),
    ] {
        let mut request = query(BIG, RecordType::A);
        if let Some(payload) = edns {
            request = with_edns(request, payload);
        }
        let (response, bytes) = send(&table, &request, Transport::Udp);
        assert!(bytes.len() <= limit && bytes.len() > limit - 16, "8.3: {edns:?} {}", bytes.len());
        assert!(response.truncation, "8.3");
        assert_eq!(response.edns.is_some(), edns.is_some(), "8.3: OPT is kept");
        let room = limit - 12 - 35 - if edns.is_some() { 11 } else { 0 };
        assert_eq!(response.answers.len(), room / 16);
    }
}

#[test]
fn what_just_fits_is_not_truncated() {
    for (count, truncated) in [(29, false), (30, true)] {
        let (response, _) = send(&big(count), &query(BIG, RecordType::A), Transport::Udp);
        assert_eq!(response.truncation, truncated, "{count}");
    }
}

#[test]
fn tcp_answers_are_complete() {
    let (response, bytes) = send(&big(3000), &query(BIG, RecordType::A), Transport::Tcp);
    assert_eq!((response.answers.len(), response.truncation), (3000, false), "8.4");
    assert_eq!(bytes.len(), 12 + 35 + 3000 * 16);
    let (response, bytes) = send(&big(5000), &query(BIG, RecordType::A), Transport::Tcp);
    assert!(response.truncation && bytes.len() <= 65_535);
}

#[test]
fn glue_that_does_not_fit_is_left_out_silently() {
    let request = with_edns(query(BIG, RecordType::SRV), 1232);
    let (response, bytes) = send(&big(15), &request, Transport::Udp);
    assert_eq!((response.answers.len(), response.truncation), (15, false), "8.6");
    assert!(response.additionals.len() < 15 && response.edns.is_some());
    assert!(bytes.len() <= 1232);
    let (response, _) = send(&big(15), &request, Transport::Tcp);
    assert_eq!(response.additionals.len(), 15, "8.6");
}

#[test]
fn what_is_not_a_plain_query_is_refused_by_its_code() {
    let code = |change: &dyn Fn(&mut Message)| {
        let mut request = query(WEB, RecordType::A);
        change(&mut request);
        let (response, _) = send(&big(1), &request, Transport::Udp);
        assert_eq!(response.edns.is_some(), request.edns.is_some() && request.queries.len() == 1);
        (u16::from(response.response_code), response.authoritative)
    };
    for op in [OpCode::Notify, OpCode::Status, OpCode::Update, OpCode::Unknown(6)] {
        assert_eq!(
            code(&|m| m.metadata.op_code = op),
            (ResponseCode::NotImp.into(), false),
            "8.6a {op:?}"
        );
    }
    let chaos = |m: &mut Message| {
        m.queries[0].set_query_class(DNSClass::CH);
    };
    assert_eq!(code(&chaos), (ResponseCode::Refused.into(), false), "1.20");
    let outside = |m: &mut Message| {
        m.queries[0].set_name(Name::from_ascii("example.com.").unwrap());
    };
    assert_eq!(code(&outside), (ResponseCode::Refused.into(), false), "1.19");
    assert_eq!(code(&|m| m.queries.clear()), (ResponseCode::FormErr.into(), false), "1.21");
    let twice = |m: &mut Message| m.queries.push(m.queries[0].clone());
    assert_eq!(code(&twice), (ResponseCode::FormErr.into(), false), "1.21");
    let version = |m: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        m.set_edns(edns);
    };
    assert_eq!(code(&version), (ResponseCode::BADVERS.into(), false), "7.9");
    assert_eq!(code(&|_| {}), (0, true));
}

#[test]
fn malformed_packets_are_form_errors_or_nothing() {
    let table = big(1);
    let whole = with_edns(query(WEB, RecordType::A), 1232).to_vec().unwrap();
    let opt = whole[whole.len() - 11..].to_vec();
    let code = |packet: &[u8]| {
        let (handled, bytes) = send_bytes(&table, packet, Transport::Udp)?;
        assert_eq!(Message::from_vec(&bytes).unwrap().id, 4711);
        Some(handled.code)
    };
    assert_eq!(code(&whole), Some(ResponseCode::NoError));
    let mut two_opts = [whole.as_slice(), &opt].concat();
    two_opts[11] = 2;
    assert_eq!(code(&two_opts), Some(ResponseCode::FormErr), "8.6a");
    for length in 0..whole.len() {
        let expected = (length >= 12).then_some(ResponseCode::FormErr);
        assert_eq!(code(&whole[..length]), expected, "cut to {length}");
    }
    let mut response = whole.clone();
    response[2] |= 0x80;
    assert_eq!(code(&response), None, "responses are never answered");
    let mut pointer_loop = whole[..12].to_vec();
    pointer_loop.extend([0xC0, 12, 0, 1, 0, 1]);
    assert_eq!(code(&pointer_loop), Some(ResponseCode::FormErr));
    let mut many = whole;
    many[4..6].copy_from_slice(&[0xFF, 0xFF]);
    assert_eq!(code(&many), Some(ResponseCode::FormErr));
}

#[test]
fn random_damage_never_panics() {
    let table = big(3);
    let whole = with_edns(query(WEB, RecordType::SRV), 1232).to_vec().unwrap();
    let mut rng = StdRng::seed_from_u64(2026);
    for _ in 0..20_000 {
        let mut packet = whole.clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..packet.len());
            packet[at] = rng.random();
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Some((_, bytes)) = send_bytes(&table, &packet, transport) {
                assert!(bytes.len() >= 12 && bytes[..2] == packet[..2]);
            }
        }
    }
}

#[test]
fn a_failure_is_a_bare_header() {
    let packet = query(WEB, RecordType::A).to_vec().unwrap();
    let mut out = Vec::new();
    assert_eq!(fail(&packet, &mut out).unwrap().code, ResponseCode::ServFail);
    let response = Message::from_vec(&out).unwrap();
    assert_eq!((response.id, response.response_code), (4711, ResponseCode::ServFail), "7.10");
    assert!(response.recursion_desired && out.len() == 12);
    assert_eq!(fail(&packet[..11], &mut out), None);
}
