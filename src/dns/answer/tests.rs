//! The rows of the behaviour table, by number.

use std::sync::Arc;

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
};
use rand::{SeedableRng, rngs::StdRng};

use super::{Answer, answer};
use crate::{
    dns::zone::{PodRecords, Zone, absolute},
    route::{
        RouteTable,
        build::fixture::{SERIAL, table},
    },
};

const MANIFEST: &str = include_str!("tests.yaml");
/// More records than any answer here has.
const ROOM: usize = 100;

fn zone() -> Zone {
    let nameservers = vec!["127.244.0.53".parse().unwrap()];
    Zone { nameservers, ..Zone::new("cluster.local").unwrap() }
}

fn ask(table: &RouteTable, zone: &Zone, name: &str, rtype: RecordType) -> Answer {
    let query = Query::query(absolute(name).unwrap(), rtype);
    answer(&query, table, zone, ROOM, &mut StdRng::seed_from_u64(1))
}

/// Records as `OWNER TTL TYPE DATA`, with `Z.` for the cluster domain.
fn show(records: &[Record]) -> Vec<String> {
    let show = |r: &Record| format!("{} {} {} {}", r.name, r.ttl, r.record_type(), r.data);
    records.iter().map(|r| show(r).replace("cluster.local.", "Z.")).collect()
}

/// Rows are `NUMBER NAME TYPE RESULT [RECORD]`, with further records on indented lines. The result is `NODATA`,
/// `NXD`, `REFUSED`, or `=` for an answer. `Z` is the cluster domain, `@` the name of the question, `+` marks an
/// additional record.
fn check_all(table: &RouteTable, zone: &Zone, rows: &str) {
    let rows = rows.trim().replace("\n    ", "|");
    for row in rows.lines() {
        let (row, records) = row.split_once('=').map_or((row, ""), |(row, records)| (row, records));
        let words: Vec<&str> = row.split_whitespace().collect();
        let [number, name, rtype, ref result @ ..] = words[..] else { panic!("{row}") };
        let records: Vec<&str> =
            records.split('|').map(str::trim).filter(|record| !record.is_empty()).collect();
        let result = result.first().copied().unwrap_or("=");
        check(table, zone, &format!("{number} {name} {rtype}"), (name, rtype, result), &records);
    }
}

fn check(
    table: &RouteTable,
    zone: &Zone,
    what: &str,
    (name, rtype, result): (&str, &str, &str),
    records: &[&str],
) {
    let name =
        name.strip_suffix('Z').map_or_else(|| name.to_owned(), |n| format!("{n}cluster.local"));
    let rtype = rtype.parse().unwrap_or_else(|_| RecordType::from(rtype.parse::<u16>().unwrap()));
    let found = ask(table, zone, &name, rtype);
    let code = match result {
        "=" | "NODATA" => ResponseCode::NoError,
        "NXD" => ResponseCode::NXDomain,
        "REFUSED" => ResponseCode::Refused,
        other => panic!("{other}"),
    };
    assert_eq!(found.code, code, "{what}");
    let mut lines = show(&found.answers);
    lines.sort();
    let extra = show(&found.additionals);
    lines.extend(extra.into_iter().map(|line| format!("+{line}")));
    let owner = format!("{} ", name.replace("cluster.local", "Z")).replace(' ', ". ");
    let mut expected: Vec<String> = records.iter().map(|line| line.replace("@ ", &owner)).collect();
    let plain = expected.iter().take_while(|line| !line.starts_with('+')).count();
    expected[..plain].sort();
    assert_eq!(lines, expected, "{what}");
    assert_eq!(result == "=", !expected.is_empty(), "{what}: the row is consistent");
    let authority = show(&found.authorities);
    match result {
        "=" | "REFUSED" => assert_eq!(authority, [""; 0], "{what}"),
        _ => {
            let mut origin = ["in-addr.arpa.", "ip6.arpa."].into_iter();
            let name = format!("{name}.");
            let origin = origin.find(|origin| name.ends_with(origin)).unwrap_or("Z.");
            let soa = format!(
                "{origin} 30 SOA ns.dns.{origin} hostmaster.{origin} {SERIAL} 7200 1800 86400 30"
            );
            assert_eq!(authority, [soa], "{what}");
        }
    }
}

#[test]
fn structure() {
    check_all(
        &table(MANIFEST),
        &zone(),
        "
1.1 Z SOA = @ 30 SOA ns.dns.Z. hostmaster.Z. 1700000000 7200 1800 86400 30
1.2 Z NS =
    @ 30 NS kube-dns.kube-system.svc.Z.
    +kube-dns.kube-system.svc.Z. 30 A 127.96.0.10
1.3 Z A NODATA
1.3 Z AAAA NODATA
1.3 Z SRV NODATA
1.3 Z HINFO NODATA
1.4 Z TXT NODATA
1.5 ns.dns.Z A = @ 30 A 127.96.0.10
1.5 ns.dns.Z AAAA NODATA
1.6 dns.Z A NODATA
1.7 svc.Z A NODATA
1.7 pod.Z AAAA NODATA
1.7 svc.Z NS NODATA
1.8 default.svc.Z A NODATA
1.8 empty.svc.Z NS NODATA
1.8 empty.pod.Z A NODATA
1.9 absent.svc.Z A NXD
1.9 absent.pod.Z A NXD
1.10 svc.Z TXT NODATA
1.10 default.svc.Z TXT NODATA
1.11 foo.Z A NXD
1.11 a.default.foo.Z TXT NXD
1.12 web.default.svc.Z SOA NODATA
1.12 absent.default.svc.Z SOA NXD
1.13 web.default.svc.Z NS NODATA
1.13 absent.default.svc.Z NS NXD
1.14 web.default.svc.Z ANY NODATA
1.14 web.default.svc.Z HTTPS NODATA
1.14 web.default.svc.Z MX NODATA
1.14 web.default.svc.Z 65280 NODATA
1.14 absent.default.svc.Z ANY NXD
1.15 dns-version.Z TXT = @ 28800 TXT 1.1.0
1.16 dns-version.Z A NODATA
1.17 a.b.c.web.default.svc.Z A NXD
1.17 a._http._tcp.web.default.svc.Z SRV NXD
1.18 *.default.svc.Z A NXD
1.18 any.any.svc.Z A NXD
1.19 example.com A REFUSED
7.7 Z AXFR REFUSED
7.7 Z 251 REFUSED",
    );
}

#[test]
fn without_a_dns_service_the_server_names_itself() {
    check_all(
        &table("{apiVersion: v1, kind: Namespace, metadata: {name: a}}"),
        &zone(),
        "
1.2 Z NS =
    @ 30 NS ns.dns.Z.
    +ns.dns.Z. 30 A 127.244.0.53
1.2 in-addr.arpa NS =
    @ 30 NS ns.dns.Z.
    +ns.dns.Z. 30 A 127.244.0.53
1.5 ns.dns.Z A = @ 30 A 127.244.0.53
1.5 ns.dns.Z AAAA NODATA",
    );
}

#[test]
fn other_classes_are_refused() {
    let table = table(MANIFEST);
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY] {
        let mut query =
            Query::query(absolute("web.default.svc.cluster.local").unwrap(), RecordType::A);
        query.set_query_class(class);
        let found = answer(&query, &table, &zone(), ROOM, &mut StdRng::seed_from_u64(1));
        assert_eq!(found, Answer::empty(ResponseCode::Refused, None), "1.20 {class}");
    }
}

#[test]
fn cluster_ip() {
    check_all(
        &table(MANIFEST),
        &zone(),
        "
2.1 web.default.svc.Z A = @ 30 A 127.96.0.20
2.2 dual.default.svc.Z AAAA = @ 30 AAAA fd00::21
2.3 web.default.svc.Z AAAA NODATA
2.4 dual.default.svc.Z A = @ 30 A 127.96.0.21
2.4 dual.default.svc.Z SRV =
    @ 30 SRV 0 50 80 dual.default.svc.Z.
    +dual.default.svc.Z. 30 A 127.96.0.21
    +dual.default.svc.Z. 30 AAAA fd00::21
2.4 _http._tcp.dual.default.svc.Z SRV =
    @ 30 SRV 0 50 80 dual.default.svc.Z.
    +dual.default.svc.Z. 30 A 127.96.0.21
    +dual.default.svc.Z. 30 AAAA fd00::21
2.5 idle.default.svc.Z A = @ 30 A 127.96.0.22
2.6 web.default.svc.Z SRV =
    @ 30 SRV 0 33 36412 web.default.svc.Z.
    @ 30 SRV 0 33 443 web.default.svc.Z.
    @ 30 SRV 0 33 80 web.default.svc.Z.
    +web.default.svc.Z. 30 A 127.96.0.20
2.6 kube-dns.kube-system.svc.Z SRV =
    @ 30 SRV 0 33 53 kube-dns.kube-system.svc.Z.
    @ 30 SRV 0 33 9153 kube-dns.kube-system.svc.Z.
    +kube-dns.kube-system.svc.Z. 30 A 127.96.0.10
2.7 _http._tcp.web.default.svc.Z SRV =
    @ 30 SRV 0 100 80 web.default.svc.Z.
    +web.default.svc.Z. 30 A 127.96.0.20
A2 _sig._sctp.web.default.svc.Z SRV =
    @ 30 SRV 0 100 36412 web.default.svc.Z.
    +web.default.svc.Z. 30 A 127.96.0.20
2.8 _nope._tcp.web.default.svc.Z SRV NXD
2.8 _http._udp.web.default.svc.Z SRV NXD
2.8 _http.web.default.svc.Z SRV NXD
2.9 _._tcp.idle.default.svc.Z SRV NXD
2.9 idle.default.svc.Z SRV =
    @ 30 SRV 0 100 81 idle.default.svc.Z.
    +idle.default.svc.Z. 30 A 127.96.0.22
2.10 _http._tcp.web.default.svc.Z A = @ 30 A 127.96.0.20
2.10 http.tcp.web.default.svc.Z A = @ 30 A 127.96.0.20
2.11 web.default.svc.Z TXT NODATA
2.11 web.default.svc.Z CNAME NODATA
2.11 web.default.svc.Z PTR NODATA
2.12 127-244-0-5.web.default.svc.Z A = @ 30 A 127.244.0.5
2.12 127-244-0-5.web.default.svc.Z SRV =
    @ 30 SRV 0 100 8080 127-244-0-5.web.default.svc.Z.
    +127-244-0-5.web.default.svc.Z. 30 A 127.244.0.5
2.13 bogus.web.default.svc.Z A NXD
2.14 absent.default.svc.Z A NXD
2.14 web.absent.svc.Z TXT NXD",
    );
}

#[test]
fn headless_addresses() {
    check_all(
        &table(MANIFEST),
        &zone(),
        "
3.1 db.default.svc.Z A =
    @ 30 A 127.244.0.7
    @ 30 A 127.244.0.8
3.1 db.default.svc.Z AAAA = @ 30 AAAA fd00::7
3.2 bare.default.svc.Z AAAA NODATA
3.3 unready.default.svc.Z A NXD
3.3 unready.default.svc.Z AAAA NXD
3.3 unready.default.svc.Z SRV NXD
3.3 unready.default.svc.Z TXT NXD
3.4 db.default.svc.Z TXT NODATA
3.5 127-244-0-9.bare.default.svc.Z A = @ 30 A 127.244.0.9
3.5 fd00--0.six.default.svc.Z AAAA = @ 30 AAAA fd00::
3.6 db-0.db.default.svc.Z A = @ 30 A 127.244.0.7
3.6 twin.twins.default.svc.Z A =
    @ 30 A 127.244.1.1
    @ 30 A 127.244.1.2
3.7 db-1.db.default.svc.Z AAAA NODATA
3.8 db-2.db.default.svc.Z A NXD
2.10 _sql._tcp.db.default.svc.Z A =
    @ 30 A 127.244.0.7
    @ 30 A 127.244.0.8
3.12 bare.default.svc.Z A = @ 30 A 127.244.0.9
3.12 bare.default.svc.Z SRV NODATA
3.12 _a._tcp.bare.default.svc.Z SRV NXD",
    );
}

#[test]
fn headless_services_by_port() {
    check_all(
        &table(MANIFEST),
        &zone(),
        "
3.9 _sql._tcp.db.default.svc.Z SRV =
    @ 30 SRV 0 33 15432 db-0.db.default.svc.Z.
    @ 30 SRV 0 33 15432 db-1.db.default.svc.Z.
    +db-0.db.default.svc.Z. 30 A 127.244.0.7
    +db-0.db.default.svc.Z. 30 AAAA fd00::7
    +db-1.db.default.svc.Z. 30 A 127.244.0.8
3.11 db.default.svc.Z SRV =
    @ 30 SRV 0 33 15432 db-0.db.default.svc.Z.
    @ 30 SRV 0 33 15432 db-1.db.default.svc.Z.
    +db-0.db.default.svc.Z. 30 A 127.244.0.7
    +db-0.db.default.svc.Z. 30 AAAA fd00::7
    +db-1.db.default.svc.Z. 30 A 127.244.0.8
3.11 db-1.db.default.svc.Z SRV =
    @ 30 SRV 0 100 15432 db-1.db.default.svc.Z.
    +db-1.db.default.svc.Z. 30 A 127.244.0.8
3.9 _x._tcp.twins.default.svc.Z SRV =
    @ 30 SRV 0 50 90 twin.twins.default.svc.Z.
    +twin.twins.default.svc.Z. 30 A 127.244.1.1
    +twin.twins.default.svc.Z. 30 A 127.244.1.2",
    );
}

#[test]
fn headless_addresses_come_in_any_order_and_srv_does_not() {
    let table = table(MANIFEST);
    let mut rng = StdRng::seed_from_u64(7);
    let mut orders = |rtype| {
        let query = Query::query(absolute("db.default.svc.cluster.local").unwrap(), rtype);
        let seen = (0..50).map(|_| show(&answer(&query, &table, &zone(), ROOM, &mut rng).answers));
        let mut seen: Vec<_> = seen.collect();
        seen.sort();
        seen.dedup();
        seen.len()
    };
    assert_eq!((orders(RecordType::A), orders(RecordType::SRV)), (2, 1), "3.14");
}

#[test]
fn external_names() {
    check_all(
        &table(MANIFEST),
        &zone(),
        "
4.1 out.default.svc.Z CNAME = @ 30 CNAME db.example.com.
4.2 out.default.svc.Z A = @ 30 CNAME db.example.com.
4.5 alias.default.svc.Z A =
    @ 30 CNAME web.default.svc.Z.
    web.default.svc.Z. 30 A 127.96.0.20
4.5 second.default.svc.Z A =
    @ 30 CNAME alias.default.svc.Z.
    alias.default.svc.Z. 30 CNAME web.default.svc.Z.
    web.default.svc.Z. 30 A 127.96.0.20
4.5 alias.default.svc.Z AAAA NODATA
4.6 dangling.default.svc.Z A NODATA
4.6 dangling.default.svc.Z CNAME = @ 30 CNAME no.default.svc.Z.
4.7 loop.default.svc.Z A NODATA
4.7 ping.default.svc.Z AAAA NODATA
4.8 literal.default.svc.Z A NXD
4.8 literal.default.svc.Z CNAME NXD
4.9 x.out.default.svc.Z A NXD
4.9 _http._tcp.out.default.svc.Z SRV NXD
4.10 out.default.svc.Z SRV NODATA
4.11 out.default.svc.Z TXT NODATA",
    );
    let found = ask(&table(MANIFEST), &zone(), "out.default.svc.cluster.local", RecordType::A);
    assert_eq!(found.follow, Some(absolute("db.example.com").unwrap()));
    let found = ask(&table(MANIFEST), &zone(), "second.default.svc.cluster.local", RecordType::A);
    assert_eq!(found.follow, None);
    assert_eq!(show(&found.answers)[2], "web.default.svc.Z. 30 A 127.96.0.20", "aliases first");
}

#[test]
fn pods() {
    let table = table(MANIFEST);
    check_all(
        &table,
        &zone(),
        "
5.2 1-2-3-4.default.pod.Z A = @ 30 A 1.2.3.4
5.3 1-2-3-4.absent.pod.Z A NXD
5.4 blah.default.pod.Z A NXD
5.4 blah.default.pod.Z TXT NXD
5.5 1-2-3-4.default.pod.Z AAAA NODATA
5.6 1234-abcd--1.default.pod.Z AAAA = @ 30 AAAA 1234:abcd::1
5.8a 1-2-3-4.default.pod.Z SRV NODATA
5.8b x.1-2-3-4.default.pod.Z A NXD
5.8b x.y.1-2-3-4.default.pod.Z A NXD",
    );
    check_all(
        &table,
        &Zone { pods: PodRecords::Disabled, ..zone() },
        "
5.1 1-2-3-4.default.pod.Z A NXD
1.8 default.pod.Z A NXD
1.7 pod.Z A NODATA",
    );
}

#[test]
fn reverse() {
    check_all(
        &table(MANIFEST),
        &zone(),
        "
6.1 20.0.96.127.in-addr.arpa PTR = @ 30 PTR web.default.svc.Z.
6.2 7.0.244.127.in-addr.arpa PTR =
    @ 30 PTR 127-244-0-7.shared.default.svc.Z.
    @ 30 PTR db-0.db.default.svc.Z.
6.3 1.1.1.10.in-addr.arpa PTR NXD
6.3 4.0.244.127.in-addr.arpa PTR NXD
6.3 x.0.244.127.in-addr.arpa PTR NXD
6.5 20.0.96.127.in-addr.arpa A NODATA
6.5 20.0.96.127.in-addr.arpa TXT NODATA
6.5 1.1.1.10.in-addr.arpa TXT NXD
6.5 96.127.in-addr.arpa PTR NODATA
6.5 10.in-addr.arpa PTR NXD
6.6 web.default.svc.Z PTR NODATA
6.6 absent.default.svc.Z PTR NXD
6.8 1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR = @ 30 PTR dual.default.svc.Z.
6.8 d.f.ip6.arpa PTR NODATA
1.1 in-addr.arpa A NODATA",
    );
}

#[test]
fn before_the_first_sync_nothing_is_denied() {
    for (name, code) in [
        ("web.default.svc.cluster.local", ResponseCode::ServFail),
        ("20.0.96.127.in-addr.arpa", ResponseCode::ServFail),
        ("example.com", ResponseCode::Refused),
    ] {
        let found = ask(&RouteTable::default(), &zone(), name, RecordType::A);
        assert_eq!(found.code, code, "7.4 {name}");
        assert_eq!(found.authorities.len(), usize::from(code == ResponseCode::ServFail));
    }
}

#[test]
fn case_is_ignored_and_echoed() {
    let table: Arc<RouteTable> = table(MANIFEST);
    let found = ask(&table, &zone(), "WEB.Default.svc.Cluster.LOCAL", RecordType::A);
    assert_eq!(show(&found.answers), ["WEB.Default.svc.Cluster.LOCAL. 30 A 127.96.0.20"]);
    let found = ask(&table, &zone(), "_HTTP._tcp.Web.default.svc.Cluster.LOCAL", RecordType::SRV);
    let target = "web.default.svc.Cluster.LOCAL.";
    assert!(show(&found.answers)[0].ends_with(&format!("SRV 0 100 80 {target}")), "8.1");
    assert_eq!(show(&found.additionals), [format!("{target} 30 A 127.96.0.20")]);
    let found = ask(&table, &zone(), "NO.default.svc.Cluster.LOCAL", RecordType::A);
    assert!(show(&found.authorities)[0].starts_with("Cluster.LOCAL. "), "8.1");
}

#[test]
fn ttl_and_soa_follow_the_options() {
    let zone = Zone { ttl: 3600, ..zone() };
    let table = table(MANIFEST);
    let found = ask(&table, &zone, "web.default.svc.cluster.local", RecordType::A);
    assert_eq!(found.answers[0].ttl, 3600);
    let found = ask(&table, &zone, "web.default.svc.cluster.local", RecordType::AAAA);
    assert_eq!(found.authorities[0].ttl, 300, "8.7: min(T, 300)");
    assert!(show(&found.authorities)[0].ends_with(" 3600"), "8.7: MINIMUM is T");
}

#[test]
fn only_what_could_fit_is_made() {
    let addresses: Vec<String> =
        (0..2000).map(|i| format!("{{addresses: [127.1.{}.{}]}}", i / 250, i % 250)).collect();
    let manifest = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: big}}, spec: {{clusterIP: None, clusterIPs: [None]}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
  metadata: {{name: big, labels: {{kubernetes.io/service-name: big}}}},
  ports: [{{name: x, port: 80}}], endpoints: [{}]}}",
        addresses.join(", ")
    );
    let table = table(&manifest);
    for rtype in [RecordType::A, RecordType::SRV] {
        let found = ask(&table, &zone(), "big.default.svc.cluster.local", rtype);
        assert_eq!(found.answers.len(), ROOM, "{rtype}");
        assert!(found.additionals.len() <= ROOM);
    }
}
