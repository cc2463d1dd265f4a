//! One run: containers, the program, its receiver, and the clocks.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::docker::{Containers, Docker, Image, Talk};
use super::unframed::Unframed;
use super::{Case, Door, LINE, Plan, Program};
use crate::measure::{CpuClock, peak_memory_mib};
use crate::receivers::{Inbox, stream};
use crate::report::Checked;
use crate::scenario::Hits;

/// What all runs need.
pub(super) struct Session<'a> {
    pub(super) docker: &'a Docker,
    pub(super) plan: &'a Plan,
    /// Set by a signal.
    pub(super) stop: &'a AtomicBool,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Run {
    /// Lines that the containers wrote.
    pub(super) lines: u64,
    /// From the first line to the last.
    pub(super) seconds: f64,
    /// CPU seconds of the program.
    pub(super) cpu: f64,
    /// CPU seconds of the daemon, where they can be had.
    pub(super) daemon: Option<f64>,
    /// The program's peak.
    pub(super) memory_mib: f64,
    /// What came; `None` of a program that sends nothing.
    pub(super) checked: Option<Checked>,
}

impl Run {
    /// Million lines.
    pub(super) fn million(&self) -> f64 {
        self.lines as f64 / 1e6
    }
}

/// Between looks at what has come: short beside a run, and costs next to nothing.
const LOOK: Duration = Duration::from_millis(2);
/// From the start of a program, or of containers, until it is quiet again.
const SETTLE: Duration = Duration::from_millis(400);
/// The containers' silence before their first line: so long to be started, and for each of them.
const SILENCE_MS: (u64, u64) = (1500, 500);
/// Where that is too short on a busy machine, it is doubled so often.
const LONGER: u32 = 3;
/// More than a run's records: what a slow receiver is behind is held, not dropped.
const BUFFER: &str = "4GiB";
/// Where nothing more comes for so long, nothing more will.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the last line, for lines that should not come.
const AFTERMATH: Duration = Duration::from_millis(100);

impl Session<'_> {
    /// Waits a little; an error once a signal has come.
    fn pause(&self, time: Duration) -> Result<(), String> {
        sleep(time);
        if self.stop.load(Ordering::SeqCst) {
            return Err("interrupted".to_owned());
        }
        Ok(())
    }

    fn talk(&self, case: &Case, wait_ms: u64) -> Talk {
        let lines = self.plan.lines / u64::from(case.containers);
        Talk { lines, bytes: LINE, linewise: case.linewise, wait_ms }
    }

    /// Lines that are read while they are written. The program is there first.
    pub(super) fn attach(
        &self,
        image: &Image<'_>,
        case: &Case,
        program: &Program,
    ) -> Result<Run, String> {
        let (base, each) = SILENCE_MS;
        let silence = base + each * u64::from(case.containers);
        for times in 0..=LONGER {
            if let Some(run) = self.attach_after(silence << times, image, case, program)? {
                return Ok(run);
            }
        }
        Err("the engine takes too long to start its containers".to_owned())
    }

    /// `None` where some containers wrote before all of them were started.
    fn attach_after(
        &self,
        silence_ms: u64,
        image: &Image<'_>,
        case: &Case,
        program: &Program,
    ) -> Result<Option<Run>, String> {
        let talk = self.talk(case, silence_ms);
        let containers = image.create(case.containers, &talk)?;
        let inbox = Inbox::of_numbers(case.containers);
        let framed = *program == Program::Relay;
        let listening = stream::listen(&inbox, move |socket, inbox| {
            if framed {
                return stream::scan_all(Unframed::new(socket, stream::BUFFER), inbox);
            }
            stream::scan(socket, inbox)
        });
        let address = listening.map_err(|error| error.to_string())?;
        let running = self.start(case, program, address, &containers)?;
        self.pause(SETTLE)?;
        containers.start()?;
        self.pause(SETTLE)?;
        let meter = self.meter(&running)?;
        if inbox.bytes() > 0 {
            return Ok(None);
        }
        let total = talk.lines * u64::from(case.containers);
        let seconds = self.arrive(&inbox, total)?;
        let (cpu, daemon) = meter.read()?;
        let memory_mib = peak_memory_mib(running.pid()).map_err(|error| error.to_string())?;
        let checked = self.check(&inbox, &talk, case)?;
        Ok(Some(Run { lines: total, seconds, cpu, daemon, memory_mib, checked }))
    }

    /// Containers that have written all they will.
    pub(super) fn prepare<'a>(
        &self,
        image: &Image<'a>,
        case: &Case,
    ) -> Result<Containers<'a>, String> {
        let talk = self.talk(case, 0);
        let containers = image.create(case.containers, &talk)?;
        containers.start()?;
        let last = format!(":{:08x} ", talk.lines - 1);
        for container in 0..usize::from(case.containers) {
            while !containers.last_line(container)?.contains(&last) {
                self.pause(Duration::from_millis(300))?;
            }
        }
        Ok(containers)
    }

    /// Lines that were written before the program is started: what it does to start counts too.
    pub(super) fn backlog(
        &self,
        containers: &Containers<'_>,
        case: &Case,
        program: &Program,
    ) -> Result<Run, String> {
        let talk = self.talk(case, 0);
        let inbox = Inbox::of_numbers(case.containers);
        let address = stream::listen(&inbox, stream::scan).map_err(|error| error.to_string())?;
        let mut running = self.start(case, program, address, containers)?;
        let meter = Meter { program_cpu: 0.0, ..self.meter(&running)? };
        let total = talk.lines * u64::from(case.containers);
        let sends = *program != Program::Reader;
        let seconds = if sends {
            self.arrive(&inbox, total)?
        } else {
            let begun = Instant::now();
            running.hear("done")?;
            begun.elapsed().as_secs_f64()
        };
        let (cpu, daemon) = meter.read()?;
        let memory_mib = peak_memory_mib(running.pid()).map_err(|error| error.to_string())?;
        let checked = if sends { self.check(&inbox, &talk, case)? } else { None };
        Ok(Run { lines: total, seconds, cpu, daemon, memory_mib, checked })
    }

    /// Waits for all lines; the time from the first of them.
    fn arrive(&self, inbox: &Inbox, total: u64) -> Result<f64, String> {
        let (mut first, mut progress, mut seen) = (None, Instant::now(), 0);
        loop {
            let lines = inbox.lines();
            let now = Instant::now();
            if lines > seen {
                first.get_or_insert(now);
                (progress, seen) = (now, lines);
            }
            if let Some(first) = first.filter(|_| lines >= total) {
                return Ok((now - first).as_secs_f64());
            }
            if now - progress > PATIENCE {
                return Err(format!("only {lines} of {total} lines came"));
            }
            self.pause(LOOK)?;
        }
    }

    fn check(&self, inbox: &Inbox, talk: &Talk, case: &Case) -> Result<Option<Checked>, String> {
        self.pause(AFTERMATH)?;
        let sent = vec![talk.lines; usize::from(case.containers)];
        Ok(inbox.checked(Hits::NONE, &sent))
    }

    /// Starts a program, which is to send to `tcp`.
    fn start(
        &self,
        case: &Case,
        program: &Program,
        tcp: SocketAddr,
        containers: &Containers<'_>,
    ) -> Result<Running, String> {
        let tcp = tcp.to_string();
        let mut command = match program {
            Program::Logchute(setting) => {
                self.logchute(setting.as_deref(), &tcp, case.door == Door::Backlog)
            }
            Program::Relay | Program::Reader => {
                let own = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(own);
                command.arg("real-client").arg("--docker").arg(self.docker.socket());
                if *program == Program::Relay {
                    command.args(["--tcp", &tcp]);
                }
                command.args(&containers.ids);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let shown = command.get_program().display().to_string();
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {shown}: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new).ok_or("no pipe")?;
        let mut running = Running { child, stdout, _stdin: stdin };
        if !matches!(program, Program::Logchute(_)) {
            running.hear("ready")?;
        }
        Ok(running)
    }

    /// One shard, syslog over tcp, nothing of our own environment. Only the session's containers
    /// are routed.
    fn logchute(&self, setting: Option<&str>, tcp: &str, backlog: bool) -> Command {
        let mut command = Command::new(&self.plan.logchute);
        let (label, pid) = (super::docker::LABEL, std::process::id());
        command
            .env_clear()
            .env("TZ", "UTC")
            .env("DOCKER_HOST", self.docker.url())
            .env("SHARDS", "1")
            .env("BACKLOG", backlog.to_string())
            .env("BUFFER", BUFFER)
            .env("LOGCHUTE_LOG", "warn")
            .args(["--http", "off"])
            .arg(format!("syslog+tcp://{tcp}?filter.labels={label}:{pid}"));
        command.envs(setting.and_then(|setting| setting.split_once('=')));
        command
    }

    /// Starts the clocks.
    fn meter(&self, running: &Running) -> Result<Meter, String> {
        let clock = CpuClock::of(running.pid()).map_err(|error| running.gone(&error))?;
        let daemon = self.docker.daemon.as_ref().ok().and_then(|pid| CpuClock::of(*pid).ok());
        let program_cpu = clock.now().map_err(|error| running.gone(&error))?.as_secs_f64();
        let daemon = daemon.and_then(|clock| Some((clock.now().ok()?.as_secs_f64(), clock)));
        Ok(Meter { clock, program_cpu, daemon })
    }
}

/// CPU clocks of the program and the daemon, and what they showed at the start.
struct Meter {
    clock: CpuClock,
    program_cpu: f64,
    daemon: Option<(f64, CpuClock)>,
}

impl Meter {
    /// CPU seconds since the start, of the program and of the daemon.
    fn read(&self) -> Result<(f64, Option<f64>), String> {
        let now = self.clock.now().map_err(|error| format!("it ended: {error}"))?;
        let daemon = self.daemon.as_ref();
        let daemon =
            daemon.and_then(|(before, clock)| Some(clock.now().ok()?.as_secs_f64() - before));
        Ok((now.as_secs_f64() - self.program_cpu, daemon))
    }
}

/// A program that runs, until it is dropped.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    /// Our own clients end with it.
    _stdin: Option<ChildStdin>,
}

impl Running {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a word of our own client.
    fn hear(&mut self, word: &str) -> Result<(), String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim_end() == word { Ok(()) } else { Err("it ended: see above".to_owned()) }
    }

    fn gone(&self, error: &std::io::Error) -> String {
        format!("process {} is gone: {error}", self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
