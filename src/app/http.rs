//! Starts the servers for clients: DNS, the API, the dashboard and the metrics.

use std::{net::IpAddr, sync::Arc};

use axum::{Router, middleware, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    admission::{Entrance, Places},
    api::{
        self, Api,
        authentication::{Authenticator, account_tokens::AccountTokens},
        panics, tls,
    },
    app::{Cluster, bind::Sockets, hosts},
    dashboard::{
        self,
        views::{EndpointTraffic, RouteTraffic},
    },
    descriptors::Purpose,
    http_server::{Limits, Server, hosts::Hosts, sending},
    proxy::{Proxy, RouteStats},
    route::RouteTable,
    telemetry::Metrics,
};

/// The limit of connections to the dashboard and the metrics together.
const CONNECTIONS_MAX: usize = 256;

impl Cluster {
    /// Starts all servers and returns the token of the dashboard.
    pub(crate) fn start_servers(
        &mut self,
        sockets: Sockets,
        table: watch::Receiver<Arc<RouteTable>>,
        proxy: &Arc<Proxy>,
        ready: &watch::Sender<bool>,
    ) -> anyhow::Result<String> {
        self.metrics.register(|registry| sockets.dns.metrics().register(registry));
        self.tasks.begin_stage();
        let (dns, descriptors) = (sockets.dns, self.descriptors.clone());
        let run = |token| async move { Ok(dns.run(table, descriptors, token).await?) };
        self.tasks.spawn_on(self.data.handle(), "dns", run);
        self.tasks.begin_stage();
        self.start_api(sockets.api, ready)?;
        let descriptors = self.descriptors.clone();
        let places = Places::new(descriptors, Purpose::Dashboard, CONNECTIONS_MAX, 2);
        let token = self.start_dashboard(sockets.dashboard, &places, proxy)?;
        for listener in std::iter::once(sockets.metrics).chain(sockets.dns_metrics) {
            self.start_metrics(listener, &places)?;
        }
        Ok(token)
    }

    fn start_api(
        &mut self,
        listener: TcpListener,
        ready: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        let domain = &self.options.cluster_domain;
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let full = format!("kubernetes.default.svc.{domain}");
        let names: Vec<String> = names.into_iter().map(str::to_owned).chain([full]).collect();
        let mut ips: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), address.ip()];
        ips.extend(self.registry.options().service_address(1));
        ips.dedup();
        let identity = self.authority.server(&names, &ips)?;
        let config = tls::configuration(self.authority.certificate(), &identity)?;
        let (runtimes, metrics) = (self.runtimes.clone(), self.metrics.clone());
        let api = Api::new(
            self.registry.clone(),
            ready.subscribe(),
            self.tasks.token(),
            Arc::new(move |uid, container, after| {
                let log = runtimes.container(uid, container)?.log(after);
                Some(api::Log { lines: log.lines, written: log.written })
            }),
            api::Options {
                authenticator: Authenticator {
                    static_tokens: std::mem::take(&mut self.static_tokens),
                    accounts: AccountTokens::new(
                        self.account_key.clone(),
                        self.registry.clone(),
                        &self.options.cluster_domain,
                    ),
                },
                server: address.to_string(),
                limits: self.options.api_limits,
                metrics: Arc::new(move || metrics.text()),
                policies: [self.library.clone(), self.topologies.clone()],
                descriptors: self.descriptors.clone(),
            },
        );
        let mut allowed = names;
        allowed.extend(ips.iter().map(ToString::to_string));
        allowed.extend(self.options.allowed_hosts.iter().cloned());
        let router = guarded(api::router(Arc::new(api)), address, &allowed);
        let server = tls::server(config, router, Limits::default());
        let entrance = tls::places(self.descriptors.clone()).entrance(listener);
        self.tasks.spawn("api", |token| async move {
            server.serve(entrance, token).await;
            Ok(())
        });
        Ok(())
    }

    fn start_dashboard(
        &mut self,
        listener: TcpListener,
        places: &Places,
        proxy: &Arc<Proxy>,
    ) -> anyhow::Result<String> {
        let options = dashboard::Options {
            listen: listener.local_addr()?,
            allowed_hosts: self.options.allowed_hosts.clone(),
            token: dashboard::random_token(),
            cluster_domain: self.options.cluster_domain.clone(),
            kubeconfig: self.options.kubeconfig.display().to_string(),
        };
        let (token, proxy) = (options.token.clone(), proxy.clone());
        let sources = dashboard::Sources::new(
            self.registry.clone(),
            move || proxy.snapshot().into_iter().map(traffic_of).collect(),
            self.tasks.token(),
        );
        let router = dashboard::router(options, sources);
        self.serve("dashboard", router, places.entrance(listener));
        Ok(token)
    }

    fn start_metrics(&mut self, listener: TcpListener, places: &Places) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        let metrics: Metrics = self.metrics.clone();
        let router =
            Router::new().route("/metrics", get(move || std::future::ready(metrics.text())));
        let router = guarded(router, address, &self.options.allowed_hosts);
        self.serve("metrics", router, places.entrance(listener));
        Ok(())
    }

    fn serve(&mut self, name: &'static str, router: Router, entrance: Entrance) {
        let router = router.layer(middleware::from_fn(panics::contain));
        let router = router.layer(middleware::from_fn(sending::pass));
        let server = Server::plain(router, Limits::default());
        self.tasks.spawn(name, |token| async move {
            server.serve(entrance, token).await;
            Ok(())
        });
    }
}

/// The numbers of the proxy that the dashboard shows.
fn traffic_of(stats: RouteStats) -> RouteTraffic {
    let endpoints = stats.endpoints.iter().map(|endpoint| EndpointTraffic {
        address: endpoint.address,
        active: endpoint.active,
        failures: endpoint.failures,
        latency_us: endpoint.latency_us,
        picks: endpoint.picks,
    });
    RouteTraffic { route: stats.route, policy: None, endpoints: endpoints.collect() }
}

fn guarded(router: Router, address: std::net::SocketAddr, allowed: &[String]) -> Router {
    let hosts = Hosts::new(address, allowed);
    router.layer(middleware::from_fn_with_state(hosts, hosts::guard))
}
