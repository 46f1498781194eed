//! What one client may take: sizes, requests at once, forms of answers. Others go on meanwhile.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{
    cluster::Cluster,
    place::Place,
    tools::{self, Tool, can_use, eventually},
};

fn start(arguments: &[&str]) -> Cluster {
    let place = Place::new();
    let file = place.file("tokens.csv", "t0ken,ann,u1\n");
    let file = format!("--token-auth-file={}", file.display());
    let arguments: Vec<&str> =
        ["--store=memory", file.as_str()].iter().chain(arguments).copied().collect();
    Cluster::start_at(place, &arguments)
}

/// `curl` about a path, with the head of the answer in its output.
fn curl(cluster: &Cluster, path: &str, arguments: &[&str]) -> Command {
    let mut curl = Tool::Curl.command();
    curl.args(["--silent", "--show-error", "--insecure", "--include", "--max-time", "60"]);
    curl.args(["--noproxy", "*", "--header", "Authorization: Bearer t0ken"]);
    curl.args(arguments).arg(format!("{}{path}", cluster.line.api));
    curl
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &[&str] = &["--header", "Content-Type: application/json"];

fn map(name: &str, bytes: usize) -> String {
    let filler: String = "0123456789abcdef".chars().cycle().take(bytes).collect();
    serde_json::json!({"metadata": {"name": name}, "data": {"a": filler}}).to_string()
}

#[test]
fn bodies_have_a_size_and_a_type() {
    if !can_use(&[Tool::Curl]) {
        return;
    }
    let cluster = start(&[]);
    let post = |arguments: &[&str], body: &str| {
        let mut all = vec!["--data-binary", "@-"];
        all.extend(arguments);
        tools::run_with_input(curl(&cluster, MAPS, &all), body)
    };
    let refused = post(JSON, &map("large", 3 * 1024 * 1024 + 1)).succeeded();
    assert!(refused.contains(" 413") && refused.contains("RequestEntityTooLarge"), "{refused}");
    for media in ["text/plain", "application/x-www-form-urlencoded"] {
        let header = format!("Content-Type: {media}");
        let refused = post(&["--header", &header], &map("a", 1)).succeeded();
        assert!(refused.contains(" 415") && refused.contains("unknown format"), "{refused}");
    }
    for protocol in ["--http1.1", "--http2"] {
        let page = [protocol, "--header", "Origin: https://evil.example"];
        let refused = post(&[JSON, &page[..]].concat(), &map("a", 1)).succeeded();
        assert!(refused.contains(" 403") && refused.contains("other web sites"), "{refused}");
    }
    let created = post(JSON, &map("a", 1)).succeeded();
    assert!(created.contains(" 201"), "{created}");
    let yaml = post(&["--header", "Content-Type: application/yaml"], "metadata: {name: b}");
    assert!(yaml.succeeded().contains(" 201"));
}

#[test]
fn answers_come_as_they_are_asked_for() {
    if !can_use(&[Tool::Curl]) {
        return;
    }
    let cluster = start(&[]);
    let ask = |path: &str, accept: &str| {
        let header = format!("Accept: {accept}");
        tools::run(curl(&cluster, path, &["--header", &header])).succeeded().to_lowercase()
    };
    assert!(ask(MAPS, "application/vnd.kubernetes.protobuf,application/json").contains("200"));
    assert!(ask(MAPS, "application/yaml").contains("content-type: application/yaml"));
    let refused = ask(MAPS, "application/vnd.kubernetes.protobuf");
    assert!(refused.contains(" 406") && refused.contains("notacceptable"), "{refused}");
    let watch = format!("{MAPS}?watch=true&timeoutSeconds=1");
    assert!(ask(&watch, "application/json;stream=watch").contains("added"));
    assert!(ask(&watch, "application/yaml").contains(" 406"));
    for name in ["a", "b"] {
        let post = [&["--data-binary", "@-"], JSON].concat();
        let created = tools::run_with_input(curl(&cluster, MAPS, &post), &map(name, 100_000));
        assert!(created.succeeded().contains(" 201"));
    }
    for version in ["--http1.1", "--http2"] {
        let packed = tools::run(curl(&cluster, MAPS, &["--compressed", version])).succeeded();
        assert!(packed.to_lowercase().contains("content-encoding: gzip"), "{version}");
        let end: String = packed.split_whitespace().collect();
        assert!(packed.contains("0123456789abcdef") && end.ends_with("]}"), "{version}");
        let plain = tools::run(curl(&cluster, MAPS, &[version])).succeeded();
        assert!(!plain.to_lowercase().contains("content-encoding"), "nobody asked");
        let one = format!("{MAPS}/a");
        let one = tools::run(curl(&cluster, &one, &["--compressed", version])).succeeded();
        assert!(!one.to_lowercase().contains("content-encoding"), "it is too short");
    }
}

#[test]
fn writes_at_once_are_bounded_and_stalled_ones_hold_no_place() {
    if !can_use(&[Tool::Curl]) {
        return;
    }
    let cluster = start(&["--max-mutating-requests-inflight=1"]);
    // The one place is not for who is still sending.
    let post = [&["--request", "POST", "--http1.1", "--upload-file", "-"], JSON].concat();
    let text = map("slow", 10);
    let (begin, end) = text.split_at(10);
    let mut slow = curl(&cluster, MAPS, &post);
    slow.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut slow = slow.spawn().expect("curl runs");
    let mut body = slow.stdin.take().expect("its input is ours");
    body.write_all(begin.as_bytes()).expect("curl takes it");
    let many = r#"{"metadata": {"generateName": "many-"}}"#;
    let post = [&["--parallel", "--parallel-immediate", "--data-binary", many], JSON].concat();
    let refused = eventually("one of many is refused, and one is taken", || {
        let answers = tools::run(curl(&cluster, &format!("{MAPS}?nth=[1-40]"), &post)).succeeded();
        let is_so = answers.contains(" 429") && answers.contains(" 201");
        if is_so { Ok(answers) } else { Err(answers) }
    });
    assert!(refused.to_lowercase().contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("TooManyRequests"), "{refused}");
    let read = tools::run(curl(&cluster, MAPS, &[])).succeeded();
    assert!(read.contains(" 200"), "reads have places of their own: {read}");
    body.write_all(end.as_bytes()).expect("curl takes it");
    drop(body);
    let slow = slow.wait_with_output().expect("curl ends");
    let slow = String::from_utf8_lossy(&slow.stdout).into_owned();
    assert!(slow.contains(" 201"), "{slow}");
}
