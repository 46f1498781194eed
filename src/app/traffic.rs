//! Traffic for the demo: calls each Service of a namespace a few times a second from the address of a pod, so that
//! the dashboard shows something for every node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Service};
use rand::{RngExt, seq::IndexedRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::kind,
    registry::{Registry, View},
};

/// The mean pause between two calls.
const PAUSE: Duration = Duration::from_millis(120);
/// A call is given up after this time.
const CALL_MAX: Duration = Duration::from_secs(2);
/// Largest answer that is read. An answer has a few hundred bytes.
const ANSWER_MAX: u64 = 64 * 1024;

/// Sends calls until the token is cancelled.
pub(crate) async fn run(registry: Arc<Registry>, namespace: &str, token: CancellationToken) {
    loop {
        let pause = PAUSE.mul_f64(rand::rng().random_range(0.2..1.8));
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let view = registry.view();
        let Some((target, source)) = choose(&view, namespace) else { continue };
        let called = tokio::time::timeout(CALL_MAX, call(target, source)).await;
        if let Ok(Err(error)) = called {
            tracing::debug!(%target, %error, "a demo call failed");
        }
    }
}

/// Chooses a random port of a random Service, and the address of a random pod that calls it.
fn choose(view: &View, namespace: &str) -> Option<(SocketAddr, SocketAddr)> {
    let targets: Vec<SocketAddr> = view
        .list(&kind::SERVICE, Some(namespace))
        .filter_map(|service| service.parse::<Service>().ok()?.spec)
        .flat_map(|spec| {
            let ip = spec.cluster_ip.unwrap_or_default();
            let ports = spec.ports.unwrap_or_default();
            ports.into_iter().filter_map(move |port| {
                Some(SocketAddr::new(ip.parse().ok()?, u16::try_from(port.port).ok()?))
            })
        })
        .collect();
    let sources: Vec<SocketAddr> = view
        .list(&kind::POD, Some(namespace))
        .filter_map(|pod| pod.parse::<Pod>().ok()?.status?.pod_ip?.parse().ok())
        .map(|ip| SocketAddr::new(ip, 0))
        .collect();
    let mut random = rand::rng();
    Some((*targets.choose(&mut random)?, *sources.choose(&mut random)?))
}

async fn call(target: SocketAddr, source: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source)?;
    let mut stream = socket.connect(target).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(())
}
