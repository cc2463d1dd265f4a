//! The tests' own parts, tested: an account that cannot complain, an engine that answers wrongly
//! or a talker that writes something else would prove nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

mod support;

use support::checker::{Account, Run};
use support::docker::{Docker, SecondDaemon};
use support::engine::{Ask, Engine, Fault, Stream, frame, inspect};
use support::wait_until;

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";

#[test]
fn the_account_complains_of_each_kind_of_fault() {
    let line = |n: u64| format!("<14>1 time host name 1 - - @a {n:08} abcd\n");
    let run = Run { first: 1, count: 6, bytes: 17, stderr_every: 2 };
    let mut good = Account::default();
    good.expect("@a", run);
    for n in [2, 1, 4, 3, 6, 5] {
        good.take(line(n).as_bytes()); // odd and even are two streams: each is in order
    }
    assert!(good.complete() && good.totals().perfect(), "{}", good.totals());

    let mut bad = Account::default();
    bad.expect("@a", run);
    for n in [3, 1, 1, 6] {
        bad.take(line(n).as_bytes());
    }
    for text in ["@a 00000002 abxd", "@a 00000099 abcd", "@a 00000002 abc", "@b 00000002 abcd", ""]
    {
        bad.take(text.as_bytes());
    }
    let totals = bad.totals();
    assert_eq!((totals.lost, totals.duplicated, totals.reordered), (3, 1, 1), "{totals}");
    assert_eq!((totals.damaged, totals.unknown), (3, 2), "{totals}");
    let mut gaps = totals.gaps.clone();
    gaps.sort();
    assert_eq!(gaps, ["@a 2-2", "@a 4-5"]);
    assert!(!bad.complete() && !totals.perfect());
}

/// The answer to one request with `Connection: close`-like reading: all until silence or the end.
fn ask(engine: &Engine, request: &str) -> (UnixStream, Vec<u8>) {
    let mut socket = UnixStream::connect(engine.socket()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    write!(socket, "{request} HTTP/1.1\r\nHost: docker\r\n\r\n").unwrap();
    let answer = read_some(&mut socket);
    (socket, answer)
}

fn read_some(socket: &mut UnixStream) -> Vec<u8> {
    let (mut all, mut chunk) = (Vec::new(), [0; 65536]);
    while let Ok(n @ 1..) = socket.read(&mut chunk) {
        all.extend_from_slice(&chunk[..n]);
    }
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_scripted_engine_answers_as_an_engine() {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    let (_, ping) = ask(&engine, "GET /_ping");
    assert!(text(&ping).contains("Api-Version: 1.41"), "{}", text(&ping));
    let (_, list) = ask(&engine, "GET /v1.41/containers/json?all=1");
    assert!(text(&list).contains("\"/web\"") && text(&list).contains(ID), "{}", text(&list));
    let (_, seen) = ask(&engine, &format!("GET /v1.41/containers/{}/json", &ID[..12]));
    assert!(text(&seen).contains("\"Pid\":4242"), "{}", text(&seen));
    let (_, none) = ask(&engine, "GET /containers/000000000000/json");
    assert!(text(&none).starts_with("HTTP/1.1 404 "), "{}", text(&none));

    let attach = format!("POST /v1.41/containers/{ID}/attach?stream=1&stdout=1&stderr=1");
    let (mut live, head) = ask(&engine, &attach);
    assert!(text(&head).starts_with("HTTP/1.1 200 OK"), "{}", text(&head));
    assert_eq!((engine.attached(ID), engine.attaches(ID)), (1, 1));
    engine.write(ID, Stream::Err, b"boom\npart");
    let expected = frame(Stream::Err, b"boom\npart");
    assert_eq!(read_some(&mut live), expected);

    let (mut events, _) = ask(&engine, "GET /events");
    engine.write(ID, Stream::Out, b"last");
    engine.die(ID);
    let heard = text(&read_some(&mut events));
    assert!(heard.contains("\"Action\":\"die\"") && heard.contains("\"name\":\"web\""), "{heard}");
    assert_eq!(read_some(&mut live), frame(Stream::Out, b"last"));
    assert!(wait_until(Duration::from_secs(2), || engine.attached(ID) == 0));
    let kinds = [Ask::Ping, Ask::List, Ask::Inspect, Ask::Attach, Ask::Events, Ask::Logs];
    assert_eq!(kinds.map(|kind| engine.asked(kind)), [1, 1, 2, 1, 1, 0]);
}

#[test]
fn the_scripted_engine_keeps_a_log_as_the_daemon_does() {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    engine.write(ID, Stream::Out, b"one\ntw");
    engine.write(ID, Stream::Err, b"boom\n");
    engine.write(ID, Stream::Out, b"o\n");
    engine.write(ID, Stream::Out, &[b'x'; 20_000]);
    let logs = |query: &str| ask(&engine, &format!("GET /containers/{ID}/logs?{query}")).1;
    let has = |answer: &[u8], frame: &[u8]| memchr::memmem::find(answer, frame).is_some();
    let all = logs("stdout=1&stderr=1");
    assert!(has(&all, &frame(Stream::Out, b"one\n")) && has(&all, &frame(Stream::Err, b"boom\n")));
    assert!(has(&all, &frame(Stream::Out, b"two\n")));
    assert!(has(&all, &frame(Stream::Out, &[b'x'; 16_384])), "a long line comes in pieces");
    assert!(!has(&all, &[b'x'; 16_385]), "what has no newline yet is not in the log");
    assert!(all.ends_with(b"\r\n0\r\n\r\n"));
    assert!(!has(&logs("stdout=1&stderr=0"), b"boom"));
    // The last two messages are the piece and "two": tail counts before streams are chosen.
    assert!(!has(&logs("stderr=1&tail=2"), b"boom"));
    let stamped = text(&logs("stderr=1&timestamps=1"));
    let (_, message) = stamped.split_once("\r\n\r\n").unwrap();
    let time = message.get(14 - 2..).and_then(|m| m.split_once("20")).unwrap().1;
    assert_eq!(time.find('Z'), Some(27), "nanoseconds, UTC: {time}");
    assert!(text(&logs("stdout=1&since=10m")).starts_with("HTTP/1.1 500 "));
    assert!(text(&logs("since=0")).starts_with("HTTP/1.1 400 "));
    assert!(!has(&logs("stdout=1&since=4000000000.5"), b"one"));
    engine.die(ID);
    assert!(has(&logs("stdout=1"), &frame(Stream::Out, &[b'x'; 3_616])), "the rest, at the end");
}

#[test]
fn the_scripted_engine_misbehaves_when_told() {
    let mut engine = Engine::new();
    let list = |engine: &Engine| ask(engine, "GET /containers/json").1;
    engine.fault(Ask::List, Some(Fault::Status(500, "disk is full")));
    assert!(text(&list(&engine)).starts_with("HTTP/1.1 500 "));
    assert!(text(&list(&engine)).contains("disk is full"));
    engine.fault(Ask::List, Some(Fault::Half));
    assert!(text(&list(&engine)).ends_with("[{\"Id\":\"12"));
    engine.fault(Ask::List, Some(Fault::Hang));
    assert_eq!(list(&engine), b"");
    engine.fault(Ask::List, None);
    assert!(text(&list(&engine)).ends_with("[]\n"));
    engine.go_down();
    assert!(UnixStream::connect(engine.socket()).is_err());
    engine.up();
    assert!(text(&list(&engine)).ends_with("[]\n"));
}

/// Reads the log of a finished talker back through `docker logs`: the account must be perfect.
fn talk(docker: &Docker, options: &[&str]) {
    let args = ["lines", "5000", "--stderr-every", "7", "--bytes", "100"];
    let talker = docker.start("lct-support", options, &args);
    assert_eq!(talker.wait(Duration::from_secs(30)), Some(0));
    let (out, err) = docker.logs(&talker.id);
    let mut account = Account::default();
    account.expect("@t", Run { bytes: 100, stderr_every: 7, ..Run::of(5000) });
    account.take_lines(&out);
    account.take_lines(&err);
    assert!(account.totals().perfect(), "{}", account.totals());
    assert_eq!(memchr::memchr_iter(b'\n', &err).count(), 5000 / 7);
}

#[test]
fn the_talker_runs_in_a_container() {
    let Some(docker) = Docker::of_host() else { return };
    talk(&docker, &[]);
    let odd = docker.start("lct-support", &[], &["nonsense"]);
    assert_eq!(odd.wait(Duration::from_secs(30)), Some(2));
    let timed = docker.start("lct-support", &[], &["timed", "100"]);
    assert_eq!(timed.wait(Duration::from_secs(30)), Some(0));
    let told = timed.last_line();
    assert!(told.starts_with("@t slowest write ") && told.ends_with(" us of 100\n"), "{told}");
}

#[test]
fn a_second_daemon_runs_containers_and_restarts() {
    for live_restore in [false, true] {
        let Some(mut second) = SecondDaemon::start(live_restore) else { return };
        talk(&second.docker, &[]);
        let lives = second.docker.start("lct-support", &[], &["silent", "600"]);
        second.stop();
        assert!(second.docker.try_run(&["version"]).is_err());
        second.launch();
        let running = lives.inspect("{{.State.Running}}");
        assert_eq!(running, live_restore.to_string());
        second.kill();
        second.launch();
        assert!(second.docker.try_run(&["version"]).is_ok());
    }
}
