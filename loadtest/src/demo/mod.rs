//! `demo`: what logchute does, for someone whose machine has no Docker engine. A scripted engine
//! with a few talking containers, the real `logchute` with three routes, and local receivers that
//! show what arrives at each.
//!
//! The engine is that of the integration tests. Everything is on loopback and in a folder that is
//! removed.

mod receivers;
mod script;
mod show;

/// Of the integration tests, which use more of it.
#[allow(dead_code)]
#[path = "../../../tests/support/engine.rs"]
mod engine;
/// Of the integration tests, for their engine.
#[allow(dead_code)]
#[path = "../../../tests/support/http.rs"]
mod http;

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::child::build_logchute;
use crate::cli::DemoArgs;
use crate::receivers::Identity;
use engine::{Engine, Stream, inspect};
use script::{ACTORS, Act, Who};
use show::{Pane, Show};

/// Between looks into the script.
const TICK: Duration = Duration::from_millis(100);
/// How long logchute may take to follow the containers, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Plays until Ctrl-C, SIGTERM, the end of standard output, or for `args.seconds`.
///
/// # Errors
/// One line that says what failed.
pub fn run(args: &DemoArgs) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(failed)?;
    }
    let program = match &args.logchute {
        Some(path) => path.clone(),
        None => {
            crate::say("demo: builds logchute first, which may take a minute or two");
            build_logchute()?
        }
    };
    let folder = tempfile::Builder::new().prefix("logchute-demo-").tempdir().map_err(failed)?;
    let identity = Identity::new().map_err(failed)?;
    let authority = folder.path().join("ca.pem");
    identity.write(&authority).map_err(failed)?;
    let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let show = Show::start(is_coloured, Arc::clone(&stop));
    let syslog = receivers::syslog(show.clone()).map_err(failed)?;
    let slack = receivers::slack(&identity, show.clone()).map_err(failed)?;
    let routes = [
        "console://".to_owned(),
        format!("syslog+tcp://{syslog}"),
        format!("slack://localhost:{}", slack.port()),
    ];
    let engine = Engine::new();
    for actor in ACTORS {
        engine.add(described(actor), !actor.comes_and_goes);
    }
    introduce(&show, &routes);
    let mut logchute = Logchute::start(&program, &engine.host(), &authority, &routes, &show)?;
    let residents: Vec<&str> =
        ACTORS.iter().filter(|actor| !actor.comes_and_goes).map(|actor| actor.id).collect();
    if !engine.wait_followed(&residents, PATIENCE) || logchute.has_ended() {
        return Err("logchute does not follow the containers: see its own lines".to_owned());
    }
    let played = play(&engine, &mut logchute, args.seconds, &stop);
    logchute.end();
    // What the receivers have read is on its way to the screen.
    std::thread::sleep(TICK);
    show.line(Pane::Demo, "That was it. Everything has been removed.");
    played
}

/// Says what the script says, at its time.
fn play(
    engine: &Engine,
    logchute: &mut Logchute,
    seconds: Option<u64>,
    stop: &AtomicBool,
) -> Result<(), String> {
    let begun = Instant::now();
    let is_over = || seconds.is_some_and(|seconds| begun.elapsed().as_secs() >= seconds);
    let mut tick = 0;
    while !stop.load(Ordering::SeqCst) && !is_over() {
        if logchute.has_ended() {
            return Err("logchute has ended: see its own lines".to_owned());
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for act in script::acts(tick, now.as_secs()) {
            match act {
                Act::Starts(who) => engine.start(who.id, Some(4711)),
                Act::Says(who, text) => engine.write(who.id, Stream::Out, text.as_bytes()),
                Act::Complains(who, text) => engine.write(who.id, Stream::Err, text.as_bytes()),
                Act::Ends(who) => engine.die(who.id),
            }
        }
        tick += 1;
        let next = TICK * u32::try_from(tick).unwrap_or(u32::MAX);
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

fn described(actor: &Who) -> serde_json::Value {
    let mut inspect = inspect(actor.id, actor.name);
    inspect["Config"]["Image"] = json!(actor.image);
    if actor.comes_and_goes {
        inspect["State"]["Running"] = json!(false);
        inspect["State"]["Status"] = json!("created");
    }
    inspect
}

fn introduce(show: &Show, routes: &[String]) {
    let names: Vec<&str> = ACTORS.iter().map(|actor| actor.name).collect();
    let say = |text: &str| show.line(Pane::Demo, text);
    say(&format!("A scripted Docker engine runs the containers {}.", names.join(", ")));
    say(&format!("$ logchute '{}'", routes.join("' '")));
    say("SLACK_MESSAGE_FILTER=ERROR: only such lines go to Slack. Ctrl-C ends it.");
    say("On the left is who shows the line: logchute's console route, a syslog receiver,");
    say("a webhook as Slack has it, and logchute's own log.");
}

/// The product, until it is dropped.
struct Logchute {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

impl Logchute {
    /// With an environment of its own.
    fn start(
        program: &Path,
        host: &str,
        authority: &Path,
        routes: &[String],
        show: &Show,
    ) -> Result<Logchute, String> {
        let mut child = Command::new(program)
            .env_clear()
            .env("DOCKER_HOST", host)
            .env("SHARDS", "1")
            .env("LOGSPOUT_TLS_CA_CERTS", authority)
            .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
            .env("SLACK_WEBHOOK_URL", "/services/T00/B00/demo")
            .env("SLACK_MESSAGE_FILTER", script::ERROR)
            .args(["--http", "off"])
            .args(routes)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdout = child.stdout.take().map(|pipe| copy(pipe, Pane::Console, show));
        let stderr = child.stderr.take().map(|pipe| copy(pipe, Pane::Log, show));
        Ok(Logchute { child, readers: stdout.into_iter().chain(stderr).collect() })
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// In an orderly way: with its totals.
    fn end(&mut self) {
        if !self.has_ended() {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        }
        wait_until(PATIENCE, || self.has_ended());
        let _ = self.child.kill();
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
    }
}

impl Drop for Logchute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(pipe: impl Read + Send + 'static, pane: Pane, show: &Show) -> JoinHandle<()> {
    let show = show.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            show.line(pane, &String::from_utf8_lossy(&line));
        }
    })
}

/// Looks every few milliseconds until `done` says yes; whether it did within `limit`.
fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
