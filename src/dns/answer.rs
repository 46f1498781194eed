//! The answer to a question: a pure function of a [`RouteTable`] and the [`Zone`] options.
//!
//! Enter at [`answer`]. The `wire` module encodes the sections and limits the size of a message. This module knows
//! only the largest number of records that can fit, so that a Service with thousands of endpoints costs no more than
//! the answer that is sent.

mod lookup;
#[cfg(test)]
mod tests;

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};
use rand::Rng;

use crate::{dns::zone::Zone, route::RouteTable};
use lookup::Lookup;

/// The sections of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Response code.
    pub code: ResponseCode,
    /// Whether the question was in one of the zones served here, which sets the AA flag. The index is that of the
    /// zone in [`Zone::origins`].
    pub zone: Option<usize>,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section: the SOA of a negative answer.
    pub authorities: Vec<Record>,
    /// Additional section: the addresses of the names in the answers.
    pub additionals: Vec<Record>,
    /// The name at the end of the CNAME chain in `answers`, if it is outside the zones served here. A resolver may
    /// append its records.
    pub follow: Option<Name>,
}

impl Answer {
    pub(crate) fn empty(code: ResponseCode, zone: Option<usize>) -> Self {
        Self {
            code,
            zone,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            follow: None,
        }
    }
}

/// Answers a question with opcode QUERY. `records_max` limits the number of records that are created. It is never
/// less than what fits, so that the caller notices a truncation. `rng` shuffles the addresses of headless Services.
///
/// Questions of other classes, questions outside the zones and zone transfers are refused. Before the first sync
/// (revision 0) every question inside a zone gets a server failure, which clients retry. They would cache a name
/// error.
pub fn answer(
    query: &Query,
    table: &RouteTable,
    zone: &Zone,
    records_max: usize,
    rng: &mut impl Rng,
) -> Answer {
    let index = zone.find(query.name());
    let Some((index, origin)) = index.and_then(|index| Some((index, zone.origins.get(index)?)))
    else {
        return Answer::empty(ResponseCode::Refused, None);
    };
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if query.query_class() != DNSClass::IN || transfer {
        return Answer::empty(ResponseCode::Refused, None);
    }
    // Use the spelling of the client. It compares the case of letters (0x20), and equal names compress best.
    let origin = query.name().trim_to(origin.iter().len());
    let mut answer = Answer::empty(ResponseCode::NoError, Some(index));
    if table.revision == 0 {
        answer.code = ResponseCode::ServFail;
    } else {
        let mut lookup = Lookup::new(table, zone, &origin, records_max, rng);
        if !lookup.resolve(query.name(), query.query_type()) {
            answer.code = ResponseCode::NXDomain;
        }
        (answer.answers, answer.additionals, answer.follow) = lookup.finish();
    }
    if answer.answers.is_empty() {
        answer.authorities.extend(zone.soa(&origin, table.names.serial));
    }
    answer
}
