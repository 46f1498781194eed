//! Request bodies: an answer that comes before the body is read is not lost, packed bodies are unpacked, and stalled
//! ones hold no place.

use std::{io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    place::Place,
    tools::{self, Ran, Tool, can_use},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2"];
const TOKEN: &str = "Authorization: Bearer t0ken";
const JSON: &str = "Content-Type: application/json";

fn start() -> Cluster {
    let place = Place::new();
    let tokens = place.file("tokens.csv", "t0ken,ann,u1\n");
    let tokens = format!("--token-auth-file={}", tokens.display());
    Cluster::start_at(place, &["--store=memory", &tokens])
}

/// `curl` that posts a file; what comes out ends with the status.
fn post(cluster: &Cluster, path: &str, protocol: &str, headers: &[&str], body: &Path) -> Ran {
    let mut curl = Tool::Curl.command();
    curl.args(["--silent", "--show-error", "--insecure", "--max-time", "60", "--noproxy", "*"]);
    curl.args(["--write-out", "\n%{http_code}", protocol]);
    for header in headers {
        curl.args(["--header", header]);
    }
    curl.arg("--data-binary").arg(format!("@{}", body.display()));
    curl.arg(format!("{}{path}", cluster.line.api));
    tools::run(curl)
}

/// The status, and the message of the `Status`.
fn told(answer: &str) -> (String, String) {
    let (body, code) = answer.rsplit_once('\n').expect("a body and a code");
    let body: Value =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    (code.to_owned(), body["message"].as_str().unwrap_or_default().to_owned())
}

fn map(name: &str, bytes: usize) -> String {
    json!({"metadata": {"name": name}, "data": {"a": "x".repeat(bytes)}}).to_string()
}

#[test]
fn an_answer_before_the_body_is_read_arrives() {
    const TRIES: usize = 6;
    if !can_use(&[Tool::Curl]) {
        return;
    }
    let cluster = start();
    let middle = cluster.place.file("middle", &map("a", 900 * 1024));
    let large = cluster.place.file("large", &map("a", 4 * 1024 * 1024));
    let cases: [(&str, &[&str], &Path, &str); 7] = [
        (MAPS, &["Authorization: Bearer wrong", JSON], &middle, "401"),
        ("/api/v1/nothing", &[TOKEN, JSON], &middle, "404"),
        ("/nothing", &[TOKEN, JSON], &middle, "404"),
        (MAPS, &[TOKEN, JSON, "Content-Encoding: br"], &middle, "415"),
        (MAPS, &[TOKEN, JSON, "Host: evil.example"], &middle, "403"),
        (MAPS, &[TOKEN, JSON, "Expect:"], &large, "413"),
        (MAPS, &[TOKEN, JSON], &large, "413"),
    ];
    for protocol in PROTOCOLS {
        for (path, headers, body, code) in cases {
            for _ in 0..TRIES {
                let answer = post(&cluster, path, protocol, headers, body).succeeded();
                assert_eq!(told(&answer).0, code, "{protocol} {path} {headers:?}: {answer}");
            }
        }
        let created = map(&format!("fine{}", protocol.replace(['-', '.'], "")), 900 * 1024);
        let created = cluster.place.file("fine", &created);
        let answer = post(&cluster, MAPS, protocol, &[TOKEN, JSON], &created).succeeded();
        assert_eq!(told(&answer).0, "201", "{answer}");
    }
}

#[test]
fn packed_bodies_are_unpacked_within_bounds() {
    if !can_use(&[Tool::Curl]) {
        return;
    }
    let cluster = start();
    let packed = |name: &str, bytes: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes).expect("a Vec takes everything");
        let path = cluster.place.home().join(name);
        std::fs::write(&path, gzip.finish().expect("likewise")).expect("a file of the test");
        path
    };
    let plain = cluster.place.file("plain", &map("plain", 10));
    let bomb = packed("bomb", &vec![b' '; 20 * 1024 * 1024]);
    for protocol in PROTOCOLS {
        let name = format!("packed{}", protocol.replace(['-', '.'], ""));
        let body = packed(&name, map(&name, 1024 * 1024).as_bytes());
        for (encoding, body, code, message) in [
            ("gzip", &body, "201", ""),
            ("gzip", &bomb, "413", "Request entity too large: limit is 3145728"),
            ("gzip", &plain, "400", "not valid gzip"),
            ("deflate", &body, "415", "Content-Encoding \"deflate\""),
            ("gzip, gzip", &body, "415", "accepted are: gzip, identity"),
        ] {
            let encoding = format!("Content-Encoding: {encoding}");
            let headers = [TOKEN, JSON, encoding.as_str()];
            let answer = post(&cluster, MAPS, protocol, &headers, body).succeeded();
            let (found, said) = told(&answer);
            assert!(found == code && said.contains(message), "{encoding}: {answer}");
        }
    }
}
