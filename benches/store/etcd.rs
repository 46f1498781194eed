//! A real etcd with its defaults, as a peer.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use snowglobe::store::{Etcd, EtcdOptions, Store};

/// A running server; it ends when dropped.
pub(crate) struct Server {
    process: Child,
    client: String,
}

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        let [client, peer] = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(data)
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster=default=http://{peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed (Debian: etcd-server)");
        Self { process, client }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        let options: EtcdOptions = format!("etcd://{}", self.client).parse().unwrap();
        Arc::new(Etcd::open(EtcdOptions { patience: PATIENCE, ..options }).await.unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its name and version, as it tells them.
    pub(crate) fn version() -> String {
        let said = Command::new("etcd").arg("--version").output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        let number = said.lines().next().unwrap_or_default().rsplit(' ').next().unwrap_or_default();
        format!("etcd {number}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}
