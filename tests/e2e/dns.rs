//! Cluster DNS as dig sees it: the rows of the behaviour table, over UDP and over TCP.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream, UdpSocket},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::{Cluster, names},
    tools::{Tool, can_use},
};

/// What is expected of a question.
enum Expected {
    /// These records, `TTL TYPE DATA`, in any order; owner is the name that was asked for.
    Records(Vec<String>),
    /// NOERROR, no record, an SOA beside.
    NoData,
    /// NXDOMAIN, an SOA beside.
    NoName,
}

/// An answer as dig prints it.
#[derive(Debug)]
struct Answer {
    status: String,
    flags: String,
    answer: Vec<String>,
    authority: Vec<String>,
    additional: Vec<String>,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let field = |name: &str, end: char| {
            let rest = text.split_once(name).map(|(_, rest)| rest).unwrap_or_default();
            rest.split(end).next().unwrap_or_default().trim().to_owned()
        };
        let section = |name: &str| {
            let heading = format!(";; {name} SECTION:\n");
            let rest = text.split_once(&heading).map(|(_, rest)| rest).unwrap_or_default();
            let lines = rest.lines().take_while(|line| !line.is_empty());
            let mut lines: Vec<String> =
                lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            lines.sort();
            lines
        };
        Self {
            status: field("status: ", ','),
            flags: field("flags: ", ';'),
            answer: section("ANSWER"),
            authority: section("AUTHORITY"),
            additional: section("ADDITIONAL"),
        }
    }
}

const SOA: &str = " IN SOA ns.dns.cluster.local. hostmaster.cluster.local. ";
/// The transports.
const TRANSPORTS: [&str; 2] = ["+notcp", "+tcp"];

fn ask(cluster: &Cluster, question: &str) -> Answer {
    Answer::parse(&cluster.dig(question))
}

/// Asks `NAME TYPE` over both transports.
fn check(cluster: &Cluster, question: &str, expected: &Expected) {
    for transport in TRANSPORTS {
        let Answer { status, flags, answer, authority, .. } =
            &ask(cluster, &format!("{transport} {question}"));
        let case = format!("{question} {transport}: {status} {answer:?} {authority:?}");
        assert!(flags.split(' ').any(|flag| flag == "aa"), "authoritative: {flags}: {case}");
        let name = question.split(' ').next().expect("a name").trim_end_matches('.');
        let empty = |status_expected: &str| {
            assert_eq!(status, status_expected, "{case}");
            assert!(answer.is_empty(), "{case}");
            assert!(authority.len() == 1 && authority[0].contains(" SOA "), "{case}");
        };
        match expected {
            Expected::NoData => empty("NOERROR"),
            Expected::NoName => empty("NXDOMAIN"),
            Expected::Records(records) => {
                let owned = |record: &String| record.replacen(' ', " IN ", 1);
                let mut records: Vec<String> =
                    records.iter().map(|record| format!("{name}. {}", owned(record))).collect();
                records.sort();
                assert_eq!(status, "NOERROR", "{case}");
                assert_eq!(*answer, records, "{case}");
            }
        }
    }
}

fn records(records: &[&str]) -> Expected {
    Expected::Records(records.iter().map(|&record| record.to_owned()).collect())
}

/// A cluster with the example manifests, and what is needed to write expectations.
struct Names {
    cluster: Cluster,
    payment: String,
}

impl Names {
    fn start() -> Self {
        let cluster = Cluster::start();
        for name in ["01-clusterip", "02-service-types", "03-statefulset", "05-multi-port"] {
            cluster.kubectl(&format!("apply -f tests/manifests/{name}.yaml"));
        }
        cluster.endpoints_ready("production/payment-service", 3);
        cluster.endpoints_ready("postgres", 3);
        let payment = cluster.cluster_ip("production/payment-service");
        Self { cluster, payment }
    }

    fn check(&self, question: &str, expected: &Expected) {
        check(&self.cluster, question, expected);
    }

    fn postgres_addresses(&self) -> Vec<String> {
        let ips =
            self.cluster.kubectl("get pods -l app=postgres -o jsonpath={.items[*].status.podIP}");
        ips.split(' ').map(str::to_owned).collect()
    }
}

#[test]
fn apex_and_structural_names() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let names = Names::start();
    for transport in TRANSPORTS {
        let apex = ask(&names.cluster, &format!("{transport} cluster.local SOA"));
        assert_eq!(apex.answer.len(), 1, "1.1: {apex:?}");
        assert!(apex.answer[0].starts_with(&format!("cluster.local. 30{SOA}")), "1.1: {apex:?}");
        assert!(apex.answer[0].ends_with(" 7200 1800 86400 30"), "1.1: {apex:?}");
        let servers = ask(&names.cluster, &format!("{transport} cluster.local NS"));
        assert_eq!(servers.answer.len(), 1, "1.2: {servers:?}");
        assert!(servers.answer[0].contains(" IN NS "), "1.2: {servers:?}");
        assert!(
            servers.additional.iter().any(|glue| glue.contains(" IN A 127.")),
            "1.2: {servers:?}"
        );
        let glue = ask(&names.cluster, &format!("{transport} ns.dns.cluster.local A"));
        assert!(!glue.answer.is_empty(), "1.5: {glue:?}");
        for class in ["CH", "HS"] {
            let refused = ask(&names.cluster, &format!("{transport} -c {class} cluster.local A"));
            assert_eq!(refused.status, "REFUSED", "1.20");
        }
        let refused = ask(&names.cluster, &format!("{transport} example.test A"));
        assert_eq!(refused.status, "REFUSED", "1.19");
    }
    let no_data = [
        "cluster.local A",
        "cluster.local AAAA",
        "cluster.local SRV",
        "cluster.local HINFO",
        "cluster.local TXT",
        "ns.dns.cluster.local AAAA",
        "dns.cluster.local A",
        "svc.cluster.local A",
        "pod.cluster.local AAAA",
        "svc.cluster.local NS",
        "svc.cluster.local TXT",
        "production.svc.cluster.local A",
        "production.pod.cluster.local A",
        "default.svc.cluster.local TXT",
        "svc.cluster.local SOA",
        "production.svc.cluster.local NS",
        "payment-service.production.svc.cluster.local ANY",
        "payment-service.production.svc.cluster.local TYPE65",
        "payment-service.production.svc.cluster.local CAA",
        "payment-service.production.svc.cluster.local MX",
        "dns-version.cluster.local A",
    ];
    for question in no_data {
        names.check(question, &Expected::NoData);
    }
    let no_name = [
        "absent.svc.cluster.local A",
        "absent.pod.cluster.local A",
        "foo.cluster.local A",
        "foo.cluster.local TXT",
        "absent.default.svc.cluster.local SOA",
        "absent.default.svc.cluster.local NS",
        "absent.default.svc.cluster.local TYPE65",
        "a.b.c.kubernetes.default.svc.cluster.local A",
        "*.default.svc.cluster.local A",
        "any.default.svc.cluster.local A",
    ];
    for question in no_name {
        names.check(question, &Expected::NoName);
    }
    for transport in TRANSPORTS {
        let version = ask(&names.cluster, &format!("{transport} dns-version.cluster.local TXT"));
        assert!(version.answer[0].ends_with(" IN TXT \"1.1.0\""), "1.15: {version:?}");
    }
}

#[test]
fn services_with_an_address() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let names = Names::start();
    let ip = names.payment.clone();
    let service = "payment-service.production.svc.cluster.local";
    names.check(&format!("{service} A"), &records(&[&format!("30 A {ip}")]));
    names.check(&format!("{service} AAAA"), &Expected::NoData);
    let empty = names.cluster.cluster_ip("internal-api");
    let internal = "internal-api.default.svc.cluster.local A";
    names.check(internal, &records(&[&format!("30 A {empty}")]));
    for name in ["nodeport-api", "public-api"] {
        let ip = names.cluster.cluster_ip(name);
        let question = format!("{name}.default.svc.cluster.local A");
        names.check(&question, &records(&[&format!("30 A {ip}")]));
    }
    let srv = |weight: u32, port: u16| format!("30 SRV 0 {weight} {port} {service}.");
    let both = [srv(50, 80), srv(50, 9000)];
    names.check(&format!("{service} SRV"), &Expected::Records(both.to_vec()));
    for (port, number) in [("http", 80), ("grpc", 9000)] {
        let name = format!("_{port}._tcp.{service}");
        names.check(&format!("{name} SRV"), &Expected::Records(vec![srv(100, number)]));
        names.check(&format!("{name} A"), &records(&[&format!("30 A {ip}")]));
        for transport in TRANSPORTS {
            let answer = ask(&names.cluster, &format!("{transport} {name} SRV"));
            assert_eq!(answer.additional, [format!("{service}. 30 IN A {ip}")], "glue of {name}");
        }
    }
    let multi = "multi-protocol-service.default.svc.cluster.local";
    let ports = [80, 443, 9000, 9090].map(|port| format!("30 SRV 0 25 {port} {multi}."));
    names.check(&format!("{multi} SRV"), &Expected::Records(ports.to_vec()));
    let https = format!("30 SRV 0 100 443 {multi}.");
    names.check(&format!("_https._tcp.{multi} SRV"), &records(&[&https]));
    for question in ["TXT", "CNAME", "MX", "PTR", "HTTPS"] {
        names.check(&format!("{service} {question}"), &Expected::NoData);
    }
    for name in [
        format!("_absent._tcp.{service}"),
        format!("_http._udp.{service}"),
        format!("bogus.{service}"),
        "absent.production.svc.cluster.local".to_owned(),
        "payment-service.absent.svc.cluster.local".to_owned(),
    ] {
        for kind in ["A", "SRV", "TXT"] {
            names.check(&format!("{name} {kind}"), &Expected::NoName);
        }
    }
    let upper = ask(&names.cluster, "PAYMENT-service.Production.SVC.cluster.LOCAL A");
    let owner = "PAYMENT-service.Production.SVC.cluster.LOCAL. 30 IN A ";
    assert_eq!(upper.answer, [format!("{owner}{ip}")], "8.1: any case, and echoed");
}

#[test]
fn headless_services() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let names = Names::start();
    let service = "postgres.default.svc.cluster.local";
    let ips = names.postgres_addresses();
    assert_eq!(ips.len(), 3);
    let all = ips.iter().map(|ip| format!("30 A {ip}")).collect();
    names.check(&format!("{service} A"), &Expected::Records(all));
    names.check(&format!("{service} AAAA"), &Expected::NoData);
    for (ordinal, ip) in ips.iter().enumerate() {
        let name = format!("postgres-{ordinal}.{service}");
        names.check(&format!("{name} A"), &records(&[&format!("30 A {ip}")]));
        names.check(&format!("{name} AAAA"), &Expected::NoData);
        let srv = format!("30 SRV 0 100 5432 {name}.");
        names.check(&format!("{name} SRV"), &records(&[&srv]));
    }
    let each: Vec<String> =
        (0..3).map(|i| format!("30 SRV 0 33 5432 postgres-{i}.{service}.")).collect();
    names.check(&format!("{service} SRV"), &Expected::Records(each.clone()));
    names.check(&format!("_postgres._tcp.{service} SRV"), &Expected::Records(each));
    for transport in TRANSPORTS {
        let answer = ask(&names.cluster, &format!("{transport} _postgres._tcp.{service} SRV"));
        assert_eq!(answer.additional.len(), 3, "glue of each target: {answer:?}");
    }
    // No endpoint at all: no name.
    for kind in ["A", "AAAA", "SRV", "TXT"] {
        names.check(
            &format!("database-headless.default.svc.cluster.local {kind}"),
            &Expected::NoName,
        );
    }
    names.check(&format!("postgres-9.{service} A"), &Expected::NoName);
    // A pod that is not ready has no name, unless that is asked for.
    names.cluster.kubectl("annotate pod postgres-1 snowglobe.dev/ready=false");
    names.cluster.endpoints_ready("postgres", 2);
    names.check(&format!("postgres-1.{service} A"), &Expected::NoName);
    let two = [&ips[0], &ips[2]].map(|ip| format!("30 A {ip}"));
    names.check(&format!("{service} A"), &Expected::Records(two.to_vec()));
    names
        .cluster
        .kubectl("patch service postgres -p {\"spec\":{\"publishNotReadyAddresses\":true}}");
    names.cluster.endpoints_ready("postgres", 3);
    names.check(&format!("postgres-1.{service} A"), &records(&[&format!("30 A {}", ips[1])]));
}

#[test]
fn headless_services_without_hostnames() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create deployment web --image=web --port=8080 --replicas=2");
    cluster.kubectl("expose deployment web --cluster-ip=None --port=80 --target-port=8080");
    cluster.endpoints_ready("web", 2);
    let service = "web.default.svc.cluster.local";
    let ips = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].status.podIP}");
    let hosts: Vec<String> = ips.split(' ').map(|ip| ip.replace('.', "-")).collect();
    // 3.10: the number is the endpoint's, not the service's.
    let srv = hosts.iter().map(|host| format!("30 SRV 0 50 8080 {host}.{service}.")).collect();
    check(&cluster, &format!("{service} SRV"), &Expected::Records(srv));
    for (host, ip) in hosts.iter().zip(ips.split(' ')) {
        check(&cluster, &format!("{host}.{service} A"), &records(&[&format!("30 A {ip}")]));
    }
    // By hand, without a selector and without ports.
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: manual}, spec: {clusterIP: None}}\n---\n\
         {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {name: manual-1, labels: {kubernetes.io/service-name: manual}}, \
         endpoints: [{addresses: [127.0.0.9], hostname: one}], ports: []}\n",
    );
    let manual = "manual.default.svc.cluster.local";
    check(&cluster, &format!("{manual} A"), &records(&["30 A 127.0.0.9"]));
    check(&cluster, &format!("one.{manual} A"), &records(&["30 A 127.0.0.9"]));
    check(&cluster, &format!("{manual} SRV"), &Expected::NoData);
}

#[test]
fn reverse_names() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let names = Names::start();
    let reverse = |ip: &str| {
        let mut parts: Vec<&str> = ip.split('.').collect();
        parts.reverse();
        format!("{}.in-addr.arpa", parts.join("."))
    };
    let service = "payment-service.production.svc.cluster.local.";
    names.check(
        &format!("{} PTR", reverse(&names.payment)),
        &records(&[&format!("30 PTR {service}")]),
    );
    let name = reverse(&names.payment);
    names.check(&format!("{name} A"), &Expected::NoData);
    for (ordinal, ip) in names.postgres_addresses().iter().enumerate() {
        let target = format!("30 PTR postgres-{ordinal}.postgres.default.svc.cluster.local.");
        names.check(&format!("{} PTR", reverse(ip)), &records(&[&target]));
    }
    let pod = names.cluster.json("get pods -n production")["items"][0]["status"]["podIP"].clone();
    let ip = pod.as_str().expect("an address");
    let target = format!("30 PTR {}.{service}", ip.replace('.', "-"));
    names.check(&format!("{} PTR", reverse(ip)), &records(&[&target]));
    let unknown = reverse(&names.cluster.place.free_address().to_string());
    names.check(&format!("{unknown} PTR"), &Expected::NoName);
    names.check("payment-service.production.svc.cluster.local PTR", &Expected::NoData);
    names.check("absent.production.svc.cluster.local PTR", &Expected::NoName);
}

#[test]
fn answers_follow_writes_at_once() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    for turn in 0..5 {
        let name = format!("web-{turn}.default.svc.cluster.local");
        assert!(cluster.addresses_of(&name).is_empty());
        cluster.kubectl(&format!("create service clusterip web-{turn} --tcp=80:8080"));
        assert_eq!(cluster.addresses_of(&name).len(), 1, "turn {turn}");
        cluster.kubectl(&format!("delete service web-{turn}"));
        assert!(cluster.addresses_of(&name).is_empty(), "turn {turn}");
    }
}

#[test]
fn truncation_edns_and_malformed_questions() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    let addresses: Vec<String> =
        (1..=60).map(|i| format!("{{addresses: [127.1.0.{i}]}}")).collect();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: many}}, spec: {{clusterIP: None}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: many-1, labels: {{kubernetes.io/service-name: many}}}}, endpoints: [{}], ports: []}}\n",
        addresses.join(", ")
    ));
    let question = "many.default.svc.cluster.local A";
    let small = ask(&cluster, &format!("+noedns +ignore {question}"));
    assert!(small.flags.contains("tc") && small.answer.len() < 60, "8.3: {small:?}");
    let large = ask(&cluster, &format!("+bufsize=1232 +ignore {question}"));
    assert!(!large.flags.contains("tc") && large.answer.len() == 60, "8.3: {large:?}");
    let tcp = ask(&cluster, &format!("+noedns +tcp {question}"));
    assert_eq!(tcp.answer.len(), 60, "8.4");
    let with = cluster.dig(&format!("+bufsize=512 +ignore {question}"));
    assert!(with.contains("OPT PSEUDOSECTION"), "8.2 and 8.3: OPT survives truncation: {with}");
    assert!(!cluster.dig(&format!("+noedns +tcp {question}")).contains("OPT PSEUDOSECTION"), "8.2");
    let version = ask(&cluster, &format!("+edns=1 +noednsnegotiation {question}"));
    assert_eq!(version.status, "BADVERS", "7.9");
    for (opcode, status) in [("NOTIFY", "NOTIMP"), ("STATUS", "NOTIMP")] {
        let answer = ask(&cluster, &format!("+opcode={opcode} {question}"));
        assert_eq!(answer.status, status, "8.6a {opcode}");
    }
    let transfer = cluster.dig("cluster.local AXFR");
    assert!(transfer.contains("Transfer failed"), "7.7: {transfer}");

    // Two questions, as no ordinary client sends them.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid time");
    let mut message = vec![0x12, 0x34, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    for _ in 0..2 {
        message.extend_from_slice(b"\x07cluster\x05local\x00\x00\x01\x00\x01");
    }
    socket.send_to(&message, &cluster.line.dns).expect("the server is there");
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("an answer");
    assert!(length >= 12 && answer[..2] == message[..2], "{:?}", &answer[..length]);
    assert_eq!(answer[3] & 0x0f, 1, "1.21: FORMERR");
}

#[test]
fn names_of_a_deployment_s_pods_follow_it() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let names_before = Names::start();
    let cluster = &names_before.cluster;
    let pods = names(&cluster.json("get pods -l app=postgres"));
    cluster.kubectl(&format!("delete pod {}", pods[2]));
    cluster.endpoints_ready("postgres", 3);
    let mut now = names_before.postgres_addresses();
    now.sort();
    assert_eq!(cluster.addresses_of("postgres.default.svc.cluster.local"), now);
}

#[test]
fn silent_connections_do_not_keep_others_out() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    let connect = |nth: usize| {
        let mut stream = TcpStream::connect(&cluster.line.dns).expect("the server listens");
        if nth.is_multiple_of(2) {
            stream.write_all(&[0, 40, 1]).expect("the kernel takes it");
        }
        stream
    };
    let silent: Vec<TcpStream> = (0..700).map(connect).collect();
    for _ in 0..5 {
        let name = "kubernetes.default.svc.cluster.local";
        assert_eq!(cluster.dig(&format!("+tcp +tries=1 +short {name}")).lines().count(), 1);
    }
    drop(silent);
}

#[test]
fn malformed_packets_do_not_disturb_the_end() {
    let mut cluster = Cluster::start();
    let header = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    for malformed in [&b""[..], b"x", &[0; 12], &[0xFF; 600], header, &header[..6]] {
        // The kernel chooses one of the server's sockets by the client's port.
        for _ in 0..16 {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            client.send_to(malformed, &cluster.line.dns).expect("the server listens");
        }
        let mut client = TcpStream::connect(&cluster.line.dns).expect("the server listens");
        let length = u16::try_from(malformed.len()).expect("short").to_be_bytes();
        client.write_all(&[&length, malformed].concat()).expect("the server reads");
        client.shutdown(Shutdown::Write).expect("it is open");
        // Refused or not: the end shows that it was looked at.
        client.read_to_end(&mut Vec::new()).expect("the server closes");
    }
    let begun = Instant::now();
    cluster.stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let log = cluster.log();
    assert!(!log.contains("panic") && !log.contains("cleanly"), "{log}");
}
