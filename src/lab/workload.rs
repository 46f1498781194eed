//! Workloads: endpoints that serve so many connections at a time, and connections that arrive at random moments,
//! whatever became of those before them (an open loop).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    policy::{Candidate, Candidates, Flow, Load, UNKNOWN, identity},
    route::Protocol,
};

/// The port of every endpoint and of the service.
const PORT: u16 = 8080;

/// Where virtual time begins, in microseconds. Go's runtime takes a clock that stands at 0 for a broken one.
pub const START_US: u64 = 1_000_000;

/// What a simulation is about.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its endpoints.
    pub backends: Vec<Backend>,
    /// How many connections come.
    pub connections: usize,
    /// How many clients they come from, each as often as another. A client has an address of its own.
    pub clients: u32,
    /// Zones of the clients and of the endpoints, in turn; at least 1.
    pub zones: u32,
    /// How much of what all endpoints together can serve is asked for; 1.0 is all.
    pub load: f64,
    /// The same seed gives the same connections.
    pub seed: u64,
}

/// One endpoint of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// What policies see as its weight.
    pub weight: u32,
    /// Connections that it serves at one time; others wait in a queue.
    pub workers: usize,
    /// Mean time that it serves a connection; single times are exponentially distributed.
    pub mean: Duration,
}

/// The connections of a workload, one after another.
pub(super) struct Arrivals {
    random: StdRng,
    clients: u32,
    zones: u32,
    mean_interval_us: f64,
    left: usize,
    time_us: u64,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) time_us: u64,
    pub(super) flow: Flow,
}

impl Workload {
    /// Ten endpoints in three zones at 60 % of what they can serve: four of weight 1, three of weight 2 and two of
    /// weight 4, which serve as many connections at a time as their weight says, and one of weight 1 that takes five
    /// times as long for each.
    pub fn standard(seed: u64) -> Self {
        let backend = |weight: u32, mean_ms| Backend {
            weight,
            workers: 4 * weight as usize,
            mean: Duration::from_millis(mean_ms),
        };
        let mut backends = vec![backend(1, 20); 4];
        backends.extend([backend(2, 20); 3]);
        backends.extend([backend(4, 20); 2]);
        backends.push(backend(1, 100));
        Self { backends, connections: 20_000, clients: 1_000, zones: 3, load: 0.6, seed }
    }

    /// Ten endpoints with so many workers each, one of which takes twenty times as long as the others. As much is asked for
    /// as 60 % of what they could serve if it did not.
    pub fn one_slow(workers: usize, seed: u64) -> Self {
        let backend =
            |mean_ms| Backend { weight: 1, workers, mean: Duration::from_millis(mean_ms) };
        let mut backends = vec![backend(100); 9];
        backends.push(backend(2_000));
        let load = 0.6 * 10.0 / (9.0 + 1.0 / 20.0);
        Self { backends, connections: 20_000, clients: 1_000, zones: 3, load, seed }
    }

    /// The endpoints as policies see them, without load.
    pub fn candidates(&self) -> Candidates {
        let weights: Vec<u32> = self.backends.iter().map(|backend| backend.weight).collect();
        candidates(&weights, self.zones)
    }

    /// Connections that all endpoints together can serve in a second.
    fn capacity(&self) -> f64 {
        let of = |backend: &Backend| backend.workers as f64 / backend.mean.as_secs_f64();
        self.backends.iter().map(of).sum()
    }

    pub(super) fn arrivals(&self) -> Arrivals {
        Arrivals {
            random: StdRng::seed_from_u64(self.seed),
            clients: self.clients,
            zones: self.zones,
            mean_interval_us: 1e6 / (self.capacity() * self.load),
            left: self.connections,
            time_us: START_US,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.left = self.left.checked_sub(1)?;
        self.time_us += exponential_us(&mut self.random, self.mean_interval_us);
        let client = self.random.random_range(0..self.clients);
        let flow = flow(client, self.random.random_range(32_768..61_000), self.zones);
        Some(Arrival { time_us: self.time_us, flow })
    }
}

/// A random time of an exponential distribution, microseconds.
pub(super) fn exponential_us(random: &mut StdRng, mean_us: f64) -> u64 {
    let even = random.random_range(f64::MIN_POSITIVE..1.0);
    let micros = Duration::from_secs_f64(-even.ln() * mean_us / 1e6).as_micros();
    u64::try_from(micros).unwrap_or(u64::MAX)
}

/// A connection of the client of that number, which has the address 10.x.y.z. Zones have clients in turn.
pub fn flow(client: u32, port: u16, zones: u32) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        source: (Ipv4Addr::from_bits(0x0a00_0000 + client), port).into(),
        destination: (Ipv4Addr::new(10, 96, 0, 10), PORT).into(),
        client_zone: client % zones,
        client_node: client % zones,
    }
}

/// Endpoints of these weights, 172.16.x.y:8080, without load. Zones, each with one node, have them in turn.
pub fn candidates(weights: &[u32], zones: u32) -> Candidates {
    let candidate = |(number, weight): (u32, &u32)| {
        let address = SocketAddr::from((Ipv4Addr::from_bits(0xac10_0000 + number), PORT));
        Candidate {
            address,
            zone: number % zones,
            node: number % zones,
            weight: *weight,
            identity: identity(address),
            load: Arc::new(Load::default()),
        }
    };
    (0..).zip(weights).map(candidate).collect()
}

/// The same endpoints, of which nothing is known but the address.
pub fn of_unknown_place(candidates: &Candidates) -> Candidates {
    let unknown =
        |candidate: &Candidate| Candidate { zone: UNKNOWN, node: UNKNOWN, ..candidate.clone() };
    candidates.iter().map(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_as_the_load_says() {
        let workload = Workload::standard(1);
        let arrivals: Vec<Arrival> = workload.arrivals().collect();
        assert_eq!(arrivals.len(), workload.connections);
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.time_us));
        let seconds = (arrivals[arrivals.len() - 1].time_us - START_US) as f64 / 1e6;
        let rate = arrivals.len() as f64 / seconds;
        // The mean of so many random times is this near but once in thousands of seeds.
        let expected = workload.capacity() * workload.load;
        assert!((rate / expected - 1.0).abs() < 0.03, "{rate} a second, expected {expected}");
        let again: Vec<u64> = workload.arrivals().map(|arrival| arrival.time_us).collect();
        assert!(arrivals.iter().map(|arrival| arrival.time_us).eq(again), "the same seed");
    }
}
