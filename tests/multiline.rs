//! `multiline+` routes of the real program on a scripted engine: when a group goes out, under which
//! name, and what its limits and filters do. What is joined is in `tests/wire.rs`.

use std::time::{Duration, Instant};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::logchute::{Logchute, Setup};
use support::receivers::StreamSink;
use support::{drivers, wait_until};

const ID: &str = "c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ff";
const LONG: Duration = Duration::from_secs(20);

struct Rig {
    engine: Engine,
    sink: StreamSink,
    program: Logchute,
}

impl Rig {
    /// One running container, and a route that joins its lines; a record ends with `|`.
    fn new(io: &str, options: &str, env: &[(&str, &str)]) -> Rig {
        let (engine, sink) = (Engine::new(), StreamSink::tcp());
        engine.add(inspect(ID, "web"), true);
        let uri = format!("multiline+raw+tcp://{}?{options}", sink.address());
        let mut setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1").arg(&uri);
        for (name, value) in [("RAW_FORMAT", "{{.Container.Name}} {{.Data}}|")].iter().chain(env) {
            setup = setup.env(name, value);
        }
        let program = setup.start();
        assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
        Rig { engine, sink, program }
    }

    fn write(&self, text: &str) {
        self.engine.write(ID, Stream::Out, text.as_bytes());
    }

    fn received(&self) -> String {
        String::from_utf8(self.sink.received().concat()).unwrap()
    }

    /// Waits until that has come, and nothing else.
    #[track_caller]
    fn expect(&self, text: &str) {
        wait_until(LONG, || self.received().len() >= text.len());
        assert_eq!(self.received(), text, "{}", self.program.stderr());
    }

    fn count(&self, metric: &str) -> u64 {
        self.program.metric(metric) as u64
    }
}

/// As long as a group is to wait, and how much later it may go out on a loaded machine.
const WAIT: Duration = Duration::from_millis(800);

#[test]
fn a_group_goes_out_when_it_is_old_enough_and_not_before() {
    for io in drivers() {
        let rig = Rig::new(io, "multiline.flush_after=800", &[]);
        let mut since = Instant::now();
        rig.write("head\n");
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(100));
            rig.write("  more\n");
        }
        rig.expect("/web head\n  more\n  more\n  more|");
        assert!(since.elapsed() >= WAIT, "{io}: too early, after {:?}", since.elapsed());
        // The timer has been asleep.
        std::thread::sleep(Duration::from_millis(300));
        since = Instant::now();
        rig.write("again\n  more\n");
        rig.expect("/web head\n  more\n  more\n  more|/web again\n  more|");
        assert!(since.elapsed() >= WAIT, "{io}: too early, after {:?}", since.elapsed());
        assert_eq!(rig.count("logchute_lines_joined"), 4);
    }
}

#[test]
fn each_stream_has_its_own_groups() {
    let rig = Rig::new("auto", "multiline.flush_after=1h", &[]);
    rig.engine.write(ID, Stream::Out, b"out\n");
    rig.engine.write(ID, Stream::Err, b"err\n");
    rig.engine.write(ID, Stream::Out, b"  out\n");
    rig.engine.write(ID, Stream::Err, b"  err\n");
    rig.engine.die(ID);
    rig.expect("/web out\n  out|/web err\n  err|");
}

#[test]
fn an_unfinished_line_belongs_to_the_group_that_its_containers_end_completes() {
    let rig = Rig::new("auto", "multiline.flush_after=1h", &[]);
    rig.write("a\n  b\n  c");
    rig.engine.die(ID);
    rig.expect("/web a\n  b\n  c|");
}

#[test]
fn a_group_goes_on_when_its_container_gets_another_name_or_its_stream_breaks() {
    let mut rig = Rig::new("auto", "multiline.flush_after=1h", &[]);
    rig.write("a\n");
    assert!(wait_until(LONG, || rig.count("logchute_lines_received") == 1));
    rig.engine.rename(ID, "other");
    rig.engine.detach(ID);
    assert!(wait_until(LONG, || rig.engine.attaches(ID) > 1), "{}", rig.program.stderr());
    rig.write("  b\nc\n");
    rig.expect("/other a\n  b|");
    let ended = rig.program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    rig.expect("/other a\n  b|/other c|");
}

#[test]
fn a_group_beyond_its_limits_goes_out_in_parts_and_is_counted() {
    let options = "multiline.flush_after=1h&multiline.max_lines=3";
    let mut rig = Rig::new("auto", options, &[("MULTILINE_MAX_BYTES", "1KiB")]);
    let long = format!("  {}\n", "x".repeat(700));
    rig.write(&format!("a\n 1\n 2\n 3\nb\n{long}{long}c\n"));
    let text = long.trim_end();
    let expected = format!("/web a\n 1\n 2|/web  3|/web b\n{text}|/web {text}|");
    rig.expect(&expected);
    let counts = ["lines_received", "lines_joined", "lines_delivered", "cut_groups"];
    let counts = counts.map(|name| rig.count(&format!("logchute_{name}")));
    assert_eq!(counts, [8, 3, 4, 2]);
    rig.program.stop();
    rig.expect(&(expected + "/web c|"));
}

#[test]
fn what_waits_to_be_joined_is_bounded_for_all_containers_together() {
    const CONTAINERS: usize = 10;
    let options = "multiline.flush_after=1h&buffer=1MiB&multiline.max_bytes=64KiB";
    let mut rig = Rig::new("auto", options, &[]);
    let ids: Vec<String> = (1..=CONTAINERS).map(|n| format!("{n:064x}")).collect();
    for id in &ids {
        rig.engine.add(inspect(id, "web"), true);
        rig.engine.event(id, "start", &[]);
    }
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(rig.engine.wait_followed(&all, LONG), "{}", rig.program.stderr());
    let line = format!("  {}\n", "x".repeat(30_000));
    for id in &all {
        rig.engine.write(id, Stream::Out, format!("head\n{line}{line}").as_bytes());
    }
    let received = || rig.count("logchute_lines_received") == 3 * CONTAINERS as u64;
    assert!(wait_until(LONG, received), "{}", rig.program.metrics());
    // A quarter of the buffer may wait, the rest goes out; in how many parts is up to the reads.
    let least = CONTAINERS * 2 * line.len() - 256 * 1024;
    assert!(wait_until(LONG, || rig.sink.total() >= least), "{}", rig.program.metrics());
    let cut = rig.count("logchute_cut_groups");
    assert!(cut >= CONTAINERS as u64 - 4, "{}", rig.program.metrics());
    assert_eq!(rig.program.stop().code, Some(0));
    let count = |text: &str| rig.received().matches(text).count();
    let lines = || count(line.trim_end());
    assert!(wait_until(LONG, || lines() == 2 * CONTAINERS), "{} lines", lines());
    assert_eq!(count("head"), CONTAINERS);
}

#[test]
fn a_filter_judges_what_was_joined() {
    let options = "multiline.flush_after=1h&multiline.preset=java&filter.match=Orders\
                   &filter.exclude=(?s)Harmless.*at";
    let mut rig = Rig::new("auto", &options.replace('?', "%3F"), &[]);
    let trace =
        |name: &str| format!("java.lang.{name}: x\n\tat com.acme.Orders.open(Orders.java:1)\n");
    let wanted = trace("IllegalStateException");
    rig.write(&format!("Orders\nplain\n{wanted}{}plain\n", trace("HarmlessException")));
    let expected = format!("/web Orders|/web {}|", wanted.trim_end());
    rig.expect(&expected);
    let counts = ["lines_received", "lines_joined", "lines_filtered", "lines_delivered"];
    let counts = counts.map(|name| rig.count(&format!("logchute_{name}")));
    assert_eq!(counts, [7, 2, 2, 2]);
    rig.program.stop();
    rig.expect(&expected);
}

#[test]
fn options_that_join_nothing_are_said() {
    let (engine, sink) = (Engine::new(), StreamSink::tcp());
    let uri = format!("raw+tcp://{}?multiline.preset=java", sink.address());
    let mut program = Setup::new("auto").engine(Some(&engine.host())).arg(&uri).start();
    let stderr = program.stop().stderr;
    let said = "option multiline.preset joins no lines here; write multiline+raw";
    assert!(stderr.contains(said), "{stderr}");
}
