//! A simulated Docker daemon, as Engine 20.10 behaves: what its containers write goes to whoever is
//! attached, and a little later, with the time, into its log. It answers over the simulated
//! network what the program asks: ping, list, inspect, events, attach, logs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::net::{End, Peer};
use super::scenario::Scenario;
use super::world::{BASE, MS, World};

/// What Docker cuts a long line into.
const PART: usize = 16 * 1024;
/// What a read of a container's output takes at most.
const READ: usize = 32 * 1024;
/// What a pipe holds while nobody reads it; then the container waits.
const PIPE: usize = 64 * 1024;
/// What the daemon holds for who is attached and takes nothing; then the container waits.
const BEHIND_MAX: usize = 1_000_000;

/// Standard output and standard error.
pub(super) const OUT: usize = 0;
pub(super) const ERR: usize = 1;

/// A line, by container, source and number.
pub(super) type LineId = (usize, usize, u64);

/// A message of the log.
#[derive(Clone)]
struct Message {
    ts: u64,
    source: usize,
    bytes: Vec<u8>,
    /// The number of the line that it is, or is a part of.
    line: u64,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Created,
    Running,
    Paused,
    Exited,
    Removed,
}

/// A container.
pub(super) struct Container {
    id: String,
    name: String,
    pub(super) tty: bool,
    pub(super) doing: Doing,
    started_at: Option<u64>,
    finished_at: Option<u64>,
    /// Lines that were begun, of both sources.
    pub(super) next: [u64; 2],
    /// What was begun to be written, and is written before anything else of the source.
    pub(super) rest: [Vec<u8>; 2],
    /// What it wrote while the daemon was away.
    pipe: VecDeque<(usize, Vec<u8>)>,
    piped: usize,
    attached: Vec<usize>,
    log: VecDeque<Message>,
    logged: usize,
    /// The stamps of the newest messages that have left it, of both sources.
    gone: [u64; 2],
    /// Messages on their way into the log, with the times at which they get there.
    copying: VecDeque<(u64, Message)>,
    /// What the log copier has of an unfinished line.
    begun: [Vec<u8>; 2],
    /// Whether a part of that is in the log already; the time of the newest message.
    part_open: [bool; 2],
    /// The log has the begin of this line as a message without a newline.
    cut_short: [bool; 2],
    last_ts: [u64; 2],
    /// Lines whose end the daemon has taken.
    taken: [u64; 2],
    following: Vec<usize>,
    /// It ran before the program did, which has not attached yet.
    pub(super) found: bool,
    /// A stream of it was ended although it goes on, which it does until then.
    pub(super) cut_until: u64,
    /// The first lines of its last run.
    run_from: [u64; 2],
}

/// How the daemon fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sick {
    /// Answers with a status.
    Status(u16),
    /// Ends connections without an answer.
    Closes,
    /// Ends answers in the middle.
    Halves,
    /// Answers when it is well again.
    Hangs,
}

/// The daemon.
pub(super) struct Daemon {
    pub(super) scenario: Scenario,
    pub(super) down: bool,
    /// How it fails, until when, and which requests: those whose number gives 0 by this.
    pub(super) sick: Option<(Sick, u64)>,
    /// Answers take this long at most.
    pub(super) slow: u64,
    /// Of the events before this time, some are not told.
    pub(super) forgets_until: u64,
    pub(super) containers: Vec<Container>,
    requests: BTreeMap<usize, Vec<u8>>,
    /// The program has seen a list of the containers.
    met: bool,
    /// Events that it remembers, with their times.
    past: Vec<(u64, Vec<u8>)>,
    listeners: BTreeSet<usize>,
    /// Open connections.
    pub(super) open: BTreeSet<usize>,
}

impl Daemon {
    /// One without containers.
    pub(super) fn new(scenario: Scenario) -> Daemon {
        Daemon {
            scenario,
            down: false,
            sick: None,
            slow: 5 * MS,
            forgets_until: 0,
            containers: Vec::new(),
            requests: BTreeMap::new(),
            met: false,
            past: Vec::new(),
            listeners: BTreeSet::new(),
            open: BTreeSet::new(),
        }
    }

    /// Adds a container.
    pub(super) fn add(&mut self, tty: bool) -> usize {
        let index = self.containers.len();
        self.containers.push(Container {
            id: format!("{:064x}", 0xc0ff_ee00 + index as u64),
            name: format!("web{index}"),
            tty,
            doing: Doing::Created,
            started_at: None,
            finished_at: None,
            next: [0; 2],
            rest: Default::default(),
            pipe: VecDeque::new(),
            piped: 0,
            attached: Vec::new(),
            log: VecDeque::new(),
            logged: 0,
            copying: VecDeque::new(),
            begun: Default::default(),
            part_open: [false; 2],
            cut_short: [false; 2],
            last_ts: [0; 2],
            gone: [0; 2],
            taken: [0; 2],
            following: Vec::new(),
            found: false,
            cut_until: 0,
            run_from: [0; 2],
        });
        index
    }

    /// Who is attached, of all containers.
    pub(super) fn attached(&self) -> Vec<(usize, usize)> {
        let of = |(index, c): (usize, &Container)| -> Vec<(usize, usize)> {
            c.attached.iter().map(|&conn| (index, conn)).collect()
        };
        self.containers.iter().enumerate().flat_map(of).collect()
    }

    /// Who listens to events.
    pub(super) fn listeners(&self) -> Vec<usize> {
        self.listeners.iter().copied().collect()
    }

    fn find(&self, id: &str) -> Option<usize> {
        let there = |c: &Container| c.id == id && c.doing != Doing::Removed;
        self.containers.iter().position(there)
    }
}

impl Container {
    /// The next message of what the log copier has: a line, or a part of one.
    fn cut(&mut self, source: usize) -> Option<Vec<u8>> {
        let begun = &mut self.begun[source];
        let whole = begun.len() >= PART || begun.ends_with(b"\n");
        whole.then(|| begun.drain(..begun.len().min(PART)).collect())
    }

    fn is_up(&self) -> bool {
        matches!(self.doing, Doing::Running | Doing::Paused)
    }

    fn state(&self) -> &'static str {
        match self.doing {
            Doing::Created => "created",
            Doing::Running => "running",
            Doing::Paused => "paused",
            Doing::Exited | Doing::Removed => "exited",
        }
    }

    fn inspect(&self, scenario: &Scenario) -> Value {
        let config = match scenario.log_max {
            usize::MAX => json!({}),
            max => json!({"max-size": (max / 2).to_string(), "max-file": "2"}),
        };
        let time = |at: Option<u64>| at.map_or("0001-01-01T00:00:00Z".to_owned(), rfc3339);
        json!({
            "Id": self.id, "Created": rfc3339(BASE),
            "State": {"Status": self.state(), "Running": self.is_up(),
                "Paused": self.doing == Doing::Paused, "Pid": 4242,
                "StartedAt": time(self.started_at), "FinishedAt": time(self.finished_at)},
            "Name": format!("/{}", self.name),
            "HostConfig": {"LogConfig": {"Type": "json-file", "Config": config}},
            "Config": {"Hostname": self.id.get(..12), "Tty": self.tty, "Env": [],
                "Image": "test:1", "Labels": {}},
        })
    }

    fn listed(&self) -> Value {
        json!({"Id": self.id, "Names": [format!("/{}", self.name)], "Labels": {},
            "State": self.state(), "Status": ""})
    }
}

/// What containers do.
impl World {
    /// A container's process writes, and the daemon takes it as soon as it is there.
    pub(super) fn output(&mut self, index: usize, source: usize, bytes: Vec<u8>) {
        let container = &mut self.daemon.containers[index];
        if self.daemon.down || !container.pipe.is_empty() {
            container.piped += bytes.len();
            container.pipe.push_back((source, bytes));
            return;
        }
        self.taken(index, source, &bytes);
    }

    /// Whether the container would wait if it wrote.
    pub(super) fn is_blocked(&self, index: usize) -> bool {
        let container = &self.daemon.containers[index];
        let behind = |&conn: &usize| self.conns[conn].coming > BEHIND_MAX;
        container.piped > PIPE || container.attached.iter().any(behind)
    }

    fn taken(&mut self, index: usize, source: usize, bytes: &[u8]) {
        self.note("output", (index * 2 + source) as u64, bytes.len() as u64);
        self.tell_lines(bytes);
        let container = &self.daemon.containers[index];
        let (tty, attached) = (container.tty, container.attached.clone());
        let delay = if self.chance.one_in(10) { self.chance.below(30 * MS) } else { 0 };
        for conn in attached {
            for piece in bytes.chunks(READ) {
                let framed = if tty { piece.to_vec() } else { frame(source, piece) };
                self.send(conn, framed, delay);
            }
        }
        self.copy(index, source, bytes);
    }

    /// The log copier takes what was written.
    fn copy(&mut self, index: usize, source: usize, bytes: &[u8]) {
        let lag = match self.chance.below(6) {
            0 => self.chance.below(self.daemon.scenario.lag),
            _ => self.chance.below(2 * MS),
        };
        let wall = self.wall();
        let container = &mut self.daemon.containers[index];
        let last = container.copying.back().map_or(0, |(at, _)| *at);
        let at = (self.now + lag).max(last);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            container.begun[source].extend_from_slice(piece);
            while let Some(bytes) = container.cut(source) {
                // A line has the time at which its first part was cut.
                if !container.part_open[source] {
                    container.last_ts[source] = (wall + lag).max(container.last_ts[source]);
                }
                let ends = bytes.ends_with(b"\n");
                container.part_open[source] = !ends;
                let line = container.taken[source];
                container.taken[source] += u64::from(ends);
                if ends && self.daemon.scenario.joined {
                    self.ledger.streams.taken((index, source, line), self.now);
                }
                let ts = container.last_ts[source];
                container.copying.push_back((at, Message { ts, source, bytes, line }));
                // A terminal's log has no frames: the begin of such a line runs on into the rest,
                // which is one message more for who asks from its time on. So no other line has
                // that time; real daemons stamp each line by itself.
                if ends && std::mem::take(&mut container.cut_short[source]) {
                    container.last_ts[source] += 1;
                }
            }
        }
        self.at(at, move |world| world.log_due(index, world.now));
    }

    /// What is due gets into the log.
    fn log_due(&mut self, index: usize, until: u64) {
        loop {
            let container = &mut self.daemon.containers[index];
            let Some((_, message)) = container.copying.pop_front_if(|(at, _)| *at <= until) else {
                return;
            };
            let (body, following) = (body(&message, container.tty), container.following.clone());
            container.logged += message.bytes.len();
            if message.ts == container.gone[message.source] {
                self.ledger.rotated((index, message.source, message.line));
            }
            container.log.push_back(message);
            following.into_iter().for_each(|conn| self.send(conn, chunked(&body), 0));
            self.rotate(index);
        }
    }

    /// Of a log that is too long, the older half goes. What has the stamp of a message that went is
    /// as good as gone: of those only their number tells which were read.
    fn rotate(&mut self, index: usize) {
        let max = self.daemon.scenario.log_max;
        let container = &mut self.daemon.containers[index];
        if container.logged <= max {
            return;
        }
        while container.logged > max / 2
            && let Some(old) = container.log.pop_front()
        {
            container.logged -= old.bytes.len();
            container.gone[old.source] = old.ts;
            let line = (index, old.source, old.line);
            self.ledger.rotated(line);
            if !old.bytes.ends_with(b"\n") {
                self.ledger.torn(line);
            }
        }
        let gone = container.gone;
        for left in container.log.iter().filter(|left| left.ts == gone[left.source]) {
            self.ledger.rotated((index, left.source, left.line));
        }
    }

    /// Everything that was written gets into the log, also the ends of lines that have no newline,
    /// which are whole lines if they are the `last`.
    fn flush_log(&mut self, index: usize, last: bool) {
        let (wall, container) = (self.wall(), &mut self.daemon.containers[index]);
        for source in [OUT, ERR] {
            let bytes = std::mem::take(&mut container.begun[source]);
            if !bytes.is_empty() {
                let ts = if container.part_open[source] { container.last_ts[source] } else { wall };
                (container.last_ts[source], container.part_open[source]) = (ts, false);
                container.cut_short[source] = !last;
                let line = container.taken[source];
                container.taken[source] += u64::from(last);
                container.copying.push_back((0, Message { ts, source, bytes, line }));
            }
        }
        for (_, message) in &mut container.copying {
            message.ts = message.ts.min(wall);
        }
        // What is written next is stamped later, and not in the future.
        container.last_ts = container.last_ts.map(|ts| ts.min(wall));
        self.log_due(index, u64::MAX);
    }

    /// The container's process starts.
    pub(super) fn start(&mut self, index: usize) {
        self.note("start", index as u64, 0);
        let early = self.chance.below(MS);
        let wall = self.wall();
        let container = &mut self.daemon.containers[index];
        container.started_at = Some(wall + early);
        container.run_from = container.next;
        container.doing = Doing::Running;
        let delay = self.chance.from(MS, 3 * MS);
        self.after(delay, move |world| world.tell(index, "start"));
    }

    /// The container's process ends: its streams do when all was taken.
    pub(super) fn exit(&mut self, index: usize) {
        self.note("exit", index as u64, 0);
        self.write_rests(index);
        let wall = self.wall();
        self.flush_log(index, true);
        let container = &mut self.daemon.containers[index];
        container.finished_at = Some(wall);
        container.doing = Doing::Exited;
        if std::mem::replace(&mut container.found, false) {
            // It was there before the program, and ended before that could attach.
            let next = container.next;
            (0..2).for_each(|source| self.ledger.wanted_from((index, source, next[source])));
        }
        let container = &mut self.daemon.containers[index];
        let ended = [&container.attached[..], &container.following[..]].concat();
        let following = std::mem::take(&mut container.following);
        container.attached.clear();
        following.into_iter().for_each(|conn| self.send(conn, b"0\r\n\r\n".to_vec(), 0));
        for conn in ended {
            self.close_by_peer(conn, End::Fin);
        }
        let delay = self.chance.from(MS / 10, MS);
        self.after(delay, move |world| world.tell(index, "die"));
    }

    /// What was begun to be written is written to its end.
    pub(super) fn write_rests(&mut self, index: usize) {
        for source in [OUT, ERR] {
            self.write_rest(index, source);
        }
    }

    /// The same of one source.
    pub(super) fn write_rest(&mut self, index: usize, source: usize) {
        let rest = std::mem::take(&mut self.daemon.containers[index].rest[source]);
        if !rest.is_empty() {
            self.output(index, source, rest);
        }
    }

    /// The container is removed, and its log with it.
    pub(super) fn remove(&mut self, index: usize) {
        self.note("remove", index as u64, 0);
        self.tell(index, "destroy");
        let container = &mut self.daemon.containers[index];
        container.doing = Doing::Removed;
        container.log.clear();
    }

    /// An event goes to those who listen.
    pub(super) fn tell(&mut self, index: usize, action: &str) {
        if self.now < self.daemon.forgets_until && self.chance.one_in(2) {
            return self.note("untold", index as u64, 0);
        }
        let wall = self.wall();
        let container = &self.daemon.containers[index];
        let attributes = json!({"name": container.name, "image": "test:1"});
        let event = json!({
            "status": action, "id": container.id, "from": "test:1", "Type": "container",
            "Action": action, "Actor": {"ID": container.id, "Attributes": attributes},
            "scope": "local", "time": wall / 1_000_000_000, "timeNano": wall,
        });
        self.daemon.past.push((wall, format!("{event}\n").into_bytes()));
        let line = chunked(format!("{event}\n").as_bytes());
        for conn in self.daemon.listeners() {
            self.send(conn, line.clone(), 0);
        }
    }

    /// The daemon goes away; its containers go on.
    pub(super) fn daemon_down(&mut self) {
        self.note("daemon down", 0, 0);
        self.daemon.down = true;
        for index in 0..self.daemon.containers.len() {
            for source in [OUT, ERR] {
                let container = &self.daemon.containers[index];
                if !container.begun[source].is_empty() {
                    self.ledger.torn((index, source, container.taken[source]));
                }
            }
            self.flush_log(index, false);
            let container = &mut self.daemon.containers[index];
            container.attached.clear();
            container.following.clear();
        }
        self.daemon.past.clear();
        // It will not remember what it did not tell: nobody could know that such a stream hangs.
        for conn in self.daemon.listeners() {
            self.conns[conn].hangs = false;
        }
        self.daemon.listeners.clear();
        self.daemon.requests.clear();
        self.daemon.open.clear();
        for conn in 0..self.conns.len() {
            if self.conns[conn].peer != Peer::Daemon {
                continue;
            }
            let end = if self.chance.one_in(2) { End::Fin } else { End::Reset };
            self.close_by_peer(conn, end);
        }
    }

    /// The daemon is back: it takes what its containers have written meanwhile.
    pub(super) fn daemon_up(&mut self) {
        self.note("daemon up", 0, 0);
        self.daemon.down = false;
        for index in 0..self.daemon.containers.len() {
            let container = &mut self.daemon.containers[index];
            container.piped = 0;
            for (source, bytes) in std::mem::take(&mut container.pipe) {
                self.taken(index, source, &bytes);
            }
        }
    }
}

/// What the daemon answers.
impl World {
    /// The program, or the network, has ended a connection.
    pub(super) fn daemon_eof(&mut self, number: usize) {
        self.daemon.open.remove(&number);
        self.daemon.listeners.remove(&number);
        self.daemon.requests.remove(&number);
        for container in &mut self.daemon.containers {
            container.attached.retain(|conn| *conn != number);
            container.following.retain(|conn| *conn != number);
        }
        self.close_by_peer(number, End::Fin);
    }

    /// Part of a request has come.
    pub(super) fn daemon_readable(&mut self, number: usize) {
        let bytes: Vec<u8> = self.conns[number].inbox.drain(..).collect();
        if self.daemon.down {
            return;
        }
        self.daemon.open.insert(number);
        let request = self.daemon.requests.entry(number).or_default();
        request.extend(bytes);
        if request.ends_with(b"\r\n\r\n") {
            let request = String::from_utf8_lossy(request).into_owned();
            self.daemon.requests.remove(&number);
            let delay = self.chance.below(self.daemon.slow);
            self.after(delay, move |world| world.answer(number, &request));
        }
    }

    fn answer(&mut self, number: usize, request: &str) {
        if !self.daemon.open.contains(&number) {
            return;
        }
        let target = request.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.starts_with("v1")).collect();
        let container = parts.get(2).and_then(|id| self.daemon.find(id));
        let which = container.map_or(u64::MAX, |index| index as u64);
        self.note(parts.last().unwrap_or(&""), number as u64, which);
        let now = self.now;
        self.daemon.met |= container.is_some() && self.is_of_this_run(number);
        if let Some((sick, until)) = self.daemon.sick.filter(|(_, until)| *until > now)
            && self.chance.one_in(2)
        {
            let request = request.to_owned();
            let streams = path.ends_with("/attach") || path.ends_with("/logs");
            return match sick {
                // A body that is no stream could not be told from what a terminal shows.
                Sick::Halves if streams => self.fail(number, Sick::Closes),
                Sick::Hangs => self.at(until, move |world| world.answer(number, &request)),
                _ => self.fail(number, sick),
            };
        }
        match (&parts[..], container) {
            (["", "_ping"], _) => self.reply(number, 200, b"OK"),
            (["", "containers", "json"], _) => {
                if self.is_of_this_run(number) {
                    self.first_seen();
                }
                let there = self.daemon.containers.iter().filter(|c| c.doing != Doing::Removed);
                let list: Value = there.map(Container::listed).collect();
                self.reply(number, 200, list.to_string().as_bytes());
            }
            (["", "events"], _) if query.contains("until=") => {
                let (since, until) = times(query);
                let past = self.daemon.past.iter().filter(|(at, _)| (since..=until).contains(at));
                let past: Vec<u8> = past.flat_map(|(_, event)| event.clone()).collect();
                self.reply(number, 200, &past);
            }
            (["", "events"], _) => {
                self.daemon.listeners.insert(number);
                self.send(number, head("200 OK", "Transfer-Encoding: chunked"), 0);
            }
            ([_, _, _, "json"], Some(index)) => {
                let inspect =
                    self.daemon.containers[index].inspect(&self.daemon.scenario).to_string();
                self.reply(number, 200, inspect.as_bytes());
            }
            ([_, _, _, "attach"], Some(index)) => self.attach(number, index),
            ([_, _, _, "logs"], Some(index)) => self.logs(number, index, query),
            _ => self.reply(number, 404, br#"{"message":"No such container"}"#),
        }
    }

    /// Whether it was asked by the program that runs now, and not by one that was killed since.
    fn is_of_this_run(&self, number: usize) -> bool {
        self.conns[number].run == self.run
    }

    /// The program sees the containers for the first time: of those that do not run nothing is
    /// wanted, of those that were started after the program what they wrote since.
    fn first_seen(&mut self) {
        if self.daemon.met {
            return;
        }
        for (index, container) in self.daemon.containers.iter().enumerate() {
            let from = match container.doing {
                Doing::Running | Doing::Paused if !container.found => container.run_from,
                _ => container.next,
            };
            (0..2).for_each(|source| self.ledger.wanted_from((index, source, from[source])));
        }
    }

    fn fail(&mut self, number: usize, sick: Sick) {
        match sick {
            Sick::Status(status) => self.reply(number, status, br#"{"message":"not now"}"#),
            Sick::Closes => self.finish(number),
            Sick::Halves => {
                self.send(number, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{".to_vec(), 0);
                self.finish(number);
            }
            Sick::Hangs => {}
        }
    }

    fn reply(&mut self, number: usize, status: u16, body: &[u8]) {
        let fields = format!("Content-Length: {}\r\nApi-Version: 1.41", body.len());
        let mut answer = head(&format!("{status} Simulated"), &fields);
        answer.extend_from_slice(body);
        self.send(number, answer, 0);
        self.finish(number);
    }

    fn finish(&mut self, number: usize) {
        self.daemon.open.remove(&number);
        self.close_by_peer(number, End::Fin);
    }

    fn attach(&mut self, number: usize, index: usize) {
        if self.daemon.scenario.no_attach {
            return self.reply(number, 403, b"Forbidden by the proxy");
        }
        let ours = self.is_of_this_run(number);
        let container = &mut self.daemon.containers[index];
        if container.doing == Doing::Paused {
            return self.reply(number, 409, br#"{"message":"container is paused"}"#);
        }
        container.attached.push(number);
        self.ledger.streams.begins(number, index, false, self.now);
        let (taken, begun) = (container.taken, container.begun.clone());
        if ours && std::mem::replace(&mut container.found, false) {
            // What it wrote before is not wanted, and the line that it was writing may be cut.
            for source in [OUT, ERR] {
                self.ledger.wanted_from((index, source, taken[source]));
                if !begun[source].is_empty() {
                    self.ledger.torn((index, source, taken[source]));
                }
            }
        }
        self.send(number, head("101 UPGRADED", "Connection: Upgrade\r\nUpgrade: tcp"), 0);
    }

    fn logs(&mut self, number: usize, index: usize, query: &str) {
        let (since, until) = times(query);
        let container = &self.daemon.containers[index];
        let follow = query.contains("follow=1") && container.doing == Doing::Running;
        let tty = container.tty;
        let wanted = container.log.iter().filter(|m| (since..=until).contains(&m.ts));
        let mut bodies: Vec<Vec<u8>> = wanted.map(|message| chunked(&body(message, tty))).collect();
        if query.ends_with("&tail=1") {
            bodies.drain(..bodies.len().saturating_sub(1));
        }
        self.note("log", index as u64, bodies.len() as u64);
        self.tell_text(query);
        bodies.iter().for_each(|body| self.tell_lines(body));
        self.ledger.streams.begins(number, index, true, self.now);
        let ours = self.is_of_this_run(number);
        let container = &mut self.daemon.containers[index];
        if follow {
            container.following.push(number);
            if ours && std::mem::replace(&mut container.found, false) {
                let taken = container.taken;
                (0..2).for_each(|s| self.ledger.wanted_from((index, s, taken[s] + 1)));
            }
        }
        self.send(number, head("200 OK", "Transfer-Encoding: chunked"), 0);
        // A log is read as fast as a disk and the reader allow.
        let mut delay = 0;
        for piece in bodies.chunks(64) {
            delay += self.chance.below(2 * MS);
            self.send(number, piece.concat(), delay);
        }
        if !follow {
            self.send(number, b"0\r\n\r\n".to_vec(), delay);
            self.finish(number);
        }
    }
}

/// From when and until when something is asked for.
fn times(query: &str) -> (u64, u64) {
    let limit = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name))?;
        let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
        let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
        Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + nanos)
    };
    (limit("since=").unwrap_or(0), limit("until=").unwrap_or(u64::MAX))
}

/// A frame of the multiplexed stream.
fn frame(source: usize, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u32).to_be_bytes();
    [&[source as u8 + 1, 0, 0, 0], &length[..], bytes].concat()
}

/// A message as the `logs` door shows it.
fn body(message: &Message, tty: bool) -> Vec<u8> {
    let whole = [rfc3339(message.ts).as_bytes(), b" ", &message.bytes].concat();
    if tty { whole } else { frame(message.source, &whole) }
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn head(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n").into_bytes()
}

/// A time in nanoseconds since 1970 as RFC 3339 with nine digits, UTC.
fn rfc3339(nanos: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
    let stamp = crate::stamp::Stamp::new(at);
    let seconds = String::from_utf8_lossy(stamp.rfc3339());
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), nanos % 1_000_000_000)
}
