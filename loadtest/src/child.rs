//! A program of a run as a child process: started with the scenario's settings, looked at while
//! it runs, and ended whatever happens.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::forwarder::{Forwarder, Places};
use crate::report::Counted;
use crate::scenario::{Receiver, Route, Scenario};

/// How long a program may take to end when asked to.
const END: Duration = Duration::from_secs(10);
/// How far its counters are looked at apart, to see whether they still move, and how often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(150);
const LOOKS_MOST: u32 = 20;
/// How long it may take to answer a question.
const ANSWER: Duration = Duration::from_secs(5);

/// Where to find what is needed.
pub struct Setup<'a> {
    /// The `logchute` to measure.
    pub logchute: &'a Path,
    /// The engine's socket.
    pub socket: &'a Path,
    /// The engine's URLs; the receiver of those programs that know only one.
    pub places: &'a Places,
    /// For each route of the scenario its receiver.
    pub receivers: &'a [SocketAddr],
    /// A folder for the run, with `ca.pem` in it.
    pub folder: &'a Path,
}

/// A program that runs.
pub struct Running {
    child: Child,
    stderr: PathBuf,
    http: Option<SocketAddr>,
}

impl Running {
    /// Starts a program.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        forwarder: &Forwarder,
        scenario: &Scenario,
        setup: &Setup<'_>,
    ) -> io::Result<Running> {
        let mut http = None;
        let mut command = match forwarder {
            Forwarder::Relay => relay(setup)?,
            Forwarder::Logchute(io) => {
                let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
                http = Some(free);
                logchute(scenario, io.unwrap_or(&scenario.forward.io), setup, free)
            }
            Forwarder::Other(other) => other.command(setup.places),
        };
        let is_ours = !matches!(forwarder, Forwarder::Other(_));
        command = guarded(&command, is_ours)?;
        let stderr = setup.folder.join("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr)?);
        Ok(Running { child: command.spawn()?, stderr, http })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of what it wrote to standard error.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }

    /// What logchute counts in the end; `None` of other programs, or if it does not answer. A line
    /// counts as delivered when the receiver's host has acknowledged it, which logchute looks for
    /// now and then.
    pub fn counted(&self) -> Option<Counted> {
        let mut counted = self.counted_now()?;
        for _ in 0..LOOKS_MOST {
            std::thread::sleep(BETWEEN_LOOKS);
            let before = std::mem::replace(&mut counted, self.counted_now()?);
            if counted == before {
                break;
            }
        }
        Some(counted)
    }

    fn counted_now(&self) -> Option<Counted> {
        let page = get(self.http?, "/metrics").ok()?;
        let sum = |name: &str| sum(&page, name);
        Some(Counted {
            received: sum("logchute_lines_received_total"),
            filtered: sum("logchute_lines_filtered_total"),
            delivered: sum("logchute_lines_delivered_total"),
            dropped: sum("logchute_lines_dropped_total"),
        })
    }

    /// The line in which logchute says at its end that a line is in none of its counts.
    pub fn unaccounted(&self) -> Option<String> {
        let text = std::fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().find(|line| is_unaccounted(line)).map(str::to_owned)
    }

    /// Asks it to end, and makes it if it does not.
    pub fn end(&mut self) {
        if self.ended().is_none() {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        }
        let until = Instant::now() + END;
        while self.ended().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command by way of [`become_program`]. Ours have an environment of their own: nothing
/// that happens to be set here has a say.
fn guarded(command: &Command, is_ours: bool) -> io::Result<Command> {
    let mut guarded = Command::new(std::env::current_exe()?);
    guarded.arg("child").arg("--").arg(command.get_program()).args(command.get_args());
    if is_ours {
        guarded.env_clear();
    }
    guarded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ok(guarded)
}

/// Turns this process into the program that is named, which the kernel ends when the harness ends,
/// even if that is killed. Returns only if that fails, with the reason.
pub fn become_program(command: &[OsString]) -> String {
    let Some((program, args)) = command.split_first() else { return "no program".to_owned() };
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        return format!("cannot ask for a signal: {error}");
    }
    let error = Command::new(program).args(args).exec();
    format!("cannot start {}: {error}", program.display())
}

fn relay(setup: &Setup<'_>) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("relay").arg("--docker").arg(setup.socket).arg("--tcp").arg(&setup.places.tcp);
    Ok(command)
}

fn logchute(scenario: &Scenario, io: &str, setup: &Setup<'_>, http: SocketAddr) -> Command {
    let mut command = Command::new(setup.logchute);
    command
        .env("TZ", "UTC")
        .env("DOCKER_HOST", &setup.places.docker)
        .env("SHARDS", scenario.forward.shards.to_string())
        .env("LOGCHUTE_IO", io)
        .env("LOGSPOUT_TLS_CA_CERTS", setup.folder.join("ca.pem"))
        .env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true")
        .arg("--http")
        .arg(http.to_string());
    if let Some(route) = scenario.forward.routes.iter().find(|r| r.receiver == Receiver::Slack) {
        command.env("SLACK_WEBHOOK_URL", "/services/T0/B0/loadtest");
        command.env("SLACK_MESSAGE_TEMPLATE", "{{ .Message.Data }}");
        command.env("SLACK_MESSAGE_FILTER", route.filter.expression().unwrap_or_default());
    }
    let routes = scenario.forward.routes.iter().zip(setup.receivers);
    command.args(routes.map(|(route, address)| uri(route, *address)));
    command
}

/// The URI of a route.
fn uri(route: &Route, address: SocketAddr) -> String {
    let port = address.port();
    let (mut uri, mut next) = match route.receiver {
        Receiver::Tcp | Receiver::Dead => (format!("syslog+tcp://{address}"), '?'),
        Receiver::OctetCounted => {
            (format!("syslog+tcp://{address}?syslog.framing=octet-counted"), '&')
        }
        Receiver::Udp => (format!("syslog+udp://{address}"), '?'),
        Receiver::Tls => (format!("syslog+tls://localhost:{port}"), '?'),
        Receiver::Slack => return format!("slack://localhost:{port}"),
    };
    if let Some(expression) = route.filter.expression() {
        uri.push(std::mem::replace(&mut next, '&'));
        uri.push_str("filter.match=");
        uri.push_str(&expression);
    }
    uri
}

/// Whether a route's account at the end has a line that nobody accounts for, or holds one.
fn is_unaccounted(line: &str) -> bool {
    let has_account = line.contains(" lines received = ");
    has_account && !line.trim_end().ends_with(" + 0 held")
}

/// The body of an answer.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, ANSWER)?;
    socket.set_read_timeout(Some(ANSWER))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// The sum of a metric over all its labels.
fn sum(page: &str, name: &str) -> u64 {
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())?
    });
    samples.filter_map(|value| value.parse::<u64>().ok()).sum()
}

/// The `logchute` that belongs to this harness: built, or brought up to date, in the profile that
/// this program was built in itself.
///
/// # Errors
/// One line that says what failed.
pub fn build_logchute() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // A test's executable is one folder deeper.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let program = folder.unwrap_or(Path::new("")).join("logchute");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !root.join("Cargo.toml").exists() {
        let here = program.exists();
        return if here { Ok(program) } else { Err(no_logchute("no source to build it from")) };
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(&root).args([
        "build",
        "--quiet",
        "--package",
        "logchute",
        "--bin",
        "logchute",
    ]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    match cargo.status() {
        Ok(status) if status.success() && program.exists() => Ok(program),
        Ok(status) if status.success() => Err(no_logchute("it is not where it was expected")),
        Ok(status) => Err(no_logchute(&format!("cargo build ended with {status}"))),
        Err(error) => Err(no_logchute(&format!("cannot run cargo: {error}"))),
    }
}

fn no_logchute(why: &str) -> String {
    format!("no logchute to measure: {why}; name one with --logchute FILE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Filter;

    #[test]
    fn routes_as_uris() {
        let address: SocketAddr = "127.0.0.1:514".parse().unwrap();
        let uri = |receiver, filter| uri(&Route { receiver, filter }, address);
        assert_eq!(uri(Receiver::Tcp, Filter::None), "syslog+tcp://127.0.0.1:514");
        assert_eq!(
            uri(Receiver::OctetCounted, Filter::Words(1)),
            "syslog+tcp://127.0.0.1:514?syslog.framing=octet-counted\
             &filter.match=(?i)error|panic|fatal|denied"
        );
        assert_eq!(
            uri(Receiver::Tls, Filter::DotStarError),
            "syslog+tls://localhost:514?filter.match=.*error"
        );
    }

    #[test]
    fn an_account_that_does_not_add_up_is_seen() {
        let account = "INFO route x: 3 lines received = 0 filtered + 0 joined to others + 2 \
                       delivered + 1 dropped (at exit 1) + 0 held";
        assert!(!is_unaccounted(account) && !is_unaccounted("INFO route x"));
        assert!(is_unaccounted(&account.replace("0 held", "1 held")));
        assert!(is_unaccounted(&format!("{account} + 1 that nobody accounts for")));
    }

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let page = "# TYPE a counter\na_total{route=\"0\",x=\"1 2\"} 3\na_total{route=\"1\"} 4\n\
                    a_total_more 5\n";
        assert_eq!(sum(page, "a_total"), 7);
        assert_eq!(sum(page, "b_total"), 0);
    }
}
