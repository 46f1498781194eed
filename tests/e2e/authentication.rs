//! Who asks, by real clients: certificates, tokens of both kinds, impersonation; the reviews, and the audit log.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    cluster::Cluster,
    errors::fails_with,
    http::curl,
    place::Place,
    tools::{self, Ran, Tool, can_use, eventually, wanted},
};

const TOKENS: &str = "t0ken,ann,u1,\"dev,ops\"\n";

fn start() -> Cluster {
    let place = Place::new();
    let file = place.file("tokens.csv", TOKENS);
    let file = format!("--token-auth-file={}", file.display());
    Cluster::start_at(place, &["--store=memory", "--log=audit=debug", &file])
}

/// `kubectl` that has nothing but a token.
fn by_token(cluster: &Cluster, token: &str, arguments: &str) -> Ran {
    let api = &cluster.line.api;
    let mut all = vec!["--kubeconfig=/dev/null", "--server", api, "--insecure-skip-tls-verify"];
    all.extend(["--token", token]);
    all.extend(arguments.split_whitespace());
    tools::run(cluster.kubectl_command(&all))
}

#[test]
fn static_tokens_name_users() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = start();
    let who = by_token(&cluster, "t0ken", "auth whoami -o json").succeeded();
    let who: serde_json::Value = serde_json::from_str(&who).expect("JSON");
    let user = &who["status"]["userInfo"];
    assert_eq!((user["username"].as_str(), user["uid"].as_str()), (Some("ann"), Some("u1")));
    assert_eq!(user["groups"], serde_json::json!(["dev", "ops", "system:authenticated"]));
    let refused = by_token(&cluster, "other", "get pods").failed();
    assert!(refused.contains("You must be logged in to the server"), "{refused}");
    let nobody = curl(&format!("-k --include {}/api/v1/pods", cluster.line.api)).succeeded();
    assert!(nobody.contains(" 401") && nobody.contains("\"reason\": \"Unauthorized\""), "{nobody}");
    let line = eventually("the audit log has it", || {
        let log = cluster.log();
        let line = log.lines().find(|line| line.contains("user=\"ann\"")).map(str::to_owned);
        line.ok_or(log)
    });
    for part in ["verb=\"create\"", "resource=\"selfsubjectreviews\"", "code=201", "kubectl/"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!cluster.log().contains("t0ken"), "tokens are not logged");
}

#[test]
fn token_files_are_checked() {
    let place = Place::new();
    let up = |file: &str| {
        let mut up = place.snowglobe("up");
        up.arg("--store=memory").arg("--token-auth-file").arg(file);
        up
    };
    let bad = place.file("tokens.csv", "t0ken,ann,u1\ns3cret,bob\n");
    fails_with(up(bad.to_str().expect("UTF-8")), &["tokens.csv, line 2", "at least a token"]);
    fails_with(up("absent.csv"), &["absent.csv", "--token-auth-file"]);
}

#[test]
fn tokens_of_accounts_end_with_them() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = start();
    cluster.kubectl("create serviceaccount web");
    let token = cluster.kubectl("create token web");
    let token = token.trim();
    let name = "system:serviceaccount:default:web";
    assert!(by_token(&cluster, token, "auth whoami").succeeded().contains(name));
    let secret = "{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {name: web, \
        annotations: {kubernetes.io/service-account.name: web}}}";
    cluster.apply(secret);
    let lasting = eventually("the Secret has a token", || {
        let secret = cluster.json("get secret web");
        let token = secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok());
        token.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| secret.to_string())
    });
    assert!(by_token(&cluster, &lasting, "auth whoami").succeeded().contains(name));
    let foreign = cluster.kubectl("create token web --audience=vault");
    by_token(&cluster, foreign.trim(), "auth whoami").failed();
    for (arguments, part) in [
        ("create token web --duration=1m", "may not specify a duration less than 10 minutes"),
        ("create token absent", "serviceaccounts \"absent\" not found"),
    ] {
        let refused = cluster.try_kubectl(arguments).failed();
        assert!(refused.contains(part), "{refused}");
    }
    cluster.kubectl("delete serviceaccount web");
    cluster.kubectl("create serviceaccount web");
    for token in [token, &lasting] {
        let refused = by_token(&cluster, token, "auth whoami").failed();
        assert!(refused.contains("Unauthorized"), "{refused}");
    }
    eventually("the Secret is gone", || {
        let left = cluster.kubectl("get secrets -o name");
        wanted(left.is_empty(), left)
    });
}

#[test]
fn tokens_outlive_a_restart_and_bound_ones_end_with_their_pod() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start_with(&[]);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: a, image: a}]}}";
    cluster.apply(pod);
    let bound =
        cluster.kubectl("create token default --bound-object-kind=Pod --bound-object-name=web");
    let free = cluster.kubectl("create token default");
    cluster.stop();
    cluster.start_again();
    let seen = by_token(&cluster, bound.trim(), "auth whoami").succeeded();
    assert!(seen.contains("authentication.kubernetes.io/pod-name"), "{seen}");
    by_token(&cluster, free.trim(), "get pods").succeeded();
    cluster.kubectl("delete pod web --grace-period=0 --force");
    by_token(&cluster, bound.trim(), "auth whoami").failed();
    by_token(&cluster, free.trim(), "get pods").succeeded();
}

#[test]
fn rights_are_reviewed() {
    if !can_use(&[Tool::Kubectl, Tool::Kubectl137]) {
        return;
    }
    let mut cluster = start();
    for kubectl in [Tool::Kubectl, Tool::Kubectl137] {
        cluster.kubectl = kubectl;
        assert!(cluster.kubectl("auth whoami").contains("kubernetes-admin"));
        assert_eq!(cluster.kubectl("auth can-i delete nodes").trim(), "yes");
        assert_eq!(cluster.kubectl("auth can-i get /metrics").trim(), "yes");
        assert!(cluster.kubectl("auth can-i --list").contains("*.*"));
        let who = cluster.kubectl("auth whoami --as=eve --as-group=dev --as-uid=e1");
        assert!(who.contains("eve") && who.contains("dev") && who.contains("e1"), "{who}");
        let refused = cluster.try_kubectl("get pods --as=system:anonymous").failed();
        let part = "User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
        assert!(refused.contains(part), "{refused}");
        let reviews = cluster.kubectl("api-resources --api-group=authorization.k8s.io -o name");
        assert_eq!(reviews.lines().count(), 4, "{reviews}");
        let review =
            "{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {token: t0ken}}";
        let command = cluster.kubectl_command(&["create", "-o", "json", "-f", "-"]);
        let answer = tools::run_with_input(command, &format!("---\n{review}")).succeeded();
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"]["user"]["username"], "ann");
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: a, image: a}]}}";
        cluster.apply(pod);
        let refused = cluster.try_kubectl("exec web -- ls").failed();
        assert!(refused.contains("is simulated"), "{refused}");
    }
}
