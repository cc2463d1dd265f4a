//! The seam and the resume against a small simulated daemon: a container that writes, a broadcast
//! to attach that starts anywhere and arrives late and in pieces, a log copier that lags, and
//! passes over the log at the times the verdicts ask for. Everything follows from one `Chance`: a
//! seed in `tests/seam.rs`, arbitrary bytes in the fuzz target `seam`.

use std::time::Duration;

use logchute::docker::Source;
use logchute::doors::cursor::Cursor;
use logchute::doors::resume::{Resume, ResumeConfig, Tail};
use logchute::doors::seam::{Seam, SeamConfig, Verdict};

const MS: u64 = 1_000_000;
/// When the container starts, in nanoseconds.
const BIRTH: u64 = 1_700_000_000_000 * MS;
const SLACK: Duration = Duration::from_millis(5);
/// The daemon's worst: from write to log, and from write to our read.
const WORST_LAG: u64 = 120 * MS;
const WORST_DELAY: u64 = 60 * MS;

/// What decides: bytes as long as there are any, then SplitMix64.
pub(crate) struct Chance<'a> {
    bytes: &'a [u8],
    seed: u64,
}

impl Chance<'_> {
    pub(crate) fn new(bytes: &[u8], seed: u64) -> Chance<'_> {
        Chance { bytes, seed }
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, of no more bytes than it needs.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        let wanted = (end - 1).checked_ilog2().map_or(1, |log| log as usize / 8 + 1);
        if self.bytes.len() < wanted {
            return self.next() % end;
        }
        let (taken, rest) = self.bytes.split_at(wanted);
        self.bytes = rest;
        taken.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `stdout line 000017`: told apart, also when cut.
    Numbered,
    /// `17`: a cut line looks like the end of others.
    Short,
    /// Some lines of up to 70 KB.
    Long,
    /// Invalid UTF-8 and characters of several bytes.
    Binary,
    /// The same line again and again.
    Same,
    /// Numbers, and empty lines between them.
    Empty,
    /// `a`, `b`, `a`, `b` ...
    Alternating,
}

impl Family {
    pub(crate) const ALL: [Family; 7] = [
        Family::Numbered,
        Family::Short,
        Family::Long,
        Family::Binary,
        Family::Same,
        Family::Empty,
        Family::Alternating,
    ];

    fn told_apart(self) -> bool {
        matches!(self, Family::Numbered | Family::Short | Family::Long | Family::Binary)
    }

    fn line(self, number: u64, source: Source, rng: &mut Chance<'_>) -> Vec<u8> {
        let numbered = format!("{} line {number:06}", source.name());
        match self {
            Family::Numbered => numbered.into_bytes(),
            Family::Short => number.to_string().into_bytes(),
            Family::Long if rng.one_in(3) => {
                let parts = rng.below(5) * 16_384;
                let length = (parts + rng.below(3)).max(rng.below(70_000)) as usize;
                let mut line = numbered.into_bytes();
                while line.len() < length {
                    let word = format!(" {:x}", rng.below(4096));
                    line.extend_from_slice(word.as_bytes());
                    if rng.one_in(50) {
                        line.push(0xff);
                    }
                }
                line.truncate(length.max(25));
                line
            }
            Family::Long => numbered.into_bytes(),
            Family::Binary => {
                let mut line = Vec::new();
                for piece in [numbered.as_bytes(), b"\xff\xfe", "é".as_bytes(), b"\0", b"\r"] {
                    if rng.one_in(2) {
                        line.extend_from_slice(piece);
                    }
                }
                line.extend_from_slice(number.to_string().as_bytes());
                line.extend((0..rng.below(4)).map(|_| 0xff));
                line
            }
            Family::Same => b"x".to_vec(),
            Family::Empty if rng.one_in(2) => Vec::new(),
            Family::Empty => number.to_string().into_bytes(),
            Family::Alternating => vec![b'a' + (number % 2) as u8],
        }
    }
}

/// When, of which source, what.
type Arrival = (u64, Source, Vec<u8>);

struct Message {
    source: Source,
    visible: u64,
    ts: u64,
    bytes: Vec<u8>,
}

struct World {
    written: [Vec<u8>; 2],
    /// (time, source, bytes), ascending per source.
    writes: Vec<Arrival>,
    log: Vec<Message>,
    /// When the container exited.
    ended: Option<u64>,
    last: u64,
}

impl World {
    fn new(family: Family, rng: &mut Chance<'_>) -> World {
        let (json, lines) = (rng.one_in(2), 1 + rng.below(40));
        let mut world = World {
            written: Default::default(),
            writes: Vec::new(),
            log: Vec::new(),
            ended: None,
            last: BIRTH,
        };
        let exits = rng.one_in(2);
        let mut all: Vec<Vec<(u64, Vec<u8>)>> = Vec::new();
        for source in Source::OUTPUTS {
            let lines = if source == Source::Stderr && rng.one_in(3) { 0 } else { lines };
            let writes = writes(family, source, lines, exits, rng);
            world.last = world.last.max(writes.last().map_or(BIRTH, |(at, _)| *at));
            all.push(writes);
        }
        // A line without an end is in no log until the exit: the seam cannot wait for it long.
        for writes in &mut all {
            if let Some((at, bytes)) = writes.last_mut()
                && *at + 10 * MS < world.last
                && !bytes.ends_with(b"\n")
            {
                bytes.push(b'\n');
            }
        }
        world.ended = exits.then(|| world.last + rng.below(5 * MS));
        for (source, writes) in Source::OUTPUTS.into_iter().zip(all) {
            world.log.extend(copy_to_log(source, &writes, world.ended, json, rng));
            for (at, bytes) in writes {
                world.written[source as usize].extend_from_slice(&bytes);
                world.writes.push((at, source, bytes));
            }
        }
        world.log.sort_by_key(|message| message.visible);
        world
    }

    /// What an attach that was registered at `from` brings: (arrival, source, bytes).
    fn attach(&self, from: u64, rng: &mut Chance<'_>) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let worst = [0, 2 * MS, WORST_DELAY][rng.below(3) as usize];
        let mut last = [0; 2];
        for (at, source, bytes) in self.writes.iter().filter(|(at, ..)| *at >= from) {
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                let most = bytes.len() as u64;
                let cut = if rng.one_in(3) { 1 + rng.below(most) } else { most } as usize;
                let last = &mut last[*source as usize];
                *last = (*last).max(at + rng.below(worst + 1));
                arrivals.push((*last, *source, bytes[..cut].to_vec()));
                bytes = &bytes[cut..];
            }
        }
        arrivals.sort_by_key(|(at, ..)| *at);
        arrivals
    }
}

/// What the container writes, cut anywhere, with pauses (short ones within a line).
fn writes(
    family: Family,
    source: Source,
    lines: u64,
    exits: bool,
    rng: &mut Chance<'_>,
) -> Vec<(u64, Vec<u8>)> {
    let mut text = Vec::new();
    for number in 0..lines {
        text.extend(family.line(number, source, rng));
        if !(exits && number + 1 == lines && rng.one_in(2)) {
            text.push(b'\n');
        }
    }
    let (pace, whole) = ([1, 10, 100, 400][rng.below(4) as usize], rng.one_in(2));
    let mut writes = Vec::new();
    let (mut at, mut text) = (BIRTH + rng.below(20 * MS), &text[..]);
    while !text.is_empty() {
        let newline = text.iter().position(|&b| b == b'\n').map_or(text.len(), |at| at + 1);
        let cut = match rng.below(4) {
            0 if !whole => 1 + rng.below(newline as u64) as usize,
            1 => text.len().min(1 + rng.below(200) as usize),
            _ => newline,
        };
        let cut = if whole && text[cut - 1] != b'\n' { newline } else { cut }.min(32_768);
        writes.push((at, text[..cut].to_vec()));
        at += match (text[cut - 1] == b'\n', rng.below(20)) {
            (false, _) => rng.below(10 * MS),
            (true, 0) => rng.below(2_000 * MS),
            (true, _) => rng.below(pace * MS),
        };
        text = &text[cut..];
    }
    writes
}

/// The daemon's copier: whole lines, parts of 16 KiB under one timestamp, a lag.
fn copy_to_log(
    source: Source,
    writes: &[(u64, Vec<u8>)],
    ended: Option<u64>,
    json: bool,
    rng: &mut Chance<'_>,
) -> Vec<Message> {
    let mut log: Vec<Message> = Vec::new();
    let worst = [0, 10 * MS, WORST_LAG][rng.below(3) as usize];
    let (mut buffer, mut part_ts) = (Vec::new(), None);
    let (mut visible, mut last_ts) = (0, 0);
    let end = ended.map(|at| (at, Vec::new()));
    for (index, (at, bytes)) in writes.iter().chain(&end).enumerate() {
        visible = (at + rng.below(worst + 1)).max(visible);
        buffer.extend_from_slice(bytes);
        loop {
            let newline = buffer.iter().take(16_384).position(|&b| b == b'\n');
            let length = match newline {
                Some(newline) => newline + 1,
                None if buffer.len() >= 16_384 => 16_384,
                None if index == writes.len() && !buffer.is_empty() => buffer.len(),
                None => break,
            };
            let mut bytes: Vec<u8> = buffer.drain(..length).collect();
            last_ts = (at + rng.below(visible - at + 1)).max(last_ts + 1); // no two the same
            visible = visible.max(last_ts);
            let ts = part_ts.unwrap_or(last_ts);
            if json {
                bytes = normal(&bytes);
            } else if part_ts.is_some() && newline.is_some() {
                bytes.pop();
            }
            part_ts = newline.is_none().then_some(ts);
            log.push(Message { source, visible, ts, bytes });
        }
    }
    log
}

/// As json-file stores it: U+FFFD for each invalid byte.
fn normal(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text.into_bytes()
}

/// The driver, reduced to a clock and two doors.
struct Driver<'a> {
    world: &'a World,
    now: u64,
    cursor: Cursor,
    seam: Seam,
    resume: Option<Resume>,
    arrivals: std::vec::IntoIter<Arrival>,
    eof: Option<u64>,
    delivered: [Vec<u8>; 2],
    limit: usize,
    full: bool,
    renewed: usize,
    passes: usize,
}

impl Driver<'_> {
    fn advance(&mut self, to: u64) {
        while let Some((at, source, bytes)) = self.arrivals.as_slice().first()
            && *at <= to
        {
            if self.seam.attach(*source, bytes, *at).is_err() {
                (self.full, self.arrivals, self.eof) = (true, Vec::new().into_iter(), None);
                break;
            }
            self.arrivals.next();
        }
        self.now = self.now.max(to);
        if self.eof.is_some_and(|eof| eof <= to) {
            self.seam.attach_ended(self.now);
            self.eof = None;
        }
    }

    /// Lets a full attach go and makes another.
    fn attach_anew(&mut self, rng: &mut Chance<'_>) {
        let (attached_at, config, arrivals, eof) = attach(self.world, self.now, self.limit, rng);
        (self.arrivals, self.eof, self.full) = (arrivals.into_iter(), eof, false);
        self.seam.renew(config);
        self.advance(attached_at);
        self.renewed += 1;
    }

    fn pass(&mut self, rng: &mut Chance<'_>) -> Verdict {
        while self.full || self.seam.is_full() {
            self.attach_anew(rng);
        }
        self.passes += 1;
        assert!(self.passes < 200, "no end of passes");
        self.seam.pass_begins(self.now);
        if let Some(resume) = &mut self.resume {
            let since = resume.since();
            for source in resume.begins_again() {
                self.cursor.go_back(source, since);
            }
            resume.pass_begins(self.now);
        }
        let since = self.cursor.since(&Source::OUTPUTS).unwrap_or(0);
        let until = self.now + rng.below(5 * MS);
        let (seam, delivered) = (&mut self.seam, &mut self.delivered);
        let mut deliver = |source: Source, ts, newline: bool, bytes: &[u8]| {
            if seam.logged(source, ts, bytes) || newline {
                delivered[source as usize].push(b'\n');
            }
            delivered[source as usize].extend_from_slice(bytes);
        };
        self.cursor.begin_pass();
        for message in self.world.log.iter().filter(|m| m.visible <= until && m.ts >= since) {
            let Message { source, ts, ref bytes, .. } = *message;
            if !self.cursor.accept(source, ts) {
                continue;
            }
            match &mut self.resume {
                None => deliver(source, ts, false, bytes),
                Some(resume) => resume.logged(source, ts, bytes, &mut |replay| {
                    deliver(replay.source, replay.ts, replay.newline_first, replay.bytes);
                }),
            }
        }
        self.cursor.end_pass();
        if let Some(resume) = &mut self.resume {
            resume.pass_ended(&mut |replay| {
                deliver(replay.source, replay.ts, replay.newline_first, replay.bytes);
            });
        }
        self.advance(until + rng.below(10 * MS));
        if self.resume.as_ref().is_some_and(Resume::wants_again) {
            let _ = self.seam.pass_broken(self.now);
            return Verdict::ReadOn { after: Duration::ZERO };
        }
        self.seam.pass_ended(self.now)
    }

    /// Runs to the verdict, then delivers what is left; whether the verdict was certain, and when.
    fn run(&mut self, rng: &mut Chance<'_>) -> (bool, u64) {
        let mut verdict = self.pass(rng);
        loop {
            verdict = match verdict {
                Verdict::ReadOn { after } => {
                    self.advance(self.now + after.as_nanos() as u64);
                    self.pass(rng)
                }
                Verdict::WaitAttach { at_most } => {
                    let timer = self.now + at_most.as_nanos() as u64;
                    let next = self.arrivals.as_slice().first().map_or(timer, |(at, ..)| *at);
                    self.advance(timer.min(next).max(self.now + 1));
                    self.seam.poll(self.now)
                }
                Verdict::Joined | Verdict::Unsure if !self.full && !self.seam.is_full() => break,
                Verdict::Joined | Verdict::Unsure => self.pass(rng),
            };
        }
        for source in Source::OUTPUTS {
            let rest = self.seam.rest(source);
            let delivered = &mut self.delivered[source as usize];
            if rest.newline_first {
                delivered.push(b'\n');
            }
            delivered.extend_from_slice(rest.bytes);
        }
        for (_, source, bytes) in self.arrivals.by_ref() {
            self.delivered[source as usize].extend(bytes);
        }
        (verdict == Verdict::Joined, self.now)
    }
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = normal(bytes);
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect()
}

/// An attach requested at `requested_at`: when it was in place, its seam, its arrivals, its end.
fn attach(
    world: &World,
    requested_at: u64,
    limit: usize,
    rng: &mut Chance<'_>,
) -> (u64, SeamConfig, Vec<Arrival>, Option<u64>) {
    let registered = requested_at + rng.below(20 * MS);
    let attached_at = registered + rng.below(5 * MS);
    let error = rng.below(2 * SLACK.as_nanos() as u64 + 1);
    let claimed = requested_at + error - SLACK.as_nanos() as u64;
    let config = SeamConfig::new(claimed, attached_at, SLACK, limit);
    // A container that exited before: nothing comes any more.
    let arrivals = world.attach(registered, rng);
    let last = arrivals.last().map_or(attached_at, |(at, ..)| *at);
    let eof = world.ended.map(|ended| ended.max(last) + rng.below(2 * MS));
    (attached_at, config, arrivals, eof)
}

/// Lines of `source` that were written where the seam cannot know.
fn doubtful(world: &World, source: Source, from: u64, to: u64) -> usize {
    let writes = world.writes.iter().filter(|(at, s, _)| *s == source && (from..=to).contains(at));
    writes.map(|(.., bytes)| 1 + bytes.iter().filter(|&&b| b == b'\n').count()).sum()
}

/// What came of one run.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) renewed: usize,
    pub(crate) unsure: usize,
    pub(crate) duplicates: usize,
}

/// Checks what was delivered; `told_apart`: no line may come twice though places were guessed;
/// `certain`: none was, which `may_doubt` excuses.
fn check(
    (family, told_apart): (Family, bool),
    world: &World,
    delivered: &[Vec<u8>; 2],
    (certain, may_doubt): (bool, bool),
    window: (u64, u64),
) -> Result<Tally, String> {
    let mut tally = Tally { unsure: usize::from(!certain), ..Tally::default() };
    for source in Source::OUTPUTS {
        let wanted = lines(&world.written[source as usize]);
        let got = lines(&delivered[source as usize]);
        let name = format!("{family:?} {source:?}");
        let (w, g) = (wanted.len(), got.len());
        if certain || told_apart {
            if let Some(at) = (0..w.max(g)).find(|&at| wanted.get(at) != got.get(at)) {
                let (a, b) = (show(wanted.get(at)), show(got.get(at)));
                let sure = if certain { "sure" } else { "unsure" };
                return Err(format!(
                    "{name}: {w} written, {g} delivered, {sure}; line {at}: {a:?} came as {b:?}"
                ));
            }
            continue;
        }
        let mut rest = got.iter();
        if !wanted.iter().all(|line| rest.any(|other| other == line)) {
            return Err(format!("{name}: loss, {g} of {w}"));
        }
        let extra = g - w;
        let bound = doubtful(world, source, window.0, window.1);
        if extra > bound {
            return Err(format!("{name}: {extra} twice, of {bound} that may be"));
        }
        tally.duplicates += extra;
    }
    if told_apart && !certain && !may_doubt {
        return Err(format!("{family:?}: unsure"));
    }
    Ok(tally)
}

fn show(line: Option<&Vec<u8>>) -> Option<String> {
    line.map(|line| String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned())
}

/// A container that runs when it is found: its log from the start, joined with attach. `limit` is
/// the room for attach bytes.
pub(crate) fn head(limit: usize, rng: &mut Chance<'_>, family: Family) -> Result<Tally, String> {
    let world = World::new(family, rng);
    let requested_at = BIRTH + rng.below(world.last - BIRTH + 300 * MS);
    let (now, config, arrivals, eof) = attach(&world, requested_at, limit, rng);
    let mut driver = Driver {
        world: &world,
        now,
        cursor: Cursor::new(),
        seam: Seam::new(config),
        resume: None,
        arrivals: arrivals.into_iter(),
        eof,
        delivered: Default::default(),
        limit,
        full: false,
        renewed: 0,
        passes: 0,
    };
    let (certain, joined) = driver.run(rng);
    let window = (requested_at.saturating_sub(400 * MS), joined);
    let certainty = (certain, limit < 1 << 20);
    let apart = (family, family.told_apart());
    let tally = check(apart, &world, &driver.delivered, certainty, window)?;
    Ok(Tally { renewed: driver.renewed, ..tally })
}

/// An attach that was cut: what its bytes reached to in the log, and the seam of the next one.
/// `room` is what may be held of the messages that are in doubt.
pub(crate) fn resume(room: usize, rng: &mut Chance<'_>, family: Family) -> Result<Tally, String> {
    let limit = 64 << 20;
    let world = World::new(family, rng);
    let cut = BIRTH + rng.below(world.last - BIRTH + 100 * MS);
    let (mut tails, mut delivered) = ([Tail::new(), Tail::new()], [Vec::new(), Vec::new()]);
    let mut live_until = BIRTH;
    for (at, source, bytes) in world.attach(0, rng).iter().filter(|(at, ..)| *at <= cut) {
        tails[*source as usize].note(bytes, *at);
        delivered[*source as usize].extend_from_slice(bytes);
        live_until = *at;
    }
    // A few bytes may stand anywhere in the log: `0\n` ends `10\n` too.
    let scant = delivered.iter().any(|bytes| (1..64).contains(&bytes.len()));
    let requested_at = cut + [0, MS, 500 * MS][rng.below(3) as usize];
    let (now, config, arrivals, eof) = attach(&world, requested_at, limit, rng);
    let doubt = ResumeConfig { limit: room, ..ResumeConfig::new(live_until, SLACK) };
    let resume = Resume::new([&tails[0], &tails[1]], doubt);
    let mut driver = Driver {
        world: &world,
        now,
        cursor: Cursor::at(resume.since()),
        seam: Seam::new(config),
        resume: Some(resume),
        arrivals: arrivals.into_iter(),
        eof,
        delivered,
        limit,
        full: false,
        renewed: 0,
        passes: 0,
    };
    let (mut certain, joined) = driver.run(rng);
    let resume = driver.resume.as_ref().expect("set above");
    certain &= !Source::OUTPUTS.iter().any(|&source| resume.is_unsure(source));
    let window = (live_until.saturating_sub(2_000 * MS), joined);
    // Of what is passed over less than 64 bytes are no sign: then lines may come twice.
    let apart = family.told_apart() && room > 1 << 20;
    check((family, apart), &world, &driver.delivered, (certain, scant), window)
}
