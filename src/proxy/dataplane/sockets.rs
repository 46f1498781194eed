//! What else listens on this machine, as far as `/proc` tells: `/proc/net/{tcp,udp}{,6}` for the sockets,
//! `/proc/PID/fd` for the processes that hold them (an ordinary user
//! sees only its own).
//! Blocking: call it away from the runtime's threads.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// In `/proc/net/tcp`, the state of a listener.
const TCP_LISTEN: &str = "0A";
/// In `/proc/net/udp`, the state of a socket that is bound and not connected.
const UDP_BOUND: &str = "07";

/// The listening sockets of one transport, at one moment.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Socket>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) address: SocketAddr,
    pub(super) inode: u64,
}

impl Sockets {
    /// Reads them; what cannot be read is not there.
    pub(super) fn read(udp: bool) -> Self {
        let (names, state) =
            if udp { (["udp", "udp6"], UDP_BOUND) } else { (["tcp", "tcp6"], TCP_LISTEN) };
        let read = |name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        Self(names.into_iter().flat_map(|name| parse(&read(name), state)).collect())
    }

    /// The socket that is in the way of binding this address: the same, else one of all addresses.
    pub(super) fn in_the_way(&self, address: SocketAddr) -> Option<Socket> {
        let exact = self.0.iter().find(|socket| socket.address == address);
        exact.or_else(|| self.0.iter().find(|socket| is_wildcard(socket, address))).copied()
    }

    /// A wildcard socket has this port, and no socket has this very address.
    pub(super) fn only_wildcard(&self, address: SocketAddr) -> bool {
        self.in_the_way(address).is_some_and(|socket| socket.address.ip().is_unspecified())
    }

    /// A wildcard socket has this port.
    pub(super) fn has_wildcard(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|socket| is_wildcard(socket, address))
    }
}

/// Who holds the sockets with these inodes, `name (pid 42)`; unreadable ones are missing. Of several processes that share a
/// socket it is the oldest: children have those of their parents, if only for a moment.
pub(super) fn holders(inodes: impl Iterator<Item = u64>) -> BTreeMap<u64, String> {
    let wanted: BTreeMap<String, u64> =
        inodes.map(|inode| (format!("socket:[{inode}]"), inode)).collect();
    let mut found: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for link in descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()) {
            if let Some(inode) = link.to_str().and_then(|link| wanted.get(link)) {
                let start = start_of(pid);
                if found.get(inode).is_none_or(|(earliest, _)| start < *earliest) {
                    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                    found.insert(*inode, (start, format!("{} (pid {pid})", name.trim())));
                }
            }
        }
    }
    found.into_iter().map(|(inode, (_, holder))| (inode, holder)).collect()
}

/// When a process started, in ticks since the machine did (proc_pid_stat(5), field 22).
fn start_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace().nth(19).and_then(|start| start.parse().ok()).unwrap_or(u64::MAX)
}

fn is_wildcard(socket: &Socket, address: SocketAddr) -> bool {
    socket.address.port() == address.port()
        && match socket.address.ip() {
            IpAddr::V4(ip) => ip.is_unspecified() && address.is_ipv4(),
            IpAddr::V6(ip) => ip.is_unspecified(),
        }
}

fn parse(text: &str, state: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let address = parse_address(fields.nth(1)?)?;
        if fields.nth(1)? != state {
            return None;
        }
        Some(Socket { address, inode: fields.nth(5)?.parse().ok()? })
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// `0100007F:1F90`: 32-bit words in the machine's byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let ip = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_listeners_and_who_holds_them() {
        let exact = TcpListener::bind("127.0.0.1:0").unwrap();
        let wildcard = TcpListener::bind("0.0.0.0:0").unwrap();
        let at = |port| SocketAddr::from(([127, 96, 9, 9], port));
        let (exact, port) = (exact.local_addr().unwrap(), wildcard.local_addr().unwrap().port());
        let sockets = Sockets::read(false);
        assert_eq!(sockets.in_the_way(exact).unwrap().address, exact);
        assert!(!sockets.only_wildcard(exact));
        assert!(sockets.only_wildcard(at(port)) && sockets.has_wildcard(at(port)));
        assert!(!sockets.has_wildcard(exact));
        let holders = holders([sockets.in_the_way(at(port)).unwrap().inode].into_iter());
        let holder = holders.values().next().unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
    }

    #[test]
    fn finds_udp_sockets() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(Sockets::read(true).in_the_way(address).unwrap().address, address);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn parses_the_kernels_tables() {
        for (text, expected) in [
            ("0100007F:1F90", Some("127.0.0.1:8080")),
            ("00000000000000000000000000000000:0035", Some("[::]:53")),
            ("00000000000000000000000001000000:0035", Some("[::1]:53")),
            ("0100007F", None),
            ("01000:1", None),
            ("xx00007F:1F90", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(parse_address(text), expected, "{text}");
        }
        let table = "  sl  local_address rem_address st tx rx tr retrnsmt uid timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n\
            1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 4712 1\n\
            2: torn";
        let address = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(parse(table, TCP_LISTEN), [Socket { address, inode: 4711 }]);
    }
}
