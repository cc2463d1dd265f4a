//! Metrics as text: a [`Snapshot`] of the counters in, OpenMetrics 1.0 out, which Prometheus
//! reads too. Pure. Label values hold nothing secret: see [`RouteLabels`].

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::metrics::{RouteLabels, RouteTotals, ShardCounters};

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
    /// Clients of `/logs`, all together.
    pub log_clients: LogClients,
}

/// What those who look on were shown, and what not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogClients {
    /// How many there are.
    pub now: u64,
    /// Lines handed on to them; each counts once a client.
    pub shown_lines: u64,
    /// Lines left out because a client was too slow.
    pub left_out_lines: u64,
    /// Lines that a client left behind when it went away.
    pub unwanted_lines: u64,
}

/// What [`ShardCounters`] held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSnapshot {
    received_lines: u64,
    received_bytes: u64,
    unrouted_lines: u64,
    cut_lines: u64,
    corrupt_streams: u64,
    reattached: u64,
    hung: u64,
    behind: u64,
    gaps: u64,
    unsure_seams: u64,
    containers: u64,
}

impl From<&ShardCounters> for ShardSnapshot {
    fn from(counters: &ShardCounters) -> ShardSnapshot {
        ShardSnapshot {
            received_lines: counters.received_lines.get(),
            received_bytes: counters.received_bytes.get(),
            unrouted_lines: counters.unrouted_lines.get(),
            cut_lines: counters.cut_lines.get(),
            corrupt_streams: counters.corrupt_streams.get(),
            reattached: counters.reattached.get(),
            hung: counters.hung.get(),
            behind: counters.behind.get(),
            gaps: counters.gaps.get(),
            unsure_seams: counters.unsure_seams.get(),
            containers: counters.containers.get(),
        }
    }
}

/// A route, and what it did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSnapshot {
    /// Which one it is.
    pub labels: RouteLabels,
    /// Its figures.
    pub totals: RouteTotals,
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
        self.encode_spools(&mut out)?;
        self.encode_links(&mut out)?;
        self.encode_log_clients(&mut out)
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
        let help = "Containers whose lines wait in their logs until a route has room";
        out.gauge("logchute_containers_behind", help, sum(|s| s.behind))?;
        let help = "Times that lines of a container were lost, or may have been, before any route";
        out.counter("logchute_gaps", help, sum(|s| s.gaps))?;
        let help =
            "Streams and answers of the daemon that hung: it had something that they did not bring";
        out.counter("logchute_hung_streams", help, sum(|s| s.hung))?;
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
        let help = "Of these lines, those that no route takes";
        out.counters("logchute_shard_lines_unrouted", help, &per_shard(|s| s.unrouted_lines))?;
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
        let help = "Lines that became part of the record of a line before them";
        out.counters("logchute_lines_joined", help, &self.per_route(|r| r.joined_lines))?;
        let help = "Times that joined lines reached a limit and went on as another record";
        out.counters("logchute_cut_groups", help, &self.per_route(|r| r.cut_groups))?;
        let help = "Records that the receiver's side of the connection has acknowledged or taken";
        out.counters("logchute_lines_delivered", help, &self.per_route(|r| r.delivered_lines))?;
        let help = "Bytes of the records delivered, before encryption";
        out.counters("logchute_bytes_delivered", help, &self.per_route(|r| r.delivered_bytes))?;
        let help = "Records sent again: after a lost connection they may have come twice";
        out.counters("logchute_lines_resent", help, &self.per_route(|r| r.resent_lines))?;
        let dropped = |route: &RouteSnapshot| {
            route.totals.drops().map(|(reason, count)| {
                (vec![("route", route.labels.id.clone()), ("reason", reason.to_string())], count)
            })
        };
        let samples: Vec<Sample> = self.routes.iter().flat_map(dropped).collect();
        out.counters("logchute_lines_dropped", "Records dropped, by reason", &samples)?;
        let help = "Lines that wait, or were sent and are not acknowledged";
        out.gauges("logchute_lines_held", help, &self.per_route(|r| r.held()))?;
        let help = "Bytes of the lines held, as they are sent";
        out.gauges("logchute_bytes_held", help, &self.per_route(|r| r.held_bytes))?;
        let help = "Of the lines delivered, those that a message does not show but counts";
        out.counters("logchute_lines_summed_up", help, &self.per_route(|r| r.summed_up_lines))?;
        let help = "Records cut to fit a datagram or message";
        out.counters("logchute_cut_records", help, &self.per_route(|r| r.cut_records))?;
        let help = "Lines for which a template failed";
        out.counters("logchute_template_errors", help, &self.per_route(|r| r.template_errors))
    }

    fn encode_spools(&self, out: &mut Out<'_>) -> fmt::Result {
        let help = "Bytes that the route's spool has on the disk";
        out.gauges("logchute_spool_bytes", help, &self.per_route(|r| r.spool_bytes))?;
        let help = "Records in the spool that are not delivered";
        out.gauges("logchute_spool_records", help, &self.per_route(|r| r.spool_records))?;
        let help = "Records of an earlier run that were in the spool at start";
        out.counters("logchute_spool_found", help, &self.per_route(|r| r.spool_found))?;
        let help = "Records written to the spool";
        out.counters("logchute_spool_written", help, &self.per_route(|r| r.spool_written))?;
        let help = "Records read from the spool";
        out.counters("logchute_spool_read", help, &self.per_route(|r| r.spool_read))?;
        let help = "Times that the spool could not be written, read or deleted from";
        out.counters("logchute_spool_errors", help, &self.per_route(|r| r.spool_errors))
    }

    fn encode_links(&self, out: &mut Out<'_>) -> fmt::Result {
        let labels = |route: &RouteSnapshot| {
            let RouteLabels { id, adapter, transport, address } = route.labels.clone();
            vec![
                ("route", id),
                ("adapter", adapter),
                ("transport", transport),
                ("address", address),
            ]
        };
        let infos: Vec<_> = self.routes.iter().map(labels).collect();
        out.info("logchute_route", "Where a route leads", &infos)?;
        let help = "Connections of the route that are open, at most one a shard";
        out.gauges("logchute_route_connections", help, &self.per_route(|r| r.connected))?;
        let help = "Connections of the route made after the first";
        out.counters("logchute_reconnects", help, &self.per_route(|r| r.reconnects))
    }

    fn encode_log_clients(&self, out: &mut Out<'_>) -> fmt::Result {
        let LogClients { now, shown_lines, left_out_lines, unwanted_lines } = self.log_clients;
        out.gauge("logchute_log_clients", "Clients of /logs now", now)?;
        let help = "Lines handed on to clients of /logs, once a client";
        out.counter("logchute_log_client_lines_shown", help, shown_lines)?;
        let help = "Lines left out from what clients of /logs are shown, as they are too slow";
        out.counter("logchute_log_client_lines_left_out", help, left_out_lines)?;
        let help = "Lines that clients of /logs left behind when they went away";
        out.counter("logchute_log_client_lines_unwanted", help, unwanted_lines)
    }

    fn per_route(&self, field: fn(&RouteTotals) -> u64) -> Vec<Sample> {
        let sample = |route: &RouteSnapshot| {
            (vec![("route", route.labels.id.clone())], field(&route.totals))
        };
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
    use crate::metrics::RouteCounters;

    fn route(id: &str, address: &str) -> RouteSnapshot {
        let [id, adapter, transport, address] =
            [id, "syslog", "tcp", address].map(|text| text.to_string());
        let labels = RouteLabels { id, adapter, transport, address };
        RouteSnapshot { labels, ..RouteSnapshot::default() }
    }

    fn snapshot() -> Snapshot {
        let shard = ShardCounters::default();
        shard.received_lines.add(7);
        shard.containers.set(3);
        shard.cut_lines.add(2);
        shard.unrouted_lines.add(5);
        let counters = RouteCounters::default();
        counters.received_lines.add(7);
        counters.delivered_lines.add(4);
        counters.filtered_lines.add(1);
        counters.dropped_buffer_full.add(2);
        counters.held_lines.set(4);
        counters.joining_bytes.set(9);
        counters.connected.set(1);
        counters.dropped_spool.add(6);
        counters.spool_bytes.set(1000);
        counters.spool_records.set(2);
        counters.spool_written.add(5);
        counters.spool_read.add(3);
        counters.spool_errors.add(1);
        let mut summed = route("0", "logs:514");
        summed.totals.add(&counters);
        summed.totals.add(&counters);
        Snapshot {
            driver: "poll".to_string(),
            daemon_connected: true,
            daemon_reconnects: 5,
            shards: vec![ShardSnapshot::from(&shard), ShardSnapshot::from(&shard)],
            routes: vec![summed, route("1", "quo\"te\\\n")],
            log_clients: LogClients {
                now: 3,
                shown_lines: 14,
                left_out_lines: 15,
                unwanted_lines: 16,
            },
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
            "logchute_log_clients 3",
            "logchute_log_client_lines_shown_total 14",
            "logchute_log_client_lines_left_out_total 15",
            "logchute_log_client_lines_unwanted_total 16",
            "logchute_cut_lines_total 4",
            "logchute_corrupt_streams_total 0",
            "logchute_reattached_streams_total 0",
            "logchute_hung_streams_total 0",
            "logchute_unsure_seams_total 0",
            "logchute_shard_lines_received_total{shard=\"1\"} 7",
            "logchute_shard_bytes_received_total{shard=\"0\"} 0",
            "logchute_shard_lines_unrouted_total{shard=\"0\"} 5",
            "logchute_lines_held{route=\"0\"} 12",
            "logchute_bytes_held{route=\"0\"} 18",
            "logchute_lines_received_total{route=\"0\"} 14",
            "logchute_bytes_received_total{route=\"0\"} 0",
            "logchute_lines_filtered_total{route=\"0\"} 2",
            "logchute_lines_delivered_total{route=\"0\"} 8",
            "logchute_bytes_delivered_total{route=\"0\"} 0",
            "logchute_lines_resent_total{route=\"0\"} 0",
            "logchute_lines_dropped_total{route=\"0\",reason=\"buffer_full\"} 4",
            "logchute_lines_dropped_total{route=\"0\",reason=\"refused\"} 0",
            "logchute_lines_dropped_total{route=\"1\",reason=\"at_exit\"} 0",
            "logchute_lines_summed_up_total{route=\"0\"} 0",
            "logchute_lines_dropped_total{route=\"0\",reason=\"spool\"} 12",
            "logchute_spool_bytes{route=\"0\"} 2000",
            "logchute_spool_records{route=\"0\"} 4",
            "logchute_spool_found_total{route=\"1\"} 0",
            "logchute_spool_written_total{route=\"0\"} 10",
            "logchute_spool_read_total{route=\"0\"} 6",
            "logchute_spool_errors_total{route=\"0\"} 2",
            "logchute_cut_records_total{route=\"0\"} 0",
            "logchute_template_errors_total{route=\"0\"} 0",
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
    fn labels_are_escaped() {
        let text = render(&snapshot());
        let shown = "logchute_route_info{route=\"0\",adapter=\"syslog\",transport=\"tcp\",\
                     address=\"logs:514\"} 1";
        assert!(text.lines().any(|line| line == shown), "{text}");
        assert!(text.contains("address=\"quo\\\"te\\\\\\n\""), "{text}");
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
