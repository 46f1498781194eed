//! The metrics of the policies for Prometheus: read from the [`Library`] when they are asked for. What is unloaded has none.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};

use crate::policy::library::{Info, Library};

/// Adds the metrics of the libraries' policies to the registry.
pub fn register(libraries: &[Arc<Library>], registry: &mut Registry) {
    let libraries = libraries.iter().map(Arc::downgrade).collect();
    registry.register_collector(Box::new(Policies(libraries)));
}

#[derive(Debug)]
struct Policies(Vec<Weak<Library>>);

impl Collector for Policies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let libraries = self.0.iter().filter_map(Weak::upgrade);
        let all: Vec<Info> = libraries.flat_map(|library| library.list()).collect();
        let mut policies = Metrics { encoder: &mut encoder, all: &all };
        policies.counter("picks", "Picks asked of the policy", |info| info.picks)?;
        policies
            .counter("abstentions", "Picks for which it had no opinion", |info| info.abstentions)?;
        policies.counter(
            "fallbacks",
            "Picks that another made because it had failed or was not ready",
            |info| info.fallbacks,
        )?;
        policies.failures()?;
        policies.reloads()?;
        policies.gauge("compile_seconds", "Time that its module took to compile", |info| {
            info.compile_time.map(|time| time.as_secs_f64())
        })?;
        policies.gauge("instances", "Instances of its module", |info| Some(info.instances))?;
        policies.gauge("memory_bytes", "Linear memory of its instances", |info| {
            Some(info.memory_bytes)
        })?;
        policies.pick_times()
    }
}

struct Metrics<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    all: &'a [Info],
}

type Label<'a> = (&'static str, &'a str);

fn labels(info: &Info) -> [Label<'_>; 2] {
    [("world", info.world), ("policy", &info.name)]
}

impl Metrics<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, count: fn(&Info) -> u64) -> fmt::Result {
        let name = format!("snowglobe_policy_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for info in self.all {
            let labels = labels(info);
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&count(info), None)?;
        }
        Ok(())
    }

    fn gauge<T: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: fn(&Info) -> Option<T>,
    ) -> fmt::Result {
        let name = format!("snowglobe_policy_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        for info in self.all {
            if let Some(value) = value(info) {
                let labels = labels(info);
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn failures(&mut self) -> fmt::Result {
        let (name, help) = ("snowglobe_policy_failures", "Failures of its instances, by kind");
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for info in self.all {
            for (kind, count) in info.failures_by_kind {
                let [world, policy] = labels(info);
                let labels = [world, policy, ("kind", kind.word())];
                let mut metric = metric.encode_family(&labels)?;
                metric.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn reloads(&mut self) -> fmt::Result {
        let name = "snowglobe_policy_reloads";
        let help = "Modules that took the place of another (succeeded) or were refused (failed)";
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for info in self.all {
            for (result, count) in [("succeeded", info.reloads), ("failed", info.refusals)] {
                let [world, policy] = labels(info);
                let labels = [world, policy, ("result", result)];
                let mut metric = metric.encode_family(&labels)?;
                metric.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn pick_times(&mut self) -> fmt::Result {
        let name = "snowglobe_policy_pick_duration_seconds";
        let help = "Time that its instances took to pick, of one pick in 64 and of slow ones";
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for info in self.all {
            let Some(time) = &info.pick_time else { continue };
            let mut below = 0;
            let buckets = time.within.iter().map(|(bound, within)| {
                let count = within - below;
                below = *within;
                (*bound, count)
            });
            let buckets = buckets.collect::<Vec<_>>();
            #[expect(clippy::cast_precision_loss, reason = "a sum of nanoseconds for people")]
            let sum = time.mean_ns * time.count as f64 / 1e9;
            let labels = labels(info);
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, time.count, &buckets, None)?;
        }
        Ok(())
    }
}
