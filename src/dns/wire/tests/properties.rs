//! Properties that hold for any packet and any question.

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::RngSeed};

use super::{BIG, Transport, WEB, big, query, send, send_bytes, with_edns};

/// Random bytes, a header with random bytes after it, and a valid request with damage.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let headed = (vec(any::<u8>(), 4), vec(0..3_u8, 4), vec(any::<u8>(), 0..200));
    let headed = headed.prop_map(|(start, counts, rest)| {
        let counts = counts.into_iter().flat_map(|count| [0, count]);
        start.into_iter().chain(counts).chain(rest).collect()
    });
    let types = select(vec![RecordType::A, RecordType::SRV, RecordType::ANY, RecordType::AXFR]);
    let damage = vec((any::<usize>(), any::<u8>()), 0..4);
    let damaged = (select(vec![BIG, WEB]), types, any::<u16>(), damage);
    let damaged = damaged.prop_map(|(name, rtype, payload, damage)| {
        let mut packet = with_edns(query(name, rtype), payload).to_vec().unwrap();
        for (at, byte) in damage {
            let at = at % packet.len();
            packet[at] = byte;
        }
        packet
    });
    prop_oneof![vec(any::<u8>(), 0..200), headed, damaged]
}

/// Any name that fits into a question, also the root.
fn names() -> impl Strategy<Value = Name> {
    let labels = vec(vec(any::<u8>(), 1..=63), 0..6);
    let fitting = labels.prop_filter_map("names have at most 255 bytes", |labels| {
        Name::from_labels(labels.iter().map(Vec::as_slice)).ok()
    });
    prop_oneof![fitting, Just(Name::from_ascii("a.WEB.default.svc.cluster.local.").unwrap())]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(500)
    })]

    #[test]
    fn any_packet_has_one_answer_or_none(packet in packets(), tcp in any::<bool>()) {
        let (transport, limit) =
            if tcp { (Transport::Tcp, 65_535) } else { (Transport::Udp, 1232) };
        let is_request = packet.len() >= 12 && packet[2] & 0x80 == 0;
        let answer = send_bytes(&big(40), &packet, transport);
        prop_assert_eq!(answer.is_some(), is_request);
        if let Some((handled, bytes)) = answer {
            prop_assert!(bytes.len() <= limit);
            let response = Message::from_vec(&bytes).unwrap();
            prop_assert_eq!(&bytes[..2], &packet[..2]);
            prop_assert_eq!(response.message_type, MessageType::Response);
            // Two response codes have the number 16.
            let codes = [response.response_code, handled.code].map(u16::from);
            prop_assert_eq!(codes[0], codes[1]);
        }
    }

    #[test]
    fn any_question_comes_back_as_it_was(name in names(), rtype: u16, id: u16, tcp: bool) {
        // OPT is not a type of a question.
        prop_assume!(rtype != 41);
        let mut request = Message::new(id, MessageType::Query, OpCode::Query);
        let mut question = Query::query(name.clone(), rtype.into());
        question.set_query_class(DNSClass::IN);
        request.add_query(question);
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let (response, _) = send(&big(1), &request, transport);
        prop_assert_eq!(response.id, id);
        prop_assert_eq!(&response.queries, &request.queries);
        prop_assert!(response.queries[0].name().eq_case(&name));
        prop_assert_ne!(response.response_code, ResponseCode::FormErr);
    }
}
