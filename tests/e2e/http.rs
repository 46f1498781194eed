//! HTTP of services and pods, by curl.

use serde_json::Value;

use crate::tools::{self, Ran, Tool};

/// `curl` with arguments that are divided by spaces; silent, and a refusal of the server's is no failure.
#[track_caller]
pub(crate) fn curl(arguments: &str) -> Ran {
    let mut curl = Tool::Curl.command();
    curl.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
    curl.args(arguments.split_whitespace());
    tools::run(curl)
}

/// What a simulated pod says about itself and the request.
#[track_caller]
pub(crate) fn ask(arguments: &str) -> Value {
    let text = curl(arguments).succeeded();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments}: {error}: {text:?}"))
}

/// The name of the pod that answers there.
#[track_caller]
pub(crate) fn pod_at(host: &str, port: u16) -> String {
    let answer = ask(&format!("http://{host}:{port}/"));
    answer["pod"].as_str().expect("a pod tells its name").to_owned()
}

/// The status of an answer.
#[track_caller]
pub(crate) fn status_of(arguments: &str) -> String {
    curl(&format!("--output /dev/null --write-out %{{http_code}} {arguments}")).succeeded()
}
