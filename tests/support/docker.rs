//! A real Docker Engine through its command line tool, and a second one of our own.
//!
//! Containers hold nothing but the talker, have no network, carry the label `logchute-test=PID`,
//! and are removed by their guards; those of test processes that were killed are swept by the
//! next one. The second daemon lives in its own network namespace: beside the first, even with
//! `--bridge=none`, it would delete the first one's bridge.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::process::{Process, alive, is_root, signal};
use super::{say, skipped, wait_until};

/// The label on every container of the tests; its value is the id of the test process.
pub(crate) const LABEL: &str = "logchute-test";

/// The repository of the talker's image; the tag is the id of the test process.
const IMAGE: &str = "logchute-test-talker";

/// Every repository of the tests' images; their tags are ids of test processes.
const IMAGES: &str = "logchute-test-*";

/// An engine: the one that the environment names, or the one behind a socket.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    socket: Option<PathBuf>,
}

impl Docker {
    /// The engine of this host. Without one the test is skipped, loudly; on CI it fails.
    pub(crate) fn of_host() -> Option<Docker> {
        static THERE: OnceLock<bool> = OnceLock::new();
        let docker = Docker { socket: None };
        let there = *THERE.get_or_init(|| {
            let there = docker.try_run(&["version"]).is_ok();
            if there {
                docker.sweep();
            }
            there
        });
        if !there {
            skipped("no Docker Engine answers `docker version`");
        }
        there.then_some(docker)
    }

    /// The `DOCKER_HOST` for another program, if this engine is not the environment's.
    pub(crate) fn host(&self) -> Option<String> {
        self.socket.as_ref().map(|s| format!("unix://{}", s.display()))
    }

    /// The command `docker ARGS` for this engine.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = self.host() {
            command.args(["-H", &host]);
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs `docker ARGS`: what it printed, or what it complained of.
    pub(crate) fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let output = self.command(args).output().map_err(|e| format!("docker: {e}"))?;
        text_of(&output)
    }

    /// Runs `docker ARGS`, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|e| panic!("docker {args:?}: {e}"))
    }

    /// Asks the engine without its tool, which takes longer to start than a container: the answer,
    /// which must be a good one.
    pub(crate) fn api(&self, request: &str, body: &str) -> String {
        let socket = self.socket.as_deref().unwrap_or(Path::new("/var/run/docker.sock"));
        let mut engine = UnixStream::connect(socket).unwrap();
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.0\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        engine.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        engine.read_to_string(&mut answer).unwrap();
        let good = answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        assert!(good, "{request}: {answer}");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Removes containers and images of test processes that are no more.
    fn sweep(&self) {
        let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
        let filter = format!("label={LABEL}");
        let ours = ["ps", "-aq", "--filter", &filter, "--format", &format];
        for line in self.try_run(&ours).unwrap_or_default().lines() {
            let Some((id, pid)) = line.split_once(' ') else { continue };
            if pid.parse().is_ok_and(|pid| !alive(pid)) {
                let _ = self.try_run(&["rm", "-f", "-v", id]);
            }
        }
        let images = ["image", "ls", IMAGES, "--format", "{{.Repository}}:{{.Tag}}"];
        for name in self.try_run(&images).unwrap_or_default().lines() {
            let pid = name.rsplit(':').next().and_then(|tag| tag.parse().ok());
            if pid.is_some_and(|pid| !alive(pid)) {
                let _ = self.try_run(&["image", "rm", name]);
            }
        }
    }

    /// Imports the talker's image. The last guard of an engine removes it.
    pub(crate) fn image(&self) -> Image {
        let mut users = image_users();
        if users.iter().all(|u| *u != self.socket) {
            self.import();
        }
        users.push(self.socket.clone());
        Image { docker: self.clone(), name: format!("{IMAGE}:{}", std::process::id()) }
    }

    fn import(&self) {
        let tar = Command::new("tar")
            .args(["--owner=0", "--group=0", "-c", "-C"])
            .arg(talker().parent().unwrap_or(Path::new("/")))
            .arg("talker")
            .output()
            .unwrap_or_else(|e| panic!("tar: {e}"));
        assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
        let name = format!("{IMAGE}:{}", std::process::id());
        let mut import = self
            .command(&["import", "-c", "ENTRYPOINT [\"/talker\"]", "-", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("docker import: {e}"));
        let written = import.stdin.take().map(|mut pipe| pipe.write_all(&tar.stdout));
        assert!(matches!(written, Some(Ok(()))), "docker import took no image: {written:?}");
        assert!(import.wait().is_ok_and(|s| s.success()), "docker import failed");
    }

    /// A container of the talker, created and not started: `options` are those of `docker
    /// create`, `args` the talker's. Its name is `PREFIX-PID-N`.
    pub(crate) fn create(&self, prefix: &str, options: &[&str], args: &[&str]) -> Container {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let image = self.image();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{n}", std::process::id());
        let label = format!("{LABEL}={}", std::process::id());
        let mut all = vec!["create", "--name", &name, "--label", &label, "--network", "none"];
        all.extend(options);
        all.push(&image.name);
        all.extend(args);
        let id = self.run(&all).trim().to_owned();
        Container { docker: self.clone(), name, id, _image: image }
    }

    /// A container of the talker, started, that lives on and whose health check fails: of the first
    /// time, after a second, it is unhealthy.
    pub(crate) fn unhealthy(&self, prefix: &str) -> Container {
        let (image, seconds) = (self.image(), 1_000_000_000_u64);
        let body = serde_json::json!({
            "Image": image.name(), "Cmd": ["silent", "600"],
            "Labels": {LABEL: std::process::id().to_string()},
            "HostConfig": {"NetworkMode": "none"},
            "Healthcheck": {
                "Test": ["CMD", "/talker", "no such command"], "Interval": seconds,
                "Timeout": 10 * seconds, "Retries": 1,
            },
        });
        // The command line tool has health checks by a shell alone.
        let name = format!("{prefix}-{}-unhealthy", std::process::id());
        let request = format!("POST /containers/create?name={name}");
        let made: serde_json::Value =
            serde_json::from_str(&self.api(&request, &body.to_string())).unwrap();
        let id = made["Id"].as_str().unwrap().to_owned();
        let container = Container { docker: self.clone(), name, id, _image: image };
        container.start();
        container
    }

    /// What `docker logs` gives of a container: standard output and standard error.
    pub(crate) fn logs(&self, id: &str) -> (Vec<u8>, Vec<u8>) {
        let output = self.command(&["logs", id]).output().unwrap();
        (output.stdout, output.stderr)
    }

    /// A container of the talker, started.
    pub(crate) fn start(&self, prefix: &str, options: &[&str], args: &[&str]) -> Container {
        let container = self.create(prefix, options, args);
        container.start();
        container
    }
}

/// The engines that use the talker's image, once for each guard.
fn image_users() -> std::sync::MutexGuard<'static, Vec<Option<PathBuf>>> {
    static USERS: Mutex<Vec<Option<PathBuf>>> = Mutex::new(Vec::new());
    USERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The talker's image on an engine, for as long as someone of this process uses it.
pub(crate) struct Image {
    docker: Docker,
    name: String,
}

impl Image {
    /// What `docker run` calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut users = image_users();
        if let Some(at) = users.iter().position(|u| *u == self.docker.socket) {
            users.swap_remove(at);
        }
        if users.iter().all(|u| *u != self.docker.socket) {
            let _ = self.docker.try_run(&["image", "rm", &self.name]);
        }
    }
}

/// A container of the talker; removed on drop, whatever it does.
pub(crate) struct Container {
    docker: Docker,
    /// Its name as created.
    pub name: String,
    /// Its full id.
    pub id: String,
    _image: Image,
}

impl Container {
    fn act(&self, args: &[&str]) {
        let mut all = args.to_vec();
        all.push(&self.id);
        self.docker.run(&all);
    }

    /// `docker start`.
    pub(crate) fn start(&self) {
        self.act(&["start"]);
    }

    /// `docker stop`: SIGTERM, then SIGKILL after a second.
    pub(crate) fn stop(&self) {
        self.act(&["stop", "-t", "1"]);
    }

    /// `docker restart`, with a second for the old run.
    pub(crate) fn restart(&self) {
        self.act(&["restart", "-t", "1"]);
    }

    /// `docker pause`.
    pub(crate) fn pause(&self) {
        self.act(&["pause"]);
    }

    /// `docker unpause`.
    pub(crate) fn unpause(&self) {
        self.act(&["unpause"]);
    }

    /// `docker rename`.
    pub(crate) fn rename(&self, name: &str) {
        self.docker.run(&["rename", &self.id, name]);
    }

    /// What `docker inspect` says for a Go template.
    pub(crate) fn inspect(&self, format: &str) -> String {
        self.docker.run(&["inspect", "-f", format, &self.id]).trim().to_owned()
    }

    /// Waits for its end, at most so long; its exit code.
    pub(crate) fn wait(&self, limit: Duration) -> Option<i64> {
        let mut code = None;
        wait_until(limit, || {
            let status = self.inspect("{{.State.Status}} {{.State.ExitCode}}");
            code = status.strip_prefix("exited ").and_then(|c| c.parse().ok());
            code.is_some() || {
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        });
        code
    }

    /// The last line of its log, by `docker logs`.
    pub(crate) fn last_line(&self) -> String {
        self.docker.run(&["logs", "--tail", "1", &self.id])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["rm", "-f", &self.id]);
    }
}

fn text_of(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The talker: compiled once for each state of its source, static.
pub(crate) fn talker() -> PathBuf {
    static BUILT: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/talker.rs");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("talker");
    let program = folder.join("talker");
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    if changed(&program).is_some_and(|built| changed(&source).is_some_and(|s| s < built)) {
        return program;
    }
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    // Other test processes may build it too: each under its own name, then into place.
    let fresh = folder.join(format!("fresh-{}", std::process::id()));
    let built = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C"])
        .args(["strip=symbols", "-o"])
        .args([&fresh, &source])
        .output()
        .unwrap_or_else(|e| panic!("rustc: {e}"));
    text_of(&built).unwrap_or_else(|e| panic!("the talker does not compile: {e}"));
    std::fs::rename(&fresh, &program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    program
}

/// A daemon of our own: it can be stopped, killed and started without harm to anyone else.
pub(crate) struct SecondDaemon {
    folder: tempfile::TempDir,
    live_restore: bool,
    daemon: Option<Process>,
    /// Its engine.
    pub docker: Docker,
}

impl SecondDaemon {
    /// Starts it. Without root or `dockerd` the test is skipped, loudly; on CI it fails.
    pub(crate) fn start(live_restore: bool) -> Option<SecondDaemon> {
        let there = |program: &str| {
            let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
            found.is_ok_and(|o| o.status.success())
        };
        let lack = ["dockerd", "containerd", "unshare", "ip"].into_iter().find(|p| !there(p));
        if !is_root() || lack.is_some() {
            let what = lack.map_or("root".to_owned(), |program| format!("the program {program}"));
            skipped(&format!("a second Docker Engine needs {what}"));
            return None;
        }
        let folder = tempfile::Builder::new().prefix("lct-dockerd-").tempdir().unwrap();
        std::fs::write(folder.path().join("daemon.json"), "{}").unwrap();
        let docker = Docker { socket: Some(folder.path().join("docker.sock")) };
        let mut second = SecondDaemon { folder, live_restore, daemon: None, docker };
        second.launch();
        Some(second)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts the daemon (again) and waits until it answers.
    pub(crate) fn launch(&mut self) {
        // The namespace begins without a working loopback interface.
        let script = "ip link set lo up && exec dockerd \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", script, "dockerd"]);
        command.args(["--host", &format!("unix://{}", self.path("docker.sock"))]);
        for (flag, name) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "docker.pid")]
        {
            command.args([flag, &self.path(name)]);
        }
        command.args(["--config-file", &self.path("daemon.json"), "--log-level", "error"]);
        // vfs copies each layer and needs nothing of the host; the one layer is a megabyte.
        command.args(["--storage-driver", "vfs", "--bridge", "none", "--iptables=false"]);
        command.args(["--ip-forward=false", "--ip-masq=false"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        command.stdout(Stdio::null());
        let mut daemon = Process::spawn(&mut command);
        let up = wait_until(Duration::from_secs(60), || {
            daemon.ended().is_some() || self.docker.try_run(&["version"]).is_ok()
        });
        let ended = daemon.ended();
        assert!(up && ended.is_none(), "the second dockerd: {ended:?}: {}", daemon.stderr());
        self.daemon = Some(daemon);
    }

    /// Does `work` on a thread that is in the daemon's network, as containers with `--network host`
    /// are. What it binds stays there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let daemon = self.daemon.as_ref().expect("the second dockerd runs");
        let network = std::fs::File::open(format!("/proc/{}/ns/net", daemon.pid())).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Ends the daemon by SIGTERM and waits for it. Its containers end too, unless live-restore.
    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal("TERM");
            let ended = daemon.wait(Duration::from_secs(40));
            assert!(ended.is_some(), "the second dockerd does not stop: {}", daemon.stderr());
        }
        self.wait_for_containerd();
    }

    /// Ends the daemon by SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
        self.wait_for_containerd();
        // Where process 1 does not reap orphans, the dead containerd stays a zombie, which the
        // next dockerd would take for the living one and wait for in vain.
        let _ = std::fs::remove_file(self.path("exec/containerd/containerd.pid"));
    }

    /// Waits for the end of the daemon's own containerd, which follows the daemon's.
    fn wait_for_containerd(&self) {
        let exec = self.path("exec/containerd/containerd.toml");
        wait_until(Duration::from_secs(10), || pids_with(&exec).is_empty());
    }
}

/// Processes with `text`, a path of our own temporary folder, among their arguments.
fn pids_with(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| {
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pid != std::process::id() && memchr::memmem::find(&args, text.as_bytes()).is_some()
    })
    .collect()
}

impl Drop for SecondDaemon {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            let left = self.docker.try_run(&["ps", "-aq"]).unwrap_or_default();
            for id in left.lines() {
                let _ = self.docker.try_run(&["rm", "-f", id]);
            }
        }
        let daemon = self.daemon.take();
        if let Some(mut daemon) = daemon {
            daemon.signal("TERM");
            daemon.wait(Duration::from_secs(20));
        }
        // What is left of it (containerd, shims of containers that live on) has our folder's
        // name among its arguments: nobody else's processes have.
        let ours = self.folder.path().display().to_string();
        let begun = Instant::now();
        while let [pid, ..] = pids_with(&ours)[..] {
            if begun.elapsed() > Duration::from_secs(10) {
                say(&format!("process {pid} of the second dockerd does not end"));
                break;
            }
            signal(pid, if begun.elapsed() > Duration::from_secs(2) { "KILL" } else { "TERM" });
            std::thread::sleep(Duration::from_millis(50));
        }
        unmount_below(&ours);
    }
}

/// Unmounts what is mounted below `folder`, the deepest first.
fn unmount_below(folder: &str) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below =
        mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(folder));
    for mount in below.collect::<Vec<_>>().into_iter().rev() {
        let _ = Command::new("umount").args(["-l", mount]).stderr(Stdio::null()).status();
    }
}
