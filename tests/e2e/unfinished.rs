//! What is under way when the object store goes away: all of it ends once the store is back.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
};

use crate::{
    cluster::Cluster,
    http::pod_at,
    tools::{self, eventually, wanted},
};

const PORT: u16 = 9001;

/// A Job that runs, a pod that is being deleted, and a policy whose module is not there yet.
pub(crate) struct Unfinished {
    name: String,
    service: String,
    job_pod: String,
    policies: PathBuf,
    /// Keeps the deleted pod from ending.
    connection: Option<TcpStream>,
}

impl Unfinished {
    /// To be called while the store is there; `name` is new in this cluster.
    /// `policies` is the directory that modules are read from.
    pub(crate) fn begin(cluster: &Cluster, name: &str, policies: PathBuf) -> Self {
        let module = tools::root().join("tests/policies/first.wat");
        fs::create_dir_all(&policies).expect("the data directory is writable");
        fs::copy(module, policies.join("later")).expect("it is writable");
        cluster.apply(&manifest(name));
        cluster.endpoints_ready(name, 2);
        eventually("the policy is refused", || policy_is(cluster, name, "False"));
        let ip = |pods: &str| {
            eventually(&format!("{pods} has an address"), || {
                let path = "-o jsonpath={.items[0].status.podIP}";
                let ip = cluster.kubectl(&format!("get pods -l {pods} {path}"));
                wanted(!ip.is_empty(), "none")?;
                Ok(ip)
            })
        };
        let job_pod = ip(&format!("job-name={name}"));
        let victim = ip(&format!("app={name}-victim"));
        let connection = TcpStream::connect((victim, PORT)).expect("the pod listens");
        (&connection).write_all(b"hold on").expect("the pod reads");
        (&connection).read_exact(&mut [0; 7]).expect("the pod echoes");
        cluster.kubectl(&format!("delete pod {name}-victim --wait=false"));
        let service = cluster.cluster_ip(name);
        Self { name: name.to_owned(), service, job_pod, policies, connection: Some(connection) }
    }

    /// Lets all of it go on, while the store takes no writes.
    pub(crate) fn go_on(&mut self, cluster: &Cluster) {
        let Self { name, service, job_pod, policies, connection } = self;
        assert!(job_is_complete(cluster, name).is_err(), "it ends while the store is away");
        drop(connection.take());
        let module = policies.join(format!("{name}.wat"));
        fs::rename(policies.join("later"), module).expect("that needs no room");
        eventually("the module is in use", || {
            let picks: Vec<_> = (0..4).map(|_| pod_at(service, PORT)).collect();
            wanted(picks.iter().all(|pick| *pick == picks[0]), format!("{picks:?}"))
        });
        eventually("the Job's pod has ended", || {
            let refused = TcpStream::connect((job_pod.as_str(), PORT)).is_err();
            wanted(refused, "it listens")
        });
        assert!(job_is_complete(cluster, name).is_err(), "nothing can be written");
        assert!(policy_is(cluster, name, "True").is_err(), "nothing can be written");
        cluster.kubectl(&format!("get pod {name}-victim"));
    }

    /// Once the store is back.
    pub(crate) fn ends(&self, cluster: &Cluster) {
        let name = &self.name;
        eventually("the Job is complete", || job_is_complete(cluster, name));
        eventually("the policy is ready", || policy_is(cluster, name, "True"));
        eventually("the pod is gone", || {
            let got = cluster.try_kubectl(&format!("get pod {name}-victim"));
            wanted(got.stderr.contains("NotFound"), got.stdout)
        });
    }
}

fn manifest(name: &str) -> String {
    let pod = |pod: &str, app: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}, labels: {{app: {app}}}}}, \
             spec: {{containers: [{{name: c, image: x, ports: [{{containerPort: {PORT}}}]}}]}}}}"
        )
    };
    let policy = format!(
        "{{apiVersion: snowglobe.dev/v1alpha1, kind: LoadBalancerPolicy, metadata: {{name: {name}}}, \
         spec: {{module: {{path: {name}.wat}}}}}}"
    );
    let service = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, annotations: \
         {{snowglobe.dev/load-balancer-policy: {name}}}}}, \
         spec: {{selector: {{app: {name}}}, ports: [{{port: {PORT}}}]}}}}"
    );
    let job = format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{template: {{spec: \
         {{restartPolicy: Never, containers: [{{name: c, image: x, command: [sleep, '5'], \
         ports: [{{containerPort: {PORT}}}]}}]}}}}}}}}"
    );
    let pods = [
        pod(&format!("{name}-a"), name),
        pod(&format!("{name}-b"), name),
        pod(&format!("{name}-victim"), &format!("{name}-victim")),
    ];
    [policy, service].into_iter().chain(pods).chain([job]).collect::<Vec<_>>().join("\n---\n")
}

fn job_is_complete(cluster: &Cluster, name: &str) -> Result<(), String> {
    let status = cluster.json(&format!("get job {name}"))["status"].take();
    wanted(status["succeeded"] == 1 && !status["completionTime"].is_null(), status)
}

fn policy_is(cluster: &Cluster, name: &str, ready: &str) -> Result<(), String> {
    let policy = cluster.json(&format!("get loadbalancerpolicy {name}"));
    wanted(policy["status"]["conditions"][0]["status"] == ready, policy)
}
