mod sockets;
mod tables;
mod topologies;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::{
    policy::{By, Decision, PickRequest, Picking, library::Library},
    proxy::dataplane::loopback::Loopback,
    route::{Endpoint, Frontend, FrontendKind, NamespacedName, Node},
};

const LONG: Duration = Duration::from_secs(20);

/// A proxy on real sockets, and the control half that feeds it.
struct Fixture {
    proxy: Arc<Proxy>,
    table: watch::Sender<Arc<RouteTable>>,
    notices: mpsc::Receiver<Notice>,
    token: CancellationToken,
    tasks: JoinSet<()>,
    scheduler: Arc<InTurn>,
}

/// Stands for the policies: round robin over all calls.
#[derive(Default)]
struct InTurn {
    calls: AtomicUsize,
    forgotten: Mutex<Vec<RouteName>>,
}

impl Scheduler for InTurn {
    fn pick<'a>(&'a self, request: PickRequest<'a>) -> Picking<'a> {
        let index = self.calls.fetch_add(1, Relaxed) % request.candidates.len();
        Picking::Now(Decision::new(Some(index), By::Policy))
    }

    fn forget(&self, route: &RouteName) {
        self.forgotten.lock().push(route.clone());
    }
}

impl Fixture {
    fn start() -> Self {
        Self::bounded(Bounds::within(&options().descriptors), SESSIONS_MAX)
    }

    fn bounded(connections: Bounds, sessions: usize) -> Self {
        let (sender, notices) = mpsc::channel(64);
        let scheduler = Arc::<InTurn>::default();
        let topologies = topologies(&sender);
        let choosers = (scheduler.clone() as Arc<dyn Scheduler>, topologies);
        let proxy = Proxy::bounded(options(), choosers, sender, (connections, sessions));
        let table = watch::Sender::new(Arc::default());
        let token = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (running, receiver) = (Arc::clone(&proxy), table.subscribe());
        let cancelled = token.clone();
        tasks.spawn(async move { running.run(&Loopback, receiver, cancelled).await });
        Self { proxy, table, notices, token, tasks, scheduler }
    }

    /// Hands over a table with these routes, and waits until its listeners are in place.
    async fn publish(&self, routes: &[Route]) {
        let revision = self.table.borrow().revision + 1;
        let mut served = self.proxy.served_revision();
        self.table.send_replace(Arc::new(table(revision, routes)));
        let served = served.wait_for(|served| *served >= revision);
        drop(timeout(LONG, served).await.expect("listeners within a moment").unwrap());
    }

    async fn notice(&mut self) -> Notice {
        timeout(LONG, self.notices.recv()).await.expect("a notice").unwrap()
    }

    /// Ends the proxy and waits for it.
    async fn stop(mut self) {
        self.token.cancel();
        timeout(LONG, self.tasks.join_next()).await.expect("an end").unwrap().unwrap();
    }
}

/// None is loaded.
fn topologies(notices: &notice::Sender) -> Arc<Topologies> {
    let schedulers = Library::new(notices.clone(), None).unwrap();
    Topologies::new(schedulers.for_topologies())
}

fn options() -> Options {
    Options {
        client_node: Arc::from("node-1"),
        view: ProxyView::PerNode,
        timeouts: Timeouts::default(),
        drain: Duration::from_millis(300),
        descriptors: Budget::of_this_process(),
    }
}

/// Three nodes in two zones; node i owns 127.252.i.0/24 with pods .1 to .9 and its own address .254.
fn table(revision: u64, routes: &[Route]) -> RouteTable {
    let mut table = RouteTable { revision, ..RouteTable::default() };
    for (index, zone) in [(1_u8, "a"), (2, "b"), (3, "b")] {
        let name: Arc<str> = Arc::from(format!("node-{index}"));
        let own = [127, 252, index, 254].into();
        let zone = Some(Arc::from(zone));
        let node = Node { name: Arc::clone(&name), addresses: vec![own], zone };
        table.nodes.insert(Arc::clone(&name), Arc::new(node));
        table.places.insert(own, Arc::clone(&name));
        for pod in 1..10 {
            table.places.insert([127, 252, index, pod].into(), Arc::clone(&name));
        }
    }
    for route in routes {
        table.routes.insert(route.name.clone(), Arc::new(route.clone()));
    }
    table
}

fn route(protocol: Protocol, frontend: SocketAddr, endpoints: &[Endpoint]) -> Route {
    let service = NamespacedName { namespace: Arc::from("default"), name: Arc::from("web") };
    Route {
        name: RouteName { service, port: frontend.port(), protocol },
        port_name: Arc::from(""),
        frontends: vec![Frontend { kind: FrontendKind::ClusterIp, address: frontend }],
        endpoints: endpoints.into(),
        affinity: None,
        internal_local: false,
        external_local: false,
        source_ranges: Vec::new(),
        policy: None,
        topology: None,
    }
}

/// A ready endpoint; `127.252.i.x` is on node i.
fn endpoint(address: SocketAddr) -> Endpoint {
    let node = match address {
        SocketAddr::V4(address) => format!("node-{}", address.ip().octets()[2]),
        SocketAddr::V6(_) => unreachable!("tests use IPv4"),
    };
    Endpoint {
        address,
        target: address,
        node: Some(Arc::from(node)),
        zone: None,
        ready: true,
        serving: true,
        terminating: false,
        weight: 1,
        pod: None,
        hints: None,
    }
}

fn unready(address: SocketAddr) -> Endpoint {
    Endpoint { ready: false, serving: false, ..endpoint(address) }
}

fn terminating(address: SocketAddr) -> Endpoint {
    Endpoint { ready: false, terminating: true, ..endpoint(address) }
}

/// An address with a port that is free now.
fn free(ip: [u8; 4]) -> SocketAddr {
    std::net::TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).unwrap().local_addr().unwrap()
}

/// A server that says its own and its client's address, `127.252.1.1:80 127.0.0.1\n`, then echoes to the end.
struct Server {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(ip: [u8; 4]) -> Self {
        let listener = TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, client)) = listener.accept().await {
                connections.spawn(async move {
                    let hello = format!("{address} {}\n", client.ip());
                    let (mut read, mut write) = stream.split();
                    if write.write_all(hello.as_bytes()).await.is_ok() {
                        tokio::io::copy(&mut read, &mut write).await.ok();
                        write.shutdown().await.ok();
                    }
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

async fn connect_from(client: [u8; 4], address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((std::net::Ipv4Addr::from(client), 0).into())?;
    timeout(LONG, socket.connect(address)).await.expect("an answer to a connect")
}

/// The first line, as words.
async fn hello(stream: &mut TcpStream) -> std::io::Result<(SocketAddr, String)> {
    let mut line = String::new();
    let read = async {
        while !line.ends_with('\n') {
            line.push(char::from(stream.read_u8().await?));
        }
        Ok::<_, std::io::Error>(())
    };
    timeout(LONG, read).await.expect("an answer")?;
    let (server, client) = line.trim().split_once(' ').unwrap();
    Ok((server.parse().unwrap(), client.to_owned()))
}

/// Connects, and tells which server answered.
async fn who_answers(client: [u8; 4], address: SocketAddr) -> std::io::Result<SocketAddr> {
    let mut stream = connect_from(client, address).await?;
    Ok(hello(&mut stream).await?.0)
}

fn kind<T>(result: std::io::Result<T>) -> Option<std::io::ErrorKind> {
    result.err().map(|error| error.kind())
}
