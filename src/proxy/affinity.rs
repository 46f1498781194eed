//! `sessionAffinity: ClientIP`: which endpoint a client's last connection went to, per view.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Clients remembered per view. The least recently seen is forgotten first: about 1 MiB at the bound.
const CLIENTS_MAX: usize = 16_384;

/// The memory of one view.
#[derive(Default)]
pub(crate) struct Affinity {
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    by_address: BTreeMap<IpAddr, Entry>,
    /// Oldest use first.
    by_use: BTreeMap<u64, IpAddr>,
    uses: u64,
}

struct Entry {
    endpoint: SocketAddr,
    used_at: Instant,
    order: u64,
}

impl Affinity {
    /// The endpoint of the client's last connection, unless that is `timeout` or longer ago.
    pub(crate) fn endpoint(&self, client: IpAddr, timeout: Duration) -> Option<SocketAddr> {
        let mut clients = self.clients.lock();
        let entry = clients.by_address.get(&client)?;
        if entry.used_at.elapsed() < timeout {
            return Some(entry.endpoint);
        }
        let order = entry.order;
        clients.by_address.remove(&client);
        clients.by_use.remove(&order);
        None
    }

    /// The client has a connection to this endpoint now; its time starts anew.
    pub(crate) fn remember(&self, client: IpAddr, endpoint: SocketAddr) {
        let mut clients = self.clients.lock();
        clients.uses += 1;
        let order = clients.uses;
        let entry = Entry { endpoint, used_at: Instant::now(), order };
        if let Some(before) = clients.by_address.insert(client, entry) {
            clients.by_use.remove(&before.order);
        }
        clients.by_use.insert(order, client);
        if clients.by_address.len() > CLIENTS_MAX
            && let Some((_, oldest)) = clients.by_use.pop_first()
        {
            clients.by_address.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn client(n: u32) -> IpAddr {
        IpAddr::from((0x7f00_0000 + n).to_be_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn expires_and_is_renewed_by_use() {
        let endpoint: SocketAddr = "127.244.0.1:80".parse().unwrap();
        let affinity = Affinity::default();
        affinity.remember(client(1), endpoint);
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(affinity.endpoint(client(1), HOUR), Some(endpoint));
        assert_eq!(affinity.endpoint(client(2), HOUR), None);
        affinity.remember(client(1), endpoint);
        tokio::time::advance(HOUR * 3 / 4).await;
        assert_eq!(affinity.endpoint(client(1), HOUR), Some(endpoint));
        tokio::time::advance(HOUR / 4).await;
        assert_eq!(affinity.endpoint(client(1), HOUR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_the_least_recently_seen_client() {
        let endpoint: SocketAddr = "127.244.0.1:80".parse().unwrap();
        let affinity = Affinity::default();
        let most = u32::try_from(CLIENTS_MAX).unwrap();
        for n in 0..most {
            affinity.remember(client(n), endpoint);
        }
        affinity.remember(client(0), endpoint);
        affinity.remember(client(most), endpoint);
        assert_eq!(affinity.endpoint(client(0), HOUR), Some(endpoint));
        assert_eq!(affinity.endpoint(client(1), HOUR), None);
        assert_eq!(affinity.clients.lock().by_use.len(), CLIENTS_MAX);
    }
}
