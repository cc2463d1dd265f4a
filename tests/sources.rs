//! Stats and events as sources of lines: of the real program beside a scripted engine, and beside
//! a real one, whose own command and whose own alerts they are compared with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logchute::docker::events::parse_happening;
use logchute::shard::command::Command as Order;
use serde_json::{Value, json};

mod support;

use support::client::Client;
use support::docker::Docker;
use support::engine::{Ask, Engine, Stream, inspect};
use support::http::ask;
use support::logchute::{Logchute, Setup, end};
use support::pki::Pki;
use support::receivers::StreamSink;
use support::shard::{self, Shard};
use support::webhook::Webhook;
use support::{full, on_each_driver, say, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const OTHER: &str = "1222c4295f2600000000000000000000000000000000000000000000000000ab";
const LONG: Duration = Duration::from_secs(60);
/// Between two samples here: with intervals of a second, each one ends an interval.
const SAMPLES: Duration = Duration::from_millis(600);

fn program(io: &str, engine: &Engine, routes: &[&str]) -> Logchute {
    let setup = Setup::new(io).engine(Some(&engine.host())).env("STATS_INTERVAL", "1s");
    let setup = setup.env("SHARDS", "1").env("ROUTESPATH", "/there-is-no-such-directory");
    routes.iter().fold(setup, |setup, route| setup.arg(route)).start()
}

fn route(adapter: &str, sink: &StreamSink, query: &str) -> String {
    format!("{adapter}+tcp://{}?{query}", sink.address())
}

/// What has come, a line each.
fn lines(sink: &StreamSink) -> Vec<String> {
    let text = String::from_utf8(sink.received().concat()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn objects(sink: &StreamSink) -> Vec<Value> {
    lines(sink).iter().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// A sample: this much processor time in milliseconds, of two processors of which `host` passed.
fn sample(own: u64, host: u64) -> Value {
    json!({
        "cpu_stats": {
            "cpu_usage": {"total_usage": own * 1_000_000}, "system_cpu_usage": host * 1_000_000,
            "online_cpus": 2,
        },
        "memory_stats": {"usage": 100 << 20, "limit": 200 << 20, "stats": {"inactive_file": 0}},
        "pids_stats": {"current": 5},
    })
}

#[test]
fn stats_of_a_container_from_run_to_run() {
    on_each_driver(|io| {
        let (engine, [plain, joined, text]) = (Engine::new(), [(); 3].map(|()| StreamSink::tcp()));
        engine.add(inspect(ID, "web"), true);
        let routes = [
            route("raw", &plain, "filter.sources=stats"),
            route("multiline+raw", &joined, "filter.sources=stats%2Cstdout"),
            route("syslog", &text, "filter.sources=stats&filter.match=\"memory_percent\":50"),
            route("syslog", &text, "filter.sources=stats&filter.match=\"memory_percent\":90"),
        ];
        let program = program(io, &engine, &routes.each_ref().map(String::as_str));
        let opened = || wait_until(LONG, || engine.samplers(ID) == 1);
        let seen = |count| wait_until(LONG, || plain.newlines() == count);
        assert!(opened() && engine.wait_followed(&[ID], LONG), "{}", program.stderr());
        engine.sample(ID, sample(1000, 10_000));
        std::thread::sleep(SAMPLES);
        engine.sample(ID, sample(1500, 12_000));
        assert!(seen(1), "{}", program.stderr());
        // The run ends in the midst of an interval, which ends with it.
        std::thread::sleep(Duration::from_millis(100));
        engine.sample(ID, sample(2500, 14_000));
        std::thread::sleep(Duration::from_millis(100));
        engine.die(ID);
        assert!(seen(2) && wait_until(LONG, || engine.samplers(ID) == 0), "{}", program.stderr());
        // The next one has counts of its own. What the daemon sends of a container that has stopped
        // ends the stream too, if it does not tell otherwise.
        engine.start(ID, Some(7));
        assert!(opened(), "{}", program.stderr());
        engine.sample(ID, sample(0, 20_000));
        std::thread::sleep(SAMPLES);
        engine.sample(ID, sample(0, 22_000));
        assert!(seen(3));
        let asked = engine.asked(Ask::Stats);
        engine.sample_of_stopped(ID);
        assert!(wait_until(LONG, || engine.asked(Ask::Stats) > asked) && opened());
        assert!(wait_until(LONG, || joined.newlines() == 3 && text.newlines() == 3));
        end(program);
        let of = |line: &Value| (line["cpu_percent"].as_f64(), line["samples"].as_u64());
        let seen = objects(&plain).iter().map(of).collect::<Vec<_>>();
        assert_eq!(seen, [(Some(50.0), Some(2)), (Some(100.0), Some(1)), (Some(0.0), Some(2))]);
        assert_eq!(objects(&plain), objects(&joined));
        let first = &objects(&plain)[0];
        assert_eq!((&first["id"], &first["name"]), (&json!(ID), &json!("web")));
        let texts = lines(&text);
        let expected = "cpu 50.0% mem 100 MiB / 200 MiB (50.0%) net 0 B / 0 B blk 0 B / 0 B pids 5";
        assert!(texts[0].starts_with("<14>1 ") && texts[0].ends_with(expected), "{texts:?}");
    });
}

/// A container of which no route wants stats costs nothing; routes may come and go.
#[test]
fn sources_are_read_while_a_route_wants_them() {
    let (engine, sink) = (Engine::new(), StreamSink::tcp());
    engine.add(inspect(ID, "web"), true);
    engine.add(inspect(OTHER, "db"), true);
    let mut ignored = inspect(&OTHER.replace('1', "2"), "ignored");
    ignored["Config"]["Env"] = json!(["LOGSPOUT=ignore"]);
    let ignored_id = ignored["Id"].as_str().unwrap().to_owned();
    engine.add(ignored, true);
    let program = program("auto", &engine, &[&route("raw", &StreamSink::tcp(), "")]);
    assert!(engine.wait_followed(&[ID, OTHER], LONG));
    let subscriptions = || {
        let asked = engine.requests().into_iter();
        let events = asked.filter(|r| r.path == "/events" && r.param("until").is_empty());
        events.map(|r| r.param("filters").to_owned()).collect::<Vec<_>>()
    };
    let containers = "{\"type\":[\"container\"]}";
    assert_eq!((engine.asked(Ask::Stats), subscriptions()), (0, vec![containers.to_owned()]));
    let body = json!({
        "id": "s", "adapter": "raw+tcp", "address": sink.address().to_string(),
        "filter_name": "w*", "filter_sources": ["stats", "events"],
    });
    let post = ask(program.http(), "POST", "/routes", &[], &body.to_string()).unwrap();
    assert_eq!(post.status, 201, "{}", post.body);
    assert!(wait_until(LONG, || engine.samplers(ID) == 1 && subscriptions().len() == 2));
    assert_eq!((engine.samplers(OTHER), &*subscriptions()[1]), (0, "{}"));
    engine.sample(ID, sample(0, 1));
    std::thread::sleep(SAMPLES);
    engine.sample(ID, sample(0, 2));
    assert!(wait_until(LONG, || sink.newlines() == 1));
    for (id, action) in [(OTHER, "pause"), (ID, "pause"), (ID, "unpause")] {
        engine.event(id, action, &[]);
    }
    engine.tell(json!({"Type": "network", "Action": "create", "Actor": {"ID": "n"}}));
    // By its new name it is not the route's any more.
    assert!(wait_until(LONG, || sink.newlines() == 3), "{:?}", lines(&sink));
    engine.rename(ID, "/backend");
    assert!(wait_until(LONG, || engine.samplers(ID) == 0));
    engine.rename(ID, "/web");
    engine.rename(&ignored_id, "/without");
    assert!(wait_until(LONG, || engine.samplers(ID) == 1));
    let gone = ask(program.http(), "DELETE", "/routes/s", &[], "").unwrap();
    assert_eq!(gone.status, 200, "{}", gone.body);
    assert!(wait_until(LONG, || engine.samplers(ID) == 0 && subscriptions().len() == 3));
    assert_eq!(subscriptions()[2], containers);
    assert_eq!(engine.samplers(&ignored_id), 0);
    end(program);
    let told: Vec<Value> = objects(&sink).iter().map(|line| line["action"].clone()).collect();
    let expected =
        [Value::Null, json!("pause"), json!("unpause"), json!("rename"), json!("rename")];
    assert_eq!(told, expected);
}

#[test]
fn stats_that_hang_are_asked_for_again() {
    let (engine, sink) = (Engine::new(), StreamSink::tcp());
    engine.add(inspect(ID, "web"), true);
    let mut frozen = inspect(OTHER, "frozen");
    frozen["State"]["Paused"] = json!(true);
    frozen["State"]["Status"] = json!("paused");
    engine.add(frozen, true);
    let program = program("auto", &engine, &[&route("raw", &sink, "filter.sources=stats")]);
    let samplers = || [ID, OTHER].map(|id| engine.samplers(id));
    assert!(wait_until(LONG, || samplers() == [1, 1]), "{}", program.stderr());
    let (begun, asked) = (Instant::now(), engine.asked(Ask::Stats));
    assert!(wait_until(LONG, || engine.asked(Ask::Stats) > asked), "{}", program.stderr());
    // Told of within 10 s, since the streams were opened a little before.
    assert!(begun.elapsed() > Duration::from_secs(9), "{:?}", begun.elapsed());
    assert!(wait_until(LONG, || samplers() == [1, 1]));
    engine.sample(ID, sample(0, 1));
    std::thread::sleep(SAMPLES);
    engine.sample(ID, sample(0, 2));
    assert!(wait_until(LONG, || sink.newlines() == 1));
    let said = end(program);
    let hung = said.lines().filter(|line| line.contains("its stats hang")).collect::<Vec<_>>();
    assert!(hung.len() == 1 && hung[0].contains("web"), "{said}");
    assert_eq!(engine.asked(Ask::Stats), 3);
}

#[test]
fn events_are_told_once_whatever_becomes_of_the_connection() {
    let (mut engine, all, some) = (Engine::new(), StreamSink::tcp(), StreamSink::tcp());
    engine.add(inspect(ID, "web"), true);
    engine.add(inspect(OTHER, "db"), true);
    let routes = [
        route("raw", &all, "filter.sources=events"),
        route("raw", &some, "filter.sources=events&filter.labels=tier"),
    ];
    let program = program("auto", &engine, &routes.each_ref().map(String::as_str));
    let listens = |engine: &Engine| wait_until(LONG, || engine.listeners() == 1);
    assert!(listens(&engine) && engine.wait_followed(&[ID, OTHER], LONG), "{}", program.stderr());
    let mut count = 0;
    let mut events = |engine: &Engine, many: usize| {
        for _ in 0..many {
            engine.event(ID, &format!("exec_start: {count}"), &[("tier", "x")]);
            count += 1;
        }
        count
    };
    events(&engine, 5);
    for _ in 0..3 {
        engine.go_down();
        events(&engine, 40);
        engine.up();
        assert!(listens(&engine));
        events(&engine, 5);
    }
    let told = |sink: &StreamSink| {
        let actions =
            objects(sink).into_iter().map(|line| line["action"].as_str().unwrap().to_owned());
        actions.collect::<Vec<_>>()
    };
    let numbers =
        |from: usize, to: usize| (from..to).map(|n| format!("exec_start: {n}")).collect::<Vec<_>>();
    assert!(wait_until(LONG, || all.newlines() >= 140), "{}", program.stderr());
    engine.tell(json!({"Type": "volume", "Action": "mount", "Actor": {"ID": "data"}}));
    assert!(wait_until(LONG, || all.newlines() == 141));
    let expected = [numbers(0, 140), vec!["mount".to_owned()]].concat();
    assert_eq!(told(&all), expected);
    assert_eq!(told(&some), numbers(0, 140));
    // More than the daemon remembers: a start and an end are gone, and a list tells of them.
    engine.go_down();
    engine.die(OTHER);
    let new = OTHER.replace('1', "3");
    engine.add(inspect(&new, "new"), false);
    engine.start(&new, None);
    let last = events(&engine, 300);
    engine.up();
    assert!(wait_until(LONG, || all.newlines() >= 141 + 256 + 2), "{}", all.newlines());
    // A daemon that was started again remembers nothing, and nothing comes twice.
    engine.go_down();
    engine.forget_events();
    engine.up();
    assert!(listens(&engine));
    engine.event(ID, "pause", &[]);
    assert!(wait_until(LONG, || all.newlines() == 141 + 256 + 3), "{}", all.newlines());
    end(program);
    let (told, seen) = (told(&all), objects(&all));
    assert_eq!(told[141..141 + 256], numbers(last - 256, last));
    let mut late: Vec<(&str, &str)> = seen
        .iter()
        .filter(|line| line["reconciled"] == true)
        .map(|line| (line["action"].as_str().unwrap(), line["name"].as_str().unwrap()))
        .collect();
    late.sort();
    assert_eq!(late, [("die", "db"), ("start", "new")]);
    assert_eq!(told.last().map(String::as_str), Some("pause"));
}

/// A route that is full leaves stats out, and has events take the place of older lines; all of it
/// is accounted for.
#[test]
fn a_route_that_is_full() {
    for overflow in ["block", "drop-oldest", "drop-newest"] {
        let sink = StreamSink::never_reads();
        let query =
            format!("filter.sources=stdout%2Cstats%2Cevents&buffer=1MiB&overflow={overflow}");
        let env = [("STATS_INTERVAL", "1s"), ("LOGCHUTE_IO", "poll")];
        let routes = [route("raw", &sink, &query)];
        let shard = Shard::start(logchute::io::Driver::Poll, &env, &routes, || ());
        let counters = Arc::clone(&shard.routes[0].counters[0]);
        let engine = &shard.engine;
        assert!(wait_until(LONG, || engine.samplers(shard::ID) == 1));
        let line = "x".repeat(1000) + "\n";
        // What the kernel takes of it is a few MiB.
        let full = wait_until(LONG, || {
            engine.write(shard::ID, Stream::Out, line.repeat(50).as_bytes());
            match overflow {
                "block" => engine.attached(shard::ID) == 0,
                _ => counters.dropped_buffer_full.get() > 0,
            }
        });
        assert!(full, "{overflow}");
        let [received, dropped] = [&counters.received_lines, &counters.dropped_buffer_full];
        let quiet = || {
            let before = received.get();
            std::thread::sleep(Duration::from_millis(200));
            received.get() == before
        };
        assert!(wait_until(LONG, quiet));
        let before = (received.get(), dropped.get());
        engine.sample(shard::ID, sample(0, 1));
        std::thread::sleep(SAMPLES);
        engine.sample(shard::ID, sample(0, 2));
        assert!(wait_until(LONG, || received.get() == before.0 + 1), "{overflow}");
        assert_eq!(dropped.get(), before.1 + 1, "{overflow}");
        let event = format!(
            "{{\"Type\":\"container\",\"Action\":\"oom\",\"Actor\":{{\"ID\":\"{}\"}}}}",
            shard::ID
        );
        let happening = Arc::new(parse_happening(event.as_bytes()).unwrap());
        shard.order(Order::Event(happening));
        assert!(wait_until(LONG, || received.get() == before.0 + 2), "{overflow}");
        let held = counters.held_lines.get();
        match overflow {
            // The newest are what is let go of there.
            "drop-newest" => assert!(wait_until(LONG, || dropped.get() == before.1 + 2)),
            "block" => {
                let gave_way = wait_until(Duration::from_secs(5), || dropped.get() > before.1 + 1);
                assert!(gave_way && held > 0, "{dropped:?} {held}");
            }
            _ => assert!(held > 0),
        }
        shard.stop(Duration::ZERO);
    }
}

/// The alerts of the README, one URI each.
fn alerts(place: &str) -> Vec<String> {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let uris = readme.lines().filter_map(|line| {
        let (_, query) = line.split_once("slack://hooks.slack.com?filter.sources=")?;
        let query = query.trim_end_matches(['\'', '"', ' ', '\\']);
        Some(format!("slack://{place}?filter.sources={query}"))
    });
    uris.collect()
}

#[test]
fn alerts_reach_slack() {
    let Some(docker) = Docker::of_host() else { return };
    let pki = Pki::new();
    let hook = Webhook::new(&pki, &[]);
    let uris = alerts(&hook.place());
    assert_eq!(uris.len(), 4, "{uris:?}");
    let setup = Setup::new("auto").engine(docker.host().as_deref()).env("STATS_INTERVAL", "2s");
    let setup = setup
        .env("LOGSPOUT_TLS_CA_CERTS", &pki.ca().display().to_string())
        .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
        .env("SLACK_WEBHOOK_URL", "/services/T0/B0/x");
    let program = uris.iter().fold(setup, |setup, uri| setup.arg(uri)).start();
    let limited = ["--memory", "32m", "--memory-swap", "32m"];
    let greedy = docker.start("alert-oom", &limited, &["load", "0", "200"]);
    let fails = docker.start("alert-die", &[], &["lines", "1", "--fail"]);
    let good = docker.start("alert-good", &[], &["lines", "1"]);
    let ill = docker.unhealthy("alert-ill");
    let near = docker.start("alert-near", &limited, &["load", "0", "30"]);
    let texts = || hook.texts();
    let has = |container: &str, what: &str| {
        texts().iter().any(|text| text.contains(container) && text.contains(what))
    };
    // A title is the container's name, a text of stats says nothing of it.
    let near_full = || {
        let taken = hook.taken();
        let near = |a: &Value| a["title"] == format!("/{}", near.name);
        let mut of_it = taken.iter().flat_map(|posted| posted.attachments()).filter(near);
        of_it.any(|a| a["text"].as_str().is_some_and(|text| text.contains(" / 32 MiB (9")))
    };
    let all = wait_until(LONG, || {
        std::thread::sleep(Duration::from_millis(50));
        has(&greedy.name, "container oom ")
            && has(&greedy.name, "exit code 137")
            && has(&fails.name, "exit code 3")
            && has(&ill.name, "container health_status: unhealthy ")
            && near_full()
    });
    assert!(all, "{:?}\n{}", texts(), program.stderr());
    assert!(texts().iter().all(|text| !text.contains(&good.name)), "{:?}", texts());
    assert!(!has(&near.name, "oom") && !has("", "exit code 0"), "{:?}", texts());
    end(program);
}

/// A size as the docker command writes it: `5.1MiB`, in bytes.
fn bytes(text: &str) -> f64 {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (number, power) = units
        .iter()
        .find_map(|(unit, power)| Some((text.strip_suffix(unit)?, *power)))
        .unwrap_or_else(|| panic!("{text}"));
    number.parse::<f64>().unwrap() * f64::from(1 << power)
}

/// What `docker stats` says of some containers, on the average of so long a time: percent of a
/// processor, and bytes.
fn by_command(docker: &Docker, names: &[&str], time: Duration) -> Vec<(f64, f64)> {
    let end = Instant::now() + time;
    let format = "{{.Name}} {{.CPUPerc}} {{.MemUsage}}";
    let args = [&["stats", "--no-stream", "--format", format], names].concat();
    let (mut sums, mut count) = (BTreeMap::<String, (f64, f64)>::new(), 0.0);
    while Instant::now() < end {
        let said = docker.run(&args);
        for line in said.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let sum = sums.entry(words[0].to_owned()).or_default();
            sum.0 += words[1].trim_end_matches('%').parse::<f64>().unwrap();
            sum.1 += bytes(words[2]);
        }
        count += 1.0;
    }
    names
        .iter()
        .map(|name| sums[*name])
        .map(|(cpu, memory)| (cpu / count, memory / count))
        .collect()
}

#[test]
fn stats_are_those_of_the_docker_command() {
    let Some(docker) = Docker::of_host() else { return };
    let interval = if full() { 60 } else { 5 };
    let sink = StreamSink::tcp();
    let loads = [["10", "5"], ["30", "50"], ["50", "20"]];
    let containers = loads.map(|[cpu, mib]| docker.start("load", &[], &["load", cpu, mib]));
    let names = containers.each_ref().map(|container| container.name.as_str());
    let uri = route("raw", &sink, "filter.sources=stats&filter.name=load-*");
    let setup = Setup::new("auto").engine(docker.host().as_deref()).arg(&uri);
    let program = setup.env("STATS_INTERVAL", &format!("{interval}s")).start();
    let theirs = by_command(&docker, &names, Duration::from_secs(interval));
    assert!(wait_until(LONG, || sink.newlines() >= 3), "{}", program.stderr());
    let ours = objects(&sink);
    end(program);
    // At full size within 2 % of each other; in a few seconds other things come between.
    let (relative, points) = if full() { (0.02, 0.3) } else { (0.35, 6.0) };
    for (name, (cpu, memory)) in names.iter().zip(theirs) {
        let line = ours.iter().find(|line| line["name"] == *name).unwrap();
        let of = |member: &str| line[member].as_f64().unwrap();
        let (own_cpu, own_memory) = (of("cpu_percent"), of("memory_bytes"));
        let report = format!("{name}: {own_cpu} and {cpu} %, {own_memory} and {memory} bytes");
        say(&report);
        let near = |a: f64, b: f64, least: f64| (a - b).abs() <= (relative * a.max(b)).max(least);
        assert!(near(own_cpu, cpu, points), "{report}");
        // The command shows four digits.
        assert!(near(own_memory, memory, 0.02 * memory), "{report}");
    }
}

/// Whoever looks on over HTTP sees them too.
#[test]
fn a_viewer_may_ask_for_stats_and_events() {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    let program = program("auto", &engine, &[&route("raw", &StreamSink::tcp(), "")]);
    assert!(engine.wait_followed(&[ID], LONG));
    let http: SocketAddr = program.http();
    let client = Client::ask(http, "GET", "/logs?sources=events,stats", &[]);
    assert!(wait_until(LONG, || engine.samplers(ID) == 1 && engine.asked(Ask::Events) == 2));
    engine.event(ID, "oom", &[]);
    engine.sample(ID, sample(0, 1));
    std::thread::sleep(SAMPLES);
    engine.sample(ID, sample(0, 2));
    assert!(wait_until(LONG, || client.text().contains("pids 5")), "{}", client.text());
    assert!(client.text().contains("web|container oom web (image test:1)"), "{}", client.text());
    drop(client);
    assert!(wait_until(LONG, || engine.samplers(ID) == 0 && engine.asked(Ask::Events) == 3));
    end(program);
}
