//! Routes that come and go on a running shard: those that stay lose nothing and keep their order,
//! those that come get every line from then on, and those that go close their connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use logchute::control::build;
use logchute::io::Driver;
use logchute::shard::command::{Closing, Command as Order, Rest};
use logchute::shard::lane::Route;

mod support;

use support::engine::{Ask, Fault, Stream, inspect};
use support::receivers::StreamSink;
use support::shard::{ID, Shard, check_account, settings, with_drivers};
use support::wait_until;

const LONG: Duration = Duration::from_secs(60);

impl Shard {
    /// With one route from the beginning.
    fn with(driver: Driver, constant: &StreamSink) -> Shard {
        Shard::start(driver, &[], &[format!("raw+tcp://{}", constant.address())], || ())
    }

    fn made(&self, uri: &str) -> Arc<Route> {
        let spec = settings(&[], &[uri.to_owned()]).routes.remove(0);
        Arc::new(build::added(&spec, &self.settings).unwrap())
    }

    fn open(&self, uri: &str) -> Arc<Route> {
        let route = self.made(uri);
        self.order(Order::Open(Arc::clone(&route)));
        route
    }

    /// Closes a route and waits until nothing of it is left.
    fn close(&self, route: &Arc<Route>, rest: Rest) {
        let (done, mut all_done) = tokio::sync::mpsc::channel(1);
        self.order(Order::Close(Closing { route: Arc::clone(route), rest, done }));
        assert_eq!(all_done.blocking_recv(), None);
        check_account(route);
    }

    fn write(&self, text: &str) {
        self.engine.write(ID, Stream::Out, text.as_bytes());
    }

    fn end(self) -> Option<u64> {
        self.stop(Duration::from_secs(10))
    }
}

fn received(route: &Route) -> u64 {
    route.counters.iter().map(|counters| counters.received_lines.get()).sum()
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn two_hundred_come_and_go_beside_one_that_stays() {
    with_drivers(|_, driver| {
        let (staying, passing) = (StreamSink::tcp(), StreamSink::tcp());
        let shard = Shard::with(driver, &staying);
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Frames of a line, of several, and of halves of lines, as fast as they are taken.
                for number in 0u64.. {
                    let word = if number % 3 == 0 { "needle" } else { "hay" };
                    let line = format!("{number} {word}\n");
                    let (half, rest) = line.split_at(if number % 5 == 0 { 1 } else { 0 });
                    shard.write(half);
                    shard.write(rest);
                    written.store(number + 1, SeqCst);
                    if stop.load(SeqCst) {
                        return;
                    }
                }
            });
            for round in 0..200 {
                let filter = if round % 2 == 1 { "?filter.match=needle" } else { "" };
                let route = shard.open(&format!("raw+tcp://{}{filter}", passing.address()));
                assert!(wait_until(LONG, || received(&route) > 5), "{round}");
                shard.close(&route, Rest::Deliver(LONG));
                let taken = received(&route);
                let sum = |pick: fn(&logchute::metrics::RouteCounters) -> u64| {
                    route.counters.iter().map(|counters| pick(counters)).sum::<u64>()
                };
                let (filtered, delivered) =
                    (sum(|c| c.filtered_lines.get()), sum(|c| c.delivered_lines.get()));
                assert_eq!(taken, filtered + delivered, "{round}");
                assert_eq!(sum(|c| c.connected.get()), 0, "{round}");
            }
            stop.store(true, SeqCst);
        });
        let all = written.load(SeqCst);
        assert!(wait_until(LONG, || staying.newlines() as u64 == all));
        assert!(wait_until(LONG, || passing.ended() == passing.connections()));
        assert_eq!(shard.end(), Some(0));
        assert_eq!(numbers(&staying.received().concat()), (0..all).collect::<Vec<_>>());
        let came = passing.received();
        assert_eq!(came.len(), 200);
        for (round, bytes) in came.iter().enumerate() {
            let step = if round % 2 == 1 { 3 } else { 1 };
            let numbers = numbers(bytes);
            let first = *numbers.first().unwrap();
            let expected: Vec<u64> = (first..).step_by(step).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "{round}");
        }
    });
}

#[test]
fn a_route_that_goes_delivers_what_it_holds_unless_nobody_wants_it() {
    with_drivers(|_, driver| {
        let staying = StreamSink::tcp();
        let shard = Shard::with(driver, &staying);
        let mut away = StreamSink::tcp();
        away.down();
        let uri = format!("raw+tcp://{}", away.address());
        let (late, dropped, unwanted) = (shard.open(&uri), shard.open(&uri), shard.open(&uri));
        shard.write("1\n2\n3\n");
        for route in [&late, &dropped, &unwanted] {
            assert!(wait_until(LONG, || received(route) == 3));
        }
        let lost = |route: &Arc<Route>| route.counters[0].dropped_at_exit.get();
        shard.close(&unwanted, Rest::Discard);
        assert_eq!(lost(&unwanted), 0);
        shard.close(&dropped, Rest::Deliver(Duration::from_millis(50)));
        assert_eq!(lost(&dropped), 3);
        away.up();
        shard.close(&late, Rest::Deliver(LONG));
        assert_eq!((lost(&late), late.counters[0].delivered_lines.get()), (0, 3));
        assert!(wait_until(LONG, || away.newlines() == 3 && away.ended() == away.connections()));
        shard.write("4\n");
        assert!(wait_until(LONG, || received(&shard.routes[0]) == 4));
        assert_eq!((received(&late), received(&unwanted)), (3, 3));
        assert_eq!(shard.end(), Some(0));
    });
}

#[test]
fn what_leaves_when_the_shard_stops_is_counted() {
    with_drivers(|_, driver| {
        let staying = StreamSink::tcp();
        let shard = Shard::with(driver, &staying);
        let mut away = StreamSink::tcp();
        away.down();
        let leaving = shard.open(&format!("raw+tcp://{}", away.address()));
        shard.write("1\n2\n");
        assert!(wait_until(LONG, || received(&leaving) == 2));
        let (done, mut all_done) = tokio::sync::mpsc::channel(1);
        let route = Arc::clone(&leaving);
        shard.order(Order::Close(Closing { route, rest: Rest::Deliver(LONG), done }));
        assert_eq!(shard.stop(Duration::from_millis(100)), Some(2));
        assert_eq!(all_done.blocking_recv(), None);
        assert_eq!(leaving.counters[0].dropped_at_exit.get(), 2);
    });
}

/// A route that has the container asked for takes over when the answer is there.
#[test]
fn until_a_container_was_asked_for_its_lines_go_to_the_route_that_is_replaced() {
    with_drivers(|_, driver| {
        let [staying, before, after] = [0; 3].map(|_| StreamSink::tcp());
        let shard = Shard::with(driver, &staying);
        let old = shard.open(&format!("raw+tcp://{}", before.address()));
        shard.write("1\n2\n");
        assert!(wait_until(LONG, || received(&old) == 2));
        shard.engine.fault(Ask::Inspect, Some(Fault::Hang));
        let asked = shard.engine.asked(Ask::Inspect);
        let format = "%7B%7B.Data%7D%7D%7B%7B.Container.Config.Image%7D%7D";
        let new = shard.made(&format!("raw+tcp://{}?raw.format={format}", after.address()));
        let (done, mut all_done) = tokio::sync::mpsc::channel(1);
        let closing = Closing { route: Arc::clone(&old), rest: Rest::Deliver(LONG), done };
        shard.order(Order::Replace(closing, Arc::clone(&new)));
        assert!(wait_until(LONG, || shard.engine.asked(Ask::Inspect) > asked));
        shard.write("3\n4\n");
        assert!(wait_until(LONG, || received(&shard.routes[0]) == 4));
        assert_eq!((received(&old), received(&new)), (4, 0));
        assert_eq!(shard.end(), Some(0));
        assert_eq!(all_done.blocking_recv(), None);
        assert_eq!(before.newlines(), 4);
    });
}

/// What the daemon says of a container is kept only where a route asks for it; one that does and
/// comes later has it asked for again, and gets no line without it.
#[test]
fn a_template_that_comes_later_sees_the_whole_container() {
    with_drivers(|_, driver| {
        let (staying, passing) = (StreamSink::tcp(), StreamSink::tcp());
        let shard = Shard::with(driver, &staying);
        let asked = shard.engine.asked(Ask::Inspect);
        let image = "%7B%7B.Container.Config.Image%7D%7D%20%7B%7B.Data%7D%7D%0A";
        let route = shard.open(&format!("raw+tcp://{}?raw.format={image}", passing.address()));
        let number = AtomicU64::new(0);
        assert!(wait_until(LONG, || {
            shard.write(&format!("{}\n", number.fetch_add(1, SeqCst)));
            received(&route) > 0
        }));
        assert_eq!(shard.engine.asked(Ask::Inspect), asked + 1);
        shard.close(&route, Rest::Deliver(LONG));
        let came = passing.received().concat();
        let expected = inspect(ID, "web")["Config"]["Image"].as_str().unwrap().to_owned();
        for line in String::from_utf8(came).unwrap().lines() {
            assert!(line.starts_with(&format!("{expected} ")), "{line}");
        }
        assert_eq!(shard.end(), Some(0));
    });
}
