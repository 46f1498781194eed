use std::os::unix::fs::symlink;

use super::{merge::merged, *};

fn with(text: &str, name: &str, switch: bool) -> merge::Merged {
    merged(text, &entry(name), switch).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn entry(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        cluster: json!({"certificate-authority-data": "Q0E=", "server": "https://127.0.0.1:6443"}),
        user: json!({"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}),
    }
}

/// The items of the lists at an indentation, as kubectl writes them.
fn block(list: &str, name: &str, dash: &str) -> String {
    let lines = match list {
        "clusters" => {
            "- cluster:\n    certificate-authority-data: Q0E=\n    server: https://127.0.0.1:6443\n  name: NAME"
        }
        "contexts" => {
            "- context:\n    cluster: NAME\n    namespace: default\n    user: NAME\n  name: NAME"
        }
        _ => {
            "- name: NAME\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ"
        }
    };
    lines.replace("NAME", name).lines().map(|line| format!("{dash}{line}\n")).collect()
}

/// Checks a text with `@clusters`, `@contexts`, `@users` on their own lines. The old text has nothing there, the new
/// one has the entries.
#[track_caller]
fn check_added(template: &str) {
    let is_mark = |line: &&str| line.trim_start().starts_with('@');
    let before: String = template.split_inclusive('\n').filter(|line| !is_mark(line)).collect();
    let after: String = template
        .split_inclusive('\n')
        .map(|line| match line.split_once('@') {
            Some((dash, list)) if is_mark(&line) => block(list.trim_end(), "snowglobe", dash),
            _ => line.to_owned(),
        })
        .collect();
    let merged = with(&before, "snowglobe", false);
    assert!(!merged.rewritten, "{}", merged.text);
    assert_eq!(merged.text, after);
    // A second merge changes nothing. The line ends of Windows stay.
    assert_eq!(with(&after, "snowglobe", false).text, after);
    let windows = with(&before.replace('\n', "\r\n"), "snowglobe", false);
    assert_eq!(windows.text, after.replace('\n', "\r\n"));
}

const KUBECTL: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: AAAA
    server: https://10.0.0.1:6443
  name: prod
@clusters
contexts:
- context:
    cluster: prod
    user: admin
  name: prod
@contexts
current-context: prod
kind: Config
preferences: {}
users:
- name: admin
  user:
    token: secret
@users
";

#[test]
fn entries_are_added_and_all_else_stays() {
    check_added(KUBECTL);
    check_added(
        "# mine\n\nkind: Config # kind\napiVersion: \"v1\"\nx-unknown: {a: [1, 2], b: 'c'}\n\
         current-context: 'prod' # not that one\n\
         users:   # people\n\n  # the first\n  - name: admin   # boss\n    user: {token: \"x\", exec: {args: [a]}}\n\
         \x20 - name: other\n    user:\n      exec:\n        command: |\n          multi\n          line\n  @users\n\n# below\n\
         contexts:\n  -   name: prod\n      context: {cluster: prod, user: admin}\n  @contexts\n    # after\n\
         clusters:\n  -\n    name: prod\n    cluster:\n      server: https://a:1\n  @clusters\n\n\n# end\n",
    );
    // Lists that are missing or empty, in all notations.
    for list in
        ["clusters: []\n", "clusters: null\n", "clusters: ~\n", "clusters:\n", "clusters: [ ]  \n"]
    {
        let text = format!(
            "apiVersion: v1\nkind: Config\n{list}contexts: # none\nusers:\n- name: a\n  user: {{}}\ncurrent-context: x\n"
        );
        let merged = with(&text, "snowglobe", false);
        assert!(!merged.rewritten);
        let expected = format!(
            "apiVersion: v1\nkind: Config\nclusters:{}\n{}contexts: # none\n{}users:\n- name: a\n  user: {{}}\n{}current-context: x\n",
            if list.ends_with("  \n") { "  " } else { "" },
            block("clusters", "snowglobe", ""),
            block("contexts", "snowglobe", ""),
            block("users", "snowglobe", "")
        );
        assert_eq!(merged.text, expected);
    }
    let text = "kind: Config\npreferences: {colors: true}\n# end\n";
    let merged = with(text, "snowglobe", false);
    let lists = ["clusters", "contexts", "users"];
    let lists = lists.map(|list| format!("{list}:\n{}", block(list, "snowglobe", "")));
    let expected = format!(
        "kind: Config\npreferences: {{colors: true}}\n{}current-context: snowglobe\n# end\n",
        lists.concat()
    );
    assert_eq!(merged.text, expected);
}

#[test]
fn an_entry_of_the_same_name_is_replaced_in_its_place() {
    let before = "\
apiVersion: v1
kind: Config
clusters:
  - name: snowglobe # ours
    cluster: {server: old}
  - {name: prod, cluster: {server: \"https://p\"}} # theirs
contexts:
- {name: prod, context: {cluster: prod, user: u}}
- {context: {cluster: gone}, name: snowglobe} # ours
users: # people
- user: {token: old}
  name: snowglobe

- name: u
  user: {token: t}
current-context: prod
";
    let mut expected = before.to_owned();
    for (old, list, dash) in [
        ("  - name: snowglobe # ours\n    cluster: {server: old}\n", "clusters", "  "),
        ("- user: {token: old}\n  name: snowglobe\n", "users", ""),
    ] {
        expected = expected.replace(old, &block(list, "snowglobe", dash));
    }
    let context = block("contexts", "snowglobe", "");
    expected = expected.replace(
        "- {context: {cluster: gone}, name: snowglobe} # ours\n",
        &format!("{} # ours\n", context.trim_end()),
    );
    let merged = with(before, "snowglobe", false);
    assert_eq!((merged.text, merged.current.as_str()), (expected, "prod"));
}

#[test]
fn json_stays_json() {
    let spread = r#"{
    "kind": "Config",
    "apiVersion": "v1",
    "clusters": [
        {
            "name": "prod",
            "cluster": {
                "server": "https://10.0.0.1"
            }
        }
    ],
    "users": [],
    "contexts": null
}
"#;
    let compact = r#"{"kind":"Config","clusters":[{"name":"prod","cluster":{}}],"x":[1]}"#;
    for text in [spread, compact, "{\"apiVersion\": \"v1\", \"users\": []}"] {
        let merged = with(text, "snowglobe", false);
        assert!(!merged.rewritten);
        let json: Json = serde_json::from_str(&merged.text).unwrap();
        assert_eq!(json["current-context"], "snowglobe");
        for list in ["clusters", "contexts", "users"] {
            let names: Vec<_> = json[list].as_array().unwrap().iter().map(|i| &i["name"]).collect();
            assert_eq!(*names.last().unwrap(), "snowglobe");
        }
        let again = with(&merged.text, "other", true);
        assert!(!again.rewritten);
        assert_eq!(again.text.lines().count() > 1, text.lines().count() > 1);
    }
    let merged = with(spread, "snowglobe", false).text;
    let begin = spread.find("\n    ],\n    \"users\"").unwrap();
    assert_eq!(merged[..begin], spread[..begin]);
    assert!(
        merged[begin..].starts_with(",\n        {\n            \"cluster\": {\n                \"certificate-authority-data\": \"Q0E=\","),
        "{merged}"
    );
}

#[test]
fn the_current_context_changes_only_when_asked_or_missing() {
    let users = "users:\n- name: a\n  user: {}\n";
    for (line, switch, expected) in [
        ("current-context: prod # c\n", false, "current-context: prod # c\n"),
        ("current-context: prod # c\n", true, "current-context: sg-1 # c\n"),
        ("current-context: \"prod\"\n", true, "current-context: sg-1\n"),
        ("current-context: \"\"\n", false, "current-context: sg-1\n"),
        ("current-context:\n", false, "current-context: sg-1\n"),
        ("current-context: null\n", false, "current-context: sg-1\n"),
    ] {
        let text = format!("{line}{users}");
        let merged = with(&text, "sg-1", switch);
        assert!(!merged.rewritten && merged.text.starts_with(expected), "{line}: {}", merged.text);
    }
    // Names that YAML would read as values of other types.
    for name in ["1", "true", "null", "a: b", "#x", "é", "no"] {
        let merged = with("", name, false);
        assert_eq!(merged.current, name);
        let again = with(&merged.text, name, true);
        assert_eq!(again.text, merged.text);
    }
}

#[test]
fn files_without_entries_are_filled() {
    for (text, head, tail) in [
        ("", "", ""),
        ("\n\n", "\n\n", ""),
        ("# mine\n", "# mine\n", ""),
        ("# mine", "# mine\n", ""),
        ("---\n", "---\n", ""),
        ("null\n", "", "\n"),
        ("{}\n", "", "\n"),
        ("--- {}\n# end\n", "--- \n", "\n# end\n"),
    ] {
        let merged = with(text, "snowglobe", false);
        assert!(!merged.rewritten, "{text:?}");
        let rest = merged.text.strip_prefix(head).and_then(|text| text.strip_suffix(tail));
        assert!(rest.is_some_and(|rest| rest.starts_with("apiVersion: v1\n")), "{}", merged.text);
        assert_eq!(merged.current, "snowglobe");
    }
}

#[test]
fn hard_layouts_keep_their_meaning() {
    let with = |text: &str| with(text, "snowglobe", false);
    // A missing line end, several documents, anchors, a byte order mark, an end marker.
    for text in [
        "kind: Config\nusers:\n- name: a\n  user: {token: x}",
        "kind: Config\nusers:\n- name: a\n  user: {token: x}\n---\nkind: Config\nother: document\n",
        "kind: Config\nusers:\n- &a\n  name: a\n  user: &u {token: x}\nx: *u\n",
        "kind: Config\nusers: &all\n- name: a\n  user: {}\nx: *all\n",
        "kind: Config\nusers: [{name: a, user: {}}, ]\n",
        "kind: Config\nusers: [\n  {name: a, user: {}}, # c\n]\n",
        "kind: Config\nusers:\n- name: a\n  user:\n    token: |+\n      x\n\n\nclusters: []\n",
        "kind: Config\nusers:\n- name: a\n  user:\n...\n# end\n",
        "? kind\n: Config\n? users\n:\n- name: a\n",
        "{kind: Config, users: }\n",
        "kind: Config\nusers:\n- name: snowglobe\n- name: snowglobe\n",
        "kind: Config\nusers:\n- &a {name: snowglobe, user: {}}\nx: *a\n",
    ] {
        let merged = with(text);
        let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&merged.text)
            .map(|document| serde::Deserialize::deserialize(document).unwrap())
            .collect();
        let users = documents[0]["users"].as_sequence().unwrap();
        let ours = users.iter().filter(|user| user["name"] == "snowglobe").count();
        assert_eq!(ours, 1, "{text}\n{}", merged.text);
        assert_eq!(users.iter().any(|user| user["name"] == "a"), text.contains("name: a"));
        assert_eq!(documents.len(), 1 + text.matches("---").count());
        assert_eq!(with(&merged.text).text, merged.text, "once more changes nothing");
    }
}

#[test]
fn what_is_no_kubeconfig_is_refused() {
    for (text, why) in [
        ("hello\n", "it is no YAML map"),
        ("[1, 2]\n", "it is no YAML map"),
        ("- a\n", "it is no YAML map"),
        ("a: [\n", "it is not YAML"),
        ("a: b\n", "it has no kind, and none of clusters, contexts, users"),
        ("apiVersion: v1\nkind: Pod\n", "its kind is Pod, not Config"),
        ("apiVersion: apps/v1\nkind: Config\n", "its apiVersion is apps/v1, not v1"),
        ("clusters: {a: b}\n", "its clusters are no list"),
        ("users: [1]\n", "its users are not all maps"),
        ("users: [{name: 1}]\n", "the names of its users are not all texts"),
        ("current-context: [a]\n", "its current-context is no text"),
        ("<html></html>\n", "it is no YAML map"),
    ] {
        let error = merged(text, &entry("snowglobe"), true).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[tokio::test]
async fn files_are_replaced_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mode = |name: &str| fs::metadata(at(name)).unwrap().mode() & 0o777;
    // A new file in a new directory.
    assert_eq!(merge(&at("new/config"), &entry("a"), false).await.unwrap(), "a");
    assert_eq!(mode("new/config"), 0o600);
    // Symbolic links, also to a file that does not exist yet. The mode stays.
    fs::set_permissions(at("new/config"), Permissions::from_mode(0o640)).unwrap();
    symlink("new/config", at("link")).unwrap();
    symlink(at("link"), at("link-to-link")).unwrap();
    symlink("new/missing", at("dangling")).unwrap();
    assert_eq!(merge(&at("link-to-link"), &entry("b"), false).await.unwrap(), "a");
    assert_eq!(mode("new/config"), 0o640);
    merge(&at("dangling"), &entry("c"), false).await.unwrap();
    assert!(at("link").is_symlink() && at("dangling").is_symlink());
    let text = fs::read_to_string(at("new/config")).unwrap();
    assert!(text.contains("name: a\n") && text.contains("name: b\n"), "{text}");
    assert!(fs::read_to_string(at("new/missing")).unwrap().contains("name: c\n"));
    let mut left: Vec<_> =
        fs::read_dir(at("new")).unwrap().map(|f| f.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["config", "missing"]);
    // A file that is refused stays as it is.
    fs::write(at("binary"), b"\xff\x00").unwrap();
    symlink("loop", at("loop")).unwrap();
    for (name, why) in [("binary", "UTF-8"), ("new", "a directory"), ("loop", "symbolic links")] {
        let error = merge(&at(name), &entry("a"), false).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(check(&at(name)).is_err());
    }
    assert_eq!(fs::read(at("binary")).unwrap(), b"\xff\x00");
    assert!(check(Path::new("/dev/null")).is_err());
    check(&at("link-to-link")).unwrap();
    check(&at("nowhere/config")).unwrap();
}

#[tokio::test]
async fn many_writers_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let names: Vec<String> = (0..8).map(|i| format!("cluster-{i}")).collect();
    let writes = names.iter().map(|name| {
        let path = path.clone();
        async move { merge(&path, &entry(name), false).await.unwrap() }
    });
    futures::future::join_all(writes).await;
    let text = fs::read_to_string(path).unwrap();
    for name in names {
        assert_eq!(text.matches(&format!("name: {name}\n")).count(), 3, "{text}");
    }
}
