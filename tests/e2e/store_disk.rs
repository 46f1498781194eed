//! A cluster on a disk that is full or read-only. The disk is a small one of its own, in a mount namespace that any user
//! may make where the system allows it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{
    cluster::Cluster,
    errors::fails_with,
    http::pod_at,
    place::Place,
    tools::{self, Tool, can_use, eventually, leave_out},
    unfinished::Unfinished,
};

const SIZE: &str = "96m";
/// Objects that fit after the disk is full, into what the store has set aside; there are far fewer.
const OBJECTS_MAX: usize = 1000;

/// A small disk at the data directory of a place, seen only by its own commands.
struct Disk {
    /// A process that does nothing in the namespace; it ends with its standard input.
    holder: Child,
    data: PathBuf,
}

impl Disk {
    /// `None`, and a word, where the system does not allow it; there the test fails if nothing may be left out.
    fn mount(place: &Place) -> Option<Self> {
        let data = place.data();
        fs::create_dir_all(&data).expect("a directory of the test");
        let script = format!("mount -t tmpfs -o size={SIZE} tmpfs \"$0\" && echo mounted && cat");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(&data);
        if let Ok(mut holder) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
            let mut line = String::new();
            let stdout = holder.stdout.as_mut().expect("it is piped");
            BufReader::new(stdout).read_line(&mut line).expect("it is readable");
            let disk = Self { holder, data };
            if line == "mounted\n" {
                return Some(disk);
            }
        }
        leave_out(
            "a disk of its own, mounted in a user namespace",
            "install util-linux, and let users make user namespaces \
             (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)",
        );
        None
    }

    /// A command that sees the disk.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        inside.arg(self.holder.id().to_string());
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// `snowglobe up`, whose kubeconfig lies on another disk.
    fn up(&self, place: &Place) -> Command {
        let mut up = place.snowglobe("up");
        up.arg("--kubeconfig").arg(place.home().join("kubeconfig"));
        self.inside(&up)
    }

    /// A path on the disk, as this process sees it.
    fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.data.strip_prefix("/").expect("it is absolute")).join(name)
    }

    /// Fills what is free.
    fn fill(&self) {
        let mut ballast = File::create(self.path("ballast")).expect("the disk is writable");
        loop {
            match ballast.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path("ballast")).expect("the ballast is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

async fn create(maps: &Api<ConfigMap>, name: &str) -> Result<(), kube::core::Status> {
    let map = json!({"metadata": {"name": name}, "data": {"text": "x".repeat(200_000)}});
    let map: ConfigMap = serde_json::from_value(map).expect("typed");
    match maps.create(&PostParams::default(), &map).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_a_cluster_read_only() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let Some(disk) = Disk::mount(&place) else { return };
    let up = disk.up(&place);
    let mut cluster = Cluster::by_command(place, up);
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    let address = cluster.cluster_ip("production/payment-service");
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        create(&maps, &format!("before-{round}")).await.expect("there is room");
        acknowledged.push(format!("before-{round}"));
        disk.fill();
        let mut refused = None;
        for i in 0..OBJECTS_MAX {
            let name = format!("map-{round}-{i}");
            match create(&maps, &name).await {
                Ok(()) => acknowledged.push(name),
                Err(status) => {
                    refused = Some((name, status));
                    break;
                }
            }
        }
        let (name, status) = refused.expect("the disk is full");
        assert_eq!((status.code, status.reason.as_str()), (507, "InsufficientStorage"));
        let data = cluster.place.data();
        let text = format!("no space is left for the object store in {}", data.display());
        assert_eq!(status.message, text);
        let complaint = cluster.try_kubectl("create configmap one-more").failed();
        assert!(complaint.contains(&text), "{complaint}");
        // Reads and traffic go on.
        let got = cluster.kubectl(&format!("get configmap before-{round} -o name"));
        assert_eq!(got, format!("configmap/before-{round}\n"));
        assert!(
            cluster.try_kubectl(&format!("get configmap {name}")).failed().contains("NotFound")
        );
        assert!(pod_at(&address, 9000).starts_with("payment-deployment-"));
        assert!(cluster.log().contains("the disk is full: the object store is read-only"));
        disk.make_room();
        eventually("writes resume", || {
            let ran = cluster.try_kubectl(&format!("create configmap {name}"));
            if ran.code == Some(0) { Ok(()) } else { Err(ran.stderr) }
        });
        acknowledged.push(name);
        assert!(cluster.log().contains("the object store accepts writes again"));
    }
    starts_only_with_room(&mut cluster, &disk);
    let names = cluster.kubectl("get configmaps -o name");
    for name in acknowledged {
        assert!(names.contains(&format!("configmap/{name}\n")), "{name}: {names}");
    }
    cluster.stop();
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_ends_when_the_disk_has_room() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let Some(disk) = Disk::mount(&place) else { return };
    let up = disk.up(&place);
    let cluster = Cluster::by_command(place, up);
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await);
    let mut unfinished = Unfinished::begin(&cluster, "full", disk.path("policies"));
    disk.fill();
    for i in 0.. {
        if create(&maps, &format!("map-{i}")).await.is_err() {
            break;
        }
    }
    unfinished.go_on(&cluster);
    disk.make_room();
    unfinished.ends(&cluster);
}

/// A start on a full or read-only disk says so; afterwards the cluster starts.
fn starts_only_with_room(cluster: &mut Cluster, disk: &Disk) {
    cluster.stop();
    let place = &cluster.place;
    let data = place.data();
    let data = data.to_str().expect("UTF-8");
    disk.fill();
    fails_with(disk.up(place), &["no space is left", data]);
    let mut elsewhere = disk.up(place);
    elsewhere.env("SNOWGLOBE_DATA_DIR", place.data().join("other"));
    fails_with(elsewhere, &[data, "pace"]);
    disk.make_room();
    remount(disk, "ro");
    fails_with(disk.up(place), &[data, "Read-only file system", "--data-dir"]);
    remount(disk, "rw");
    let up = disk.up(place);
    cluster.start_again_by(up);
}

fn remount(disk: &Disk, how: &str) {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,bind,{how}")]).arg(&disk.data);
    tools::run(disk.inside(&mount)).succeeded();
}
