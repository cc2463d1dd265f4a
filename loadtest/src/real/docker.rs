//! A real Docker Engine through its command line tool: an image that holds nothing but the talker,
//! and containers of it. All of them are removed by their guards, and those of sessions that were
//! killed by the next one.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::measure::CpuClock;
use crate::numbering::MARK;

/// The label of the containers and, as a repository, the image; the value and the tag are the
/// process id of the session.
pub(super) const LABEL: &str = "logchute-loadtest";

/// The program in the containers: that of the integration tests.
const TALKER: &str = include_str!("../../../tests/programs/talker.rs");

/// The engine of this machine.
pub(super) struct Docker {
    socket: PathBuf,
    /// Process id of the daemon, where it is known.
    pub(super) daemon: Result<u32, String>,
    /// What it says of itself.
    pub(super) version: String,
}

impl Docker {
    /// The engine of the current context or `DOCKER_HOST`, which has to be a socket.
    ///
    /// # Errors
    /// If there is none, or it is reached over a network.
    pub(super) fn find() -> Result<Docker, String> {
        let context = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
        let host = output(Command::new("docker").args(context))
            .map_err(|error| format!("--engine real needs Docker and its command line: {error}"))?;
        let socket = host.trim().strip_prefix("unix://").ok_or_else(|| {
            format!(
                "--engine real needs a daemon on this machine: {:?} is no socket; set \
                 DOCKER_HOST=unix:///var/run/docker.sock",
                host.trim()
            )
        })?;
        let mut docker =
            Docker { socket: socket.into(), daemon: Err(String::new()), version: String::new() };
        let version = docker.run(&["version", "--format", "{{.Server.Version}}"])?;
        docker.version = version.trim().to_owned();
        docker.daemon = docker.find_daemon();
        docker.sweep();
        Ok(docker)
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its URL, for `DOCKER_HOST`.
    pub(super) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Runs `docker ARGS`; what it printed. It is not reached by a Ctrl-C in the terminal: what
    /// was made has to be removed then too.
    ///
    /// # Errors
    /// What it complained of.
    pub(super) fn run(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        output(command.args(["-H", &self.url()]).args(args).process_group(0))
    }

    /// Who holds the other end of the socket; or, where that is systemd, which listens for the
    /// daemon, the only process of its name.
    fn find_daemon(&self) -> Result<u32, String> {
        let peer = UnixStream::connect(&self.socket).map_err(|error| error.to_string())?;
        let peer = getsockopt(&peer, PeerCredentials).map_err(|error| error.to_string())?.pid();
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let is_daemon = |pid: &u32| name(*pid).is_ok_and(|name| name.trim() == "dockerd");
        let by_peer = u32::try_from(peer).ok().filter(is_daemon);
        let by_name = || {
            let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let mut found = pids.filter(is_daemon);
            found.next().filter(|_| found.next().is_none())
        };
        let pid = by_peer
            .or_else(by_name)
            .ok_or("which process of this machine is the daemon cannot be told")?;
        let cpu = CpuClock::of(pid).and_then(|clock| clock.now());
        cpu.map(|_| pid).map_err(|error| format!("its CPU time: {error}"))
    }

    /// Removes containers and images of sessions that are no more.
    fn sweep(&self) {
        let gone = |pid: &str| {
            pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        };
        let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
        let filter = format!("label={LABEL}");
        let list = self.run(&["ps", "-aq", "--filter", &filter, "--format", &format]);
        for (id, pid) in list.unwrap_or_default().lines().filter_map(|line| line.split_once(' ')) {
            if gone(pid) {
                let _ = self.run(&["rm", "-f", "-v", id]);
            }
        }
        let images = self.run(&["image", "ls", LABEL, "--format", "{{.Tag}}"]);
        for tag in images.unwrap_or_default().lines().filter(|tag| gone(tag)) {
            let _ = self.run(&["image", "rm", &format!("{LABEL}:{tag}")]);
        }
    }

    /// How many containers run that are not this session's: a forwarder reads them too.
    pub(super) fn others(&self) -> usize {
        self.run(&["ps", "-q"]).unwrap_or_default().lines().count()
    }

    /// Compiles the talker and imports its image, `FROM scratch` and static.
    ///
    /// # Errors
    /// If `rustc`, `tar` or `docker import` fail.
    pub(super) fn image(&self) -> Result<Image<'_>, String> {
        let folder = tempfile::Builder::new().prefix("loadtest-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("talker.rs"), TALKER).map_err(|error| error.to_string())?;
        let options = ["--edition", "2024", "-O", "-C", "target-feature=+crt-static"];
        let mut rustc = Command::new("rustc");
        rustc.args(options).args(["-C", "strip=symbols", "-o"]);
        output(rustc.arg(file("talker")).arg(file("talker.rs")))
            .map_err(|error| format!("the program of the containers does not compile: {error}"))?;
        let archive = Command::new("tar")
            .args(["--owner=0", "--group=0", "-c", "-C"])
            .arg(folder.path())
            .arg("talker")
            .output()
            .map_err(|error| format!("tar: {error}"))?;
        let name = format!("{LABEL}:{}", std::process::id());
        let mut import = Command::new("docker")
            .args(["-H", &self.url(), "import", "-c", "ENTRYPOINT [\"/talker\"]", "-", &name])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("docker import: {error}"))?;
        // Where it does not take all of it, it says why.
        let _ = import.stdin.take().map(|mut pipe| pipe.write_all(&archive.stdout));
        text(import.wait_with_output()).map_err(|error| format!("docker import: {error}"))?;
        Ok(Image { docker: self, name })
    }
}

/// The image, until it is dropped.
pub(super) struct Image<'a> {
    docker: &'a Docker,
    name: String,
}

/// How containers talk.
pub(super) struct Talk {
    /// Lines of each container.
    pub(super) lines: u64,
    /// Bytes of a line, the newline included.
    pub(super) bytes: u32,
    /// One `write()` a line, rather than of 64 KiB.
    pub(super) linewise: bool,
    /// Silence before the first line.
    pub(super) wait_ms: u64,
}

impl<'a> Image<'a> {
    /// So many containers, created and not started.
    ///
    /// # Errors
    /// What the engine complains of.
    pub(super) fn create(&self, count: u16, talk: &Talk) -> Result<Containers<'a>, String> {
        let mut containers = Containers { docker: self.docker, ids: Vec::new() };
        let label = format!("{LABEL}={}", std::process::id());
        let mark = String::from_utf8_lossy(MARK);
        let (lines, bytes) = (talk.lines.to_string(), talk.bytes.to_string());
        let wait = talk.wait_ms.to_string();
        for container in 0..count {
            let prefix = format!("{mark}{container:04x}:00:");
            let mut args = vec!["create", "--label", &label, "--network", "none"];
            // Whatever the daemon's own defaults are; a log that is rotated away has no backlog.
            args.extend(["--log-driver", "json-file", "--log-opt", "max-size=4g"]);
            args.extend(["--log-opt", "max-file=1", &self.name, "lines", &lines, "--hex"]);
            args.extend(["--first", "0", "--prefix", &prefix, "--bytes", &bytes]);
            // Longer than any measurement: the end of a container is no part of it.
            args.extend(["--sleep-first", &wait, "--sleep-last", "3600000"]);
            args.extend(talk.linewise.then_some("--linewise"));
            containers.ids.push(self.docker.run(&args)?.trim().to_owned());
        }
        Ok(containers)
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let _ = self.docker.run(&["image", "rm", &self.name]);
    }
}

/// Containers of the talker; removed on drop, whatever they do.
pub(super) struct Containers<'a> {
    docker: &'a Docker,
    /// Full ids.
    pub(super) ids: Vec<String>,
}

impl Containers<'_> {
    /// Starts all of them.
    ///
    /// # Errors
    /// What the engine complains of.
    pub(super) fn start(&self) -> Result<(), String> {
        self.command("start").map(drop)
    }

    /// The newest line in the log of a container; empty if there is none.
    ///
    /// # Errors
    /// What the engine complains of.
    pub(super) fn last_line(&self, container: usize) -> Result<String, String> {
        self.docker.run(&["logs", "--tail", "1", &self.ids[container]])
    }

    fn command(&self, name: &str) -> Result<String, String> {
        let args: Vec<&str> = name.split(' ').chain(self.ids.iter().map(String::as_str)).collect();
        self.docker.run(&args)
    }
}

impl Drop for Containers<'_> {
    fn drop(&mut self) {
        let _ = self.command("rm -f -v");
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    text(command.stdin(Stdio::null()).output())
}

/// What a program printed, or what it complained of.
fn text(output: io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
