//! Finds out which kind of server answers at the address of etcd, by requests in other protocols, if it does not
//! answer as etcd does.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::store::etcd::{
    explain::{self, Cause},
    options::Options,
};

/// The limit of time for one request and its answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The limit of bytes of an answer. This is enough for a status line, headers and the version of etcd.
const ANSWER_BYTES_MAX: usize = 4096;
/// The shortest ClientHello of TLS 1.2, with one old cipher suite. Every TLS server answers it with a TLS record,
/// even if it refuses the connection.
const CLIENT_HELLO: [u8; 50] = {
    let mut hello = [0; 50];
    let head = [22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    let mut at = 0;
    while at < head.len() {
        hello[at] = head[at];
        at += 1;
    }
    // The 32 random bytes may be zeros here, and there is no session. Then follow one cipher suite and no
    // compression.
    hello[45] = 2;
    hello[47] = 47;
    hello[48] = 1;
    hello
};

/// Replaces a cause that does not name the server by a better one. If the connection uses TLS, no more can be found
/// out.
pub(super) async fn ask(options: &Options, endpoint: &str, cause: Cause) -> Cause {
    if !cause.open || options.tls.is_some() {
        return cause;
    }
    let url = options.url(endpoint);
    let hello = answer(endpoint, &CLIENT_HELLO).await;
    // The record is a handshake message or an alert.
    if hello.as_deref().is_some_and(|hello| matches!(hello, [21 | 22, 3, ..])) {
        return explain::wants_tls(&url);
    }
    let question =
        format!("GET /version HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    match answer(endpoint, question.as_bytes()).await {
        Some(answer) if answer.starts_with(b"HTTP/1.") => {
            explain::speaks_http(&url, &String::from_utf8_lossy(&answer))
        }
        _ => cause,
    }
}

/// The answer to a few bytes on a new connection; `None` if there is no connection or no answer.
async fn answer(endpoint: &str, question: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    let asking = async {
        let mut stream = TcpStream::connect(endpoint).await?;
        stream.write_all(question).await?;
        let mut part = [0; 1024];
        while answer.len() < ANSWER_BYTES_MAX {
            match stream.read(&mut part).await? {
                0 => break,
                length => answer.extend_from_slice(&part[..length]),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // The bytes that have arrived are used, whatever ends the connection.
    drop(timeout(ANSWER_MAX, asking).await);
    (!answer.is_empty()).then_some(answer)
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;
    use crate::store::etcd::explain::Permanence;

    #[test]
    fn the_hello_is_well_formed() {
        let record = usize::from(u16::from_be_bytes([CLIENT_HELLO[3], CLIENT_HELLO[4]]));
        assert_eq!(record + 5, CLIENT_HELLO.len());
        assert_eq!(usize::from(CLIENT_HELLO[8]) + 9, CLIENT_HELLO.len());
        assert_eq!(CLIENT_HELLO[43..], [0, 0, 2, 0, 47, 1, 0]);
    }

    /// The cause that is found for a server that gives this answer to every request and closes.
    async fn told(answer: &'static [u8]) -> Cause {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(answer).await.ok();
                // If the request is not read, the kernel resets the connection and the client may lose the answer.
                stream.read_u8().await.ok();
            }
        });
        let options: Options = format!("etcd://{endpoint}").parse().unwrap();
        let open = explain::closed(&options.url(&endpoint), "broken pipe");
        ask(&options, &endpoint, open).await
    }

    #[tokio::test]
    async fn what_answers_is_named() {
        let cases: [(&'static [u8], &str, Permanence); 8] = [
            (b"", "accepts connections and closes them without an answer", Permanence::Transient),
            (b"SSH-2.0-x\r\n", "accepts connections and closes them", Permanence::Transient),
            (b"\x15\x03\x01\x00\x02\x02\x28", "speaks TLS: write etcds://", Permanence::Permanent),
            (
                b"HTTP/1.1 503 Unavailable\r\n\r\n",
                "HTTP/1.1 503 Unavailable",
                Permanence::Transient,
            ),
            (b"HTTP/1.1 200 OK\r\n\r\n<html>", "it speaks HTTP/1.1", Permanence::Permanent),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not an etcd", Permanence::Permanent),
            (
                b"HTTP/1.1 200 OK\r\n\r\n{\"etcdserver\":\"2.3.8\",\"etcdcluster\":\"2.3.0\"}",
                "is an etcd of version 2.3.8; version 3.4 or later is needed",
                Permanence::Permanent,
            ),
            (
                b"HTTP/1.1 200 OK\r\n\r\n{\"etcdserver\":\"3.10.1\"}",
                "supports only HTTP/1.1",
                Permanence::Permanent,
            ),
        ];
        for (answer, expected, permanence) in cases {
            let Cause { text, permanence: found, .. } = told(answer).await;
            assert!(text.contains(expected) && text.contains("http://127.0.0.1"), "{text}");
            assert_eq!(found, permanence, "{text}");
        }
    }
}
