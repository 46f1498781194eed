//! Tests of the server on real sockets.

use std::{
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{RData, RecordType},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Error, Options, RECEIVE_TIMEOUT, Server, Zone, zone::absolute};
use crate::{
    descriptors::{Budget, Purpose},
    route::{RouteTable, build::fixture::table},
};

const WEB: &str = "web.default.svc.cluster.local";
/// A timeout that is far longer than any step of these tests takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn web(address: &str) -> Arc<RouteTable> {
    table(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{clusterIPs: [{address}]}}}}"
    ))
}

fn options() -> Options {
    Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        zone: Zone::new("cluster.local").unwrap(),
        allow_remote: false,
        threads: 2,
    }
}

struct Running {
    address: SocketAddr,
    table: watch::Sender<Arc<RouteTable>>,
    token: CancellationToken,
    task: JoinSet<Result<(), Error>>,
}

fn start(server: Server, table: Arc<RouteTable>) -> Running {
    start_within(Budget::of_this_process(), server, table)
}

fn start_within(descriptors: Budget, server: Server, table: Arc<RouteTable>) -> Running {
    let address = server.addresses()[0];
    let (sender, receiver) = watch::channel(table);
    let token = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(server.run(receiver, descriptors, token.clone()));
    Running { address, table: sender, token, task }
}

impl Running {
    /// Stops the server without waiting for the receive timeout.
    async fn stop(mut self) {
        self.token.cancel();
        let ended = timeout(RECEIVE_TIMEOUT / 2, self.task.join_next()).await;
        ended.expect("stops at once").unwrap().unwrap().unwrap();
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(absolute(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn ask_udp(server: SocketAddr, packet: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, server).await.unwrap();
    let mut buffer = [0; 2048];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.expect("is answered");
    let (length, from) = received.unwrap();
    assert_eq!(from, server);
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn read_frame(stream: &mut TcpStream) -> Message {
    let length = timeout(PATIENCE, stream.read_u16()).await.expect("is answered").unwrap();
    let mut packet = vec![0; length.into()];
    stream.read_exact(&mut packet).await.unwrap();
    Message::from_vec(&packet).unwrap()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [u16::try_from(packet.len()).unwrap().to_be_bytes().as_slice(), packet].concat()
}

fn address_in(message: &Message) -> String {
    match &message.answers[0].data {
        RData::A(address) => address.to_string(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn udp_and_tcp_answer_from_the_newest_table() {
    let server = Server::bind(options()).unwrap();
    let metrics = server.metrics();
    let running = start(server, Arc::default());
    let unsynced = ask_udp(running.address, &query(1, WEB)).await;
    assert_eq!(unsynced.response_code, ResponseCode::ServFail, "7.4");
    for address in ["127.96.0.1", "127.96.0.2"] {
        running.table.send_replace(web(address));
        // Several sockets share the port. Each uses the new table at once.
        for id in 0..16 {
            let response = ask_udp(running.address, &query(id, WEB)).await;
            assert_eq!((response.id, address_in(&response)), (id, address.to_owned()));
        }
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&framed(&query(9, WEB))).await.unwrap();
        assert_eq!(address_in(&read_frame(&mut stream).await), address);
    }
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    assert!(text.contains("proto=\"udp\",family=\"1\",type=\"A\"} 33"), "{text}");
    assert!(text.contains("rcode=\"NOERROR\",plugin=\"kubernetes\"} 34"), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn a_connection_carries_many_queries() {
    let running = start(Server::bind(options()).unwrap(), web("127.96.0.1"));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let all: Vec<u8> = (0..100).flat_map(|id| framed(&query(id, WEB))).collect();
    let (start, end) = all.split_at(all.len() - 3);
    stream.write_all(start).await.unwrap();
    let mut seen: Vec<u16> = Vec::new();
    for _ in 0..99 {
        seen.push(read_frame(&mut stream).await.id);
    }
    stream.write_all(end).await.unwrap();
    seen.push(read_frame(&mut stream).await.id);
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>(), "8.4");
    // A response that is sent to the server ends the connection. A malformed query does not.
    stream.write_all(&framed(&query(5, WEB)[..14])).await.unwrap();
    assert_eq!(read_frame(&mut stream).await.response_code, ResponseCode::FormErr);
    let mut response = query(6, WEB);
    response[2] |= 0x80;
    stream.write_all(&framed(&response)).await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    running.stop().await;
}

/// A new client is answered, however many connections are held open without a complete query.
#[tokio::test]
async fn idle_and_dripping_connections_make_room() {
    let descriptors = Budget::new(64);
    let places = descriptors.own(Purpose::Dns);
    let running = start_within(descriptors, Server::bind(options()).unwrap(), web("127.96.0.1"));
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    let mut silent = Vec::new();
    for round in 0..5 * places {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        if round % 2 == 0 {
            stream.write_all(&[0]).await.unwrap();
        }
        silent.push(stream);
        // A client that gets answers in between keeps its connection.
        busy.write_all(&framed(&query(7, WEB))).await.unwrap();
        assert_eq!(address_in(&read_frame(&mut busy).await), "127.96.0.1", "{round}");
    }
    for stream in &mut silent[..4 * places] {
        let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it is closed");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn rubbish_gets_no_answer_and_does_no_harm() {
    let running = start(Server::bind(options()).unwrap(), web("127.96.0.1"));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut response = query(1, WEB);
    response[2] |= 0x80;
    for rubbish in [&b""[..], b"x", &[0xFF; 600], &response] {
        socket.send_to(rubbish, running.address).await.unwrap();
    }
    socket.send_to(&query(2, WEB), running.address).await.unwrap();
    let mut buffer = [0; 2048];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().id, 2, "the only answer");
    running.stop().await;
}

#[tokio::test]
async fn more_addresses_are_served_and_taken_ones_reported() {
    let mut server = Server::bind(options()).unwrap();
    let main = server.addresses()[0];
    server.listen_also(SocketAddr::from(([127, 0, 0, 2], main.port()))).unwrap();
    let taken = server.listen_also(main).unwrap_err();
    assert_eq!(taken.to_string(), format!("DNS cannot listen on {main}"));
    assert!(Server::bind(Options { listen: main, ..options() }).is_err(), "no silent sharing");
    let foreign = StdUdpSocket::bind("127.0.0.3:0").unwrap();
    assert!(server.listen_also(foreign.local_addr().unwrap()).is_err());
    let addresses = server.addresses();
    assert_eq!(addresses.len(), 2);
    let running = start(server, web("127.96.0.1"));
    for address in addresses {
        assert_eq!(address_in(&ask_udp(address, &query(1, WEB)).await), "127.96.0.1");
    }
    running.stop().await;
}

#[test]
fn only_loopback_may_ask_unless_told() {
    for (allow_remote, client, may) in [
        (false, "127.0.0.1", true),
        (false, "127.244.0.7", true),
        (false, "::1", true),
        (false, "::ffff:127.0.0.1", true),
        (false, "10.0.0.1", false),
        (false, "fd00::1", false),
        (true, "10.0.0.1", true),
    ] {
        let server = Server::bind(Options { allow_remote, ..options() }).unwrap();
        let shared =
            super::Shared { zone: server.options.zone, allow_remote, metrics: server.metrics };
        let mut worker = super::Worker::new(Arc::new(shared), watch::channel(web("127.96.0.1")).1);
        let client = SocketAddr::new(client.parse().unwrap(), 5353);
        let answered = worker.respond(&query(1, WEB), client, super::wire::Transport::Udp);
        assert_eq!(answered.is_some(), may, "{client}");
    }
}
