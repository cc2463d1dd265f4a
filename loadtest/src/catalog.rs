//! The scenarios. A name never changes its meaning: reports of different days are compared by it.

use std::time::Duration;

use crate::cli::RunArgs;
use crate::scenario::{
    Door, Filter, Forward, Frames, Hits, Pace, Receiver, Route, Scenario, Source,
};

/// One line of 100 holds a word.
const RARE: Hits = Hits { every: 100, classes: 1 };
/// Every line does.
const ALWAYS: Hits = Hits { every: 1, classes: 1 };

/// The scenarios that are asked for, in the order they are played, with the time they take.
pub fn chosen(args: &RunArgs) -> Vec<Scenario> {
    let wanted = |scenario: &Scenario| {
        if !args.scenario.is_empty() {
            return args.scenario.iter().any(|glob| matches(glob, &scenario.name));
        }
        args.full || if args.quick { scenario.quick } else { scenario.usual }
    };
    let mut scenarios: Vec<Scenario> = all().into_iter().filter(wanted).collect();
    for scenario in &mut scenarios {
        // Silence and latency need their time: the former to be told from nothing, the latter
        // for one line of a thousand to be many.
        let is_slow = scenario.source.pace != Pace::Saturated;
        scenario.time = Duration::from_millis(match (args.quick, args.full, is_slow) {
            (true, _, false) => 400,
            (true, _, true) => 1000,
            (_, true, false) => 2000,
            (_, true, true) => 10_000,
            (_, _, false) => 1000,
            (_, _, true) => 3000,
        });
    }
    scenarios
}

/// Whether a name is of this form: `*` for any characters, `?` for one.
pub fn matches(glob: &str, name: &str) -> bool {
    let (Some(first), rest) = (glob.chars().next(), glob.get(1..).unwrap_or_default()) else {
        return name.is_empty();
    };
    match first {
        '*' => (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| matches(rest, name))),
        '?' => name.get(1..).is_some_and(|name| matches(rest, name)),
        first => name.strip_prefix(first).is_some_and(|name| matches(rest, name)),
    }
}

/// Every scenario there is.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![format().quick()];
    all.extend(filters());
    all.extend(shapes());
    all.extend(receivers());
    all.extend(routes());
    all.extend(ways());
    all.extend(rates());
    all
}

/// What all others differ from: 8 containers, 124 bytes a line, a frame a line, saturated, every
/// line to one receiver of syslog over tcp, one shard.
fn format() -> Scenario {
    Scenario {
        name: "format".to_owned(),
        title: "8 containers, 124 B, all lines, syslog+tcp".to_owned(),
        group: "format".to_owned(),
        source: Source {
            containers: 8,
            line: 124,
            frames: Frames::Line,
            pace: Pace::Saturated,
            hits: Hits::NONE,
            door: Door::Both,
        },
        forward: Forward { routes: vec![to(Receiver::Tcp)], shards: 1, io: "auto".to_owned() },
        time: Duration::from_secs(1),
        quick: false,
        usual: true,
    }
}

fn to(receiver: Receiver) -> Route {
    Route { receiver, filter: Filter::None }
}

impl Scenario {
    /// As [`format`], under a name of its own and with what `change` makes of it.
    fn new(name: &str, title: &str, change: impl FnOnce(&mut Scenario)) -> Scenario {
        let (name, title) = (name.to_owned(), title.to_owned());
        let mut scenario = Scenario { group: name.clone(), name, title, ..format() };
        change(&mut scenario);
        scenario
    }

    fn quick(self) -> Scenario {
        Scenario { quick: true, ..self }
    }

    fn rare(self) -> Scenario {
        Scenario { usual: false, ..self }
    }

    fn of(self, group: &str) -> Scenario {
        Scenario { group: group.to_owned(), ..self }
    }
}

fn filters() -> Vec<Scenario> {
    let filter = |name, title, hits, filter| {
        Scenario::new(name, title, |s| {
            s.source.hits = hits;
            s.forward.routes[0].filter = filter;
        })
    };
    vec![
        filter("filter-1", "4 words, any case, 1 % hits", RARE, Filter::Words(1)).quick(),
        filter("filter-100", "4 words, any case, all hit", ALWAYS, Filter::Words(1)).quick(),
        filter("dot-star", "`.*error`, 1 % hits", RARE, Filter::DotStarError),
    ]
}

fn shapes() -> Vec<Scenario> {
    let containers = |count: u16| {
        Scenario::new(&format!("containers-{count}"), &format!("{count} containers"), |s| {
            s.source.containers = count;
        })
    };
    let line = |name, title, bytes| Scenario::new(name, title, |s| s.source.line = bytes);
    let frames = |name, title, frames| Scenario::new(name, title, |s| s.source.frames = frames);
    vec![
        frames("write", "one write for each frame", Frames::Write).quick(),
        frames("frames-61", "61 lines a frame", Frames::Lines(61)),
        frames("cut", "frames of 32 KiB that cut lines", Frames::Cut(32 * 1024)),
        frames("cut-small", "frames of 100 bytes that cut lines", Frames::Cut(100)).rare(),
        containers(1),
        containers(64),
        containers(512),
        line("line-60", "60 B", 60),
        line("line-500", "500 B", 500),
        line("line-8k", "8 KB", 8192),
        Scenario::new("logs-door", "attach is refused: `logs` followed", |s| {
            s.source.door = Door::Logs;
        }),
    ]
}

fn receivers() -> Vec<Scenario> {
    let receiver = |name, title, receiver| {
        Scenario::new(name, title, |s| s.forward.routes = vec![to(receiver)])
    };
    vec![
        receiver("octet-counted", "syslog+tcp, octet-counted", Receiver::OctetCounted),
        receiver("udp", "syslog+udp", Receiver::Udp),
        receiver("tls", "syslog+tls", Receiver::Tls).of("tls").quick(),
        receiver("tls-plain", "the same without tls", Receiver::Tcp).of("tls").quick(),
        Scenario::new("slack", "slack, 0.01 % hits", |s| {
            s.source.hits = Hits { every: 10_000, classes: 1 };
            s.forward.routes =
                vec![Route { receiver: Receiver::Slack, filter: Filter::DotStarError }];
        }),
        Scenario::new("dead-route", "beside a route that nobody listens to", |s| {
            s.forward.routes = vec![to(Receiver::Dead), to(Receiver::Tcp)];
        }),
    ]
}

/// The same lines, of which 1 % hold a word of each route.
fn routes() -> Vec<Scenario> {
    let routes = |count: u8| {
        let title = format!("{count} routes, 4 words and 1 % hits each");
        let scenario = Scenario::new(&format!("routes-{count}"), &title, |s| {
            s.source.hits = Hits { every: 100, classes: 16 };
            let route = |class| Route { receiver: Receiver::Tcp, filter: Filter::Words(class) };
            s.forward.routes = (1..=count).map(route).collect();
        });
        scenario.of("routes")
    };
    vec![routes(1).quick(), routes(4), routes(16).quick()]
}

/// I/O drivers and shards.
fn ways() -> Vec<Scenario> {
    let driver = |name, title, containers, io: &str| {
        Scenario::new(name, title, |s| {
            s.source.containers = containers;
            s.forward.io = io.to_owned();
        })
    };
    let shards = |name, title, containers, count| {
        Scenario::new(name, title, |s| {
            s.source.containers = containers;
            s.forward.shards = count;
        })
    };
    vec![
        driver("ring", "io_uring", 8, "ring").of("drivers").quick(),
        driver("poll", "epoll", 8, "poll").of("drivers").quick(),
        driver("ring-512", "io_uring, 512 containers", 512, "ring").of("drivers-512").rare(),
        driver("poll-512", "epoll, 512 containers", 512, "poll").of("drivers-512").rare(),
        shards("shards-1", "1 shard", 8, 1).of("shards"),
        shards("shards-2", "2 shards", 8, 2).of("shards"),
        shards("busy-512", "512 busy containers, 2 shards", 512, 2),
    ]
}

fn rates() -> Vec<Scenario> {
    let rate = |name, title, io: &str, rate| {
        Scenario::new(name, title, |s| {
            s.source.pace = Pace::Rate(rate);
            s.source.frames = Frames::Write;
            s.forward.io = io.to_owned();
        })
    };
    vec![
        rate("latency-10k", "10,000 lines/s", "auto", 10_000).quick(),
        rate("latency-10k-poll", "10,000 lines/s, epoll", "poll", 10_000).rare(),
        rate("latency-100k", "100,000 lines/s", "auto", 100_000).rare(),
        Scenario::new("idle-512", "512 silent containers, 2 shards", |s| {
            s.source.containers = 512;
            s.source.pace = Pace::Silent;
            s.forward.shards = 2;
        })
        .quick(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_groups_are_together() {
        let (mut names, mut groups, mut last) = (BTreeSet::new(), BTreeSet::new(), String::new());
        for scenario in all() {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(scenario.name.chars().all(known), "{}", scenario.name);
            assert!(names.insert(scenario.name.clone()), "{} is there twice", scenario.name);
            let goes_on = scenario.group == last;
            assert!(goes_on || groups.insert(scenario.group.clone()), "{}", scenario.group);
            last = scenario.group;
            assert!(u32::from(scenario.source.hits.classes) <= scenario.source.hits.every);
        }
    }

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("format", "format", true),
            ("format", "formats", false),
            ("line-*", "line-8k", true),
            ("*-512", "ring-512", true),
            ("*", "", true),
            ("routes-?", "routes-4", true),
            ("routes-?", "routes-16", false),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }
}
