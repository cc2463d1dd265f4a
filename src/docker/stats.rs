//! `GET /containers/{id}/stats`: a sample a second, as JSON; and what a container used in an
//! interval, put together from its samples as the `docker stats` command does.
//!
//! Pure: bytes in, values out. Engines with cgroup v1 and v2 and Podman differ in which members
//! there are; whatever is missing counts as 0. An engine goes on sending samples without a time and
//! without values when the container has stopped: these are no samples.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, de};

use crate::docker::inspect::{Container, JsonError};
use crate::docker::time::{rfc3339, rfc3339_nanos};

/// Samples come so often. An interval may end so much earlier by half: a sample comes a little
/// sooner or later than it should.
const EVERY: Duration = Duration::from_secs(1);

/// One sample. All counts are since the container started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken: nanoseconds since 1970 by the daemon's clock.
    pub at: u64,
    /// Processor time of the container, in nanoseconds.
    pub cpu_nanos: u64,
    /// Processor time of the whole host, idle time included, in nanoseconds.
    pub host_nanos: u64,
    /// The host's processors.
    pub cpus: u64,
    /// Memory in bytes, without the file cache that can be had back at once: what the `docker
    /// stats` command shows.
    pub memory: u64,
    /// How much of it the container may have, in bytes; the host's memory where nobody set a limit.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Over all of its networks; none are told of a container without one, or with the host's.
    pub received: Traffic,
    /// The same, the other way.
    pub sent: Traffic,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to them.
    pub block_written: u64,
}

/// What went one way over a container's networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were damaged.
    pub errors: u64,
    /// Packets that were thrown away.
    pub dropped: u64,
}

/// A number of the daemon's: absent, `null`, below 0 or with a fraction in some of them.
#[derive(Clone, Copy, Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Count, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
                Ok(Count(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(value).unwrap_or_default()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Count, E> {
                Ok(Count(value as u64))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
                Ok(Count(0))
            }
        }
        from.deserialize_any(Number)
    }
}

#[derive(Deserialize)]
struct RawSample {
    read: Option<String>,
    cpu_stats: Option<RawCpu>,
    memory_stats: Option<RawMemory>,
    pids_stats: Option<RawPids>,
    networks: Option<BTreeMap<String, Option<RawNetwork>>>,
    blkio_stats: Option<RawBlocks>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCpu {
    cpu_usage: Option<RawCpuUsage>,
    system_cpu_usage: Count,
    online_cpus: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCpuUsage {
    total_usage: Count,
    /// With cgroup v1 alone.
    percpu_usage: Option<Vec<de::IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMemory {
    usage: Count,
    limit: Count,
    stats: Option<RawMemoryStats>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMemoryStats {
    /// With cgroup v1 alone: `inactive_file` is without what is below it in the tree there.
    total_inactive_file: Option<Count>,
    inactive_file: Option<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPids {
    current: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNetwork {
    rx_bytes: Count,
    rx_packets: Count,
    rx_errors: Count,
    rx_dropped: Count,
    tx_bytes: Count,
    tx_packets: Count,
    tx_errors: Count,
    tx_dropped: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBlocks {
    io_service_bytes_recursive: Option<Vec<RawBlock>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBlock {
    op: Option<String>,
    value: Count,
}

/// Parses one line of the stream; `None` for what comes of a container that does not run: it has
/// no time, or one before 1970.
///
/// # Errors
/// If it is not JSON of the documented shape.
pub fn parse_sample(line: &[u8]) -> Result<Option<Sample>, JsonError> {
    let raw: RawSample = serde_json::from_slice(line)?;
    let Some(at) = raw.read.as_deref().and_then(|read| rfc3339(read.as_bytes())) else {
        return Ok(None);
    };
    let cpu = raw.cpu_stats.unwrap_or_default();
    let usage = cpu.cpu_usage.unwrap_or_default();
    let listed = usage.percpu_usage.map_or(0, |each| each.len() as u64);
    let memory = raw.memory_stats.unwrap_or_default();
    let (mut received, mut sent) = (Traffic::default(), Traffic::default());
    for network in raw.networks.unwrap_or_default().into_values().flatten() {
        let RawNetwork { rx_bytes, rx_packets, rx_errors, rx_dropped, .. } = network;
        received.add([rx_bytes, rx_packets, rx_errors, rx_dropped]);
        let RawNetwork { tx_bytes, tx_packets, tx_errors, tx_dropped, .. } = network;
        sent.add([tx_bytes, tx_packets, tx_errors, tx_dropped]);
    }
    let blocks = raw.blkio_stats.unwrap_or_default().io_service_bytes_recursive.unwrap_or_default();
    // `Read` with cgroup v1, `read` with v2; there are others (`Sync`, `Total`).
    let sum = |first: u8| {
        let counted = blocks.iter().filter(|block| {
            let op = block.op.as_deref().and_then(|op| op.bytes().next());
            op.is_some_and(|op| op.to_ascii_lowercase() == first)
        });
        counted.fold(0, |sum: u64, block| sum.saturating_add(block.value.0))
    };
    Ok(Some(Sample {
        at,
        cpu_nanos: usage.total_usage.0,
        host_nanos: cpu.system_cpu_usage.0,
        cpus: if cpu.online_cpus.0 > 0 { cpu.online_cpus.0 } else { listed },
        memory: memory.used(),
        memory_limit: memory.limit.0,
        pids: raw.pids_stats.unwrap_or_default().current.0,
        received,
        sent,
        block_read: sum(b'r'),
        block_written: sum(b'w'),
    }))
}

impl RawMemory {
    /// As `calculateMemUsageUnixNoCache` of the command line tool has it: less the inactive part of
    /// the file cache, whichever of the two names tells of it.
    fn used(&self) -> u64 {
        let stats = self.stats.as_ref();
        let cache = |of: fn(&RawMemoryStats) -> Option<Count>| {
            stats.and_then(of).map(|count| count.0).filter(|cache| *cache < self.usage.0)
        };
        let cache = cache(|stats| stats.total_inactive_file)
            .or_else(|| cache(|stats| stats.inactive_file))
            .unwrap_or_default();
        self.usage.0 - cache
    }
}

impl Traffic {
    fn add(&mut self, [bytes, packets, errors, dropped]: [Count; 4]) {
        self.bytes = self.bytes.saturating_add(bytes.0);
        self.packets = self.packets.saturating_add(packets.0);
        self.errors = self.errors.saturating_add(errors.0);
        self.dropped = self.dropped.saturating_add(dropped.0);
    }
}

/// Puts the samples of one run of a container together.
///
/// An interval begins with the last sample of the one before; so nothing is between two of them.
#[derive(Clone, Debug)]
pub struct Meter {
    interval: Duration,
    base: Option<Sample>,
    last: Option<Sample>,
    /// Samples of this interval, and the sum of their memory.
    samples: u64,
    memory: u128,
}

impl Meter {
    /// With intervals of this length.
    pub fn new(interval: Duration) -> Meter {
        Meter { interval, base: None, last: None, samples: 0, memory: 0 }
    }

    /// Takes a sample; returns the interval that it completes, if it does. A sample that is not
    /// later than the one before is passed over.
    pub fn add(&mut self, sample: Sample) -> Option<Usage> {
        if self.last.as_ref().is_some_and(|last| sample.at <= last.at) {
            return None;
        }
        self.samples += 1;
        self.memory += u128::from(sample.memory);
        let begun = self.base.get_or_insert_with(|| sample.clone()).at;
        let passed = Duration::from_nanos(sample.at - begun);
        self.last = Some(sample);
        if passed + EVERY / 2 < self.interval { None } else { self.finish() }
    }

    /// Ends the interval early; `None` if there are not two samples to compare.
    pub fn finish(&mut self) -> Option<Usage> {
        let last = self.last.clone()?;
        let base = self.base.as_ref().filter(|base| base.at < last.at)?;
        let samples = std::mem::take(&mut self.samples).max(1);
        let memory = std::mem::take(&mut self.memory) / u128::from(samples);
        let usage = Usage {
            nanos: last.at - base.at,
            samples,
            memory: u64::try_from(memory).unwrap_or(u64::MAX),
            base: base.clone(),
            last: last.clone(),
        };
        self.base = Some(last);
        Some(usage)
    }
}

/// What a container used in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How long the interval was, in nanoseconds; more than 0.
    nanos: u64,
    samples: u64,
    /// The average.
    memory: u64,
    base: Sample,
    last: Sample,
}

impl Usage {
    /// When the interval ended: nanoseconds since 1970 by the daemon's clock.
    pub fn at(&self) -> u64 {
        self.last.at
    }

    /// Processors in use, in percent of one, on the average: 150.0 is one and a half.
    pub fn cpu_percent(&self) -> f64 {
        let own = self.last.cpu_nanos.saturating_sub(self.base.cpu_nanos);
        let host = self.last.host_nanos.saturating_sub(self.base.host_nanos);
        if host == 0 {
            return 0.0;
        }
        own as f64 / host as f64 * self.last.cpus as f64 * 100.0
    }

    /// Memory in use, in percent of what the container may have, on the average.
    pub fn memory_percent(&self) -> f64 {
        match self.last.memory_limit {
            0 => 0.0,
            limit => self.memory as f64 / limit as f64 * 100.0,
        }
    }

    /// The average a second, of what grew from `before` to `now`. A container that comes back has
    /// its counts from 0 on.
    fn rate(&self, before: u64, now: u64) -> f64 {
        now.saturating_sub(before) as f64 / (self.nanos as f64 / 1e9)
    }

    /// One JSON object without a newline, its members in this order: see the README's "Stats and
    /// events". Numbers with a fraction have two digits behind the point.
    pub fn line(&self, container: &Container) -> String {
        let Usage { base, last, .. } = self;
        let mut line = String::with_capacity(1024);
        let Container { id, name, image, .. } = container;
        let text = |text: &str| serde_json::Value::from(text).to_string();
        // Writing to a string does not fail.
        let _ = write!(
            line,
            "{{\"time\":\"{}\",\"id\":{},\"name\":{},\"image\":{},\"seconds\":{:.2},\
             \"samples\":{},\"cpu_percent\":{:.2},\"cpus\":{},\"memory_bytes\":{},\
             \"memory_limit_bytes\":{},\"memory_percent\":{:.2},\"pids\":{}",
            rfc3339_nanos(last.at),
            text(id),
            text(name),
            text(image),
            self.nanos as f64 / 1e9,
            self.samples,
            self.cpu_percent(),
            last.cpus,
            self.memory,
            last.memory_limit,
            self.memory_percent(),
            last.pids,
        );
        for (name, before, now) in counts(base, last) {
            let rate = self.rate(before, now);
            let _ = write!(line, ",\"{name}\":{now},\"{name}_per_second\":{rate:.2}");
        }
        line.push('}');
        line
    }
}

/// What is counted, by the name it has in a line: before and now.
fn counts(base: &Sample, last: &Sample) -> [(&'static str, u64, u64); 10] {
    let (rx, tx) = ((&base.received, &last.received), (&base.sent, &last.sent));
    [
        ("network_rx_bytes", rx.0.bytes, rx.1.bytes),
        ("network_rx_packets", rx.0.packets, rx.1.packets),
        ("network_rx_errors", rx.0.errors, rx.1.errors),
        ("network_rx_dropped", rx.0.dropped, rx.1.dropped),
        ("network_tx_bytes", tx.0.bytes, tx.1.bytes),
        ("network_tx_packets", tx.0.packets, tx.1.packets),
        ("network_tx_errors", tx.0.errors, tx.1.errors),
        ("network_tx_dropped", tx.0.dropped, tx.1.dropped),
        ("block_read_bytes", base.block_read, last.block_read),
        ("block_write_bytes", base.block_written, last.block_written),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const SECOND: u64 = 1_000_000_000;

    /// As recorded from Engine 20.10 with cgroup v1: a second sample, and its members' zeros.
    fn v1() -> Value {
        json!({
            "read": "2026-11-22T16:25:03.773852413Z", "preread": "2026-11-22T16:25:02.77045688Z",
            "pids_stats": {"current": 1},
            "blkio_stats": {
                "io_service_bytes_recursive": [
                    {"major": 8, "minor": 0, "op": "Read", "value": 4096},
                    {"major": 8, "minor": 0, "op": "Write", "value": 8192},
                    {"major": 8, "minor": 0, "op": "Sync", "value": 12288},
                    {"major": 8, "minor": 16, "op": "Read", "value": 4},
                    {"major": 8, "minor": 0, "op": "Total", "value": 12288},
                ],
                "io_serviced_recursive": [], "sectors_recursive": [],
            },
            "num_procs": 0, "storage_stats": {},
            "cpu_stats": {
                "cpu_usage": {
                    "total_usage": 29_631_121, "percpu_usage": [1_877_090, 27_754_031],
                    "usage_in_kernelmode": 10_000_000, "usage_in_usermode": 10_000_000,
                },
                "system_cpu_usage": 3_949_270_000_000_u64, "online_cpus": 2,
                "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
            },
            "precpu_stats": {
                "cpu_usage": {"total_usage": 24_676_364, "percpu_usage": [1_877_090, 22_799_274]},
                "system_cpu_usage": 3_947_260_000_000_u64, "online_cpus": 2,
            },
            "memory_stats": {
                "usage": 1_585_152, "max_usage": 4_075_520,
                "stats": {
                    "active_anon": 4096, "cache": 1_191_936, "inactive_file": 91_936,
                    "total_cache": 1_191_936, "total_inactive_file": 1_191_936, "rss": 81_920,
                },
                "limit": 67_108_864,
            },
            "name": "/web", "id": "a9ff122b",
            "networks": {
                "eth0": {
                    "rx_bytes": 572, "rx_packets": 6, "rx_errors": 1, "rx_dropped": 2,
                    "tx_bytes": 70, "tx_packets": 1, "tx_errors": 3, "tx_dropped": 4,
                },
                "eth1": {"rx_bytes": 28, "rx_packets": 1},
            },
        })
    }

    /// With cgroup v2, as the Engine API's documentation shows it.
    fn v2() -> Value {
        json!({
            "read": "2026-11-22T16:25:03Z", "preread": "2026-11-22T16:25:02Z",
            "pids_stats": {"current": 5, "limit": 18_446_744_073_709_551_615_u64},
            "blkio_stats": {
                "io_service_bytes_recursive": [
                    {"major": 254, "minor": 0, "op": "read", "value": 7_593_984},
                    {"major": 254, "minor": 0, "op": "write", "value": 100},
                ],
                "io_serviced_recursive": null,
            },
            "cpu_stats": {
                "cpu_usage": {
                    "total_usage": 120_000_000, "usage_in_kernelmode": 0, "usage_in_usermode": 0,
                },
                "system_cpu_usage": 9_492_140_000_000_u64, "online_cpus": 8,
            },
            "memory_stats": {
                "usage": 6_537_216,
                "stats": {"anon": 1_000, "inactive_file": 537_216, "file": 600_000},
                "limit": 13_074_432,
            },
        })
    }

    fn parsed(value: &Value) -> Sample {
        parse_sample(value.to_string().as_bytes()).unwrap().unwrap()
    }

    fn container() -> Container {
        Container {
            id: "a9ff".into(),
            name: "we\"b".into(),
            image: "nginx".into(),
            ..Container::default()
        }
    }

    #[test]
    fn both_kinds_of_cgroups() {
        let expected = Sample {
            at: 1_795_364_703_773_852_413,
            cpu_nanos: 29_631_121,
            host_nanos: 3_949_270_000_000,
            cpus: 2,
            memory: 393_216,
            memory_limit: 67_108_864,
            pids: 1,
            received: Traffic { bytes: 600, packets: 7, errors: 1, dropped: 2 },
            sent: Traffic { bytes: 70, packets: 1, errors: 3, dropped: 4 },
            block_read: 4100,
            block_written: 8192,
        };
        assert_eq!(parsed(&v1()), expected);
        let mut no_count = v1();
        no_count["cpu_stats"]["online_cpus"] = Value::Null;
        assert_eq!(parsed(&no_count), expected);
        let expected = Sample {
            at: 1_795_364_703 * SECOND,
            cpu_nanos: 120_000_000,
            host_nanos: 9_492_140_000_000,
            cpus: 8,
            memory: 6_000_000,
            memory_limit: 13_074_432,
            pids: 5,
            block_read: 7_593_984,
            block_written: 100,
            ..Sample::default()
        };
        assert_eq!(parsed(&v2()), expected);
    }

    #[test]
    fn what_is_missing_and_what_is_no_sample() {
        let at = 1_795_364_703 * SECOND;
        for bare in [
            json!({"read": "2026-11-22T16:25:03Z"}),
            json!({
                "read": "2026-11-22T16:25:03Z", "cpu_stats": null, "memory_stats": {"stats": null},
                "networks": null, "blkio_stats": {"io_service_bytes_recursive": null},
                "pids_stats": {"current": null},
            }),
            json!({
                "read": "2026-11-22T16:25:03Z", "memory_stats": {"usage": -1, "limit": 0.4},
                "cpu_stats": {"cpu_usage": null}, "networks": {"eth0": null},
            }),
        ] {
            assert_eq!(parsed(&bare), Sample { at, ..Sample::default() }, "{bare}");
        }
        // The cache is never more than what is used.
        let cached = json!({
            "read": "2026-11-22T16:25:03Z",
            "memory_stats": {"usage": 10, "stats": {"total_inactive_file": 10, "inactive_file": 3}},
        });
        assert_eq!(parsed(&cached).memory, 7);
        for none in [json!({"read": "0001-01-01T00:00:00Z"}), json!({}), json!({"read": "soon"})] {
            assert_eq!(parse_sample(none.to_string().as_bytes()), Ok(None));
        }
        assert!(matches!(parse_sample(b"{"), Err(JsonError::Syntax { .. })));
        assert!(matches!(parse_sample(b"{\"read\":1}"), Err(JsonError::Shape { .. })));
    }

    /// Half of a processor of two is used, and memory grows.
    fn at(second: u64) -> Sample {
        Sample {
            at: (1_795_364_700 + second) * SECOND,
            cpu_nanos: second * SECOND / 2,
            host_nanos: second * 2 * SECOND,
            cpus: 2,
            memory: 1000 * second,
            memory_limit: 10_000,
            received: Traffic { bytes: second * 100, ..Traffic::default() },
            ..Sample::default()
        }
    }

    #[test]
    fn intervals_join_without_a_gap() {
        let mut meter = Meter::new(Duration::from_secs(5));
        let usages: Vec<Usage> = (0..13).filter_map(|second| meter.add(at(second))).collect();
        let seen: Vec<_> = usages.iter().map(|u| (u.nanos / SECOND, u.samples, u.memory)).collect();
        // The first has its own beginning too.
        assert_eq!(seen, [(5, 6, 2500), (5, 5, 8000)]);
        for usage in &usages {
            assert!((usage.cpu_percent() - 50.0).abs() < 1e-9);
            assert!(
                (usage.rate(usage.base.received.bytes, usage.last.received.bytes) - 100.0).abs()
                    < 1e-9
            );
        }
        let rest = meter.finish().unwrap();
        assert_eq!((rest.nanos / SECOND, rest.samples, rest.memory), (2, 2, 11_500));
        assert_eq!(meter.finish(), None);
        // The same again, and earlier ones, are no samples; a single one is nothing to compare.
        assert_eq!(meter.add(at(12)).or(meter.add(at(3))), None);
        let mut short = Meter::new(Duration::from_secs(5));
        assert_eq!(short.add(at(0)).or(short.finish()), None);
        // A sample that comes a little early ends the interval: the next one would be late.
        let early = Sample { at: at(5).at - SECOND / 4, ..at(5) };
        assert!(short.add(early).is_some());
    }

    #[test]
    fn a_line_has_its_members_in_order() {
        let mut meter = Meter::new(Duration::from_secs(3));
        let usage = (6..10).find_map(|second| meter.add(at(second))).unwrap();
        let line = usage.line(&container());
        let expected = "{\"time\":\"2026-11-22T16:25:09.000000000Z\",\"id\":\"a9ff\",\
            \"name\":\"we\\\"b\",\"image\":\"nginx\",\"seconds\":3.00,\"samples\":4,\
            \"cpu_percent\":50.00,\"cpus\":2,\"memory_bytes\":7500,\"memory_limit_bytes\":10000,\
            \"memory_percent\":75.00,\"pids\":0,\"network_rx_bytes\":900,\
            \"network_rx_bytes_per_second\":100.00,";
        assert!(line.starts_with(expected), "{line}");
        assert!(line.ends_with("\"block_write_bytes\":0,\"block_write_bytes_per_second\":0.00}"));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 12 + 2 * 10);
        // Whatever wrapped around or was set back, the numbers are numbers.
        let odd = Usage {
            nanos: 1,
            samples: 1,
            memory: u64::MAX,
            base: at(9),
            last: Sample { memory_limit: 0, cpus: u64::MAX, host_nanos: 0, ..at(8) },
        };
        let odd: Value = serde_json::from_str(&odd.line(&container())).unwrap();
        assert_eq!((&odd["cpu_percent"], &odd["memory_percent"]), (&json!(0.0), &json!(0.0)));
    }

    proptest! {
        /// However an interval is cut, no more and no less than what was counted is in the lines.
        #[test]
        fn nothing_is_between_two_intervals(
            steps in prop::collection::vec((1_u64..3_000_000_000, 0_u64..1_000_000), 2..60),
            interval in 1_u64..10,
        ) {
            let mut meter = Meter::new(Duration::from_secs(interval));
            let (mut now, mut bytes, mut usages) = (Sample { at: SECOND, ..at(0) }, 0, Vec::new());
            usages.extend(meter.add(now.clone()));
            for (nanos, more) in steps {
                now.at += nanos;
                bytes += more;
                now.received.bytes = bytes;
                usages.extend(meter.add(now.clone()));
            }
            usages.extend(meter.finish());
            let grown = |usage: &Usage| usage.last.received.bytes - usage.base.received.bytes;
            prop_assert_eq!(usages.iter().map(grown).sum::<u64>(), bytes);
            prop_assert_eq!(usages.iter().map(|u| u.nanos).sum::<u64>(), now.at - SECOND);
            prop_assert!(usages.windows(2).all(|pair| pair[0].last == pair[1].base));
        }
    }
}
