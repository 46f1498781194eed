//! Where a cluster of a test lives: a directory of its own, and a /16 of 127.0.0.0/8 that no other cluster of any
//! test process on this machine uses at the same time.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use tempfile::TempDir;

use crate::tools;

/// Second octets of the ranges of tests; the defaults of `snowglobe up` (64, 96, 100, 244) are not among them.
const OCTETS: std::ops::Range<u8> = 101..240;
/// Who listens here, at the end of a range, owns the range. The kernel keeps the book: it holds between processes of
/// different users, and ends with the process.
const CLAIM_PORT: u16 = 19_127;

/// A directory and a range, as long as it lives.
pub(crate) struct Place {
    home: TempDir,
    octet: u8,
    _claim: TcpListener,
}

impl Place {
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("snowglobe-e2e-").tempdir();
        let (octet, claim) = claim();
        Self { home: home.expect("a temporary directory can be made"), octet, _claim: claim }
    }

    /// The directory; `data` below it is the data directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// The file of that name in the directory, with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home().join(name);
        std::fs::write(&path, text).expect("the test's directory is writable");
        path
    }

    /// An address of the range.
    pub(crate) fn address(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, third, fourth)
    }

    /// The i-th address for Services.
    pub(crate) fn service_address(&self, i: u8) -> Ipv4Addr {
        self.address(0, i)
    }

    /// Where node ports listen, besides the nodes' addresses.
    pub(crate) fn nodeport_address(&self) -> Ipv4Addr {
        self.address(130, 1)
    }

    /// An address of the range that no part of the cluster has.
    pub(crate) fn free_address(&self) -> Ipv4Addr {
        self.address(255, 1)
    }

    /// The addresses of nodes.
    pub(crate) fn node_address(&self, number: u8) -> Ipv4Addr {
        self.address(128, number)
    }

    /// `snowglobe COMMAND` with port 0 everywhere, this range and this data directory.
    pub(crate) fn snowglobe(&self, command: &str) -> Command {
        let mut snowglobe = tools::snowglobe();
        snowglobe.arg(command).env("HOME", self.home()).env_remove("XDG_STATE_HOME");
        snowglobe.arg("--data-dir").arg(self.data());
        for flag in ["api", "dashboard", "dns", "metrics"] {
            snowglobe.arg(format!("--{flag}-listen=127.0.0.1:0"));
        }
        snowglobe.arg(format!("--nodeport-listen={}", self.nodeport_address()));
        for (flag, range) in [
            ("service", "0.0/18"),
            ("pod", "64.0/18"),
            ("node", "128.0/24"),
            ("load-balancer", "129.0/24"),
        ] {
            snowglobe.arg(format!("--{flag}-cidr=127.{}.{range}", self.octet));
        }
        snowglobe
    }

    /// Whether this process may bind ports below 1024: what holds for an ordinary user is told in the design,
    /// section 1.
    pub(crate) fn low_ports_allowed(&self) -> bool {
        match UdpSocket::bind(SocketAddr::from((self.free_address(), 7))) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
            Err(error) => panic!("port 7 of {}: {error}", self.free_address()),
        }
    }
}

fn claim() -> (u8, TcpListener) {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let count = OCTETS.end - OCTETS.start;
    // Test processes that run at once begin at different places, and so seldom ask for the same.
    let first = std::process::id() % u32::from(count);
    let first = u8::try_from(first).expect("less than the count");
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let octet = OCTETS.start
            + u8::try_from((u16::from(first) + u16::from(step)) % u16::from(count))
                .expect("less than the count");
        let address = Ipv4Addr::new(127, octet, 255, 254);
        if let Ok(listener) = TcpListener::bind((address, CLAIM_PORT)) {
            return (octet, listener);
        }
    }
    panic!("all ranges of 127.0.0.0/8 for tests are in use (port {CLAIM_PORT} of 127.N.255.254)");
}
