//! Clients of `/logs` that a recording has not: slow ones, gone ones, many, and those of websockets
//! and of the real engine. The program is the real one.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use logchute::control::build;
use logchute::docker::inspect::Container;
use logchute::io::Driver;
use logchute::route::{RouteSpec, Selector};
use logchute::shard;
use logchute::shard::command::{Command as Order, Origin, Signal};
use logchute::shard::lane::Route;
use logchute::sink::Built;
use logchute::sink::viewer::{Form, sink};
use logchute::transport::Delivery;
use logchute::transport::viewer::{self, Exit};
use regex::Regex;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

mod support;

use support::client::{Client, HANDSHAKE};
use support::docker::Docker;
use support::engine::{Engine, Stream, frame, inspect};
use support::http::ask;
use support::logchute::{Logchute, Setup};
use support::receivers::StreamSink;
use support::shard::{settings, setup};
use support::{full, readable, say, wait_until};

const LONG: Duration = Duration::from_secs(30);
const WEB: &str = "c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ff";
const DB: &str = "badcafe00000badcafe00000badcafe00000badcafe00000badcafe00000badc";
/// The number of clients that may look on.
const CLIENTS_MAX: usize = 256;

/// The program on an engine with the containers `web` and `db`, with one route if it is given.
fn start(shards: &str, route: Option<&str>) -> (Engine, Logchute) {
    let engine = Engine::new();
    engine.add(inspect(WEB, "web"), true);
    engine.add(inspect(DB, "db"), true);
    let setup = Setup::new("auto").engine(Some(&engine.host())).env("SHARDS", shards);
    let program = route.iter().fold(setup, |setup, route| setup.arg(route)).start();
    assert!(engine.wait_followed(&[WEB, DB], LONG), "{}", program.stderr());
    (engine, program)
}

/// A client that the shards know of: lines are sent until it is shown one of each container that
/// it asked for.
fn look_on(engine: &Engine, program: &Logchute, path: &str, of: &[&str]) -> Client {
    let client = Client::ask(program.http(), "GET", path, &[]);
    assert_eq!(client.status(), 200, "{}", client.head);
    for id in of {
        let mark = format!("mark of {}", &id[..6]);
        let shown = wait_until(LONG, || {
            engine.write(id, Stream::Out, format!("{mark}\n").as_bytes());
            std::thread::sleep(Duration::from_millis(20));
            client.text().contains(&mark)
        });
        assert!(shown, "{path}: {}", client.text());
    }
    client
}

/// A container may end between the answer and the moment when its shard hears of the client; nobody
/// would ever end the stream then.
#[test]
fn a_client_that_comes_just_too_late_sees_the_end() {
    let engine = Engine::new();
    engine.add(inspect(WEB, "web"), true);
    let env = [("SHARDS", "1"), ("DOCKER_HOST", &engine.host())];
    let settings = settings(&env, &["udp://127.0.0.1:9".to_owned()]);
    let (setup, orders) = setup(&settings, Driver::Poll);
    let (bell, roster) = (Arc::clone(&setup.bell), Arc::clone(&setup.roster));
    let shard = std::thread::spawn(move || shard::run(setup, |_| ()).unwrap());
    let order = |order: Order| {
        orders.send(order).unwrap();
        bell.notify_one();
    };
    let look_on = |id: &str, form: Form| {
        let (entrance, exit) = viewer::way();
        let delivery = Delivery::Viewer(Arc::new(entrance));
        let built = Built { sink: sink(form), delivery, needs: Vec::new() };
        let selector = Selector { id: id.to_owned(), ..Selector::default() };
        let spec = RouteSpec { selector, ..settings.routes[0].clone() };
        let route = build::added_with(&spec, built, &settings).unwrap();
        order(Order::Open(Arc::new(Route { only_on: Some(0), ..route })));
        exit
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ends = |exit: &mut Exit| {
        runtime.block_on(async { tokio::time::timeout(LONG, exit.next()).await }).expect("the end")
    };
    let container = Container { id: WEB.into(), name: "web".into(), ..Container::default() };
    order(Order::Follow { container, origin: Origin::Found });
    assert!(wait_until(LONG, || roster.find(&WEB[..12]) == Some((WEB.to_owned(), 0))));
    assert!(wait_until(LONG, || engine.attached(WEB) > 0));
    engine.die(WEB);
    assert!(wait_until(LONG, || roster.find(WEB).is_none()));
    for form in [Form::Raw, Form::Json] {
        assert_eq!(ends(&mut look_on(WEB, form)), None);
    }
    engine.destroy(WEB);
    order(Order::Signal { id: WEB.to_owned(), signal: Signal::Destroyed });
    for form in [Form::Raw, Form::Json] {
        assert_eq!(ends(&mut look_on(WEB, form)), None);
    }
    order(Order::Stop(Duration::from_secs(1)));
    shard.join().unwrap();
}

fn clients(program: &Logchute) -> f64 {
    program.metric("logchute_log_clients")
}

fn end(mut program: Logchute) {
    let begun = Instant::now();
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("/logs"), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_stream_of_one_container_ends_with_it() {
    for shards in ["1", "4"] {
        let (engine, program) = start(shards, None);
        let ways = [WEB.to_owned(), WEB[..12].to_owned(), WEB[..20].to_owned()];
        let mut some: Vec<Client> = Vec::new();
        for id in &ways {
            some.push(look_on(&engine, &program, &format!("/logs/id:{id}"), &[WEB]));
        }
        let socket = Client::ask(program.http(), "GET", &format!("/logs/id:{WEB}"), HANDSHAKE);
        assert_eq!(socket.status(), 101);
        let all = look_on(&engine, &program, "/logs?colors=off", &[WEB, DB]);
        std::thread::sleep(Duration::from_millis(300));
        engine.write(WEB, Stream::Out, b"last words\nwithout an end");
        engine.die(WEB);
        for client in &some {
            assert!(wait_until(LONG, || client.body().1), "{}", client.text());
            assert!(client.text().ends_with("last words\nwithout an end\n"), "{}", client.text());
        }
        assert!(wait_until(LONG, || socket.is_closed()));
        let frames = socket.frames();
        let [.., last, close] = &frames[..] else { panic!("{frames:?}") };
        let last: Value = serde_json::from_slice(&last.1).unwrap();
        assert_eq!((&last["Data"], close.0), (&"without an end".into(), 0x88));
        assert_eq!(
            Client::ask(program.http(), "GET", &format!("/logs/id:{WEB}"), &[]).status(),
            404
        );
        // The others go on, and it may come again.
        engine.start(WEB, Some(7));
        assert!(wait_until(LONG, || engine.attached(WEB) > 0));
        engine.write(WEB, Stream::Out, b"back\n");
        engine.write(DB, Stream::Out, b"still here\n");
        let shown = |text: &str| wait_until(LONG, || all.text().contains(text));
        assert!(shown("|back\n") && shown("|still here\n") && !all.body().1, "{}", all.text());
        let again = look_on(&engine, &program, &format!("/logs/id:{WEB}"), &[WEB]);
        drop((some, socket, all, again));
        assert!(wait_until(LONG, || clients(&program) == 0.0), "{}", clients(&program));
        end(program);
    }
}

/// Lines of 100 bytes, numbered, in frames of ten.
fn frames(numbers: std::ops::Range<usize>) -> Vec<u8> {
    let line = |number: usize| format!("{number:08} {}\n", "x".repeat(90));
    let numbers: Vec<usize> = numbers.collect();
    let tens = numbers.chunks(10).map(|ten| ten.iter().map(|&n| line(n)).collect::<String>());
    tens.flat_map(|lines| frame(Stream::Out, lines.as_bytes())).collect()
}

fn numbers(text: &str) -> Vec<usize> {
    text.lines().filter_map(|line| line.get(..8)?.parse().ok()).collect()
}

#[test]
fn a_slow_client_is_told_what_it_misses_and_slows_nobody() {
    const LINES: usize = 300_000;
    let sink = StreamSink::tcp();
    let (engine, program) = start("2", Some(&format!("raw+tcp://{}", sink.address())));
    let path = format!("/logs/id:{WEB}");
    // Of two shards only one has the container; a client that reads shows when it knows of it.
    let mut deaf = Client::deaf(program.http(), &path);
    let quick = look_on(&engine, &program, &path, &[WEB]);
    let marks = sink.newlines();
    let mut socket: UnixStream = engine.attached_sockets(WEB).remove(0);
    socket.write_all(&frames(0..LINES)).unwrap();
    assert!(wait_until(LONG, || sink.newlines() >= marks + LINES), "{}", sink.newlines());
    let received = sink.received().concat();
    assert_eq!(numbers(&String::from_utf8(received).unwrap()), (0..LINES).collect::<Vec<_>>());
    let left_out = program.metric("logchute_log_client_lines_left_out");
    assert!(left_out > LINES as f64 / 2.0, "{left_out}");
    assert_eq!(program.metric("logchute_lines_dropped"), 0.0);

    // Now it reads: what there was before the gap, the gap, and what comes then.
    deaf.read_on();
    deaf.wait_for_head();
    let gap = Regex::new(r"logchute: (\d+) lines left out, this client is too slow\n").unwrap();
    assert!(wait_until(LONG, || gap.is_match(&deaf.text())), "{}", readable(&deaf.raw()));
    socket.write_all(&frames(LINES..LINES + 10)).unwrap();
    for client in [&deaf, &quick] {
        let last = format!("{:08} ", LINES + 9);
        assert!(wait_until(LONG, || client.text().contains(&last)), "{}", readable(&client.raw()));
        let text = client.text();
        let shown = numbers(&text);
        assert!(shown.is_sorted_by(|a, b| a < b));
        let told: usize =
            gap.captures_iter(&text).map(|gap| gap[1].parse::<usize>().unwrap()).sum();
        assert_eq!(shown.len() + told, LINES + 10);
        // Each is where the lines are missing.
        let mut expected = 0;
        for line in text.lines().filter(|line| !line.starts_with("mark")) {
            match gap.captures(&format!("{line}\n")) {
                Some(gap) => expected += gap[1].parse::<usize>().unwrap(),
                None => {
                    assert_eq!(line[..8].parse::<usize>().unwrap(), expected);
                    expected += 1;
                }
            }
        }
    }
    end(program);
}

/// The CPU time that the program has used, in clock ticks (hundredths of a second).
fn ticks(program: &Logchute) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.process.pid())).unwrap();
    // Behind the name, which is in brackets: fields 14 and 15 of proc(5).
    let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

/// What 200 clients that take nothing cost: CPU time, for the machine may have much else to do.
#[test]
fn clients_that_take_nothing_cost_a_route_next_to_nothing() {
    const LINES: usize = 400_000;
    const DEAF: usize = 200;
    let sink = StreamSink::tcp();
    let (engine, program) = start("1", Some(&format!("syslog+tcp://{}", sink.address())));
    let mut socket: UnixStream = engine.attached_sockets(WEB).remove(0);
    let mut came = 0;
    let mut carry = |lines: usize| {
        let (before, bytes) = (ticks(&program), frames(came..came + lines));
        // In parts, so that the route is never behind and nothing is dropped.
        for part in bytes.chunks(1 << 20) {
            socket.write_all(part).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        came += lines;
        assert!(wait_until(LONG, || sink.newlines() >= came), "{} of {came}", sink.newlines());
        ticks(&program) - before
    };
    carry(LINES / 10);
    let alone = carry(LINES);
    let deaf: Vec<Client> = (0..DEAF).map(|_| Client::deaf(program.http(), "/logs")).collect();
    assert!(wait_until(LONG, || clients(&program) == DEAF as f64));
    // What is held for each is filled first: that is done once.
    let filling = carry(LINES);
    let beside = carry(LINES);
    say(&format!(
        "/logs: {LINES} lines to syslog+tcp took {alone} ticks of CPU alone, {beside} beside {DEAF} \
         clients that take nothing, {filling} while their buffers were filled (debug build)"
    ));
    assert!(beside <= alone + alone / 2 + 5, "{alone} ticks alone, {beside} beside {DEAF} clients");
    assert_eq!(program.metric("logchute_lines_dropped"), 0.0);
    drop(deaf);
    assert!(wait_until(LONG, || clients(&program) == 0.0));
    end(program);
}

fn descriptors(program: &Logchute) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.process.pid())).unwrap().count()
}

#[test]
fn those_who_leave_leave_nothing_behind() {
    let (engine, program) = start("2", None);
    let before = descriptors(&program);
    for _ in 0..3 {
        let mut some: Vec<Client> = Vec::new();
        for path in ["/logs", "/logs/name:nothing", &format!("/logs/id:{DB}")] {
            some.push(Client::ask(program.http(), "GET", path, &[]));
            some.push(Client::ask(program.http(), "GET", path, &[("Accept", "application/json")]));
            some.push(Client::ask(program.http(), "GET", path, HANDSHAKE));
            some.push(Client::deaf(program.http(), path));
        }
        assert!(wait_until(LONG, || clients(&program) == 12.0), "{}", clients(&program));
        engine.write(DB, Stream::Out, b"a line\n");
        drop(some);
        assert!(wait_until(LONG, || clients(&program) == 0.0), "{}", clients(&program));
    }
    assert!(wait_until(LONG, || descriptors(&program) <= before + 1), "{}", descriptors(&program));
    end(program);
}

#[test]
fn an_expression_that_takes_long_to_compile_holds_up_nobody() {
    let (_engine, program) = start("1", None);
    let refused = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = "/logs?match=(?i)(%5CpL%7B900%7Dx)";
            let answer = ask(program.http(), "GET", path, &[], "").unwrap();
            refused.store(true, SeqCst);
            assert!(answer.body.contains("16 MiB compiled"), "{}", answer.body);
        });
        // It is being compiled by now.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(ask(program.http(), "GET", "/health", &[], "").unwrap().status, 200);
        assert!(!refused.load(SeqCst));
    });
    end(program);
}

#[test]
fn so_many_may_look_on_and_one_more_is_refused() {
    let (engine, program) = start("1", None);
    let first = look_on(&engine, &program, "/logs", &[WEB]);
    let some: Vec<Client> = (1..CLIENTS_MAX)
        .map(|_| Client::ask(program.http(), "GET", "/logs/name:db", &[]))
        .collect();
    assert!(some.iter().all(|client| client.status() == 200));
    let refused = Client::ask(program.http(), "GET", "/logs", &[]);
    assert_eq!((refused.status(), refused.text().as_str()), (503, "256 clients look on already\n"));
    // Others are served, and more of them than connections may be open do not push those out.
    for _ in 0..100 {
        assert_eq!(clients(&program), CLIENTS_MAX as f64);
    }
    engine.write(DB, Stream::Err, b"to all\n");
    for client in &some {
        assert!(wait_until(LONG, || client.text() == "to all\n"), "{}", client.text());
    }
    assert!(wait_until(LONG, || first.text().contains("to all")), "{}", first.text());
    drop(first);
    assert!(wait_until(LONG, || clients(&program) < CLIENTS_MAX as f64));
    assert_eq!(Client::ask(program.http(), "GET", "/logs", &[]).status(), 200);
    end(program);
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    let (engine, program) = start("1", None);
    let ask = |method, path, headers: &[(&str, &str)]| {
        let client = Client::ask(program.http(), method, path, headers);
        wait_until(Duration::from_secs(5), || client.body().0.ends_with(b"\n"));
        (client.status(), client.text(), client.header("allow").map(str::to_owned))
    };
    for method in ["POST", "DELETE", "HEAD"] {
        let (status, _, allow) = ask(method, "/logs", &[]);
        assert_eq!((status, allow.as_deref()), (405, Some("GET")), "{method}");
    }
    for (path, begins) in [
        ("/logs?match=(", "route /logs: filter.match"),
        ("/logs?sources=stdin", "filter.sources: \"stdin\" is no source"),
        ("/logs/name:[", "filter.name: malformed pattern"),
    ] {
        let (status, text, _) = ask("GET", path, &[]);
        assert!(status == 400 && text.starts_with(begins), "{path}: {status} {text}");
        assert_eq!(text.lines().count(), 1);
    }
    let (status, text, _) = ask("GET", "/logs", &[("Upgrade", "websocket")]);
    assert_eq!((status, text.lines().count()), (400, 1));
    // Nothing of it stayed, and an expression that makes sense is one.
    assert_eq!(clients(&program), 0.0);
    let errors = Client::ask(program.http(), "GET", "/logs/name:web?match=error&exclude=not", &[]);
    let shown = wait_until(LONG, || {
        engine.write(WEB, Stream::Out, b"no\nan error\nnot an error\n");
        std::thread::sleep(Duration::from_millis(20));
        errors.text().contains("an error")
    });
    assert!(shown && errors.text().lines().all(|line| line == "an error"), "{}", errors.text());
    end(program);
}

#[test]
fn a_new_name_is_shown_at_once() {
    let (engine, program) = start("1", None);
    let all = look_on(&engine, &program, "/logs?colors=off", &[WEB]);
    let named = look_on(&engine, &program, "/logs/name:web", &[WEB]);
    engine.rename(WEB, "/shop");
    let shown = wait_until(LONG, || {
        engine.write(WEB, Stream::Out, b"renamed\n");
        std::thread::sleep(Duration::from_millis(20));
        all.text().contains("            shop|renamed\n")
    });
    assert!(shown, "{}", all.text());
    let before = named.text();
    engine.write(WEB, Stream::Out, b"not for web\n");
    assert!(wait_until(LONG, || all.text().contains("not for web")));
    assert_eq!(named.text(), before);
    end(program);
}

/// By a client that is none of ours.
#[test]
fn a_websocket_speaks_to_any_client() {
    let (engine, program) = start("1", None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(program.http()).await.unwrap();
        let url = format!("ws://{}/logs/id:{WEB}?source=stdout,stderr", program.http());
        let request = url.into_client_request().unwrap();
        let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(answer.status(), 101);
        socket.send(Message::Text("hello, is anyone there?".into())).await.unwrap();
        socket.send(Message::Ping(b"there?".as_slice().into())).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Pong(b"there?".as_slice().into())
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        let long = "\u{e9}".repeat(200_000);
        engine.write(WEB, Stream::Err, format!("{long}\nnext\n").as_bytes());
        for expected in [&long, "next"] {
            let message = socket.next().await.unwrap().unwrap().into_text().unwrap();
            assert!(message.ends_with("\n}\n"));
            let object: Value = serde_json::from_str(&message).unwrap();
            assert_eq!((&object["Data"], &object["Source"]), (&expected.into(), &"stderr".into()));
            assert_eq!(object["Container"]["Id"], WEB);
        }
        engine.die(WEB);
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(None));
        assert!(socket.next().await.is_none());

        // And the other way round: the client says goodbye.
        let stream = tokio::net::TcpStream::connect(program.http()).await.unwrap();
        let url = format!("ws://{}/logs", program.http());
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        socket.close(None).await.unwrap();
        let goodbye = socket.next().await.unwrap().unwrap();
        assert!(matches!(goodbye, Message::Close(_)), "{goodbye}");
        assert!(socket.next().await.is_none());
    });
    assert!(wait_until(LONG, || clients(&program) == 0.0));
    end(program);
}

#[test]
fn a_token_protects_lines() {
    let engine = Engine::new();
    engine.add(inspect(WEB, "web"), true);
    let setup = Setup::new("auto").engine(Some(&engine.host())).env("HTTP_TOKEN", "s3cret-token");
    let program = setup.start();
    assert!(engine.wait_followed(&[WEB], LONG));
    let status = |path: &str, headers: &[(&str, &str)]| {
        Client::ask(program.http(), "GET", path, headers).status()
    };
    for path in ["/logs", "/logs/name:web", "/logs/id:nobody-knows-this"] {
        assert_eq!(status(path, &[]), 401, "{path}");
        assert_eq!(status(path, HANDSHAKE), 401, "{path}");
        assert_eq!(status(path, &[("Authorization", "Bearer another-one")]), 401, "{path}");
    }
    let shown = ("Authorization", "Bearer s3cret-token");
    assert_eq!(status("/logs", &[shown]), 200);
    assert_eq!(status("/logs/name:web", &[HANDSHAKE, &[shown]].concat()), 101);
    // A browser's websocket can set no header.
    assert_eq!(status("/logs/name:web?token=s3cret-token", HANDSHAKE), 101);
    end(program);
}

/// Other connections are closed after a minute.
#[test]
fn a_stream_has_no_time_limit() {
    if !full() {
        return;
    }
    let (engine, program) = start("1", None);
    let text = look_on(&engine, &program, "/logs/name:web", &[WEB]);
    let socket = Client::ask(program.http(), "GET", "/logs/name:web", HANDSHAKE);
    std::thread::sleep(Duration::from_secs(105));
    engine.write(WEB, Stream::Out, b"long after\n");
    assert!(wait_until(LONG, || text.text().ends_with("long after\n")), "{}", text.text());
    assert!(wait_until(LONG, || socket.frames().len() == 1), "{:?}", socket.frames());
    end(program);
}

#[test]
fn the_lines_of_a_real_container() {
    let Some(docker) = Docker::of_host() else { return };
    let setup = Setup::new("auto").engine(docker.host().as_deref());
    let program = setup.start_with(Stdio::null());
    let container = docker.create("look", &["--log-driver", "local"], &["lines", "500"]);
    let name = Client::ask(program.http(), "GET", &format!("/logs/name:{}", container.name), &[]);
    let short = format!("/logs/name:{}", container.name);
    let json = Client::ask(program.http(), "GET", &short, &[("Accept", "application/json")]);
    std::thread::sleep(Duration::from_millis(500));
    container.start();
    let whole = |client: &Client, lines: usize, of: &str| {
        wait_until(LONG, || client.text().matches(of).count() >= lines)
    };
    assert!(whole(&name, 500, "\n"), "{}", name.text());
    assert!(whole(&json, 500, "\n}\n"), "{}", readable(&json.raw()));
    let objects = json.text();
    let objects = serde_json::Deserializer::from_str(&objects).into_iter::<Value>();
    let lines = objects.map(|object| {
        let object = object.unwrap();
        assert_eq!(object["Container"]["Id"], container.id.as_str());
        assert!(object["Container"]["HostConfig"].is_object());
        format!("{}\n", object["Data"].as_str().unwrap())
    });
    assert_eq!(lines.collect::<String>(), name.text());
    assert_eq!(name.text().into_bytes(), docker.logs(&container.id).0);
    end(program);
}
