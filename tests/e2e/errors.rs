//! Bad input: one clear line that names the thing and the remedy, a non-zero exit, nothing hidden.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use crate::{
    cluster::Cluster,
    place::Place,
    tools::{self, Tool, can_use},
};

/// The one line that says why; parts of it are given.
#[track_caller]
pub(crate) fn fails_with(command: Command, parts: &[&str]) {
    let ran = tools::run(command);
    let text = format!("{}\n{}", ran.command, ran.stderr);
    assert!(ran.stdout.is_empty(), "nothing on stdout: {}\n{text}", ran.stdout);
    let stderr = ran.failed();
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("snowglobe: ")).collect();
    assert_eq!(lines.len(), 1, "one line says it: {text}");
    assert!(!stderr.contains("panicked"), "{text}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is not in: {text}");
    }
}

fn up(place: &Place, arguments: &[&str]) -> Command {
    let mut up = place.snowglobe("up");
    up.args(arguments).arg("--store=memory");
    up
}

#[test]
fn manifests_that_cannot_be_applied() {
    let place = Place::new();
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n---\n";
    for (name, text, parts) in [
        (
            "kind.yaml",
            "apiVersion: v1\nkind: Gizmo\nmetadata: {name: a}\n",
            &["kind.yaml, document 1", "Gizmo", "api-resources"][..],
        ),
        (
            "group.yaml",
            "apiVersion: apps/v9\nkind: Deployment\nmetadata: {name: a}\n",
            &["group.yaml", "Deployment", "apps/v9"],
        ),
        (
            "field.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{prot: 80}]}\n",
            &["field.yaml, document 1", "unknown field \"spec.ports[0].prot\""],
        ),
        (
            "value.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}\n",
            &["value.yaml, document 1", "spec.ports[0].port", "70000"],
        ),
        ("yaml.yaml", "apiVersion: v1\nkind: [\n", &["yaml.yaml", "not YAML", "line"]),
        ("object.yaml", "a: b\n", &["object.yaml", "apiVersion and kind are missing"]),
        ("name.yaml", "apiVersion: v1\nkind: ConfigMap\n", &["name.yaml", "metadata.name"]),
    ] {
        let file = place.file(name, text);
        fails_with(up(&place, &[file.to_str().expect("UTF-8")]), parts);
    }
    // Nothing half-applied is hidden.
    let bad =
        "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{port: 70000}]}\n";
    let file = place.file("half.yaml", &format!("{good}{bad}"));
    let parts = ["half.yaml, document 2", "applied before the error", "good"];
    fails_with(up(&place, &[file.to_str().expect("UTF-8")]), &parts);
}

#[test]
fn files_that_cannot_be_read() {
    let place = Place::new();
    let absent = place.home().join("absent.yaml");
    fails_with(up(&place, &[absent.to_str().expect("UTF-8")]), &["absent.yaml", "No such file"]);
    let empty = place.home().join("empty");
    fs::create_dir(&empty).expect("a directory of the test");
    fails_with(up(&place, &[empty.to_str().expect("UTF-8")]), &["empty", "no .yaml"]);
    let binary = place.home().join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe, 0x00]).expect("a file of the test");
    fails_with(up(&place, &[binary.to_str().expect("UTF-8")]), &["binary.yaml"]);
    let secret = place.file("secret.yaml", "apiVersion: v1\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("our own file");
    // Root reads everything.
    if fs::read(&secret).is_err() {
        fails_with(up(&place, &[secret.to_str().expect("UTF-8")]), &["secret.yaml", "denied"]);
    }
}

#[test]
fn ports_in_use() {
    let place = Place::new();
    let address = place.free_address();
    let tcp = TcpListener::bind((address, 7000)).expect("it is free");
    let udp = UdpSocket::bind((address, 7001)).expect("it is free");
    for (flag, port) in
        [("api", 7000), ("dashboard", 7000), ("metrics", 7000), ("dns", 7000), ("dns", 7001)]
    {
        let listen = format!("--{flag}-listen={address}:{port}");
        let parts = [format!("{address}:{port}"), "in use".to_owned(), format!("--{flag}-listen")];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        fails_with(up(&place, &[&listen]), &parts);
    }
    drop((tcp, udp));
    if !place.low_ports_allowed() {
        let listen = format!("--api-listen={address}:443");
        fails_with(up(&place, &[&listen]), &["443", "below 1024", "--api-listen"]);
    }
    fails_with(up(&place, &["--api-listen=192.0.2.1:0"]), &["--api-listen", "--allow-remote"]);
    fails_with(
        up(&place, &["--allow-remote", "--api-listen=192.0.2.1:0"]),
        &["192.0.2.1", "does not have that address"],
    );
}

#[test]
fn a_data_directory_in_use() {
    let mut cluster = Cluster::start();
    let data = cluster.place.data();
    let parts = [data.to_str().expect("UTF-8"), "in use by another snowglobe", "--data-dir"];
    fails_with(cluster.place.snowglobe("up"), &parts);
    cluster.stop();
    cluster.start_again();
}

#[test]
fn a_data_directory_that_cannot_be_used() {
    let place = Place::new();
    let file = place.file("file", "");
    let mut up = place.snowglobe("up");
    up.arg("--kubeconfig").arg(file.join("kubeconfig"));
    fails_with(up, &["kubeconfig"]);
    fs::remove_dir_all(place.data()).ok();
    fs::write(place.data(), "no directory").expect("a file of the test");
    fails_with(place.snowglobe("up"), &[place.data().to_str().expect("UTF-8"), "--data-dir"]);
}

#[test]
fn flags_that_do_not_fit_together() {
    let place = Place::new();
    for (arguments, parts) in [
        (&["--service-cidr=10.96.0.0/16"][..], &["--service-cidr", "127.0.0.0/8"][..]),
        (&["--pod-cidr=fd00::/64"], &["--pod-cidr", "IPv4"]),
        (&["--client-node=node-9"], &["node-9", "node-1"]),
        (&["--cluster-domain=a..b"], &["--cluster-domain", "a..b"]),
    ] {
        fails_with(up(&place, arguments), parts);
    }
    let overlap = format!("--node-cidr={}/24", place.address(0, 0));
    fails_with(up(&place, &[&overlap]), &["--node-cidr", "--service-cidr", "overlap"]);
    // What clap refuses, it refuses in its own words and with its own code.
    for argument in ["--nodes=0", "--nodes=many", "--store=oracle", "--api-listen=here", "--gizmo"]
    {
        let ran = tools::run(up(&place, &[argument]));
        assert_eq!(ran.code, Some(2), "{argument}: {}", ran.stderr);
        let name = argument.split('=').next().expect("a flag");
        assert!(ran.stderr.contains(name), "{argument}: {}", ran.stderr);
    }
}

#[test]
fn configuration_files() {
    let place = Place::new();
    for (text, parts) in [
        ("nodez: 3\n", &["snowglobe.yaml", "nodez", "--help"][..]),
        ("nodes: {a: b}\n", &["snowglobe.yaml", "nodes"]),
        ("- nodes\n", &["snowglobe.yaml", "not a YAML map"]),
        ("nodes: [\n", &["snowglobe.yaml"]),
    ] {
        let file = place.file("snowglobe.yaml", text);
        fails_with(up(&place, &["--config", file.to_str().expect("UTF-8")]), parts);
    }
    let file = place.file("snowglobe.yaml", "nodes: many\n");
    let ran = tools::run(up(&place, &["--config", file.to_str().expect("UTF-8")]));
    assert!(ran.failed().contains("many"));
    let absent = place.home().join("absent.yaml");
    fails_with(up(&place, &["--config", absent.to_str().expect("UTF-8")]), &["absent.yaml"]);
}

#[test]
fn client_commands_without_a_cluster() {
    let place = Place::new();
    let command = |arguments: &[&str]| {
        let mut command = tools::snowglobe();
        command.args(arguments).arg("--data-dir").arg(place.data()).env_remove("KUBECONFIG");
        command
    };
    let kubeconfig = place.data().join("kubeconfig");
    let parts = [kubeconfig.to_str().expect("UTF-8"), "snowglobe up"];
    for arguments in [&["status"][..], &["get", "pods"], &["delete", "pod", "a"]] {
        fails_with(command(arguments), &parts);
    }
    let manifest = place.file("bad.yaml", "apiVersion: v1\nkind: Gizmo\nmetadata: {name: a}\n");
    fails_with(
        command(&["apply", "-f", manifest.to_str().expect("UTF-8")]),
        &["bad.yaml", "Gizmo"],
    );
}

#[test]
fn the_api_explains_itself() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let service = |spec: &str| {
        let manifest =
            format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}");
        cluster.try_apply(&manifest).failed()
    };
    for (spec, part) in [
        (
            "{clusterIP: 10.0.0.1, ports: [{port: 80}]}",
            "the provided network does not match the current range",
        ),
        ("{ports: [{port: 80}, {port: 81}]}", "spec.ports[0].name: Required value"),
        (
            "{type: NodePort, ports: [{port: 80, nodePort: 80}]}",
            "provided port is not in the valid range",
        ),
        ("{externalIPs: [127.9.9.9], ports: [{port: 80}]}", "externalIPs"),
        ("{ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}", "RequireDualStack"),
        ("{type: Gizmo, ports: [{port: 80}]}", "spec.type: Unsupported value: \"Gizmo\""),
    ] {
        let complaint = service(spec);
        assert!(complaint.contains(part), "{spec}: {complaint}");
    }
    let taken = cluster.place.service_address(10);
    let complaint = service(&format!("{{clusterIP: {taken}, ports: [{{port: 80}}]}}"));
    assert!(complaint.contains("provided IP is already allocated"), "{complaint}");
    let namespace = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: absent}}";
    let complaint = cluster.try_apply(namespace).failed();
    assert!(complaint.contains("namespaces \"absent\" not found"), "{complaint}");
}
