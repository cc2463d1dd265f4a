//! The program under test: started with what a test wants, and ended whatever happens. Whenever it
//! ends in order, its last words are added up: each line is in one term (see [`check_accounts`]);
//! of one that a test just lets go of, the metrics.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::http;
use super::process::{Process, stopped};
use super::receivers::free_port;
use super::wait_until;

/// What it is started in.
#[derive(Clone)]
enum Within {
    Nothing,
    /// A mount namespace in which this folder is `/etc`.
    Etc(PathBuf),
    /// The cgroup of this folder.
    Group(PathBuf),
}

/// How to start it. The environment begins empty but for `PATH` and `TZ`.
#[derive(Clone)]
pub(crate) struct Setup {
    env: Vec<(OsString, OsString)>,
    args: Vec<OsString>,
    http: bool,
    within: Within,
    bind: &'static str,
}

impl Setup {
    /// With the I/O driver `io` (`ring`, `poll`, `auto`).
    pub(crate) fn new(io: &str) -> Setup {
        let (env, args, within) = (Vec::new(), Vec::new(), Within::Nothing);
        let setup = Setup { env, args, http: true, within, bind: "127.0.0.1" };
        let path = std::env::var("PATH").unwrap_or_default();
        setup.env("PATH", &path).env("TZ", "UTC").env("LOGCHUTE_IO", io)
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: &str) -> Setup {
        self.args.push(arg.into());
        self
    }

    /// Follows the engine at `host`, or that of this host with `None`.
    pub(crate) fn engine(self, host: Option<&str>) -> Setup {
        let ours = std::env::var("DOCKER_HOST").ok();
        match host.map(str::to_owned).or(ours) {
            Some(host) => self.env("DOCKER_HOST", &host),
            None => self,
        }
    }

    /// Without a check of `/health` at start: for programs that are to end by themselves.
    pub(crate) fn no_wait(mut self) -> Setup {
        self.http = false;
        self
    }

    /// Listens on this address, still to be reached by loopback.
    pub(crate) fn listen(mut self, bind: &'static str) -> Setup {
        self.bind = bind;
        self
    }

    /// Lets the program see `folder` as `/etc`, in a mount namespace of its own. Needs root.
    pub(crate) fn etc(mut self, folder: &Path) -> Setup {
        self.within = Within::Etc(folder.to_owned());
        self
    }

    /// Starts it as a member of the cgroup `folder`.
    pub(crate) fn group(mut self, folder: &Path) -> Setup {
        self.within = Within::Group(folder.to_owned());
        self
    }

    fn command(&self, port: u16) -> Command {
        let program = env!("CARGO_BIN_EXE_logchute");
        // Of the scripts, each command becomes the next: the process id is the program's in the end.
        let mut command = match &self.within {
            Within::Nothing => Command::new(program),
            Within::Group(folder) => {
                let script = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh"]).arg(folder).arg(program);
                command
            }
            Within::Etc(folder) => {
                let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "--", "sh", "-c", script]);
                command.arg("sh").arg(folder).arg(program);
                command
            }
        };
        command.env_clear().envs(self.env.iter().cloned()).args(&self.args);
        command.env("HTTP_BIND_ADDRESS", self.bind).env("PORT", port.to_string());
        command
    }

    /// Starts it, its standard output going nowhere.
    pub(crate) fn start(&self) -> Logchute {
        self.start_with(Stdio::null())
    }

    /// Starts it with `stdout`, and waits until `/health` answers (unless told not to).
    pub(crate) fn start_with(&self, stdout: Stdio) -> Logchute {
        let port = free_port();
        let mut command = self.command(port);
        let process = Process::spawn(command.stdout(stdout));
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut program = Logchute { process, http, has_http: self.http };
        if self.http {
            let up = wait_until(Duration::from_secs(15), || {
                program.process.ended().is_some()
                    || http::get(http, "/health").is_ok_and(|(status, _)| status == 200)
            });
            let ended = program.process.ended();
            assert!(up && ended.is_none(), "logchute: {ended:?}: {}", program.stderr());
        }
        program
    }
}

/// The running program.
pub(crate) struct Logchute {
    /// Its process.
    pub process: Process,
    http: SocketAddr,
    has_http: bool,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Logchute {
    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Where its HTTP side listens.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// The body of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        http::get(self.http, "/metrics").map(|(_, body)| body).unwrap_or_default()
    }

    /// The sum over all labels of metric `name` (with or without `_total`).
    pub(crate) fn metric(&self, name: &str) -> f64 {
        sum(&self.metrics(), name)
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<Ended> {
        let status = self.process.wait(limit)?;
        self.process.hear_out();
        let ended = Ended { code: status.code(), stderr: self.stderr() };
        check_accounts(&ended.stderr);
        Some(ended)
    }

    /// SIGKILL: it has no time for anything.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and how it ended. More than 20 s is a failure.
    pub(crate) fn stop(&mut self) -> Ended {
        self.process.signal("TERM");
        let ended = self.wait(Duration::from_secs(20));
        ended.unwrap_or_else(|| panic!("logchute ignores SIGTERM: {}", self.stderr()))
    }
}

/// Of one that nobody stopped: its metrics add up, if nothing is under way.
impl Drop for Logchute {
    fn drop(&mut self) {
        let lets_look = self.has_http && !std::thread::panicking();
        if !lets_look || self.process.ended().is_some() || stopped(self.process.pid()) {
            return;
        }
        let mut page = self.metrics();
        for _ in 0..LOOKS {
            if missing(&page) == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut page, self.metrics());
            if page.is_empty() || page != before {
                return;
            }
        }
        panic!("lines are in none of the counts: {page}");
    }
}

/// Ends it in good order; returns what it said.
pub(crate) fn end(mut program: Logchute) -> String {
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.stderr
}

/// How often metrics must be the same for nothing to be under way.
const LOOKS: usize = 10;

/// The lines of all routes that a page of metrics does not account for.
fn missing(page: &str) -> i64 {
    let sum = |name: &str| sum(page, &format!("logchute_lines_{name}")) as i64;
    let terms = ["filtered", "joined", "delivered", "dropped", "held"];
    let found = self::sum(page, "logchute_spool_found") as i64;
    sum("received") + found - terms.iter().map(|name| sum(name)).sum::<i64>()
}

/// The sum over all labels of metric `name` (with or without `_total`).
fn sum(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|l| {
        let of_name = l.split(['{', ' ']).next().unwrap_or_default();
        of_name.strip_suffix("_total").unwrap_or(of_name) == name
    });
    lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What is in a route's line of the exit summary.
const SUMMARY: &str = " lines received";

/// Panics unless the account of every route that `said` has one of adds up, with nothing held at
/// the end but what a spool keeps.
fn check_accounts(said: &str) {
    for line in said.lines().filter(|line| line.contains(SUMMARY)) {
        let (received, terms) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        let number = |text: &str| -> i64 {
            text.parse().unwrap_or_else(|_| panic!("{text:?} is no number in {line}"))
        };
        let (head, found) = received.split_once(SUMMARY).unwrap();
        let found = found.strip_prefix(" + ").map_or("0", |found| found.split(' ').next().unwrap());
        let received = number(head.rsplit(' ').next().unwrap()) + number(found);
        let terms: Vec<(i64, &str)> = terms
            .split(" + ")
            .map(|term| term.split_once(' ').unwrap_or_else(|| panic!("{term:?} in {line}")))
            .map(|(count, name)| (number(count), name))
            .collect();
        let sum: i64 = terms.iter().map(|(count, _)| count).sum();
        let names: Vec<&str> =
            terms.iter().map(|(_, name)| name.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["filtered", "joined", "delivered", "dropped", "held"], "{line}");
        let kept =
            line.rsplit_once(" held (").map_or("0", |(_, kept)| kept.split(' ').next().unwrap());
        let account = (received, terms[4].0);
        assert_eq!(account, (sum, number(kept)), "the account does not add up: {line}");
    }
}
