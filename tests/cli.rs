//! The program as its users meet it: arguments and variables in; text and exit code out.
//! Nothing here needs a Docker daemon.

use std::ffi::OsStr;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use logchute::admin::access::Access;
use logchute::admin::logs::request::Wish;
use logchute::admin::logs::{Look, Refusal};
use logchute::admin::ready::Readiness;
use logchute::admin::{Later, Refused, View, serve};
use logchute::route::json::Definition;

fn logchute(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logchute"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The outcome was bad configuration: exit code 2, and one line, which is returned.
fn refusal(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let complaint = text(&output.stderr);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    complaint.trim_end().strip_prefix("logchute: ").unwrap()
}

#[test]
fn what_is_asked_for_is_printed() {
    for (args, holds) in [
        (["--help"], "Exit codes:"),
        (["-h"], "Usage: logchute [OPTIONS] [ROUTE_URI]..."),
        (["settings"], "DRAIN_TIMEOUT=TIME, --drain-timeout=TIME [5s]"),
    ] {
        let output = logchute(&args).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(text(&output.stdout).contains(holds), "{output:?}");
    }
    for flag in ["--version", "-V"] {
        let output = logchute(&[flag]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stdout), "logchute 0.1.0\n");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = logchute(&["settings"]).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn bad_configuration_is_one_line_and_exit_code_2() {
    for command in [None, Some("check")] {
        let mut program = logchute(command.as_slice());
        let output = program.env("BUFFER", "12 apples").output().unwrap();
        let expected = "BUFFER: \"12 apples\" is not a size; write e.g. 16MiB, 64k or 1048576";
        assert_eq!(refusal(&output), expected);
    }
    let output = logchute(&["--shards=many", "raw+udp://127.0.0.1:9"]).output().unwrap();
    let expected = "--shards: \"many\" is not a number of threads; write auto or 1 to 256";
    assert_eq!(refusal(&output), expected);
    let output = logchute(&["--bufer", "1m"]).output().unwrap();
    assert_eq!(refusal(&output), "--bufer: is not an option; did you mean --buffer?");
}

#[test]
fn bad_configuration_is_said_whatever_the_log_lets_through() {
    for command in [None, Some("check")] {
        let mut program = logchute(command.as_slice());
        let output = program.args(["--log=off", "raw+udp://h:1?filter.match=("]).output().unwrap();
        let expected = "route 0: filter.match: bad regular expression";
        assert!(refusal(&output).starts_with(expected), "{output:?}");
    }
}

#[test]
fn what_is_not_utf8_is_named() {
    let not_utf8 = OsStr::from_bytes(b"1\xff");
    let output = logchute(&[]).env("TAIL", not_utf8).output().unwrap();
    assert_eq!(refusal(&output), "TAIL: is not UTF-8; write it in UTF-8");
    let output = logchute(&[]).arg(not_utf8).output().unwrap();
    assert!(refusal(&output).contains("UTF-8"), "{output:?}");
}

#[test]
fn health_follows_the_listener() {
    let view = Arc::new(Switch(AtomicBool::new(true)));
    listening(Arc::clone(&view), |address| {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let output = logchute(&["health", "--http", &address.to_string()]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        // The image says where its listener is by variables.
        let mut by_variables = logchute(&["health"]);
        by_variables.env("HTTP_BIND_ADDRESS", &ip).env("PORT", &port);
        assert!(by_variables.status().unwrap().success());
        assert!(logchute(&["health"]).env("PORT", &port).status().unwrap().success());
        view.0.store(false, Relaxed);
        let output = by_variables.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let expected = format!("logchute: health: {address} answers with status 503\n");
        assert_eq!(text(&output.stderr), expected);
    });
}

#[test]
fn health_waits_three_seconds_and_no_longer() {
    // The kernel takes the connection; nobody answers.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    let begun = Instant::now();
    let output = logchute(&["health", "--http", &address]).output().unwrap();
    let waited = begun.elapsed();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).ends_with("timed out\n"), "{output:?}");
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(8), "{waited:?}");
    drop(deaf);
    let output = logchute(&["health", "--http", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("refused"), "{output:?}");
}

struct Switch(AtomicBool);

impl View for Switch {
    fn access(&self) -> &Access {
        unreachable!("nobody asks for what is protected")
    }

    fn ready(&self) -> Readiness {
        Readiness::new(self.0.load(Relaxed), Vec::new())
    }

    fn routes(&self, _: bool) -> Vec<Definition> {
        Vec::new()
    }

    fn create_route(&self, route: Definition) -> Later<Result<Definition, Refused>> {
        Box::pin(async { Ok(route) })
    }

    fn remove_route(&self, _id: String) -> Later<bool> {
        Box::pin(async { false })
    }

    fn health(&self) -> Result<(), String> {
        if self.0.load(Relaxed) { Ok(()) } else { Err("switched off".to_string()) }
    }

    fn metrics(&self, _out: &mut String) {}

    fn look_on(&self, _wish: Wish) -> Later<Result<Look, Refusal>> {
        Box::pin(async { Err(Refusal::TooMany) })
    }
}

/// Runs `test` while logchute's own listener answers for `view`.
fn listening(view: Arc<Switch>, test: impl FnOnce(SocketAddr)) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, view, async {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        // Dropped when the test is done or has failed: either stops the listener.
        let _stop = stop;
        test(told.recv().unwrap());
    });
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}
