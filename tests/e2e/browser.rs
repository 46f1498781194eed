//! A real browser without a screen, driven over its debugging pipe.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::tools::{self, Tool, eventually};

/// An answer that takes longer does not come.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// One window with one page.
pub(crate) struct Browser {
    process: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
}

impl Browser {
    /// Opens a page; `home` is where the browser keeps its profile.
    pub(crate) fn open(home: &Path, url: &str) -> Self {
        // The pipe is file descriptors 3 and 4.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2"])
            .arg(Tool::Chromium.path().expect("it was asked for"));
        shell.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
        ]);
        shell.args(["--remote-debugging-pipe", "--window-size=1400,1000"]);
        shell.arg(format!("--user-data-dir={}", home.join("browser").display())).env("HOME", home);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = shell.spawn().expect("sh starts");
        let commands = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { break };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self { process, commands, messages, session: String::new(), last_id: 0 };
        let target = browser.call("Target.createTarget", &json!({"url": url}))["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    /// Evaluates an expression in the page; null while there is none.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let answer = self.send("Runtime.evaluate", &parameters);
        answer["result"]["result"]["value"].clone()
    }

    /// Waits until the page's text, its words divided by one space each, is as wanted.
    #[track_caller]
    pub(crate) fn text(&mut self, what: &str, fine: impl Fn(&str) -> bool) -> String {
        eventually(what, || {
            let text = self.evaluate("document.body.innerText");
            let words = text.as_str().unwrap_or_default().split_whitespace();
            let text = words.collect::<Vec<_>>().join(" ");
            if fine(&text) { Ok(text) } else { Err(text) }
        })
    }

    /// A picture of the page, as base64 of a PNG.
    pub(crate) fn screenshot(&mut self) -> String {
        let picture = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        picture["data"].as_str().unwrap_or_default().to_owned()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let answer = self.send(method, parameters);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn send(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        write!(self.commands, "{message}\0").expect("the browser runs");
        loop {
            let answer = self.messages.recv_timeout(ANSWER_MAX).expect("the browser answers");
            if answer["id"] == self.last_id {
                return answer;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session.clear();
        write!(self.commands, "{}\0", json!({"id": 0, "method": "Browser.close"})).ok();
        // It answers, closes the pipe, and ends.
        while self.messages.recv_timeout(Duration::from_secs(10)).is_ok() {}
        tools::signal(self.process.id(), Signal::KILL);
        self.process.wait().ok();
    }
}
