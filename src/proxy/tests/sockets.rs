//! The proxy on real sockets.

use std::{collections::BTreeSet, io::ErrorKind};

use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;

use super::*;

const CLIENT: [u8; 4] = [127, 0, 0, 1];
const POD_1: [u8; 4] = [127, 252, 1, 1];
const POD_2: [u8; 4] = [127, 252, 2, 1];
const VIP: [u8; 4] = [127, 253, 0, 1];

async fn two_servers() -> (Server, Server) {
    (Server::start(POD_1).await, Server::start(POD_2).await)
}

fn web(frontend: SocketAddr, servers: &[&Server]) -> Route {
    let endpoints: Vec<_> = servers.iter().map(|server| endpoint(server.address)).collect();
    route(Protocol::Tcp, frontend, &endpoints)
}

#[tokio::test]
async fn spreads_connections_and_shows_the_real_client() {
    let (fixture, (one, two), vip) = (Fixture::start(), two_servers().await, free(VIP));
    fixture.publish(&[web(vip, &[&one, &two])]).await;
    let mut answered = Vec::new();
    for _ in 0..4 {
        let mut stream = connect_from([127, 252, 3, 7], vip).await.unwrap();
        let (server, client) = hello(&mut stream).await.unwrap();
        assert_eq!(client, "127.252.3.7");
        answered.push(server);
    }
    assert_eq!(answered, [one.address, two.address, one.address, two.address]);
    let stats = fixture.proxy.snapshot();
    assert_eq!(&*stats[0].view, "node-3");
    assert_eq!(stats[0].endpoints.iter().map(|e| e.picks).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(fixture.proxy.metrics().totals().carried, 4);
}

#[tokio::test]
async fn passes_on_the_end_of_data_and_what_comes_after() {
    let (fixture, (one, _), vip) = (Fixture::start(), two_servers().await, free(VIP));
    fixture.publish(&[web(vip, &[&one])]).await;
    let mut stream = connect_from(CLIENT, vip).await.unwrap();
    hello(&mut stream).await.unwrap();
    let sent = vec![7; 3_000_000];
    let (mut read, mut write) = stream.split();
    let mut received = Vec::new();
    let (sending, receiving) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        timeout(LONG, read.read_to_end(&mut received)),
    );
    sending.unwrap();
    receiving.unwrap().unwrap();
    assert!(received == sent, "{} bytes", received.len());
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_at_once_without_a_ready_endpoint() {
    let (fixture, (one, two), vip) = (Fixture::start(), two_servers().await, free(VIP));
    let with = |first, second| route(Protocol::Tcp, vip, &[first, second]);
    for (routes, expected) in [
        (vec![], Err(ErrorKind::ConnectionRefused)),
        (vec![with(unready(one.address), unready(two.address))], Err(ErrorKind::ConnectionRefused)),
        (vec![with(unready(one.address), endpoint(two.address))], Ok(two.address)),
        (vec![with(terminating(one.address), unready(two.address))], Ok(one.address)),
        (vec![with(terminating(one.address), endpoint(two.address))], Ok(two.address)),
        (vec![web(vip, &[])], Err(ErrorKind::ConnectionRefused)),
        (vec![web(vip, &[&one])], Ok(one.address)),
        (vec![], Err(ErrorKind::ConnectionRefused)),
    ] {
        fixture.publish(&routes).await;
        let answered = who_answers(CLIENT, vip).await.map_err(|error| error.kind());
        assert_eq!(answered, expected, "{routes:?}");
    }
    assert_eq!(fixture.scheduler.forgotten.lock().len(), 1);
}

#[tokio::test]
async fn resets_a_client_whose_view_is_empty() {
    let (fixture, (_, two), vip) = (Fixture::start(), two_servers().await, free(VIP));
    fixture.publish(&[Route { internal_local: true, ..web(vip, &[&two]) }]).await;
    assert_eq!(kind(who_answers(POD_1, vip).await), Some(ErrorKind::ConnectionReset));
    assert_eq!(who_answers([127, 252, 2, 9], vip).await.unwrap(), two.address);
    assert_eq!(fixture.proxy.metrics().totals().refused, 1);
}

#[tokio::test]
async fn resets_a_source_that_is_not_allowed_and_says_so_once() {
    let (mut fixture, (one, _), vip) = (Fixture::start(), two_servers().await, free(VIP));
    let mut route = web(vip, &[&one]);
    route.frontends[0].kind = FrontendKind::LoadBalancer;
    route.source_ranges = vec!["127.252.3.0/24".parse().unwrap()];
    fixture.publish(std::slice::from_ref(&route)).await;
    for _ in 0..3 {
        assert_eq!(kind(who_answers(CLIENT, vip).await), Some(ErrorKind::ConnectionReset));
    }
    assert_eq!(who_answers([127, 252, 3, 1], vip).await.unwrap(), one.address);
    assert!(matches!(fixture.notice().await, Notice::SourceRefused { .. }));
    assert!(fixture.notices.try_recv().is_err());
}

#[tokio::test]
async fn affinity_holds_while_the_endpoint_lives() {
    let (fixture, (one, two), vip) = (Fixture::start(), two_servers().await, free(VIP));
    let sticky = |servers: &[&Server]| Route {
        affinity: Some(Duration::from_secs(60)),
        ..web(vip, servers)
    };
    fixture.publish(&[sticky(&[&one, &two])]).await;
    let first = who_answers(CLIENT, vip).await.unwrap();
    for _ in 0..3 {
        assert_eq!(who_answers(CLIENT, vip).await.unwrap(), first);
    }
    let three = Server::start([127, 252, 3, 1]).await;
    fixture.publish(&[sticky(&[&three, &one, &two])]).await;
    assert_eq!(who_answers(CLIENT, vip).await.unwrap(), first);
    let rest = if first == one.address { &two } else { &one };
    fixture.publish(&[sticky(&[rest])]).await;
    assert_eq!(who_answers(CLIENT, vip).await.unwrap(), rest.address);
}

#[tokio::test]
async fn steps_over_endpoints_that_do_not_accept() {
    let (fixture, (one, _), vip) = (Fixture::start(), two_servers().await, free(VIP));
    let dead = [endpoint(free(POD_2)), endpoint(free([127, 252, 2, 2]))];
    let all = [dead[0].clone(), dead[1].clone(), endpoint(one.address)];
    fixture.publish(&[route(Protocol::Tcp, vip, &all)]).await;
    for _ in 0..3 {
        assert_eq!(who_answers(CLIENT, vip).await.unwrap(), one.address);
    }
    let stats = fixture.proxy.snapshot().remove(0);
    assert!(stats.endpoints[0].failures > 0 && stats.endpoints[2].failures == 0, "{stats:?}");
    fixture.publish(&[route(Protocol::Tcp, vip, &dead)]).await;
    assert_eq!(kind(who_answers(CLIENT, vip).await), Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_load_balancer_steps_over_nodes_whose_endpoint_does_not_accept() {
    let (fixture, one, vip) = (Fixture::start(), Server::start(POD_1).await, free(VIP));
    let dead = [endpoint(free(POD_2)), endpoint(free([127, 252, 3, 1]))];
    let all = [endpoint(one.address), dead[0].clone(), dead[1].clone()];
    let mut route = Route { external_local: true, ..route(Protocol::Tcp, vip, &all) };
    route.frontends[0].kind = FrontendKind::LoadBalancer;
    fixture.publish(std::slice::from_ref(&route)).await;
    for _ in 0..6 {
        assert_eq!(who_answers(CLIENT, vip).await.unwrap(), one.address);
    }
    // Many at a time share the load balancer's turns.
    let clients = (0..24).map(|_| who_answers(CLIENT, vip));
    for answered in futures::future::join_all(clients).await {
        assert_eq!(answered.unwrap(), one.address);
    }
    // Of the node's own endpoints, one may be alive.
    route.endpoints = [endpoint(free([127, 252, 1, 2])), endpoint(one.address)].into();
    fixture.publish(std::slice::from_ref(&route)).await;
    for _ in 0..4 {
        assert_eq!(who_answers(CLIENT, vip).await.unwrap(), one.address);
    }
    route.endpoints = dead.into();
    fixture.publish(&[route]).await;
    assert_eq!(kind(who_answers(CLIENT, vip).await), Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn open_connections_outlive_their_endpoint_and_service() {
    let (fixture, (one, two), vip) = (Fixture::start(), two_servers().await, free(VIP));
    fixture.publish(&[web(vip, &[&one])]).await;
    let mut stream = connect_from(CLIENT, vip).await.unwrap();
    hello(&mut stream).await.unwrap();
    for routes in [vec![web(vip, &[&two])], vec![]] {
        fixture.publish(&routes).await;
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn drains_then_resets_at_the_deadline() {
    let (fixture, (one, _), vip) = (Fixture::start(), two_servers().await, free(VIP));
    fixture.publish(&[web(vip, &[&one])]).await;
    let mut stays = connect_from(CLIENT, vip).await.unwrap();
    hello(&mut stays).await.unwrap();
    fixture.token.cancel();
    while connect_from(CLIENT, vip).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stays.write_all(b"x").await.unwrap();
    assert_eq!(stays.read_u8().await.unwrap(), b'x');
    fixture.stop().await;
    assert_eq!(kind(stays.read_u8().await), Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_reset_is_passed_on() {
    let (fixture, vip) = (Fixture::start(), free(VIP));
    let listener = TcpListener::bind("127.252.1.1:0").await.unwrap();
    let backend = endpoint(listener.local_addr().unwrap());
    fixture.publish(&[route(Protocol::Tcp, vip, &[backend])]).await;
    let mut client = connect_from(CLIENT, vip).await.unwrap();
    reset(listener.accept().await.unwrap().0);
    let read = timeout(LONG, client.read_u8()).await.unwrap();
    assert_eq!(kind(read), Some(ErrorKind::ConnectionReset));
    let mut client = connect_from(CLIENT, vip).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    reset(client);
    let reset = async {
        while server.read_u8().await? == b'x' {}
        Ok::<_, std::io::Error>(())
    };
    let reset = timeout(LONG, reset).await.unwrap();
    assert_eq!(kind(reset), Some(ErrorKind::ConnectionReset));
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_is_reported_and_bound_when_it_is_free() {
    let mut fixture = Fixture::start();
    let (one, other) = (Server::start(POD_1).await, free([127, 253, 0, 2]));
    let wildcard = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let vip = SocketAddr::from((VIP, wildcard.local_addr().unwrap().port()));
    let mut routes = [web(vip, &[&one]), web(other, &[&one])];
    routes[1].name.service.name = Arc::from("other");
    fixture.publish(&routes).await;
    assert_eq!(who_answers(CLIENT, other).await.unwrap(), one.address);
    let Notice::PortNotBound { route, address, reason } = fixture.notice().await else {
        panic!("another notice");
    };
    assert_eq!((route, address), (routes[0].name.clone(), vip));
    assert!(reason.contains(&format!("(pid {})", std::process::id())), "{reason}");
    drop(wildcard);
    let answered = async {
        loop {
            match who_answers(CLIENT, vip).await {
                Ok(server) => break server,
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    };
    assert_eq!(timeout(Duration::from_secs(60), answered).await.unwrap(), one.address);
}

#[tokio::test]
async fn beside_a_wildcard_listener_clients_are_reset_not_handed_to_it() {
    let (fixture, one) = (Fixture::start(), Server::start(POD_1).await);
    let wildcard = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    wildcard.set_reuse_port(true).unwrap();
    wildcard.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into()).unwrap();
    wildcard.listen(16).unwrap();
    let port = wildcard.local_addr().unwrap().as_socket().unwrap().port();
    let vip = SocketAddr::from((VIP, port));
    fixture.publish(&[web(vip, &[&one])]).await;
    assert_eq!(who_answers(CLIENT, vip).await.unwrap(), one.address);
    fixture.publish(&[web(vip, &[])]).await;
    assert_eq!(kind(who_answers(CLIENT, vip).await), Some(ErrorKind::ConnectionReset));
    fixture.publish(&[web(vip, &[&one])]).await;
    assert_eq!(who_answers(CLIENT, vip).await.unwrap(), one.address);
    drop(wildcard);
    fixture.publish(&[web(vip, &[])]).await;
    assert_eq!(kind(who_answers(CLIENT, vip).await), Some(ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn an_address_passes_from_one_service_to_another() {
    let (fixture, (one, two), vip) = (Fixture::start(), two_servers().await, free(VIP));
    fixture.publish(&[web(vip, &[&one])]).await;
    assert_eq!(who_answers(CLIENT, vip).await.unwrap(), one.address);
    let mut heir = web(vip, &[&two]);
    heir.name.service.name = Arc::from("heir");
    fixture.publish(&[heir]).await;
    assert_eq!(who_answers(CLIENT, vip).await.unwrap(), two.address);
}

/// Sends a word to a service and says who answered from the service's address: the server and the client that it saw.
async fn ask(client: &UdpSocket, vip: SocketAddr, servers: &[&UdpSocket]) -> (usize, SocketAddr) {
    client.send_to(b"word", vip).await.unwrap();
    let receive = |server: usize| {
        let socket = servers[server];
        Box::pin(async move {
            let mut payload = [0; 16];
            let (length, source) = socket.recv_from(&mut payload).await.unwrap();
            socket.send_to(&payload[..length], source).await.unwrap();
            (server, source)
        })
    };
    let receiving = futures::future::select_all((0..servers.len()).map(receive));
    let (who, _, _) = timeout(LONG, receiving).await.unwrap();
    let mut answer = [0; 16];
    let (length, from) = timeout(LONG, client.recv_from(&mut answer)).await.unwrap().unwrap();
    assert_eq!((&answer[..length], from), (&b"word"[..], vip));
    who
}

#[tokio::test]
async fn udp_sessions_stay_with_an_endpoint_until_it_goes() {
    let (fixture, vip) = (Fixture::start(), free(VIP));
    let one = UdpSocket::bind("127.252.1.1:0").await.unwrap();
    let two = UdpSocket::bind("127.252.2.1:0").await.unwrap();
    let servers = [&one, &two];
    let endpoints = servers.map(|server| endpoint(server.local_addr().unwrap()));
    fixture.publish(&[route(Protocol::Udp, vip, &endpoints)]).await;
    let client = UdpSocket::bind("127.252.3.3:0").await.unwrap();
    let (first, source) = ask(&client, vip, &servers).await;
    assert_eq!(source.ip(), client.local_addr().unwrap().ip());
    for _ in 0..3 {
        assert_eq!(ask(&client, vip, &servers).await, (first, source));
    }
    let other = UdpSocket::bind("127.252.3.3:0").await.unwrap();
    let sessions = [ask(&client, vip, &servers).await.0, ask(&other, vip, &servers).await.0];
    assert_eq!(BTreeSet::from(sessions).len(), 2);
    let active =
        |fixture: &Fixture| fixture.proxy.snapshot()[0].endpoints.iter().map(|e| e.active).sum();
    let active_now: u32 = active(&fixture);
    assert_eq!(active_now, 2);
    let rest = 1 - first;
    fixture.publish(&[route(Protocol::Udp, vip, &endpoints[rest..=rest])]).await;
    assert_eq!(ask(&client, vip, &servers).await.0, rest);
    fixture.stop().await;
}

#[tokio::test]
async fn udp_sessions_end_with_their_frontend() {
    let (mut fixture, vip, port) = (Fixture::start(), free(VIP), free([127, 0, 0, 1]));
    let server = UdpSocket::bind("127.252.1.1:0").await.unwrap();
    let backend = endpoint(server.local_addr().unwrap());
    let inner = route(Protocol::Udp, vip, &[backend]);
    let mut outer = inner.clone();
    outer.frontends.push(Frontend { kind: FrontendKind::NodePort, address: port });
    let active = |fixture: &Fixture| fixture.proxy.snapshot()[0].endpoints[0].active;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..10 {
        fixture.publish(std::slice::from_ref(&outer)).await;
        ask(&client, vip, &[&server]).await;
        ask(&client, port, &[&server]).await;
        fixture.publish(std::slice::from_ref(&inner)).await;
        // The port is anybody's now.
        drop(UdpSocket::bind(port).await.unwrap());
        let one_left = async {
            while active(&fixture) != 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, one_left).await.unwrap();
        ask(&client, vip, &[&server]).await;
    }
    let mut heir = route(Protocol::Udp, port, &outer.endpoints);
    heir.name.service.name = Arc::from("heir");
    fixture.publish(std::slice::from_ref(&outer)).await;
    ask(&client, port, &[&server]).await;
    fixture.publish(&[inner, heir]).await;
    ask(&client, port, &[&server]).await;
    assert!(fixture.notices.try_recv().is_err(), "the port was free for its heir");
    fixture.stop().await;
}

#[tokio::test]
async fn udp_goes_on_through_a_listener_that_was_away() {
    let (fixture, vip) = (Fixture::start(), free(VIP));
    let server = UdpSocket::bind("127.252.2.1:0").await.unwrap();
    let backend = endpoint(server.local_addr().unwrap());
    let everywhere = route(Protocol::Udp, vip, std::slice::from_ref(&backend));
    // Ready, but on no node, so that nobody may use it.
    let nowhere = Route {
        internal_local: true,
        endpoints: [Endpoint { node: None, ..backend }].into(),
        ..everywhere.clone()
    };
    let client = UdpSocket::bind("127.252.2.9:0").await.unwrap();
    for _ in 0..3 {
        fixture.publish(std::slice::from_ref(&everywhere)).await;
        ask(&client, vip, &[&server]).await;
        fixture.publish(std::slice::from_ref(&nowhere)).await;
    }
    fixture.stop().await;
}

#[tokio::test]
async fn udp_finds_another_endpoint_when_a_port_is_closed() {
    let (fixture, vip) = (Fixture::start(), free(VIP));
    let alive = UdpSocket::bind("127.252.2.1:0").await.unwrap();
    let endpoints = [endpoint(free(POD_1)), endpoint(alive.local_addr().unwrap())];
    fixture.publish(&[route(Protocol::Udp, vip, &endpoints)]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"lost", vip).await.unwrap();
    let failures = |fixture: &Fixture| {
        fixture.proxy.snapshot().first().map_or(0, |web| web.endpoints[0].failures)
    };
    let failed = async {
        while failures(&fixture) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, failed).await.unwrap();
    assert_eq!(ask(&client, vip, &[&alive]).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn udp_sessions_end_when_idle() {
    let (fixture, vip) = (Fixture::start(), free(VIP));
    let server = UdpSocket::bind("127.252.1.1:0").await.unwrap();
    let endpoints = [endpoint(server.local_addr().unwrap())];
    fixture.publish(&[route(Protocol::Udp, vip, &endpoints)]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let active = |fixture: &Fixture| fixture.proxy.snapshot()[0].endpoints[0].active;
    let idle = || async {
        let began_at = Instant::now();
        while active(&fixture) == 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        began_at.elapsed().as_secs()
    };
    ask(&client, vip, &[&server]).await;
    let took = idle().await;
    assert!((25..=31).contains(&took), "{took}");
    ask(&client, vip, &[&server]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ask(&client, vip, &[&server]).await;
    let took = idle().await;
    assert!((175..=181).contains(&took), "{took}");
}

#[tokio::test]
async fn connections_and_sessions_are_bounded() {
    let fixture = Fixture::bounded(Bounds::of(1), 4);
    let (one, vip) = (Server::start(POD_1).await, free(VIP));
    let server = UdpSocket::bind("127.252.1.1:0").await.unwrap();
    let endpoints = [endpoint(server.local_addr().unwrap())];
    fixture.publish(&[web(vip, &[&one]), route(Protocol::Udp, vip, &endpoints)]).await;
    let mut open = connect_from(CLIENT, vip).await.unwrap();
    hello(&mut open).await.unwrap();
    assert_eq!(kind(who_answers(CLIENT, vip).await), Some(ErrorKind::ConnectionReset));
    drop(open);
    let again = async { while who_answers(CLIENT, vip).await.is_err() {} };
    timeout(LONG, again).await.unwrap();
    for _ in 0..20 {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        ask(&client, vip, &[&server]).await;
        assert!(fixture.proxy.metrics().sessions.get() <= 4);
    }
    fixture.stop().await;
}

/// A service with two addresses and another one with a third.
fn crowded_and_quiet(server: &Server) -> ([Route; 2], [SocketAddr; 3]) {
    let [vip, port, other] = [2, 3, 4].map(|last| free([127, 253, 0, last]));
    let mut crowded = web(vip, &[server]);
    crowded.frontends.push(Frontend { kind: FrontendKind::NodePort, address: port });
    let mut quiet = web(other, &[server]);
    quiet.name.service.name = Arc::from("quiet");
    ([crowded, quiet], [vip, port, other])
}

#[tokio::test]
async fn busy_clients_of_one_service_keep_only_their_own_out() {
    let fixture = Fixture::bounded(Bounds { idle: LONG, ..Bounds::of(16) }, 16);
    let one = Server::start(POD_1).await;
    let (routes, [vip, port, other]) = crowded_and_quiet(&one);
    fixture.publish(&routes).await;
    let mut crowd = Vec::new();
    for nth in 0..40 {
        let mut client = connect_from(CLIENT, if nth < 20 { vip } else { port }).await.unwrap();
        if hello(&mut client).await.is_ok() {
            crowd.push(client);
        }
    }
    assert_eq!(crowd.len(), 12, "half for a listener, three quarters for a service");
    for _ in 0..20 {
        assert_eq!(who_answers(CLIENT, other).await.unwrap(), one.address);
    }
    fixture.stop().await;
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room() {
    let fixture = Fixture::bounded(Bounds { idle: Duration::ZERO, ..Bounds::of(16) }, 16);
    let one = Server::start(POD_1).await;
    let (routes, [vip, _, other]) = crowded_and_quiet(&one);
    fixture.publish(&routes).await;
    let open = async |to| {
        let mut stream = connect_from(CLIENT, to).await.unwrap();
        hello(&mut stream).await.unwrap();
        stream
    };
    let (mut quiet, mut used, mut unused) = (open(other).await, open(vip).await, open(vip).await);
    let mut crowd = Vec::new();
    for _ in 0..40 {
        used.write_all(b"x").await.unwrap();
        assert_eq!(used.read_u8().await.unwrap(), b'x');
        crowd.push(open(vip).await);
    }
    let ended = timeout(LONG, unused.read_u8()).await.unwrap();
    assert_eq!(kind(ended), Some(ErrorKind::ConnectionReset));
    quiet.write_all(b"x").await.unwrap();
    assert_eq!(quiet.read_u8().await.unwrap(), b'x', "it is of another service");
    fixture.stop().await;
}

#[tokio::test]
async fn udp_clients_of_one_service_end_no_session_of_another() {
    let fixture = Fixture::bounded(Bounds::of(16), 16);
    let (vip, other) = (free(VIP), free([127, 253, 0, 2]));
    let server = UdpSocket::bind("127.252.1.1:0").await.unwrap();
    let endpoints = [endpoint(server.local_addr().unwrap())];
    let mut quiet = route(Protocol::Udp, other, &endpoints);
    quiet.name.service.name = Arc::from("quiet");
    fixture.publish(&[route(Protocol::Udp, vip, &endpoints), quiet]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let session = ask(&client, other, &[&server]).await;
    for _ in 0..40 {
        ask(&UdpSocket::bind("127.0.0.1:0").await.unwrap(), vip, &[&server]).await;
    }
    assert_eq!(ask(&client, other, &[&server]).await, session, "from the same port as before");
    fixture.stop().await;
}
