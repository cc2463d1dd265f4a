//! When a line was: the daemon's clock beside ours, both doors, and a clock that is set back.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logchute::control::build;
use logchute::docker::Source;
use logchute::docker::frame::Demux;
use logchute::docker::inspect::Container;
use logchute::metrics::ShardCounters;
use logchute::shard::command::Clock;
use logchute::shard::feed::Feed;
use logchute::shard::lane::Lane;

mod support;

use support::engine::Stream;
use support::receivers::StreamSink;
use support::shard::{ID, Shard, settings, with_drivers};
use support::wait_until;

const LONG: Duration = Duration::from_secs(60);
const SECOND: i64 = 1_000_000_000;
/// Each record: its time in nanoseconds since 1970, and the line.
const FORMAT: &str = "{{.Time.UnixNano}} {{.Data}}\n";

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

/// Lines before, in and behind a gap between two attaches, each once; returns their times.
fn across_a_gap(shard: &Shard, sink: &StreamSink) -> Vec<i64> {
    let lines = |numbers: std::ops::Range<usize>| -> String {
        numbers.map(|number| format!("line {number}\n")).collect()
    };
    shard.engine.write(ID, Stream::Out, lines(0..10).as_bytes());
    assert!(wait_until(LONG, || sink.newlines() == 10));
    shard.engine.detach(ID);
    // Nobody is attached: the log alone has these.
    shard.engine.write(ID, Stream::Out, lines(10..20).as_bytes());
    assert!(wait_until(LONG, || shard.engine.attached(ID) > 0 && sink.newlines() == 20));
    shard.engine.write(ID, Stream::Out, lines(20..30).as_bytes());
    assert!(wait_until(LONG, || sink.newlines() == 30), "{}", sink.newlines());
    let records = String::from_utf8(sink.received().concat()).unwrap();
    let records: Vec<(&str, &str)> =
        records.lines().map(|record| record.split_once(' ').unwrap()).collect();
    let texts: String = records.iter().map(|(_, line)| format!("{line}\n")).collect();
    assert_eq!(texts, lines(0..30));
    records.iter().map(|(time, _)| time.parse().unwrap()).collect()
}

#[test]
fn lines_have_one_clock_and_the_gap_is_filled_whatever_the_daemons_shows() {
    with_drivers(|_, driver| {
        for (ahead, by) in [(-20, "receive"), (-20, "daemon"), (20, "receive"), (20, "daemon")] {
            let sink = StreamSink::tcp();
            let route = format!("raw+tcp://{}", sink.address());
            let env = [("RAW_FORMAT", FORMAT), ("TIMESTAMP", by)];
            let clock = Clock { ahead: ahead * SECOND, slack: Duration::from_millis(50) };
            let began = now();
            let shard = Shard::start_beside(clock, driver, &env, &[route], || ());
            let times = across_a_gap(&shard, &sink);
            let shown = if by == "daemon" { clock.ahead } else { 0 };
            let (began, ended) = (began + shown, now() + shown);
            assert!(times.iter().all(|time| (began..=ended).contains(time)), "{by} {ahead}");
            assert!(times.is_sorted(), "{by} {ahead}: {times:?}");
            assert_eq!(shard.stop(LONG), Some(0));
        }
    });
}

/// Logs of the same container in memory: each read has a time, and the clock is set back.
#[test]
fn times_do_not_go_back_with_the_clock() {
    let env = [("RAW_FORMAT", FORMAT), ("SHARDS", "1")];
    let routes = build::routes(&settings(&env, &["raw+tcp://127.0.0.1:1".to_owned()])).unwrap();
    let lane = Rc::new(Lane::new(&routes[0], 0, &Rc::default()).0);
    let mut feed = Feed::new(1 << 20, Rc::default(), Arc::new(ShardCounters::default()));
    feed.bind(&Container::default(), &[Rc::clone(&lane)]);
    let (mut demux, mut tails, mut complaint) = (Demux::framed(), Default::default(), None);
    let mut read = |feed: &mut Feed, seconds: u64, stream: Stream| {
        let frame = support::engine::frame(stream, b"x\n");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        feed.read(&mut demux, &frame, at, &mut tails, &mut complaint).unwrap();
    };
    let day = 24 * 3600;
    read(&mut feed, 2 * day, Stream::Out);
    read(&mut feed, 2 * day - 3600, Stream::Err);
    // Of the log: the other source may be earlier, the same one not.
    feed.write_at(Source::Stderr, b"x\n", (2 * day - 7200) * SECOND as u64);
    read(&mut feed, 2 * day + 1, Stream::Out);
    feed.write_at(Source::Stderr, b"x\n", (2 * day + 1) * SECOND as u64 - 5);
    // It had been wrong all the time.
    read(&mut feed, day / 2, Stream::Out);
    let chunk = lane.queue.take().unwrap();
    let records: Vec<String> = chunk
        .pending_records()
        .map(|record| String::from_utf8_lossy(record).replace(" x\n", ""))
        .collect();
    let nanos = |seconds: u64, less: u64| (seconds * SECOND as u64 - less).to_string();
    let (two, more) = (nanos(2 * day, 0), nanos(2 * day + 1, 0));
    let earlier = nanos(2 * day + 1, 5);
    assert_eq!(records, [two.clone(), two.clone(), two, more, earlier, nanos(day / 2, 0)]);
}
