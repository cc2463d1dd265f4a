//! The table of what a seed may have: how the program is set up, how its world behaves, and which
//! faults come. A new policy or fault is a new row here.

use std::fmt;

use super::chance::Chance;
use super::daemon::{Doing, ERR, OUT, Sick};
use super::disk::Troubles;
use super::joined::{LINES_MAX, SEPARATOR};
use super::ledger::written;

use super::world::{MS, SECOND, World};

/// What a seed has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scenario {
    /// Shards of the program.
    pub(super) shards: usize,
    /// Routes, each with a receiver of its own.
    pub(super) routes: usize,
    /// It has a `STATE_DIR`.
    pub(super) state: bool,
    /// What routes do that are full.
    pub(super) overflow: &'static str,
    /// Memory of each route.
    pub(super) buffer: usize,
    /// How long busy streams are not read.
    pub(super) read_wait: &'static str,
    /// A proxy refuses attach.
    pub(super) no_attach: bool,
    /// Containers; some of them are there before the program.
    pub(super) containers: usize,
    /// Some containers write the same few lines again and again.
    pub(super) repeats: bool,
    /// How long the longest lines are.
    pub(super) long: usize,
    /// The longest time between two writes of a container, in nanoseconds.
    pub(super) idle: u64,
    /// What the send buffer of our host and the receive buffer of the receiver's hold.
    pub(super) windows: (u64, usize),
    /// How far the log may be behind attach, in nanoseconds.
    pub(super) lag: u64,
    /// What a container's log holds before its older half goes.
    pub(super) log_max: usize,
    /// How long containers write and faults come, in nanoseconds.
    pub(super) lasts: u64,
    /// The longest time between two faults.
    pub(super) calm: u64,
    /// Which routes are RELP; how long a server takes to store a record and to answer, at most, in
    /// nanoseconds; and whether it stores them in any order.
    pub(super) relp: [bool; 2],
    pub(super) answers: u64,
    pub(super) any_order: bool,
    /// The first route joins lines that belong together.
    pub(super) joined: bool,
    /// What spools may hold; 0: there are none.
    pub(super) spool: usize,
    /// What the program may hold while it reads logs.
    pub(super) hold: usize,
    /// Faults of these kinds come.
    pub(super) faults: [bool; FAULTS.len()],
}

/// A fault.
type Fault = fn(&mut World);

/// All kinds of faults.
const FAULTS: [(&str, Fault); 18] = [
    ("a receiver's connections are reset", reset_receiver),
    ("a receiver stands still", freeze_receiver),
    ("a receiver is slow", slow_receiver),
    ("a receiver is killed and comes back", kill_receiver),
    ("a receiver is restarted in an orderly way", restart_receiver),
    ("no packet reaches a receiver", cut_receiver),
    ("an attach stream is cut", cut_attach),
    ("the daemon is restarted", restart_daemon),
    ("the event stream is cut", cut_events),
    ("events are not told", forget_events),
    ("the daemon answers badly", sicken_daemon),
    ("the daemon is slow", slow_daemon),
    ("the program is killed and started again", |world| {
        let lasts = world.a_while();
        world.crash = world.daemon.scenario.state.then_some(lasts);
    }),
    ("a connection to the daemon hangs", hang_connection),
    ("the disk is full", |world| world.disk_troubles.full_until = world.now + world.a_while()),
    ("a RELP server refuses records", refuse_records),
    ("the disk hangs", |world| world.disk_troubles.hangs_until = world.now + world.a_while()),
    ("the program is killed while it writes to a spool", |world| {
        let lasts = world.a_while();
        world.disk_troubles.tears = world.daemon.scenario.state.then_some(lasts);
    }),
];

impl Scenario {
    /// What the seed behind `chance` has.
    pub(super) fn drawn(chance: &mut Chance) -> Scenario {
        let many = chance.one_in(2);
        Scenario {
            shards: chance.pick(&[1, 1, 2, 3]),
            routes: chance.pick(&[1, 2]),
            state: chance.one_in(2),
            overflow: chance.pick(&["block", "block", "drop-oldest", "drop-newest"]),
            buffer: chance.pick(&[64 << 10, 512 << 10, 8 << 20]),
            read_wait: chance.pick(&["0", "500us", "5ms"]),
            no_attach: chance.one_in(12),
            containers: chance.from(1, 5) as usize,
            repeats: chance.one_in(4),
            long: chance.pick(&[1_000, 20_000, 40_000]),
            idle: chance.pick(&[20 * MS, 200 * MS, 2 * SECOND]),
            windows: chance.pick(&[(4 << 10, 2 << 10), (64 << 10, 16 << 10), (256 << 10, 1 << 20)]),
            lag: chance.pick(&[5 * MS, 50 * MS, 100 * MS]),
            log_max: chance.pick(&[small_logs(), 1 << 20, usize::MAX, usize::MAX, usize::MAX]),
            lasts: chance.pick(&[2 * SECOND, 5 * SECOND, 20 * SECOND]),
            calm: chance.pick(&[200 * MS, 2 * SECOND, 10 * SECOND]),
            faults: std::array::from_fn(|_| chance.one_in(if many { 2 } else { 8 })),
            relp: std::array::from_fn(|_| chance.one_in(3)),
            answers: chance.pick(&[MS, 20 * MS, 200 * MS]),
            any_order: chance.one_in(3),
            joined: chance.one_in(3),
            spool: chance.pick(&[0, 0, 1 << 20, 64 << 20]),
            hold: chance.pick(&[16 << 10, 64 << 10, 512 << 10, 8 << 20]),
        }
    }

    /// Whether a route wants a line.
    pub(super) fn keeps(&self, route: usize, line: &str) -> bool {
        route == 0 || line.contains("even")
    }

    /// Whether a route joins lines.
    pub(super) fn joins(&self, route: usize) -> bool {
        route == 0 && self.joined
    }

    /// The same without faults.
    pub(super) fn in_peace(self) -> Scenario {
        Scenario { faults: [false; FAULTS.len()], ..self }
    }

    /// The program's arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        let adapter = |route: usize, plain| if self.relp[route] { "relp" } else { plain };
        let joined = if self.joined { "multiline+" } else { "" };
        let routes = [
            format!("{joined}{}+tcp://10.0.0.1:1", adapter(0, "raw")),
            format!("{}+tcp://10.0.0.2:2?filter.match=even", adapter(1, "syslog")),
        ];
        routes.into_iter().take(self.routes).collect()
    }

    /// Its environment, with `folder` for spools.
    pub(super) fn environment(&self, folder: &str) -> Vec<(&'static str, String)> {
        let spool = if self.spool > 0 { folder } else { "off" };
        vec![
            ("SPOOL_DIR", spool.to_owned()),
            ("SPOOL_MAX", self.spool.max(1 << 20).to_string()),
            ("DOCKER_HOST", "unix:///simulated/docker.sock".to_owned()),
            ("SHARDS", self.shards.to_string()),
            ("OVERFLOW", self.overflow.to_owned()),
            ("BUFFER", self.buffer.to_string()),
            ("READ_WAIT", self.read_wait.to_owned()),
            ("ALLOW_TTY", "true".to_owned()),
            ("INACTIVITY_TIMEOUT", "10s".to_owned()),
            ("MULTILINE_SEPARATOR", char::from(SEPARATOR).to_string()),
            ("MULTILINE_MAX_LINES", LINES_MAX.to_string()),
        ]
    }
}

/// The end of a stream is known to the program so late at most.
const EOF_TAKES: u64 = 100 * MS;

/// What the smallest logs hold. With 64 KiB, a second of output, lines are lost that are not said
/// in all cases: `LOGCHUTE_SIM_SMALL_LOGS=1` shows them.
fn small_logs() -> usize {
    match std::env::var_os("LOGCHUTE_SIM_SMALL_LOGS") {
        Some(_) => 64 << 10,
        None => 2 << 20,
    }
}

/// With its faults by their names, to be read.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = FAULTS.iter().zip(self.faults).filter(|(_, comes)| *comes);
        let names: Vec<&str> = kinds.map(|((name, _), _)| *name).collect();
        let all = format!("{self:?}");
        let rest = all.split(", faults").next().unwrap_or_default();
        write!(f, "{} {rest} }}", names.join("; "))
    }
}

impl World {
    /// The containers that are there before the program.
    pub(super) fn prepare(&mut self) {
        for _ in 0..self.daemon.scenario.containers {
            if self.chance.one_in(2) {
                self.create();
            } else {
                let delay = self.chance.below(self.daemon.scenario.lasts / 2);
                self.after(delay, |world| {
                    let index = world.create();
                    world.tell(index, "create");
                });
            }
        }
        self.next_fault();
    }

    /// The program begins: what was written before is not its business.
    pub(super) fn program_begins(&mut self) {
        for (index, container) in self.daemon.containers.iter_mut().enumerate() {
            let runs = matches!(container.doing, Doing::Running | Doing::Paused);
            container.found = runs;
            for source in [OUT, ERR] {
                self.ledger.wanted_from((index, source, container.next[source]));
            }
        }
    }

    fn create(&mut self) -> usize {
        let tty = self.chance.one_in(8);
        let index = self.daemon.add(tty);
        self.note("create", index as u64, tty.into());
        let delay = match self.chance.below(4) {
            0 => self.chance.below(5 * SECOND),
            _ => self.chance.from(5 * MS, 200 * MS),
        };
        self.after(delay, move |world| world.run(index));
        index
    }

    /// A run of a container begins, if it still may.
    fn run(&mut self, index: usize) {
        let over = self.now > self.daemon.scenario.lasts;
        if over || self.daemon.containers[index].doing == Doing::Removed {
            return;
        }
        if self.daemon.down {
            return self.after(SECOND, move |world| world.run(index));
        }
        self.start(index);
        let lasts = match self.chance.below(4) {
            0 => self.chance.from(2 * MS, 100 * MS),
            1 => self.chance.from(MS, 10 * SECOND),
            _ => 10 * self.daemon.scenario.lasts,
        };
        let end = self.now + lasts;
        self.write(index, end);
        if end < self.daemon.scenario.lasts {
            self.at(end, move |world| world.end_run(index));
        }
    }

    fn end_run(&mut self, index: usize) {
        if self.daemon.down || self.daemon.containers[index].doing == Doing::Paused {
            return self.after(SECOND, move |world| world.end_run(index));
        }
        // Whether its stream was ended because it has ended is told by when that was seen.
        if self.now < self.daemon.containers[index].cut_until {
            return self.after(EOF_TAKES, move |world| world.end_run(index));
        }
        self.exit(index);
        match self.chance.below(8) {
            // Long after its end nothing of it can be unread.
            0 => self.after(150 * SECOND, move |world| {
                if !world.daemon.down {
                    world.remove(index);
                }
            }),
            1 => {}
            _ => {
                let delay = match self.chance.below(3) {
                    0 => self.chance.from(2 * SECOND, 10 * SECOND),
                    _ => self.chance.from(20 * MS, 500 * MS),
                };
                self.after(delay, move |world| world.run(index));
            }
        }
    }

    /// A container writes now and then until its run ends.
    fn write(&mut self, index: usize, end: u64) {
        let idle = match self.chance.below(10) {
            0 => self.chance.below(self.daemon.scenario.idle),
            1..5 => self.chance.below(self.daemon.scenario.idle / 10),
            _ => self.chance.below(3 * MS),
        };
        let at = self.now + idle;
        if at >= end.min(self.daemon.scenario.lasts) {
            return;
        }
        self.at(at, move |world| {
            let container = &world.daemon.containers[index];
            if container.doing == Doing::Running && !world.is_blocked(index) {
                world.write_lines(index);
            }
            if world.chance.one_in(200) && world.daemon.containers[index].doing == Doing::Running {
                world.pause(index);
            }
            world.write(index, end);
        });
    }

    /// Some lines, of which the end may follow a little later.
    pub(super) fn write_lines(&mut self, index: usize) {
        let count = if self.chance.one_in(20) { 40 } else { self.chance.from(1, 4) };
        let tty = self.daemon.containers[index].tty;
        let source = if !tty && self.chance.one_in(4) { ERR } else { OUT };
        self.write_rest(index, source);
        let mut bytes = Vec::new();
        for _ in 0..count {
            let container = &mut self.daemon.containers[index];
            let line = (index, source, container.next[source]);
            container.next[source] += 1;
            bytes.extend_from_slice(written(&self.daemon.scenario, line).as_bytes());
            bytes.extend_from_slice(if tty { b"\r\n" } else { b"\n" });
        }
        if self.chance.one_in(4) {
            let cut = self.chance.from(1, bytes.len() as u64 - 1) as usize;
            self.daemon.containers[index].rest[source] = bytes.split_off(cut);
            let delay = self.chance.below(3 * MS);
            self.after(delay, move |world| world.write_rest(index, source));
        }
        self.output(index, source, bytes);
    }

    fn pause(&mut self, index: usize) {
        self.daemon.containers[index].doing = Doing::Paused;
        self.write_rests(index);
        self.tell(index, "pause");
        let delay = self.chance.below(3 * SECOND);
        self.after(delay, move |world| {
            world.daemon.containers[index].doing = Doing::Running;
            world.tell(index, "unpause");
        });
    }

    /// The next fault comes some time, as long as there are to be any.
    fn next_fault(&mut self) {
        let Scenario { calm, lasts, faults, .. } = self.daemon.scenario;
        let delay = self.chance.below(calm);
        let kinds: Vec<usize> = (0..FAULTS.len()).filter(|&kind| faults[kind]).collect();
        if kinds.is_empty() || self.now + delay > lasts {
            return;
        }
        self.after(delay, move |world| {
            let kind = world.chance.pick(&kinds);
            world.note(FAULTS[kind].0, 0, 0);
            FAULTS[kind].1(world);
            world.next_fault();
        });
    }

    /// Faults end.
    pub(super) fn heal(&mut self) {
        self.note("heal", 0, 0);
        let now = self.now;
        for receiver in &mut self.receivers {
            receiver.frozen_until = receiver.frozen_until.min(now);
            receiver.slow = (0, 0);
            receiver.cut_until = receiver.cut_until.min(now);
            receiver.refuses_until = 0;
            receiver.up = true;
        }
        self.conns.iter_mut().for_each(|conn| conn.held_until = conn.held_until.min(now));
        self.disk_troubles = Troubles::default();
        (self.daemon.sick, self.daemon.slow, self.daemon.forgets_until) = (None, 5 * MS, 0);
        if self.daemon.down {
            self.daemon_up();
        }
        for receiver in 0..self.receivers.len() {
            self.readable(receiver);
        }
        // A list tells what events did not.
        cut_events(self);
    }

    fn a_receiver(&mut self) -> usize {
        self.chance.below(self.receivers.len() as u64) as usize
    }

    /// How long a fault lasts.
    fn a_while(&mut self) -> u64 {
        let most = self.chance.pick(&[50 * MS, SECOND, 20 * SECOND]);
        self.chance.below(most)
    }
}

fn reset_receiver(world: &mut World) {
    let receiver = world.a_receiver();
    for conn in world.receivers[receiver].connections() {
        world.reset(conn);
    }
}

fn freeze_receiver(world: &mut World) {
    let receiver = world.a_receiver();
    world.receivers[receiver].frozen_until = world.now + world.a_while();
}

fn slow_receiver(world: &mut World) {
    let (receiver, lasts) = (world.a_receiver(), world.a_while());
    let rate = world.chance.pick(&[10, 100, 1000]);
    world.receivers[receiver].slow = (world.now + lasts, rate);
}

fn kill_receiver(world: &mut World) {
    let (receiver, lasts) = (world.a_receiver(), world.a_while());
    world.kill_receiver(receiver);
    world.after(lasts, move |world| world.receivers[receiver].up = true);
}

fn restart_receiver(world: &mut World) {
    let (receiver, lasts) = (world.a_receiver(), world.a_while());
    world.close_receiver(receiver);
    world.after(lasts, move |world| world.receivers[receiver].up = true);
}

fn refuse_records(world: &mut World) {
    let receiver = world.a_receiver();
    world.receivers[receiver].refuses_until = world.now + world.a_while();
}

/// What was on its way arrives later, or the connection is reset.
fn cut_receiver(world: &mut World) {
    let (receiver, lasts) = (world.a_receiver(), world.a_while());
    let until = world.now + lasts;
    world.receivers[receiver].cut_until = until;
    for conn in world.receivers[receiver].connections() {
        world.conns[conn].held_until = until;
        if world.chance.one_in(2) {
            world.after(lasts / 2, move |world| {
                if world.conns[conn].is_open() {
                    world.reset(conn);
                }
            });
        }
    }
}

fn cut_attach(world: &mut World) {
    let attached = world.daemon.attached();
    if attached.is_empty() {
        return;
    }
    let (index, conn) = world.chance.pick(&attached);
    if world.chance.one_in(2) {
        world.reset(conn);
    } else {
        world.daemon.containers[index].cut_until = world.now + EOF_TAKES;
        world.daemon_eof(conn);
    }
}

fn restart_daemon(world: &mut World) {
    if world.daemon.down {
        return;
    }
    let lasts = world.a_while();
    world.daemon_down();
    world.after(lasts, |world| {
        if world.daemon.down {
            world.daemon_up();
        }
    });
}

fn cut_events(world: &mut World) {
    for conn in world.daemon.listeners() {
        // Who does not hear of events does not hear of their end.
        if !world.conns[conn].hangs {
            world.daemon_eof(conn);
        }
    }
}

/// Whatever it is: an attach stream, a log that is read, events, a question.
fn hang_connection(world: &mut World) {
    let open: Vec<usize> = world.daemon.open.iter().copied().collect();
    if !open.is_empty() {
        let conn = world.chance.pick(&open);
        world.hang(conn);
    }
}

fn forget_events(world: &mut World) {
    world.daemon.forgets_until = world.now + world.a_while();
}

fn sicken_daemon(world: &mut World) {
    let all = [Sick::Status(500), Sick::Status(503), Sick::Closes, Sick::Halves, Sick::Hangs];
    let sick = world.chance.pick(&all);
    world.daemon.sick = Some((sick, world.now + world.a_while()));
}

fn slow_daemon(world: &mut World) {
    world.daemon.slow = world.chance.pick(&[100 * MS, SECOND, 4 * SECOND]);
    let lasts = world.a_while();
    world.after(lasts, |world| world.daemon.slow = 5 * MS);
}
