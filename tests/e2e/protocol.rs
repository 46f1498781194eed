//! How the API is spoken: forms of answers, health, encoded queries, and HTTP to pods through it.

use serde_json::Value;

use crate::{
    cluster::Cluster,
    http::{ask, curl, status_of},
    tools::{Tool, can_use, run_with_input},
};

/// Arguments of curl that come before a path: the address of the API, as an administrator.
struct Api {
    cluster: Cluster,
    token: String,
}

impl Api {
    fn start() -> Self {
        let cluster = Cluster::start_with(&["--store=memory"]);
        let token = cluster.kubectl("create token default").trim().to_owned();
        Self { cluster, token }
    }

    fn at(&self, options: &str, path: &str) -> String {
        let (api, token) = (&self.cluster.line.api, &self.token);
        format!("-k --oauth2-bearer {token} {options} {api}{path}")
    }
}

#[test]
fn a_scheduler_binds_the_pod_that_it_means() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let api = Api::start();
    api.cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, \
          spec: {schedulerName: mine, containers: [{name: c, image: i}]}}",
    );
    let pod = api.cluster.json("get pod p");
    let bind = |metadata: &str| {
        let target = r#""target":{"kind":"Node","name":"node-1"}"#;
        let binding = format!(r#"{{"metadata":{{"name":"p",{metadata}}},{target}}}"#);
        let options = format!("--request POST --json {binding}");
        ask(&api.at(&options, "/api/v1/namespaces/default/pods/p/binding"))
    };
    for (field, given, name) in
        [("uid", "other", "UID"), ("resourceVersion", "1", "ResourceVersion")]
    {
        let found = pod["metadata"][field].as_str().expect("a text");
        let status = bind(&format!(r#""{field}":"{given}""#));
        assert_eq!(status["code"], 409, "{status}");
        let why = format!(
            "Precondition failed: {name} in precondition: {given}, {name} in object meta: {found}"
        );
        let message = status["message"].as_str().expect("a text");
        assert!(message.ends_with(&why), "{message}");
    }
    let status = bind(&format!(r#""uid":{}"#, pod["metadata"]["uid"]));
    assert_eq!(status["status"], "Success", "{status}");
    assert_eq!(api.cluster.json("get pod p")["spec"]["nodeName"], "node-1");
}

#[test]
fn http_reaches_pods_through_the_api() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let api = Api::start();
    api.cluster.kubectl("create deployment web --image=app --port=8080");
    api.cluster.kubectl("expose deployment web --port=80 --target-port=8080");
    api.cluster.endpoints_ready("web", 1);
    let pods = api.cluster.json("get pods -l app=web");
    let pod = pods["items"][0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let pod_path = format!("/api/v1/namespaces/default/pods/{pod}");
    let services = "/api/v1/namespaces/default/services";
    for path in [
        format!("{pod_path}/proxy/a%2Fb?x=%20"),
        format!("{pod_path}:8080/proxy/"),
        format!("{services}/web/proxy/"),
        format!("{services}/web:80/proxy/"),
        format!("{services}/http:web:80/proxy/"),
        format!("{services}/web%3A80/proxy/"),
    ] {
        assert_eq!(ask(&api.at("", &path))["pod"], *pod, "{path}");
    }
    let raw = api.cluster.kubectl(&format!("get --raw {services}/web/proxy/x?y=1"));
    assert_eq!(serde_json::from_str::<Value>(&raw).expect("JSON")["pod"], *pod);
    let posted = ask(&api.at("--request POST --data hello", &format!("{pod_path}/proxy/")));
    assert_eq!((&posted["pod"], &posted["method"]), (&pod.as_str().into(), &"POST".into()));
    let path = ask(&api.at("", &format!("{pod_path}/proxy/a%2Fb//c/?x=1")))["path"].clone();
    assert_eq!(path, "/a%2Fb//c/", "as it was sent");
    assert_eq!(status_of(&api.at("", &format!("{pod_path}/proxy/status/418"))), "418");
    let head = curl(&api.at("--head", &format!("{pod_path}/proxy?q=1"))).succeeded();
    assert!(head.contains(" 301"), "{head}");
    assert!(head.contains(&format!("location: {pod_path}/proxy/?q=1")), "{head}");

    let refused = |path: String, code: u64, message: &str| {
        let status = ask(&api.at("", &path));
        assert_eq!(
            (&status["code"], &status["message"]),
            (&code.into(), &message.into()),
            "{path}"
        );
    };
    refused(
        format!("{services}/web:81/proxy/"),
        503,
        "no service port 81 found for service \"web\"",
    );
    refused(
        format!("{services}/web:http/proxy/"),
        503,
        "no endpoints available for service \"web:http\"",
    );
    refused(format!("{services}/moon/proxy/"), 404, "services \"moon\" not found");
    refused(format!("{services}/a:b:c:d/proxy/"), 400, "invalid service request \"a:b:c:d\"");
    api.cluster.kubectl("scale deployment web --replicas=0");
    api.cluster.endpoints_ready("web", 0);
    refused(
        format!("{services}/web:80/proxy/"),
        503,
        "no endpoints available for service \"web:80\"",
    );
}

#[test]
fn answers_have_the_forms_that_clients_ask_for() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let api = Api::start();
    // As metadata informers watch: each line must have the form that was asked for.
    let accept = "-HAccept:application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let query = "wat%63h=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true&timeoutSeconds=3";
    let watched = curl(&api.at(accept, &format!("/api/v1/nodes?{query}"))).succeeded();
    let events: Vec<Value> =
        watched.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.iter().all(|event| event["object"]["kind"] == "PartialObjectMetadata"));
    let bookmarks = events.iter().filter(|event| event["type"] == "BOOKMARK").count();
    assert_eq!(bookmarks, 2, "after the first events, and before the end: {watched}");

    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let head = curl(&api.at(&format!("--include -HAccept:{v2}"), "/apis")).succeeded();
    assert!(head.contains(&format!("content-type: {v2}\r\n")), "{head}");
    for (form, code) in [
        ("application/json;as=Table;g=meta.k8s.io;v=v1beta1", "200"),
        ("application/yaml;as=Table;g=meta.k8s.io;v=v1", "200"),
        ("application/yaml;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "200"),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "406"),
        ("application/vnd.kubernetes.protobuf", "406"),
    ] {
        assert_eq!(status_of(&api.at(&format!("-HAccept:{form}"), "/api/v1/pods")), code, "{form}");
    }
    let table = "-HAccept:application/yaml;as=Table;g=meta.k8s.io;v=v1";
    for path in ["/api/v1/namespaces", "/api/v1/namespaces/default"] {
        let table = curl(&api.at(table, path)).succeeded();
        let table: Value = serde_yaml::from_str(&table).expect("YAML");
        assert_eq!(
            (&table["kind"], &table["rows"][0]["cells"][0]),
            (&"Table".into(), &"default".into())
        );
    }
    let pretty = curl(&api.at("", "/api/v1/namespaces/default")).succeeded();
    assert!(pretty.starts_with("{\n  \"apiVersion\": \"v1\",\n"), "{pretty}");
    let plain = curl(&api.at("", "/api/v1/namespaces/default?pretty=false")).succeeded();
    assert!(!plain.trim_end().contains('\n'), "{plain}");

    for path in ["/readyz?verbose", "/livez?verbose", "/healthz?verbose&exclude=etcd"] {
        let text = curl(&format!("-k {}{path}", api.cluster.line.api)).succeeded();
        assert!(text.contains("[+]ping ok\n") && text.ends_with(" check passed\n"), "{text}");
    }
    assert_eq!(curl(&api.at("", "/readyz/etcd")).succeeded(), "ok");
    assert_eq!(status_of(&api.at("", "/readyz/moon")), "404");
    assert!(curl(&api.at("", "/metrics")).succeeded().contains("# TYPE "));
    assert_eq!(status_of(&api.at("", "/api?timeout=soon")), "400");
    assert_eq!(status_of(&api.at("", "/api?timeout=32s")), "200");
    let late = ask(&api.at("", "/api/v1/pods?timeout=1ns"));
    let message = "Timeout: request did not complete within the allotted timeout";
    let expected = (&504.into(), &"Timeout".into(), &message.into());
    assert_eq!((&late["code"], &late["reason"], &late["message"]), expected);
    assert_eq!(status_of(&api.at("", "/api/v1/pods?limit=many")), "400");
    let dry = "--request DELETE";
    assert_eq!(status_of(&api.at(dry, "/api/v1/nodes/moon?dryRun=Some")), "422");

    api.cluster.kubectl("create deployment web --image=app --replicas=2");
    let scale = api.cluster.kubectl("get deployment web --subresource=scale");
    let lines: Vec<Vec<&str>> =
        scale.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "DESIRED", "AVAILABLE", "AGE"], "{scale}");
    assert_eq!(lines[1][..2], ["web", "2"], "{scale}");
    api.cluster.kubectl("label node node-1 rank=7");
    let get = |selector: &str| {
        let path = format!("/api/v1/nodes?labelSelector={selector}");
        let list = ask(&api.at("", &path));
        list["items"].as_array().expect("items").len()
    };
    assert_eq!((get("rank%3E6"), get("rank%3C7"), get("rank%3E7")), (1, 0, 0));
}

/// The URL names the object; a document without a name cannot make one.
#[test]
fn what_is_applied_may_leave_out_its_name_if_it_exists() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let api = Api::start();
    let apply = |name: &str, value: &str| {
        let config =
            format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","data":{{"k":"{value}"}}}}"#);
        let options = format!(
            "--request PATCH --header Content-Type:application/apply-patch+yaml --data {config}"
        );
        let path = format!("/api/v1/namespaces/default/configmaps/{name}?fieldManager=m");
        ask(&api.at(&options, &path))
    };
    let refused = apply("new", "1");
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (
            &400.into(),
            &"the name of the object (new based on URL) was undeterminable: name must be provided"
                .into()
        )
    );
    api.cluster.kubectl("create configmap old");
    assert_eq!(apply("old", "1")["data"]["k"], "1");
}

#[test]
fn a_scale_is_applied() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let api = Api::start();
    api.cluster.kubectl("create deployment web --image=app --replicas=2");
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale?fieldManager=scaler";
    let apply = |replicas: u8, query: &str| {
        let config = format!(
            r#"{{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{{"name":"web"}},"spec":{{"replicas":{replicas}}}}}"#
        );
        let form = "--header Content-Type:application/apply-patch+yaml";
        let options = format!("--request PATCH {form} --data {config}");
        ask(&api.at(&options, &format!("{path}{query}")))
    };
    let owners = || -> Vec<String> {
        let web = api.cluster.json("get deployment web --show-managed-fields");
        let entries = web["metadata"]["managedFields"].as_array().expect("managers");
        let own = entries.iter().filter(|e| !e["fieldsV1"]["f:spec"]["f:replicas"].is_null());
        own.map(|entry| format!("{} {}", entry["manager"], entry["subresource"])).collect()
    };
    let conflict = apply(3, "");
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using autoscaling/v1: .spec.replicas"
    );
    let scale = apply(2, "");
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&"Scale".into(), &2.into()));
    assert_eq!(owners(), ["\"scaler\" \"scale\"", "\"kubectl-create\" null"]);
    assert_eq!(apply(3, "&force=true")["spec"]["replicas"], 3);
    assert_eq!(owners(), ["\"scaler\" \"scale\""]);
    api.cluster.kubectl("rollout status deployment/web --timeout=30s");

    // kubectl finds no resource for a Scale, and sends a Deployment as it is. kube-apiserver refuses that too.
    let command = ["apply", "--server-side", "--subresource=scale", "-f", "-"];
    for (kind, complaint) in [
        ("apps/v1, kind: Deployment", "invalid object type: apps/v1, Kind=Deployment"),
        (
            "autoscaling/v1, kind: Scale",
            "no matches for kind \"Scale\" in version \"autoscaling/v1\"",
        ),
    ] {
        let (version, kind) = kind.split_once(", kind: ").expect("two parts");
        let document = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: web}}\nspec: {{replicas: 4}}\n"
        );
        let refused = run_with_input(api.cluster.kubectl_command(&command), &document).failed();
        assert!(refused.contains(complaint), "{refused}");
    }
}
