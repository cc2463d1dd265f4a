//! A real Swarm of one node, in a network namespace of its own: the stack that users of Logspout's
//! Slack adapter run, and the one of `docs/deploy`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

mod support;

use support::docker::SecondDaemon;
use support::image::Image;
use support::pki::SLACK;
use support::receivers::StreamSink;
use support::webhook::Webhook;
use support::{readable, say, wait_until};

/// Swarm takes its time, here on a busy host.
const LONG: Duration = Duration::from_secs(120);

/// A Swarm with the images of logchute and of the talker.
struct Swarm {
    image: Image,
    talker: support::docker::Image,
    folder: tempfile::TempDir,
    second: SecondDaemon,
}

impl Swarm {
    /// Without root or `dockerd` the test is skipped, loudly; on CI it fails.
    fn start() -> Option<Swarm> {
        let second = SecondDaemon::start(false)?;
        let here = ["--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377"];
        second.docker.run(&[&["swarm", "init"], &here[..]].concat());
        let image = Image::build(second.docker.clone());
        let talker = second.docker.image();
        let folder = tempfile::Builder::new().prefix("lct-swarm-").tempdir().unwrap();
        Some(Swarm { image, talker, folder, second })
    }

    /// Deploys the stack `name` from `file` with what `with` puts on top; `env` is what the file
    /// takes from its environment.
    fn deploy(&self, name: &str, file: &Path, with: &str, env: &[(&str, &str)]) {
        let on_top = self.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&on_top, with).unwrap();
        let files = [file, &on_top].map(|path| path.display().to_string());
        let mut command =
            self.image.docker.command(&["stack", "deploy", "-c", &files[0], "-c", &files[1]]);
        let command = command.args(["--resolve-image", "never", name]).envs(env.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A service of the talker in the stack `name`: what it is told to write, it writes once.
    fn talk(&self, name: &str, args: &[&str]) {
        let talker = &self.talker.name();
        let with = format!(
            "services: {{app: {{image: '{talker}', command: {args:?}, networks: [loopback],
               deploy: {{restart_policy: {{condition: none}}}}}}}}\n{LOOPBACK}"
        );
        let file = self.folder.path().join("talker.yaml");
        std::fs::write(&file, with).unwrap();
        self.deploy(name, &file, "{}", &[]);
    }

    /// The container of a service's one task, once there is one.
    fn container(&self, service: &str) -> String {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let mut found = String::new();
        wait_until(LONG, || {
            std::thread::sleep(Duration::from_millis(200));
            found = self.image.docker.run(&["ps", "-q", "--no-trunc", "--filter", &filter]);
            !found.trim().is_empty()
        });
        let tasks = || self.image.docker.run(&["service", "ps", "--no-trunc", service]);
        assert!(!found.trim().is_empty(), "no task of {service} runs: {}", tasks());
        found.trim().to_owned()
    }

    /// Waits until the container's health check says that it is well.
    fn wait_healthy(&self, container: &str) {
        let field = ["inspect", "-f", "{{json .State.Health}}", container];
        let mut last = String::new();
        let healthy = wait_until(LONG, || {
            std::thread::sleep(Duration::from_millis(200));
            last = self.image.docker.run(&field);
            last.contains(r#""Status":"healthy""#)
        });
        assert!(healthy, "{last}{}", self.stderr(container));
    }

    fn stderr(&self, container: &str) -> String {
        String::from_utf8_lossy(&self.image.docker.logs(container).1).into_owned()
    }

    /// The shard threads of the program in the container.
    fn shards(&self, container: &str) -> usize {
        let pid = self.image.docker.run(&["inspect", "-f", "{{.State.Pid}}", container]);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.trim())).unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| name(task).ok()).filter(|name| name.starts_with("shard-")).count()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        // Services first: a Swarm would start again what is removed.
        let docker = &self.second.docker;
        for name in docker.try_run(&["service", "ls", "-q"]).unwrap_or_default().lines() {
            let _ = docker.try_run(&["service", "rm", name]);
        }
        let _ = docker.try_run(&["swarm", "leave", "--force"]);
    }
}

/// The daemon's own network, in which there is nothing but its loopback.
const LOOPBACK: &str = "networks: {loopback: {external: true, name: host}}\n";

#[test]
fn the_stack_of_the_slack_adapter() {
    let Some(swarm) = Swarm::start() else { return };
    let webhook = swarm.second.within(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 443)).unwrap();
        Webhook::on(listener, &swarm.image.pki, &[])
    });
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/slack-stack.yaml");
    let (image, socket) = (&swarm.image.name, swarm.image.docker.host().unwrap());
    let socket = socket.trim_start_matches("unix://");
    // The image's tag, the second daemon's socket and network, where Slack is, and the pace of
    // the health check are the test's; all else is the users'.
    let with = format!(
        "services: {{logspout: {{image: '{image}', networks: [loopback],
           extra_hosts: ['{SLACK}:127.0.0.1'], healthcheck: {{interval: 1s}},
           volumes: ['{socket}:/var/run/docker.sock']}}}}\n{LOOPBACK}"
    );
    swarm.deploy("slack", Path::new(file), &with, &[("SUBDOMAIN", "example.com")]);
    let logchute = swarm.container("slack_logspout");
    swarm.wait_healthy(&logchute);
    assert_eq!(swarm.shards(&logchute), 1, "0.2 CPU: {}", swarm.stderr(&logchute));
    let said = swarm.stderr(&logchute);
    assert!(said.contains("SLACK_MESSAGE_FILTER") && said.contains("quot"), "{said}");
    // The quotation marks came through Compose and are part of the expression.
    swarm.talk("shop", &["repeat", r#"it said "no, an error" today"#, "1"]);
    let came = wait_until(LONG, || !webhook.taken().is_empty());
    let said = swarm.stderr(&logchute);
    assert!(came, "nothing came: {said}");
    let posted = &webhook.taken()[0];
    assert_eq!(posted.path, "/services/xxx");
    let attachments = posted.attachments();
    assert_eq!(attachments.len(), 1, "{}", readable(&posted.body));
    let field = |name: &str| attachments[0][name].as_str().unwrap_or_default();
    assert!(field("title").starts_with("/shop_app.1."), "{}", readable(&posted.body));
    assert_eq!(field("title_link"), "https://app.example.com");
    assert_eq!(field("text"), r#"it said "no, an error" today"#);
    assert!(!field("color").is_empty(), "{}", readable(&posted.body));
    assert!(!said.contains("/services/xxx"), "{said}");
    say(&format!("swarm: {}", readable(&posted.body)));
}

#[test]
fn the_stack_of_the_docs() {
    let Some(swarm) = Swarm::start() else { return };
    let sink = swarm.second.within(StreamSink::tcp);
    let route = format!("syslog+tcp://{}?filter.name=shop*", sink.address());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deploy/swarm.yaml");
    let (image, socket) = (&swarm.image.name, swarm.image.docker.host().unwrap());
    let socket = socket.trim_start_matches("unix://");
    let with = format!(
        "services: {{logchute: {{networks: [loopback], environment: {{HTTP_PORT: 8080}},
           healthcheck: {{interval: 1s, test: ['CMD', '/bin/logchute', 'health']}},
           volumes: ['{socket}:/var/run/docker.sock']}}}}\n{LOOPBACK}"
    );
    let env = [("ROUTE_URIS", &*route), ("LOGCHUTE_IMAGE", image)];
    swarm.deploy("logs", Path::new(file), &with, &env);
    let logchute = swarm.container("logs_logchute");
    swarm.wait_healthy(&logchute);
    swarm.talk("shop", &["lines", "100"]);
    let came = wait_until(LONG, || sink.newlines() >= 100);
    assert!(came, "{} lines: {}", sink.newlines(), swarm.stderr(&logchute));
    let received = sink.received().concat();
    let lines = received.split_inclusive(|&byte| byte == b'\n');
    // <PRI>1 TIME HOST APP-NAME PROCID MSGID STRUCTURED-DATA MSG
    let host = std::fs::read_to_string("/etc/hostname").unwrap();
    for line in lines {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').take(4).collect();
        assert_eq!(fields[2], host.trim().as_bytes(), "{}", readable(line));
        assert_eq!(fields[3], b"shop_app", "{}", readable(line));
    }
}
