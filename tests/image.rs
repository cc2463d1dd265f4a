//! The image: built without a registry, run as strictly as Docker can, and real lines through it.
//!
//! Containers share the host's network and use loopback only.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod support;

use support::checker::{Account, Run};
use support::docker::{Container, Docker, LABEL};
use support::image::Image;
use support::receivers::{StreamSink, free_port};
use support::rig::pattern;
use support::{drivers, full, http, readable, say, skipped, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// The prefix of the lines that show that the program follows the engine.
const CANARY: &str = "@canary";

/// As strict as `docker run` can be.
const STRICT: &[&str] =
    &["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

impl Image {
    /// A container of the image, started: `options` are those of `docker run`. Its name is
    /// `PREFIX-PID-selfN`, so that a route for the talkers of `prefix` is for it too.
    fn start(&self, prefix: &str, options: &[&str], args: &[&str]) -> Program {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-self{n}", std::process::id());
        let label = format!("{LABEL}={}", std::process::id());
        let begin = ["run", "--detach", "--name", &name, "--label", &label];
        let mut all = begin.to_vec();
        all.extend(["--health-interval", "1s"]);
        all.extend(options);
        all.push(&self.name);
        all.extend(args);
        // A guard before it can fail: a container that cannot be started is there all the same.
        let mut program = Program { docker: self.docker.clone(), id: name.clone() };
        program.id = self.docker.run(&all).trim().to_owned();
        program
    }

    /// As [`Image::start`], under every restriction, on the host's network and with its listener
    /// on `http`.
    fn start_strictly(
        &self,
        prefix: &str,
        http: SocketAddr,
        options: &[&str],
        args: &[&str],
    ) -> Program {
        let (ip, port) = (http.ip(), http.port());
        let [bind, port] = [format!("HTTP_BIND_ADDRESS={ip}"), format!("HTTP_PORT={port}")];
        let socket = mount("/var/run/docker.sock:ro");
        let mut all = STRICT.to_vec();
        all.extend(["--network", "host", "--volume", &socket, "--env", &bind, "--env", &port]);
        all.extend(options);
        self.start(prefix, &all, args)
    }
}

/// logchute in a container; removed on drop with its volume, whatever it does.
struct Program {
    docker: Docker,
    id: String,
}

impl Program {
    fn inspect(&self, format: &str) -> String {
        self.docker.run(&["inspect", "-f", format, &self.id]).trim().to_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.docker.logs(&self.id).1).into_owned()
    }

    /// What it wrote to standard output, without the canary's lines.
    fn stdout(&self) -> Vec<u8> {
        without_canary(&self.docker.logs(&self.id).0)
    }

    /// Waits until the image's health check says `status`.
    fn wait_for_health(&self, status: &str) {
        let mut last = String::new();
        let reached = wait_until(Duration::from_secs(20), || {
            last = self.inspect("{{.State.Health.Status}}");
            last == status || {
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        });
        assert!(
            reached,
            "{last}, not {status}: {}{}",
            self.inspect("{{json .State}}"),
            self.stderr()
        );
    }

    /// Waits until it has ended by itself; its exit code.
    fn wait(&self) -> String {
        self.docker.run(&["wait", &self.id]).trim().to_owned()
    }

    /// `docker stop`, with the ten seconds that are its default; exit code and time taken.
    fn stop(&self) -> (String, Duration) {
        let begun = Instant::now();
        self.docker.run(&["stop", "-t", "10", &self.id]);
        (self.inspect("{{.State.ExitCode}}"), begun.elapsed())
    }

    /// Memory that its process has in core, in kB; `None` where its `/proc` is not to be seen.
    fn resident(&self) -> Option<u64> {
        let status = format!("/proc/{}/status", self.inspect("{{.State.Pid}}"));
        let status = std::fs::read_to_string(status).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim_end_matches("kB").trim().parse().ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.docker.try_run(&["rm", "-f", "-v", &self.id]);
    }
}

/// A container that writes a canary's line every 20 ms until one reaches `sink`: from then on
/// nothing of a container that is started may be missed.
fn see_canary(image: &Image, prefix: &str, sink: &StreamSink, program: &Program) {
    let canary = ["tick", "20", "--prefix", CANARY];
    let canary: Container = image.docker.start(prefix, &[], &canary);
    let came = wait_until(LONG, || sink.newlines() > 0);
    assert!(came, "no line comes: {}", program.stderr());
    drop(canary);
}

fn without_canary(lines: &[u8]) -> Vec<u8> {
    let lines = lines.split_inclusive(|&b| b == b'\n');
    let of_canary = |line: &&[u8]| memchr::memmem::find(line, CANARY.as_bytes()).is_some();
    lines.filter(|line| !of_canary(line)).collect::<Vec<_>>().concat()
}

fn received(sink: &StreamSink) -> Vec<u8> {
    without_canary(&sink.received().concat())
}

/// Waits for `count` lines in `sink`, and a moment longer: for those that should not be there.
fn wait_for_lines(sink: &StreamSink, count: u64, program: &Program) {
    let lines = || memchr::memchr_iter(b'\n', &received(sink)).count() as u64;
    let came = wait_until(LONG, || {
        std::thread::sleep(Duration::from_millis(50));
        lines() >= count
    });
    assert!(came, "{} of {count} lines: {}", lines(), program.stderr());
    std::thread::sleep(Duration::from_millis(500));
}

/// Every one of `count` lines under `prefix` once, whole and in order, and no other.
fn check(lines: &[u8], prefix: &str, count: u64) {
    let mut account = Account::default();
    account.expect(prefix, Run::of(count));
    account.take_lines(lines);
    assert!(account.totals().perfect(), "{}", account.totals());
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// The engine's socket on this host.
fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned()
}

/// The `--volume` that shows the engine's socket at `place`.
fn mount(place: &str) -> String {
    format!("{}:{place}", socket())
}

#[test]
fn lines_pass_under_every_restriction() {
    let Some(image) = Image::get() else { return };
    for io in drivers() {
        let prefix = format!("lct-image-{io}");
        let (sink, http) = (StreamSink::tcp(), loopback());
        let filter = pattern(&prefix);
        let to_sink = format!("raw+tcp://{}?filter.name={filter}", sink.address());
        let to_console = format!("console://?filter.name={filter}");
        let driver = format!("LOGCHUTE_IO={io}");
        let seccomp = concat!("seccomp=", env!("CARGO_MANIFEST_DIR"), "/docs/deploy/seccomp.json");
        let options = ["--memory", "128m", "--security-opt", seccomp, "--env", &driver];
        let program = image.start_strictly(&prefix, http, &options, &[&to_sink, &to_console]);
        see_canary(&image, &prefix, &sink, &program);
        // What the console writes by way of the daemon is slow: no more than its buffer takes.
        let lines = if full() { 100_000 } else { 50_000 };
        let _talker = image.docker.start(&prefix, &[], &["lines", &lines.to_string()]);
        let printed = || memchr::memchr_iter(b'\n', &program.stdout()).count() as u64;
        assert!(wait_until(LONG, || printed() >= lines), "{}", program.stderr());
        wait_for_lines(&sink, lines, &program);
        check(&received(&sink), "@t", lines);
        // Its own container, whose name and log driver are of those that are followed, is not:
        // else each line that it prints would come back to both routes.
        check(&program.stdout(), "@t", lines);
        program.wait_for_health("healthy");
        let (status, body) = http::get(http, "/health").unwrap();
        assert_eq!((status, body.as_str()), (200, "Healthy!\n"));
        let asked = image.docker.try_run(&["exec", &program.id, "logchute", "health"]);
        assert_eq!(asked, Ok(String::new()));
        let page = format!("http://localhost:{}/health", http.port());
        let wget = ["exec", &program.id, "wget", "-q", "--tries=1", "--spider", &page];
        assert_eq!(image.docker.try_run(&wget), Ok(String::new()));
        let resident = program.resident();
        let (code, took) = program.stop();
        let stderr = program.stderr();
        assert_eq!(code, "0", "{stderr}");
        assert!(took < Duration::from_secs(5), "{took:?}: {stderr}");
        assert!(stderr.contains(&format!("shards on {io} (asked for)")), "{stderr}");
        assert_eq!(program.inspect("{{.State.OOMKilled}}"), "false");
        say(&format!("image ({io}): {lines} lines; resident {resident:?} kB; stopped in {took:?}"));
    }
}

#[test]
fn its_own_container_is_followed_when_asked_for() {
    let Some(image) = Image::get() else { return };
    let prefix = "lct-image-self";
    let (sink, http) = (StreamSink::tcp(), loopback());
    // What it prints of others comes in through its own container, and is not printed again.
    let to_sink = format!("raw+tcp://{}?filter.name={}", sink.address(), pattern(prefix));
    let to_console = format!("console://?filter.name={}", pattern("lct-image-others"));
    let options = ["--env", "FOLLOW_SELF=true"];
    let program = image.start_strictly(prefix, http, &options, &[&to_sink, &to_console]);
    see_canary(&image, "lct-image-others", &sink, &program);
    let _talker = image.docker.start("lct-image-others", &[], &["lines", "1000"]);
    let came =
        wait_until(LONG, || memchr::memmem::find_iter(&received(&sink), b"@t ").count() >= 1000);
    assert!(came, "{}: {}", readable(&received(&sink)), program.stderr());
    // Besides the talker's there are lines of its own log.
    let mut lines = received(&sink);
    let of_talker = |line: &&[u8]| memchr::memmem::find(line, b"@t ").is_some();
    lines = lines.split_inclusive(|&b| b == b'\n').filter(of_talker).collect::<Vec<_>>().concat();
    check(&lines, "@t", 1000);
}

/// `docker run -v /var/run/docker.sock:/tmp/docker.sock IMAGE ROUTE`, as for Logspout.
#[test]
fn it_stands_in_for_logspout() {
    let Some(image) = Image::get() else { return };
    let prefix = "lct-image-dropin";
    let sink = StreamSink::tcp();
    let (socket, port) = (mount("/tmp/docker.sock"), format!("PORT={}", free_port()));
    let listen = ["--env", "HTTP_BIND_ADDRESS=127.0.0.1", "--env", &port];
    let options = [&["--network", "host", "--volume", &socket], &listen[..]].concat();
    let route = format!("raw+tcp://{}?filter.name={}", sink.address(), pattern(prefix));
    let program = image.start(prefix, &options, &[&route]);
    see_canary(&image, prefix, &sink, &program);
    let _talker = image.docker.start(prefix, &[], &["lines", "1000"]);
    wait_for_lines(&sink, 1000, &program);
    check(&received(&sink), "@t", 1000);
    let stderr = program.stderr();
    assert!(stderr.contains("daemon at unix:///tmp/docker.sock"), "{stderr}");
    // The user's PORT won over the image's HTTP_PORT.
    assert!(stderr.contains(&format!("http on 127.0.0.1:{}", &port[5..])), "{stderr}");
    program.wait_for_health("healthy");
}

/// Nothing set, so port 80; and no rights but those of the socket's group.
#[test]
fn as_it_comes_it_is_healthy_on_port_80_and_needs_no_root() {
    let Some(image) = Image::get() else { return };
    let prefix = "lct-image-plain";
    let meta = std::fs::metadata(socket()).unwrap();
    let user = if meta.mode() & 0o060 == 0o060 { "65534:65534" } else { "0" };
    let (group, socket) = (meta.gid().to_string(), mount("/var/run/docker.sock:ro"));
    let mut options = STRICT.to_vec();
    options.extend(["--network", "none", "--volume", &socket]);
    options.extend(["--user", user, "--group-add", &group]);
    // Two consoles on one engine would feed each other: this one takes its own talkers only.
    let route = format!("console://?filter.name={}", pattern(prefix));
    let program = image.start(prefix, &options, &[&route]);
    program.wait_for_health("healthy");
    let stderr = program.stderr();
    assert!(stderr.contains("http on 0.0.0.0:80"), "{stderr}");
    let talker = image.docker.start(prefix, &[], &["lines", "100"]);
    let lines = || memchr::memchr_iter(b'\n', &program.stdout()).count();
    assert!(wait_until(LONG, || lines() >= 100), "{}", program.stderr());
    let stdout = program.stdout();
    check(&stdout, "@t", 100);
    let mut lines = stdout.split_inclusive(|&b| b == b'\n');
    assert!(lines.all(|line| line.starts_with(talker.name.as_bytes())), "{}", readable(&stdout));
}

/// The seccomp profile of a daemon that forbids io_uring with this error, as text.
fn without_io_uring(errno: u32) -> String {
    let calls = r#"["io_uring_setup","io_uring_enter","io_uring_register"]"#;
    let rule = format!(r#"{{"names":{calls},"action":"SCMP_ACT_ERRNO","errnoRet":{errno}}}"#);
    format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#)
}

/// EPERM is what Docker's profile gives since Engine 25, ENOSYS what Podman's gives.
#[test]
fn without_io_uring_it_polls_and_a_ring_is_refused() {
    const EPERM: u32 = 1;
    const ENOSYS: u32 = 38;
    let Some(image) = Image::get() else { return };
    for (errno, why) in
        [(EPERM, "a seccomp profile forbids it"), (ENOSYS, "seccomp profile has none")]
    {
        let prefix = format!("lct-image-seccomp{errno}");
        let profile = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(profile.path(), without_io_uring(errno)).unwrap();
        let seccomp = format!("seccomp={}", profile.path().display());
        let (sink, options) = (StreamSink::tcp(), ["--security-opt", &seccomp]);
        let route = format!("raw+tcp://{}?filter.name={}", sink.address(), pattern(&prefix));
        let program = image.start_strictly(&prefix, loopback(), &options, &[&route]);
        see_canary(&image, &prefix, &sink, &program);
        let _talker = image.docker.start(&prefix, &[], &["lines", "1000"]);
        wait_for_lines(&sink, 1000, &program);
        check(&received(&sink), "@t", 1000);
        let stderr = program.stderr();
        assert!(stderr.contains("shards on poll (it takes less CPU"), "{stderr}");
        drop(program);
        let forced = ["--security-opt", &seccomp, "--env", "LOGCHUTE_IO=ring"];
        let program = image.start_strictly(&prefix, loopback(), &forced, &[&route]);
        assert_eq!(program.wait(), "2", "{}", program.stderr());
        let stderr = program.stderr();
        assert!(stderr.contains("LOGCHUTE_IO=ring: io_uring is refused"), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}

/// `localhost` by the image's `/etc/hosts`, and the authorities that are its only ones.
#[test]
fn it_finds_localhost_and_the_authorities() {
    let Some(image) = Image::get() else { return };
    let prefix = "lct-image-tls";
    let sink = StreamSink::tls(&image.pki, false);
    let port = sink.address().port();
    let route = format!("syslog+tls://localhost:{port}?filter.name={}", pattern(prefix));
    let program = image.start_strictly(prefix, loopback(), &[], &[&route]);
    see_canary(&image, prefix, &sink, &program);
    let _talker = image.docker.start(prefix, &[], &["lines", "1000"]);
    wait_for_lines(&sink, 1000, &program);
    check(&received(&sink), "@t", 1000);
    let seen = sink.tls_seen();
    assert!(!seen.is_empty() && seen.iter().all(|s| s.version == "TLSv1.3"), "{seen:?}");
    assert!(!program.stderr().contains("WARN"), "{}", program.stderr());
}

/// A statically linked binary has its resolver in itself: it asks the server of
/// `/etc/resolv.conf`, once `/etc/hosts` has nothing.
#[test]
fn it_asks_the_name_server() {
    let Some(image) = Image::get() else { return };
    let prefix = "lct-image-dns";
    let pid = std::process::id().to_be_bytes();
    let server = format!("127.{}.{}.53", pid[2], pid[3]);
    let socket = match UdpSocket::bind((server.as_str(), 53)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            skipped("a name server needs the right to port 53");
            return;
        }
        socket => socket.unwrap(),
    };
    let (sinks, names) = ([StreamSink::tcp(), StreamSink::tcp()], ["logs.test", "in-hosts.test"]);
    let routes = [0, 1].map(|i| {
        let port = sinks[i].address().port();
        format!("raw+tcp://{}:{port}?filter.name={}", names[i], pattern(prefix))
    });
    let name_server = NameServer::start(socket);
    let options = ["--dns", &server, "--add-host", "in-hosts.test:127.0.0.1"];
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let program = image.start_strictly(prefix, loopback(), &options, &routes);
    sinks.iter().for_each(|sink| see_canary(&image, prefix, sink, &program));
    let asked = name_server.stop();
    assert!(asked.contains(&"logs.test".to_owned()), "{asked:?}");
    assert!(!asked.contains(&"in-hosts.test".to_owned()), "{asked:?}");
}

/// Knows that `logs.test` is 127.0.0.1, and of every other name that there is none.
struct NameServer {
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl NameServer {
    fn start(socket: UdpSocket) -> NameServer {
        let address = socket.local_addr().unwrap();
        let serve = move || {
            let (mut asked, mut query) = (Vec::new(), [0; 512]);
            // A datagram without a question is the end.
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let Some((name, answer)) = dns_answer(&query[..length]) else { break };
                asked.push(name);
                let _ = socket.send_to(&answer, from);
            }
            asked
        };
        NameServer { address, thread: Some(std::thread::spawn(serve)) }
    }

    /// Ends it; the names that it was asked for.
    fn stop(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        let end = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(&[], self.address));
        let thread = self.thread.take().filter(|_| end.is_ok());
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// The name that a query asks for, and the answer (RFC 1035, section 4).
fn dns_answer(query: &[u8]) -> Option<(String, Vec<u8>)> {
    const A: u16 = 1;
    let (mut labels, mut at) = (Vec::new(), 12);
    while let Some(&length @ 1..) = query.get(at) {
        let label = query.get(at + 1..)?.get(..usize::from(length))?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + usize::from(length);
    }
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let (known, here) = (name == "logs.test", name == "logs.test" && kind == A);
    // Response, recursion desired and available; NXDOMAIN for what is not known.
    let mut answer = [&query[..2], &[0x81, if known { 0x80 } else { 0x83 }]].concat();
    answer.extend([0, 1, 0, u8::from(here), 0, 0, 0, 0]);
    answer.extend(question);
    if here {
        // The question's name, A, IN, a second to live, four bytes of address.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some((name, answer))
}

/// `docker stop` gives it ten seconds: enough for the default `DRAIN_TIMEOUT` and the report.
#[test]
fn it_ends_in_time_with_lines_that_nobody_takes() {
    let Some(image) = Image::get() else { return };
    let prefix = "lct-image-drain";
    let mut sink = StreamSink::tcp();
    let route = format!("raw+tcp://{}?filter.name={}", sink.address(), pattern(prefix));
    let program = image.start_strictly(prefix, loopback(), &[], &[&route]);
    see_canary(&image, prefix, &sink, &program);
    sink.down();
    let talker = image.docker.start(prefix, &[], &["lines", "1000"]);
    assert_eq!(talker.wait(LONG), Some(0));
    let (code, took) = program.stop();
    let stderr = program.stderr();
    assert_eq!(code, "1", "{stderr}");
    assert!(took < Duration::from_secs(9), "{took:?}: {stderr}");
    assert!(stderr.contains("lines were not delivered in time"), "{stderr}");
}

#[test]
fn it_says_what_it_is() {
    let Some(image) = Image::get() else { return };
    let label = |name: &str| {
        let name = format!("org.opencontainers.image.{name}");
        image.inspect(&format!("{{{{index .Config.Labels \"{name}\"}}}}"))
    };
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("title"), "logchute");
    // Logspout's volume and port, which compose files rely on.
    assert_eq!(image.inspect("{{json .Config.Volumes}}"), r#"{"/mnt/routes":{}}"#);
    assert_eq!(image.inspect("{{json .Config.ExposedPorts}}"), r#"{"80/tcp":{}}"#);
}
