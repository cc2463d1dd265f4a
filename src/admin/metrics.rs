//! Metrics as text: a [`Snapshot`] of the counters in, OpenMetrics 1.0 out, which Prometheus
//! reads too. Pure. Label values hold nothing secret: of a route's URI only adapter, transport
//! and address are shown, and of the address neither user nor query.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::metrics::{RouteCounters, ShardCounters};
use crate::route::RouteSpec;

/// The media type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The counters of the whole program at one moment, more or less: each is read by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The I/O driver in use: `ring` or `poll`.
    pub driver: String,
    /// Whether the daemon's event stream is open.
    pub daemon_connected: bool,
    /// Event streams opened after the first.
    pub daemon_reconnects: u64,
    /// One entry a shard.
    pub shards: Vec<ShardSnapshot>,
    /// One entry a route.
    pub routes: Vec<RouteSnapshot>,
}

/// What [`ShardCounters`] held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSnapshot {
    received_lines: u64,
    received_bytes: u64,
    cut_lines: u64,
    corrupt_streams: u64,
    reattached: u64,
    unsure_seams: u64,
    containers: u64,
}

impl From<&ShardCounters> for ShardSnapshot {
    fn from(counters: &ShardCounters) -> ShardSnapshot {
        ShardSnapshot {
            received_lines: counters.received_lines.get(),
            received_bytes: counters.received_bytes.get(),
            cut_lines: counters.cut_lines.get(),
            corrupt_streams: counters.corrupt_streams.get(),
            reattached: counters.reattached.get(),
            unsure_seams: counters.unsure_seams.get(),
            containers: counters.containers.get(),
        }
    }
}

/// What the [`RouteCounters`] of one route held, all shards together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSnapshot {
    id: String,
    adapter: String,
    transport: String,
    address: String,
    received_lines: u64,
    received_bytes: u64,
    filtered_lines: u64,
    delivered_lines: u64,
    delivered_bytes: u64,
    dropped_buffer_full: u64,
    dropped_refused: u64,
    dropped_at_exit: u64,
    cut_records: u64,
    reconnects: u64,
    connected: u64,
}

impl RouteSnapshot {
    /// A route that did nothing yet; see [`RouteSnapshot::add`].
    pub fn new(spec: &RouteSpec) -> RouteSnapshot {
        RouteSnapshot {
            id: spec.id.clone(),
            adapter: spec.adapter.clone(),
            transport: spec.transport.clone().unwrap_or_default(),
            address: redacted(&spec.address).to_string(),
            ..RouteSnapshot::default()
        }
    }

    /// Adds what the route did on one shard.
    pub fn add(&mut self, counters: &RouteCounters) {
        self.received_lines += counters.received_lines.get();
        self.received_bytes += counters.received_bytes.get();
        self.filtered_lines += counters.filtered_lines.get();
        self.delivered_lines += counters.delivered_lines.get();
        self.delivered_bytes += counters.delivered_bytes.get();
        self.dropped_buffer_full += counters.dropped_buffer_full.get();
        self.dropped_refused += counters.dropped_refused.get();
        self.dropped_at_exit += counters.dropped_at_exit.get();
        self.cut_records += counters.cut_records.get();
        self.reconnects += counters.reconnects.get();
        self.connected += counters.connected.get();
    }
}

/// An address without what may be secret: the user before `@`, the query after `?`.
fn redacted(address: &str) -> &str {
    let address = address.split_once('?').map_or(address, |(address, _)| address);
    address.rsplit_once('@').map_or(address, |(_, address)| address)
}

/// All metrics as text, `# EOF` at the end.
pub fn render(snapshot: &Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot.clone()));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing to a string does not fail; if ever, a scrape without `# EOF` is refused.
        Err(fmt::Error) => String::new(),
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.encode_program(&mut out)?;
        self.encode_shards(&mut out)?;
        self.encode_lines(&mut out)?;
        self.encode_links(&mut out)
    }
}

impl Snapshot {
    fn encode_program(&self, out: &mut Out<'_>) -> fmt::Result {
        out.info("logchute_build", "Version", &[vec![("version", env!("CARGO_PKG_VERSION"))]])?;
        let driver = vec![("driver", self.driver.as_str())];
        out.info("logchute_io_driver", "I/O driver in use", &[driver])?;
        let connected = u64::from(self.daemon_connected);
        out.gauge("logchute_daemon_connected", "1 while the daemon's events come", connected)?;
        let help = "Connections to the daemon's event stream after the first";
        out.counter("logchute_daemon_reconnects", help, self.daemon_reconnects)
    }

    fn encode_shards(&self, out: &mut Out<'_>) -> fmt::Result {
        let sum = |field: fn(&ShardSnapshot) -> u64| self.shards.iter().map(field).sum::<u64>();
        out.gauge("logchute_containers", "Containers followed now", sum(|s| s.containers))?;
        let help = "Lines longer than MAX_LINE, cut into parts";
        out.counter("logchute_cut_lines", help, sum(|s| s.cut_lines))?;
        let help = "Streams closed because a frame header was corrupt";
        out.counter("logchute_corrupt_streams", help, sum(|s| s.corrupt_streams))?;
        let help = "Streams opened again while their container ran";
        out.counter("logchute_reattached_streams", help, sum(|s| s.reattached))?;
        let help = "Times that backlog and live lines could not be joined for certain";
        out.counter("logchute_unsure_seams", help, sum(|s| s.unsure_seams))?;
        let per_shard = |field: fn(&ShardSnapshot) -> u64| -> Vec<Sample> {
            let sample = |(index, shard): (usize, &ShardSnapshot)| {
                (vec![("shard", index.to_string())], field(shard))
            };
            self.shards.iter().enumerate().map(sample).collect()
        };
        let samples = per_shard(|s| s.received_lines);
        out.counters("logchute_shard_lines_received", "Lines taken from containers", &samples)?;
        let help = "Bytes of the lines taken from containers, newlines included";
        out.counters("logchute_shard_bytes_received", help, &per_shard(|s| s.received_bytes))
    }

    fn encode_lines(&self, out: &mut Out<'_>) -> fmt::Result {
        let help = "Lines whose container and source the route takes";
        out.counters("logchute_lines_received", help, &self.per_route(|r| r.received_lines))?;
        let help = "Bytes of the lines received, newlines included";
        out.counters("logchute_bytes_received", help, &self.per_route(|r| r.received_bytes))?;
        let help = "Lines that filter.match or filter.exclude kept out";
        out.counters("logchute_lines_filtered", help, &self.per_route(|r| r.filtered_lines))?;
        let help = "Records that the receiver's side of the connection has taken";
        out.counters("logchute_lines_delivered", help, &self.per_route(|r| r.delivered_lines))?;
        let help = "Bytes of the records delivered, before encryption";
        out.counters("logchute_bytes_delivered", help, &self.per_route(|r| r.delivered_bytes))?;
        let dropped = |route: &RouteSnapshot| {
            [
                ("buffer_full", route.dropped_buffer_full),
                ("refused", route.dropped_refused),
                ("at_exit", route.dropped_at_exit),
            ]
            .map(|(reason, count)| {
                (vec![("route", route.id.clone()), ("reason", reason.to_string())], count)
            })
        };
        let samples: Vec<Sample> = self.routes.iter().flat_map(dropped).collect();
        out.counters("logchute_lines_dropped", "Records dropped, by reason", &samples)?;
        let help = "Records cut to fit a datagram";
        out.counters("logchute_cut_records", help, &self.per_route(|r| r.cut_records))
    }

    fn encode_links(&self, out: &mut Out<'_>) -> fmt::Result {
        let labels = |route: &'_ RouteSnapshot| {
            [
                ("route", route.id.clone()),
                ("adapter", route.adapter.clone()),
                ("transport", route.transport.clone()),
                ("address", route.address.clone()),
            ]
            .to_vec()
        };
        let infos: Vec<_> = self.routes.iter().map(labels).collect();
        out.info("logchute_route", "Where a route leads", &infos)?;
        let help = "Connections of the route that are open, at most one a shard";
        out.gauges("logchute_route_connections", help, &self.per_route(|r| r.connected))?;
        let help = "Connections of the route made after the first";
        out.counters("logchute_reconnects", help, &self.per_route(|r| r.reconnects))
    }

    fn per_route(&self, field: fn(&RouteSnapshot) -> u64) -> Vec<Sample> {
        let sample = |route: &RouteSnapshot| (vec![("route", route.id.clone())], field(route));
        self.routes.iter().map(sample).collect()
    }
}

/// The labels of one sample, and its value.
type Sample = (Vec<(&'static str, String)>, u64);

/// Writes one family of metrics a call.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counters(&mut self, name: &str, help: &str, samples: &[Sample]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
        }
        Ok(())
    }

    fn gauges(&mut self, name: &str, help: &str, samples: &[Sample]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn info<V: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        infos: &[Vec<(&'static str, V)>],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        for labels in infos {
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
            family.encode_info(&labels)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Selector;

    fn route(id: &str, address: &str) -> RouteSpec {
        RouteSpec {
            id: id.to_string(),
            adapter: "syslog".to_string(),
            transport: Some("tcp".to_string()),
            address: address.to_string(),
            selector: Selector::default(),
            options: vec![("structured_data".to_string(), "TOKEN".to_string())],
        }
    }

    fn snapshot() -> Snapshot {
        let shard = ShardCounters::default();
        shard.received_lines.add(7);
        shard.containers.set(3);
        shard.cut_lines.add(2);
        let counters = RouteCounters::default();
        counters.received_lines.add(7);
        counters.delivered_lines.add(4);
        counters.filtered_lines.add(1);
        counters.dropped_buffer_full.add(2);
        counters.connected.set(1);
        let mut summed = RouteSnapshot::new(&route("0", "user:pass@logs:514?token=abc"));
        summed.add(&counters);
        summed.add(&counters);
        Snapshot {
            driver: "poll".to_string(),
            daemon_connected: true,
            daemon_reconnects: 5,
            shards: vec![ShardSnapshot::from(&shard), ShardSnapshot::from(&shard)],
            routes: vec![summed, RouteSnapshot::new(&route("1", "quo\"te\\\n"))],
        }
    }

    #[test]
    fn every_figure_is_there() {
        let text = render(&snapshot());
        for line in [
            "logchute_build_info{version=\"0.1.0\"} 1",
            "logchute_io_driver_info{driver=\"poll\"} 1",
            "logchute_daemon_connected 1",
            "logchute_daemon_reconnects_total 5",
            "logchute_containers 6",
            "logchute_cut_lines_total 4",
            "logchute_corrupt_streams_total 0",
            "logchute_reattached_streams_total 0",
            "logchute_unsure_seams_total 0",
            "logchute_shard_lines_received_total{shard=\"1\"} 7",
            "logchute_shard_bytes_received_total{shard=\"0\"} 0",
            "logchute_lines_received_total{route=\"0\"} 14",
            "logchute_bytes_received_total{route=\"0\"} 0",
            "logchute_lines_filtered_total{route=\"0\"} 2",
            "logchute_lines_delivered_total{route=\"0\"} 8",
            "logchute_bytes_delivered_total{route=\"0\"} 0",
            "logchute_lines_dropped_total{route=\"0\",reason=\"buffer_full\"} 4",
            "logchute_lines_dropped_total{route=\"0\",reason=\"refused\"} 0",
            "logchute_lines_dropped_total{route=\"1\",reason=\"at_exit\"} 0",
            "logchute_cut_records_total{route=\"0\"} 0",
            "logchute_route_connections{route=\"0\"} 2",
            "logchute_reconnects_total{route=\"1\"} 0",
            "# TYPE logchute_lines_received counter",
            "# HELP logchute_containers Containers followed now",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_escaped_and_hold_no_secret() {
        let text = render(&snapshot());
        let shown = "logchute_route_info{route=\"0\",adapter=\"syslog\",transport=\"tcp\",\
                     address=\"logs:514\"} 1";
        assert!(text.lines().any(|line| line == shown), "{text}");
        assert!(text.contains("address=\"quo\\\"te\\\\\\n\""), "{text}");
        for secret in ["user", "pass", "abc", "TOKEN"] {
            assert!(!text.contains(secret), "{secret} is in:\n{text}");
        }
    }

    #[test]
    fn families_are_whole() {
        let text = render(&snapshot());
        let mut families = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty());
                assert!(!families.contains(&name), "{name} is there twice");
                families.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let bare = name.trim_end_matches("_total").trim_end_matches("_info");
                assert_eq!(families.last(), Some(&bare), "{line}");
            }
        }
        assert!(families.len() > 15);
    }

    #[test]
    fn nothing_yet_is_fine() {
        assert!(render(&Snapshot::default()).ends_with("# EOF\n"));
    }
}
