//! The program under test: started with what a test wants, and ended whatever happens.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::http;
use super::process::Process;
use super::receivers::free_port;
use super::wait_until;

/// How to start it. The environment begins empty but for `PATH` and `TZ`.
#[derive(Clone)]
pub(crate) struct Setup {
    env: Vec<(OsString, OsString)>,
    args: Vec<OsString>,
    http: bool,
    etc: Option<std::path::PathBuf>,
}

impl Setup {
    /// With the I/O driver `io` (`ring`, `poll`, `auto`).
    pub(crate) fn new(io: &str) -> Setup {
        let setup = Setup { env: Vec::new(), args: Vec::new(), http: true, etc: None };
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

    /// Lets the program see `folder` as `/etc`, in a mount namespace of its own. Needs root.
    pub(crate) fn etc(mut self, folder: &Path) -> Setup {
        self.etc = Some(folder.to_owned());
        self
    }

    fn command(&self, port: u16) -> Command {
        let program = env!("CARGO_BIN_EXE_logchute");
        let mut command = match &self.etc {
            None => Command::new(program),
            Some(folder) => {
                // Each of these becomes the next: the process id is the program's in the end.
                let script = "mount --bind \"$1\" /etc && shift && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "--", "sh", "-c", script]);
                command.arg("sh").arg(folder).arg(program);
                command
            }
        };
        command.env_clear().envs(self.env.iter().cloned()).args(&self.args);
        command.env("HTTP_BIND_ADDRESS", "127.0.0.1").env("PORT", port.to_string());
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
        let mut program = Logchute { process, http };
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

    /// The body of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        http::get(self.http, "/metrics").map(|(_, body)| body).unwrap_or_default()
    }

    /// The sum over all labels of metric `name` (with or without `_total`).
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let lines = text.lines().filter(|l| {
            let of_name = l.split(['{', ' ']).next().unwrap_or_default();
            of_name.strip_suffix("_total").unwrap_or(of_name) == name
        });
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<Ended> {
        let status = self.process.wait(limit)?;
        // Its last words may still be on their way through the pipe.
        std::thread::sleep(Duration::from_millis(30));
        Some(Ended { code: status.code(), stderr: self.stderr() })
    }

    /// SIGTERM, and how it ended. More than 20 s is a failure.
    pub(crate) fn stop(&mut self) -> Ended {
        self.process.signal("TERM");
        let ended = self.wait(Duration::from_secs(20));
        ended.unwrap_or_else(|| panic!("logchute ignores SIGTERM: {}", self.stderr()))
    }
}
