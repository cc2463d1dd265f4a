//! Real receivers: rsyslog and syslog-ng as child processes, on loopback, out of the system's way.
//!
//! Programs unpacked by `.ci/run` into `$LOGCHUTE_TEST_PROGS` (default
//! `/var/cache/logchute-test`) are taken first: they come with their TLS modules, and no security
//! profile of the host binds them. Else those on the PATH. Every file they write is in a
//! temporary folder.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::pki::Pki;
use super::process::{Process, stopped};
use super::receivers::free_port;
use super::{skipped, wait_until};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// rsyslogd.
    Rsyslog,
    /// syslog-ng.
    SyslogNg,
}

/// How lines come to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// UDP datagrams.
    Udp,
    /// TCP, a newline after each record.
    Tcp,
    /// TLS, a newline after each record.
    Tls,
    /// TCP, octet counting.
    TcpCounted,
    /// TLS, octet counting.
    TlsCounted,
}

impl Door {
    /// Every door.
    pub(crate) const ALL: [Door; 5] =
        [Door::Udp, Door::Tcp, Door::Tls, Door::TcpCounted, Door::TlsCounted];

    /// The transport of a route to it.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Door::Udp => "udp",
            Door::Tcp | Door::TcpCounted => "tcp",
            Door::Tls | Door::TlsCounted => "tls",
        }
    }

    /// Whether it wants octet counting.
    pub(crate) fn counted(self) -> bool {
        matches!(self, Door::TcpCounted | Door::TlsCounted)
    }
}

/// Where the parts of a program are.
struct Install {
    program: PathBuf,
    modules: Option<PathBuf>,
    libraries: String,
    tls_driver: &'static str,
}

impl Install {
    /// Whether it has this module.
    fn has(&self, module: &str) -> bool {
        let standard = glob(Path::new("/usr"), "lib/*/rsyslog");
        self.modules.iter().chain(&standard).any(|folder| folder.join(module).is_file())
    }
}

/// A running (or stopped) receiver.
pub(crate) struct Syslogd {
    kind: Kind,
    install: Install,
    folder: tempfile::TempDir,
    ports: [u16; 5],
    /// Those for RELP, without and with TLS, if it listens there.
    relp: Option<[u16; 2]>,
    /// What rsyslog writes of a record.
    template: &'static str,
    process: Option<Process>,
    /// How much of the file of records has been looked through, and the records in that.
    counted: Cell<(u64, usize)>,
}

impl Syslogd {
    /// Starts `kind` with all its doors. Where it is not installed the test is skipped, loudly;
    /// on CI it fails.
    pub(crate) fn start(kind: Kind, pki: &Pki) -> Option<Syslogd> {
        Syslogd::start_at(kind, pki, None, "%rawmsg%")
    }

    /// Starts rsyslog, which writes of a record what it has read in it:
    /// `STRUCTURED-DATA|HOSTNAME|APP-NAME|MSG`.
    pub(crate) fn start_reading(pki: &Pki) -> Option<Syslogd> {
        let template = "%structured-data%|%hostname%|%app-name%|%msg%";
        Syslogd::start_at(Kind::Rsyslog, pki, None, template)
    }

    /// Starts rsyslog with RELP besides. A record is in the file when it is acknowledged.
    pub(crate) fn start_relp(pki: &Pki) -> Option<Syslogd> {
        let relp = Some([free_port(), free_port()]);
        Syslogd::start_at(Kind::Rsyslog, pki, relp, "%rawmsg%")
    }

    fn start_at(
        kind: Kind,
        pki: &Pki,
        relp: Option<[u16; 2]>,
        template: &'static str,
    ) -> Option<Syslogd> {
        let found = find(kind).filter(|install| relp.is_none() || install.has("imrelp.so"));
        let Some(install) = found else {
            let module = if relp.is_some() { " with imrelp" } else { "" };
            skipped(&format!("{kind:?}{module} is not installed (.ci/run unpacks it)"));
            return None;
        };
        let folder = tempfile::Builder::new().prefix("lct-syslogd-").tempdir().unwrap();
        let ports = std::array::from_fn(|_| free_port());
        let (process, counted) = (None, Cell::default());
        let mut receiver =
            Syslogd { kind, install, folder, ports, relp, template, process, counted };
        let config = match kind {
            Kind::Rsyslog => receiver.rsyslog_config(pki) + &receiver.relp_config(pki),
            Kind::SyslogNg => receiver.syslog_ng_config(pki),
        };
        std::fs::write(receiver.file("receiver.conf"), config).unwrap();
        receiver.launch();
        Some(receiver)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a route to `door` goes.
    pub(crate) fn address(&self, door: Door) -> SocketAddr {
        let index = Door::ALL.iter().position(|&d| d == door).unwrap_or_default();
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[index]))
    }

    /// Where a route for RELP goes.
    pub(crate) fn relp_address(&self, tls: bool) -> SocketAddr {
        let port = self.relp.map_or(0, |ports| ports[usize::from(tls)]);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Starts it (again), on the same ports, and waits until it accepts connections.
    pub(crate) fn launch(&mut self) {
        let mut command = Command::new(&self.install.program);
        let file = |name: &str| self.file(name).display().to_string();
        match self.kind {
            Kind::Rsyslog => {
                command.args(["-n", "-C", "-f", &file("receiver.conf"), "-i", &file("pid")]);
                if let Some(modules) = &self.install.modules {
                    command.arg("-M").arg(modules);
                }
            }
            Kind::SyslogNg => {
                command.args(["-F", "--no-caps", "-f", &file("receiver.conf")]);
                command.args(["--persist-file", &file("persist"), "--pidfile", &file("pid")]);
                command.args(["--control", &file("control")]);
                if let Some(modules) = &self.install.modules {
                    command.arg("--module-path").arg(modules);
                }
            }
        }
        if !self.install.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.install.libraries);
        }
        let mut process = Process::spawn(&mut command);
        // Each listener in turn: a client must not come before the last of them is there.
        let doors = Door::ALL.iter().filter(|d| **d != Door::Udp).map(|&door| self.address(door));
        let relp = [false, true].map(|tls| self.relp_address(tls));
        let up = doors.chain(relp).filter(|address| address.port() != 0).all(|address| {
            wait_until(Duration::from_secs(15), || {
                process.ended().is_some() || TcpStream::connect(address).is_ok()
            })
        });
        let ended = process.ended();
        assert!(up && ended.is_none(), "{:?}: {ended:?}: {}", self.kind, process.stderr());
        self.process = Some(process);
    }

    /// Ends it in order (SIGTERM) and waits for that.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM");
            let ended = process.wait(Duration::from_secs(40));
            assert!(ended.is_some(), "{:?} does not stop: {}", self.kind, process.stderr());
        }
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Makes it stand still (SIGSTOP): connections stay, nothing is read.
    pub(crate) fn freeze(&mut self) {
        self.signal("STOP");
        // Each thread stops when it next runs: the signal alone says nothing yet.
        let pid = self.process.as_ref().map_or(0, Process::pid);
        assert!(wait_until(Duration::from_secs(5), || stopped(pid)), "it does not stand still");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn thaw(&mut self) {
        self.signal("CONT");
    }

    fn signal(&mut self, name: &str) {
        if let Some(process) = &mut self.process {
            process.signal(name);
        }
    }

    /// What it has complained of.
    pub(crate) fn stderr(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// The records it has written so far, one a line, as they came (framing taken off).
    pub(crate) fn records(&self) -> Vec<u8> {
        std::fs::read(self.file("records.log")).unwrap_or_default()
    }

    /// How many records it has written so far.
    pub(crate) fn count(&self) -> usize {
        let (begin, before) = self.counted.get();
        let mut more = Vec::new();
        if let Ok(mut file) = std::fs::File::open(self.file("records.log")) {
            file.seek(SeekFrom::Start(begin)).unwrap();
            file.read_to_end(&mut more).unwrap();
        }
        let now = before + memchr::memchr_iter(b'\n', &more).count();
        self.counted.set((begin + more.len() as u64, now));
        now
    }

    /// Waits until `count` records are there, or no more have come for `quiet`.
    pub(crate) fn wait_for(&self, count: usize, quiet: Duration) -> bool {
        let (mut last, mut since) = (0, std::time::Instant::now());
        loop {
            let now = self.count();
            if now >= count {
                return true;
            }
            if now > last {
                (last, since) = (now, std::time::Instant::now());
            }
            if since.elapsed() > quiet {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn rsyslog_config(&self, pki: &Pki) -> String {
        let driver = self.install.tls_driver;
        let (ca, cert, key) = (pki.ca(), pki.server_cert(), pki.server_key());
        let mut text = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"4m\" parser.escapeControlCharactersOn\
             Receive=\"off\"\n  defaultNetstreamDriverCAFile=\"{}\"\n  \
             defaultNetstreamDriverCertFile=\"{}\"\n  defaultNetstreamDriverKeyFile=\"{}\")\n",
            self.folder.path().display(),
            ca.display(),
            cert.display(),
            key.display()
        );
        // A receiver that drops from its own queue, or cuts its shutdown short, proves nothing.
        let _ = write!(
            text,
            "main_queue(queue.type=\"LinkedList\" queue.size=\"2000000\" \
             queue.timeoutShutdown=\"30000\")\n\
             module(load=\"imudp\")\nmodule(load=\"imtcp\" maxSessions=\"500\")\n\
             template(name=\"raw\" type=\"string\" string=\"{}\\n\")\n",
            self.template
        );
        let _ = writeln!(
            text,
            "ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{}\" template=\"raw\") }}",
            self.file("records.log").display()
        );
        for door in Door::ALL {
            let port = self.address(door).port();
            let common = format!("port=\"{port}\" address=\"127.0.0.1\" ruleset=\"all\"");
            let _ = match door.transport() {
                "udp" => {
                    writeln!(text, "input(type=\"imudp\" {common} rcvbufSize=\"8m\")")
                }
                "tcp" => writeln!(text, "input(type=\"imtcp\" {common})"),
                _ => writeln!(
                    text,
                    "input(type=\"imtcp\" {common} streamDriver.name=\"{driver}\" \
                     streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")"
                ),
            };
        }
        text
    }

    fn relp_config(&self, pki: &Pki) -> String {
        let Some([plain, tls]) = self.relp else { return String::new() };
        // Without a queue of its own, so that what is acknowledged is in the file.
        format!(
            "module(load=\"imrelp\")\n\
             ruleset(name=\"now\" queue.type=\"Direct\") {{\n  \
             action(type=\"omfile\" file=\"{}\" template=\"raw\") }}\n\
             input(type=\"imrelp\" port=\"{plain}\" address=\"127.0.0.1\" ruleset=\"now\")\n\
             input(type=\"imrelp\" port=\"{tls}\" address=\"127.0.0.1\" ruleset=\"now\" \
             tls=\"on\"\n  tls.caCert=\"{}\" tls.myCert=\"{}\" tls.myPrivKey=\"{}\" \
             tls.authMode=\"certvalid\")\n",
            self.file("records.log").display(),
            pki.ca().display(),
            pki.server_cert().display(),
            pki.server_key().display()
        )
    }

    fn syslog_ng_config(&self, pki: &Pki) -> String {
        let mut text = String::from(
            "@version: current\noptions { log-msg-size(4194304); use-dns(no); dns-cache(no); \
             stats-freq(0); log-fifo-size(2000000); };\n",
        );
        let tls = format!(
            "tls(key-file(\"{}\") cert-file(\"{}\") peer-verify(optional-untrusted))",
            pki.server_key().display(),
            pki.server_cert().display()
        );
        let mut sources = String::new();
        for (i, door) in Door::ALL.into_iter().enumerate() {
            let driver = if door.counted() { "syslog" } else { "network" };
            let (transport, port) = (door.transport(), self.address(door).port());
            let more = match transport {
                "udp" => "so-rcvbuf(8388608)".to_owned(),
                "tcp" => "max-connections(500) log-iw-size(500000)".to_owned(),
                _ => format!("max-connections(500) log-iw-size(500000) {tls}"),
            };
            let _ = writeln!(
                text,
                "source s{i} {{ {driver}(transport(\"{transport}\") ip(\"127.0.0.1\") \
                 port({port}) flags(no-parse) {more}); }};"
            );
            let _ = write!(sources, "source(s{i}); ");
        }
        let file = self.file("records.log");
        let _ = writeln!(
            text,
            "destination d {{ file(\"{}\" template(\"$MSG\\n\")); }};\n\
             log {{ {sources} destination(d); flags(flow-control); }};",
            file.display()
        );
        text
    }
}

fn find(kind: Kind) -> Option<Install> {
    let folder = std::env::var_os("LOGCHUTE_TEST_PROGS");
    let root = folder.map_or_else(|| PathBuf::from("/var/cache/logchute-test"), PathBuf::from);
    let (name, modules) = match kind {
        Kind::Rsyslog => ("rsyslogd", "lib/*/rsyslog"),
        Kind::SyslogNg => ("syslog-ng", "lib/syslog-ng/*"),
    };
    let unpacked = root.join("root/usr");
    let program = unpacked.join("sbin").join(name);
    let (program, modules, libraries) = if program.is_file() {
        let is_module_folder = |path: &PathBuf| path.is_dir() && has_module(path);
        let modules = glob(&unpacked, modules).into_iter().find(is_module_folder);
        (program, modules, library_path(&unpacked))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
        let mut folders = std::env::split_paths(&path).chain(sbin);
        let program = folders.find_map(|f| Some(f.join(name)).filter(|p| p.is_file()))?;
        (program, None, String::new())
    };
    let standard = glob(Path::new("/usr"), "lib/*/rsyslog");
    let gtls = modules.iter().chain(&standard).any(|m| m.join("lmnsd_gtls.so").is_file());
    let ossl = modules.iter().chain(&standard).any(|m| m.join("lmnsd_ossl.so").is_file());
    let tls_driver = if gtls && !ossl { "gtls" } else { "ossl" };
    Some(Install { program, modules, libraries, tls_driver })
}

fn has_module(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|e| e.path().extension().is_some_and(|x| x == "so"))
}

fn library_path(usr: &Path) -> String {
    let folders = ["lib", "lib/*", "../lib/*"].into_iter().flat_map(|pattern| glob(usr, pattern));
    let folders = folders.filter(|f| f.is_dir()).map(|f| f.display().to_string());
    folders.collect::<Vec<_>>().join(":")
}

/// The paths below `base` that match `pattern`, in which a component may be `*`.
fn glob(base: &Path, pattern: &str) -> Vec<PathBuf> {
    pattern.split('/').fold(vec![base.to_owned()], |found, part| {
        if part != "*" {
            return found.into_iter().map(|f| f.join(part)).filter(|f| f.exists()).collect();
        }
        let entries = found.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten();
        let mut all: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        all.sort();
        all
    })
}
