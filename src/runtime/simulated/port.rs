//! One port of a pod: binds it, on another port if it may not be bound, and retries after an error. A port needs a
//! file descriptor from the budget before it is bound, and waits for one if there is none.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    descriptors::{Held, Purpose},
    runtime::{
        MovedPort, Port,
        simulated::{
            pod::{Pod, PortStatus},
            tcp, udp,
        },
    },
};

/// The pause before a failed bind is retried. It doubles with each error.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How many connections wait to be accepted.
const BACKLOG: i32 = 256;

/// A bound port.
enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// The result of the first try to open a port.
pub(super) struct Opened {
    descriptor: Option<Held>,
    listener: Option<Listener>,
}

/// Tries to open a port, and sets its status.
pub(super) fn open(pod: &Pod, port: Port) -> Opened {
    let descriptor = pod.descriptors.take(Purpose::PodPort, 1);
    let listener = if descriptor.is_some() {
        bind(pod, port)
    } else {
        pod.note(port, PortStatus::Failed(pod.descriptors.reason()));
        None
    };
    Opened { descriptor, listener }
}

/// Serves a port until the pod stops.
pub(super) async fn serve(pod: Arc<Pod>, port: Port, opened: Opened) {
    let stopping = pod.stopping.clone();
    let (descriptor, mut listener) = match opened {
        Opened { descriptor: Some(descriptor), listener } => (descriptor, listener),
        Opened { descriptor: None, .. } => {
            let waited = pod.descriptors.wait(Purpose::PodPort);
            let Some(descriptor) = stopping.run_until_cancelled(waited).await else { return };
            let listener = bind(&pod, port);
            pod.tell();
            (descriptor, listener)
        }
    };
    if listener.is_none() {
        listener = stopping.run_until_cancelled(bind_at_last(&pod, port)).await;
    }
    match listener {
        Some(Listener::Tcp(listener)) => {
            stopping.run_until_cancelled(tcp::accept(&pod, port, &listener)).await;
            tcp::accept_waiting(&pod, port, listener);
        }
        Some(Listener::Udp(socket)) => {
            stopping.run_until_cancelled(udp::echo(&pod, port, &socket)).await;
        }
        None => {}
    }
    drop(descriptor);
}

async fn bind_at_last(pod: &Pod, port: Port) -> Listener {
    let mut pause = RETRY_MIN;
    loop {
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(RETRY_MAX);
        let bound = bind(pod, port);
        pod.tell();
        if let Some(listener) = bound {
            return listener;
        }
    }
}

/// Binds a port and sets its status. If only privileged users may bind the port, it is served on a free port at the
/// same address.
fn bind(pod: &Pod, port: Port) -> Option<Listener> {
    let ip = pod.spec().ip;
    let number = port.number;
    let (listener, status) = match listen(SocketAddr::new(ip, number), port.udp) {
        Ok((listener, _)) => (Some(listener), PortStatus::Served),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            match listen(SocketAddr::new(ip, 0), port.udp) {
                Ok((listener, bound)) => {
                    let reason = format!(
                        "port {number} of {ip} is below 1024 and needs a privilege; \
                         listening on port {bound} instead"
                    );
                    (Some(listener), PortStatus::Moved(MovedPort { port, bound, reason }))
                }
                Err(error) => (None, PortStatus::Failed(format!("a free port of {ip}: {error}"))),
            }
        }
        Err(error) => (None, PortStatus::Failed(format!("port {number} of {ip}: {error}"))),
    };
    pod.note(port, status);
    listener
}

/// Opens a listening socket. Returns the port number too.
fn listen(address: SocketAddr, udp: bool) -> io::Result<(Listener, u16)> {
    let (kind, protocol) =
        if udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier listener may be in TIME_WAIT. They must not delay a new one.
    socket.set_reuse_address(!udp)?;
    socket.bind(&address.into())?;
    let listener = if udp {
        Listener::Udp(UdpSocket::from_std(socket.into())?)
    } else {
        socket.listen(BACKLOG)?;
        Listener::Tcp(TcpListener::from_std(socket.into())?)
    };
    let bound = match &listener {
        Listener::Tcp(listener) => listener.local_addr()?,
        Listener::Udp(socket) => socket.local_addr()?,
    };
    Ok((listener, bound.port()))
}
