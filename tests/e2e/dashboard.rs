//! The dashboard: who may look, what it shows, and that a browser shows it.

use base64::Engine;
use serde_json::Value;

use crate::{
    browser::Browser,
    cluster::Cluster,
    http::{curl, pod_at, status_of},
    tools::{Tool, can_use, eventually, wanted},
};

/// The payment pods, and the dashboard's address and token.
fn start() -> (Cluster, String, String) {
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    let (url, token) = cluster.line.dashboard.split_once("?token=").expect("a token");
    let (url, token) = (url.trim_end_matches('/').to_owned(), token.to_owned());
    (cluster, url, token)
}

fn state(url: &str, token: &str) -> Value {
    let mut command = Tool::Curl.command();
    command.args([
        "-sSf",
        "-H",
        &format!("Authorization: Bearer {token}"),
        &format!("{url}/api/state"),
    ]);
    serde_json::from_str(&crate::tools::run(command).succeeded()).expect("JSON")
}

#[test]
fn the_token_opens_it() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let (cluster, url, token) = start();
    for path in ["/", "/api/state", "/api/stream", "/app.js"] {
        assert_eq!(status_of(&format!("{url}{path}")), "401", "{path}");
    }
    assert_eq!(status_of(&format!("{url}/?token=wrong")), "401");
    assert_eq!(status_of(&format!("-H Host:evil.example {url}/?token={token}")), "403");
    assert_eq!(
        status_of(&format!("-X POST -H Origin:http://evil.example {url}/?token={token}")),
        "403"
    );

    let jar = cluster.place.home().join("cookies");
    let jar = format!("--cookie-jar {0} --cookie {0}", jar.display());
    let welcome =
        curl(&format!("--include {jar} {url}/?token={token}")).succeeded().to_ascii_lowercase();
    assert!(welcome.starts_with("http/1.1 303"), "{welcome}");
    assert!(welcome.contains("samesite=strict") && welcome.contains("httponly"), "{welcome}");
    let page = curl(&format!("--include {jar} {url}/")).succeeded();
    let head = page.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{page}");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(
        !page.contains("src=\"http") && !page.contains("href=\"http"),
        "no external request: {page}"
    );
    for path in ["/app.js", "/style.css", "/vendor/preact/preact.js"] {
        assert_eq!(status_of(&format!("{jar} {url}{path}")), "200", "{path}");
    }
    assert_eq!(status_of(&format!("{jar} {url}/absent.js")), "404");
    assert_eq!(status_of(&format!("{jar} {url}/../Cargo.toml --path-as-is")), "404");
}

#[test]
fn the_state_counts_picks() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let (cluster, url, token) = start();
    let address = cluster.cluster_ip("production/payment-service");
    for _ in 0..9 {
        pod_at(&address, 9000);
    }
    let state = state(&url, &token);
    let services = state["cluster"]["services"].as_array().expect("services");
    let payment = services.iter().find(|service| service["name"] == "payment-service");
    let payment = payment.expect("the service is shown");
    assert_eq!(payment["clusterIps"][0], address.as_str());
    assert_eq!(payment["endpointsReady"], 3);
    let zones: Vec<_> = payment["endpoints"]
        .as_array()
        .expect("endpoints")
        .iter()
        .map(|e| e["zone"].clone())
        .collect();
    assert_eq!(zones, ["zone-a", "zone-b", "zone-c"]);
    let port = &state["traffic"]["production/payment-service:9000/TCP"];
    let endpoints = port["endpoints"].as_object().unwrap_or_else(|| panic!("{}", state["traffic"]));
    let picks: Vec<u64> =
        endpoints.values().filter_map(|counters| counters["picks"].as_u64()).collect();
    assert_eq!(picks, [3, 3, 3]);
}

#[test]
fn the_stream_tells_picks_as_they_happen() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let (cluster, url, token) = start();
    let address = cluster.cluster_ip("production/payment-service");
    let output = cluster.place.home().join("stream");
    let mut command = Tool::Curl.command();
    command.args([
        "-sSN",
        "-H",
        &format!("Authorization: Bearer {token}"),
        &format!("{url}/api/stream"),
    ]);
    command.stdout(std::fs::File::create(&output).expect("a file of the test"));
    let mut curl = command.spawn().expect("curl starts");
    let read = || std::fs::read_to_string(&output).expect("UTF-8");
    eventually("the whole cluster first", || {
        let text = read();
        let whole = text.starts_with("event: cluster\n") && text.contains("event: traffic\n");
        wanted(whole && text.contains("payment-service"), text)
    });
    let before = read().len();
    pod_at(&address, 9000);
    eventually("a pick, as it happens", || {
        let text = read().split_off(before);
        let told =
            text.contains("production/payment-service:9000/TCP") && text.contains("\"picks\":1");
        wanted(told, text)
    });
    cluster.kubectl("create service clusterip fresh --tcp=80:80");
    eventually("a new service", || {
        let text = read().split_off(before);
        wanted(text.contains("\"fresh\""), text)
    });
    // An open page does not keep the cluster from stopping.
    drop(cluster);
    curl.wait().expect("the stream ends with the cluster");
}

#[test]
fn a_browser_shows_it() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Chromium]) {
        return;
    }
    let (cluster, _, _) = start();
    let address = cluster.cluster_ip("production/payment-service");
    for _ in 0..3 {
        pod_at(&address, 9000);
    }
    let mut browser = Browser::open(cluster.place.home(), &cluster.line.dashboard);
    let text = browser.text("the page shows the services", |text| {
        ["payment-service", "kube-dns", &address].iter().all(|part| text.contains(part))
    });
    for part in ["zone-a", "zone-b", "zone-c", "3/ of 3 ready"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(browser.evaluate("location.search"), "", "the token is not left in the address bar");
    let pod = pod_at(&address, 9000);
    assert!(text.contains(&pod), "the busiest service is open:\n{text}");
    let button = "document.querySelector('[aria-label=\"Service production/payment-service\"] button').click()";
    browser.evaluate(button);
    browser.text("a closed service hides its endpoints", |text| {
        !text.contains(&format!("{pod} 127."))
    });
    browser.evaluate(button);
    browser.text("an open one shows them", |text| text.contains(&format!("{pod} 127.")));
    cluster.kubectl("create service clusterip appears-live --tcp=80:80");
    browser.text("a new service without a reload", |text| text.contains("appears-live"));
    let foreign = browser.evaluate(
        "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin) && !n.startsWith('data:')).length",
    );
    assert_eq!(foreign, 0, "no external request");
    let picture = base64::engine::general_purpose::STANDARD.decode(browser.screenshot());
    let picture = picture.expect("base64");
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{} bytes", picture.len());
    if let Some(directory) = std::env::var_os("SNOWGLOBE_TEST_SCREENSHOTS") {
        let path = std::path::Path::new(&directory).join("dashboard.png");
        std::fs::write(path, picture).expect("the directory is writable");
    }
}

/// Frames as the stream sends them, given to the page's own store by a stream that the test drives.
const FORGETTING: &str = r#"(async () => {
    const { Store } = await import("/store.js");
    let frame = null;
    window.EventSource = class {
        addEventListener(name, listener) { if (name === "traffic") frame = (data) => listener({ data: JSON.stringify(data) }); }
        close() {}
    };
    const store = new Store(() => {});
    const port = (...addresses) => ({ endpoints: Object.fromEntries(addresses.map((address, picks) => [address, { picks }])) });
    const keys = () => Object.keys(store.traffic).sort().join();
    const told = [];
    store.open();
    frame({ a: port("1", "2"), b: port("1") });
    frame({ c: port("0", "2") });
    told.push(keys(), store.rates.growth("c", "2", performance.now()));
    frame({ b: null, a: port("3", "2"), c: port("0", "2") });
    told.push(keys(), store.rates.known);
    store.open();
    frame({ a: port("1") });
    told.push(keys(), store.rates.known);
    window.told = told;
})().catch((error) => { window.told = String(error); })"#;

#[test]
fn the_page_forgets_what_is_gone() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Chromium]) {
        return;
    }
    let cluster = Cluster::start();
    let mut browser = Browser::open(cluster.place.home(), &cluster.line.dashboard);
    browser.text("the page shows the services", |text| text.contains("kube-dns"));
    browser.evaluate(FORGETTING);
    let told = eventually("the store has seen all", || {
        let told = browser.evaluate("window.told ?? null");
        if told.is_null() { Err("nothing told") } else { Ok(told) }.map_err(str::to_owned)
    });
    assert_eq!(told, serde_json::json!(["a,b,c", 1, "a,c", 4, "a", 1]));
}
