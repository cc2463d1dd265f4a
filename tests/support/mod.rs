//! What the integration tests share: engines, receivers, the program under test, the account.
//!
//! Every resource is a guard that removes what it made when it is dropped, also on a panic. Only
//! loopback is used, and only processes that a test started are ended, by their id.

// Each test crate uses its own part of this module.
#![allow(dead_code)]

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub(crate) mod checker;
pub(crate) mod client;
pub(crate) mod docker;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod limits;
pub(crate) mod logchute;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod receivers;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod rig;
pub(crate) mod scene;
pub(crate) mod shard;
pub(crate) mod sockets;
pub(crate) mod syslogd;
pub(crate) mod webhook;

/// Says `text` on standard error past the test harness, which swallows what passing tests print.
pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// A test cannot run for want of `what`: said loudly here, and a failure where `CI` is `true`.
pub(crate) fn skipped(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI lacks what a test needs: {what}");
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    say(&format!("\n*** SKIPPED {test}: {what} ***\n"));
}

/// Whether the full sizes were asked for (`LOGCHUTE_TEST_FULL=1`).
pub(crate) fn full() -> bool {
    std::env::var("LOGCHUTE_TEST_FULL").as_deref() == Ok("1")
}

/// The I/O drivers to test: both, or the one that `LOGCHUTE_TEST_IO` names.
pub(crate) fn drivers() -> Vec<&'static str> {
    let only = std::env::var("LOGCHUTE_TEST_IO").unwrap_or_default();
    let both = ["ring", "poll"];
    let chosen: Vec<_> = both.into_iter().filter(|d| only.is_empty() || only == *d).collect();
    assert!(!chosen.is_empty(), "LOGCHUTE_TEST_IO={only}: neither ring nor poll");
    chosen
}

/// Looks every few milliseconds until `done` says yes; whether it did within `limit`.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Does `work` for each item, so many of them `at_once`, and gives the results in their order: for
/// what waits more than it computes.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    at_once: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items.iter().enumerate());
    let next = || queue.lock().unwrap().next();
    let part = || {
        let done = std::iter::from_fn(next).map(|(at, item)| (at, work(item)));
        done.collect::<Vec<_>>()
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(part)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Each of `cases` with a driver: at full size with each, otherwise with one of them in turns. For
/// tests that are about more than how sockets are read.
pub(crate) fn by_turns<T: Clone>(cases: &[T]) -> Vec<(&'static str, T)> {
    let drivers = drivers();
    let each = if full() { drivers.len() } else { 1 };
    let turns = drivers.iter().copied().cycle();
    let cases = cases.iter().flat_map(|case| std::iter::repeat_n(case.clone(), each));
    turns.zip(cases).collect()
}

/// The drivers for a test that is about more than how sockets are read: both at full size,
/// otherwise one. Which one that is depends on the test's name: half of the tests have either.
pub(crate) fn some_drivers() -> Vec<&'static str> {
    let mut drivers = drivers();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    if !full() {
        let turn = name.bytes().map(usize::from).sum::<usize>() % drivers.len();
        drivers = vec![drivers.swap_remove(turn)];
    }
    drivers
}

/// `test` with each I/O driver, side by side.
pub(crate) fn on_each_driver(test: impl Fn(&str) + Sync) {
    side_by_side(2, &drivers(), |io| test(io));
}

/// Bytes as text for a failure message: escaped, long ones shortened in the middle.
pub(crate) fn readable(bytes: &[u8]) -> String {
    const EDGE: usize = 400;
    if bytes.len() <= 2 * EDGE {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let (head, tail) = (&bytes[..EDGE], &bytes[bytes.len() - EDGE..]);
    let left_out = bytes.len() - 2 * EDGE;
    format!("\"{} …{left_out} bytes… {}\"", head.escape_ascii(), tail.escape_ascii())
}
