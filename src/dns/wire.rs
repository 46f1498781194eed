//! Packets: parses a request, gets its answer, and encodes the response within the size that the client accepts.
//!
//! Enter at [`respond`]. hickory-server parses requests, hickory-proto encodes records and names. The order of
//! sections is implemented here, because hickory-server's `MessageResponse` drops OPT if the answer is truncated,
//! marks an answer as truncated if only additional records do not fit, continues with later sections after a
//! truncation, and compresses only 120 names.

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

/// The transport of a packet. It decides how large an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The data about an answer that the metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handled {
    /// The index of the zone; `None` for a question outside all zones.
    pub(crate) zone: Option<usize>,
    pub(crate) rtype: RecordType,
    pub(crate) code: ResponseCode,
}

/// A UDP message without EDNS (RFC 1035, section 2.3.4).
const UDP_PLAIN_MAX: u16 = 512;
/// The largest UDP message that is sent, also to clients that accept more. It passes any path without fragmentation
/// (DNS flag day 2020).
const UDP_MAX: u16 = 1232;
const HEADER_LENGTH: usize = 12;
/// hickory's parser requires the address of the client. No answer depends on it.
const ANYBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
/// The length of an OPT record without options.
const OPT_LENGTH: u16 = 11;
const OPT_TYPE: u16 = 41;
const DNSSEC_OK: u32 = 1 << 15;
/// The length of the shortest record: a pointer to a name, type, class, TTL, length and an IPv4 address.
const RECORD_LENGTH_MIN: u16 = 16;
/// A pointer to the name of the question, which follows the header.
const QUESTION_POINTER: u16 = 0xC000 | 12;
/// The flag that marks a response (QR).
const RESPONSE: u8 = 0x80;

/// Answers one packet. Clears `out` and writes the response into it. Returns `None`, and nothing is sent, for a short
/// packet and for a response: two servers could answer each other without end.
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

/// A server failure without sections, for a request whose answer failed.
pub(crate) fn fail(packet: &[u8], out: &mut Vec<u8>) -> Option<Handled> {
    out.clear();
    let [id_high, id_low, flags, ..] = *packet.get(..HEADER_LENGTH)? else { return None };
    // Opcode and RD are copied from the request. The sections are empty.
    out.extend([id_high, id_low, RESPONSE | (flags & 0x79), ResponseCode::ServFail.low()]);
    out.resize(HEADER_LENGTH, 0);
    Some(Handled { zone: None, rtype: RecordType::ZERO, code: ResponseCode::ServFail })
}

/// The parts of a request that could be read.
struct Request {
    metadata: Metadata,
    query: Option<Query>,
    edns: Option<Edns>,
    /// The response code if the request is refused.
    refusal: Option<ResponseCode>,
}

impl Request {
    /// The header is checked first. A request with another opcode is refused whatever follows, and a packet that
    /// claims to have thousands of questions must not use memory.
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

/// Answer and authority records that do not fit are left out, and the response is marked as truncated. The additional
/// section contains only what fits. OPT always fits (RFC 6891, section 7).
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

/// Writes the records that fit. Returns their number, and whether some did not fit.
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

/// Writes a record as hickory does, but always compresses the name of the question. hickory stops compressing after
/// 120 names, so a long answer would hold far fewer records.
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

/// Writes OPT: the UDP size of this server, version 0, the DO flag of the client, no options.
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
