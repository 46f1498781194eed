//! Packets: parses a request, has it answered, and encodes the response within the size that the client can take.
//!
//! Enter at [`respond`]. Requests are parsed by hickory-server, records and names encoded by hickory-proto. The order of
//! sections is ours: hickory-server's `MessageResponse` drops OPT where the answer is truncated, calls an answer truncated
//! when only glue does not fit, goes on with later sections after a cut, and compresses 120 names at most.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use hickory_proto::{
    ProtoError,
    op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder},
};
use hickory_server::{net::xfer::Protocol, server};
use rand::Rng;

use crate::{
    dns::{
        answer::{Answer, answer},
        zone::Zone,
    },
    route::RouteTable,
};

/// What carries a packet; decides how large an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What was answered, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handled {
    /// The zone's index, `None` for questions that no zone of ours answers.
    pub(crate) zone: Option<usize>,
    pub(crate) rtype: RecordType,
    pub(crate) code: ResponseCode,
}

/// A UDP message without EDNS (RFC 1035, section 2.3.4).
const UDP_PLAIN_MAX: u16 = 512;
/// The largest UDP message sent, whatever the client offers: fits any path unfragmented (DNS flag day 2020).
const UDP_MAX: u16 = 1232;
const HEADER_LENGTH: usize = 12;
/// For hickory's parser, which wants to know who asks; no answer depends on it.
const ANYBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
/// An OPT record without options.
const OPT_LENGTH: u16 = 11;
const OPT_TYPE: u16 = 41;
const DNSSEC_OK: u32 = 1 << 15;
/// No record is shorter: a name pointer, type, class, TTL, length and an IPv4 address.
const RECORD_LENGTH_MIN: u16 = 16;
/// Points to the name of the question, which follows the header.
const QUESTION_POINTER: u16 = 0xC000 | 12;
/// The bit that makes a packet a response.
const RESPONSE: u8 = 0x80;

/// Answers one packet into `out`, which is cleared first. `None`, and nothing to send, for what is not a request:
/// short packets and responses (an answer to those could go round for ever).
pub(crate) fn respond(
    packet: &[u8],
    transport: Transport,
    (table, zone): (&RouteTable, &Zone),
    rng: &mut impl Rng,
    out: &mut Vec<u8>,
) -> Option<Handled> {
    out.clear();
    let request = Request::parse(packet, transport)?;
    let limit = match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => UDP_PLAIN_MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_PLAIN_MAX, UDP_MAX),
    };
    let found = match (&request.query, request.refusal) {
        (Some(query), None) => {
            answer(query, table, zone, usize::from(limit / RECORD_LENGTH_MIN) + 1, rng)
        }
        (_, refusal) => Answer::empty(refusal.unwrap_or(ResponseCode::FormErr), None),
    };
    let rtype = request.query.as_ref().map_or(RecordType::ZERO, Query::query_type);
    let handled = Handled { zone: found.zone, rtype, code: found.code };
    if let Err(error) = encode(&request, &found, limit, out) {
        tracing::error!(%error, "DNS answer cannot be encoded");
        return fail(packet, out);
    }
    Some(handled)
}

/// A bare server failure for a request whose answer failed.
pub(crate) fn fail(packet: &[u8], out: &mut Vec<u8>) -> Option<Handled> {
    out.clear();
    let [id_high, id_low, flags, ..] = *packet.get(..HEADER_LENGTH)? else { return None };
    // Opcode and RD as they came; no section.
    out.extend([id_high, id_low, RESPONSE | (flags & 0x79), ResponseCode::ServFail.low()]);
    out.resize(HEADER_LENGTH, 0);
    Some(Handled { zone: None, rtype: RecordType::ZERO, code: ResponseCode::ServFail })
}

/// As much of a request as could be read.
struct Request {
    metadata: Metadata,
    query: Option<Query>,
    edns: Option<Edns>,
    /// Why it is not answered.
    refusal: Option<ResponseCode>,
}

impl Request {
    /// The header is looked at first: an opcode of others is refused whatever follows, and a packet that claims
    /// thousands of questions is not worth the memory.
    fn parse(packet: &[u8], transport: Transport) -> Option<Self> {
        if packet.len() < HEADER_LENGTH || packet[2] & RESPONSE != 0 {
            return None;
        }
        let Header { metadata, counts } = Header::read(&mut BinDecoder::new(packet)).ok()?;
        let protocol = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let read = (counts.queries == 1)
            .then(|| server::Request::from_bytes(packet.to_vec(), ANYBODY, protocol).ok())
            .flatten();
        let query = read.as_ref().and_then(|read| read.queries.queries().first());
        let query = query.map(|query| query.original().clone());
        let edns = read.and_then(|read| read.edns.clone());
        let refusal = if metadata.op_code != OpCode::Query {
            Some(ResponseCode::NotImp)
        } else if query.is_none() {
            Some(ResponseCode::FormErr)
        } else if edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            Some(ResponseCode::BADVERS)
        } else {
            None
        };
        Some(Self { metadata, query, edns, refusal })
    }
}

/// Answer and authority that do not fit are cut from the end and make the answer truncated; the additional section
/// only gives what fits. OPT always fits (RFC 6891, section 7).
fn encode(
    request: &Request,
    found: &Answer,
    limit: u16,
    out: &mut Vec<u8>,
) -> Result<(), ProtoError> {
    let opt = request.edns.as_ref().map(|edns| edns.flags().dnssec_ok);
    let mut encoder = BinEncoder::new(out);
    encoder.set_max_size(limit - opt.map_or(0, |_| OPT_LENGTH));
    let place = encoder.place::<Header>()?;
    let mut counts = HeaderCounts { queries: 0, answers: 0, authorities: 0, additionals: 0 };
    if let Some(query) = &request.query {
        query.emit(&mut encoder)?;
        counts.queries = 1;
    }
    let query = request.query.as_ref();
    let (answers, mut truncated) = emit(&mut encoder, &found.answers, query)?;
    counts.answers = answers;
    if !truncated {
        (counts.authorities, truncated) = emit(&mut encoder, &found.authorities, query)?;
    }
    if !truncated {
        (counts.additionals, _) = emit(&mut encoder, &found.additionals, query)?;
    }
    if let Some(dnssec_ok) = opt {
        encoder.set_max_size(limit);
        emit_opt(&mut encoder, found.code, dnssec_ok)?;
        counts.additionals += 1;
    }
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.message_type = MessageType::Response;
    metadata.authoritative = found.zone.is_some() && found.code != ResponseCode::Refused;
    metadata.truncation = truncated;
    metadata.response_code = found.code;
    place.replace(&mut encoder, Header { metadata, counts })
}

/// Writes the records that fit: their number, and whether any did not.
fn emit(
    encoder: &mut BinEncoder<'_>,
    records: &[Record],
    query: Option<&Query>,
) -> Result<(u16, bool), ProtoError> {
    let mut count = 0;
    for record in records {
        let start = encoder.offset();
        match emit_record(encoder, record, query) {
            Ok(()) => count += 1,
            Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                encoder.set_offset(start);
                encoder.trim();
                return Ok((count, true));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((count, false))
}

/// As hickory writes a record, but the name of the question is always a pointer: hickory stops compressing after
/// 120 names, which would cost a long answer most of its room.
fn emit_record(
    encoder: &mut BinEncoder<'_>,
    record: &Record,
    query: Option<&Query>,
) -> Result<(), ProtoError> {
    match query {
        Some(query) if !record.name.is_root() && record.name.eq_case(query.name()) => {
            encoder.emit_u16(QUESTION_POINTER)?;
        }
        _ => record.name.emit(encoder)?,
    }
    record.record_type().emit(encoder)?;
    record.dns_class.emit(encoder)?;
    encoder.emit_u32(record.ttl)?;
    let place = encoder.place::<u16>()?;
    record.data.emit(encoder)?;
    let length = encoder.len_since_place(&place);
    let length = u16::try_from(length).map_err(|_wide| "record data is longer than 65535")?;
    place.replace(encoder, length)
}

/// OPT by hand: our own size, version 0, of the flags only DO, no options.
fn emit_opt(
    encoder: &mut BinEncoder<'_>,
    code: ResponseCode,
    dnssec_ok: bool,
) -> Result<(), ProtoError> {
    encoder.emit(0)?;
    encoder.emit_u16(OPT_TYPE)?;
    encoder.emit_u16(UDP_MAX)?;
    let flags = if dnssec_ok { DNSSEC_OK } else { 0 };
    encoder.emit_u32((u32::from(code.high()) << 24) | flags)?;
    encoder.emit_u16(0)
}
