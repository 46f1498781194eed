//! What the answer to a question is: pure, from one [`RouteTable`] and the [`Zone`] options.
//!
//! Enter at [`answer`]. Sections and message sizes are the business of `wire`; this module only needs to know how many
//! records could fit at most, so that a service with thousands of endpoints costs no more than what is sent.

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
    /// Whether the question was in a zone of ours: the AA flag. The index is that of the zone in [`Zone::origins`].
    pub zone: Option<usize>,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section: the SOA of a negative answer.
    pub authorities: Vec<Record>,
    /// Additional section: addresses of the names in the answers.
    pub additionals: Vec<Record>,
    /// The name outside our zones where the chain of CNAMEs in `answers` ends. Who can resolve it may append its records.
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

/// Answers a question of opcode QUERY. `records_max` bounds what is made (never less than fits, so that a cut is
/// noticed); `rng` shuffles the addresses of headless services.
///
/// Other classes, other zones and zone transfers are refused; before the first sync (revision 0) everything in our
/// zones is a server failure, which clients retry, not a name error, which they keep.
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
    // Spelt as the client spelt it: what it compares with (0x20), and what compresses best.
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
