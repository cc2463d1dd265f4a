//! The thread of a spool: does what the shards order, in their order, and answers. It may wait for
//! the disk; nobody waits for it but those whose records have to come from there.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

#[cfg(test)]
use super::disk::simulated;
use super::volume::{Found, Volume};
use super::{Spool, Tray, lock};
use crate::buffer::Chunk;
use crate::buffer::shelf::{Answer, Order};

/// A spool is made of so many segments about, if these are of a useful size.
const SEGMENTS: u64 = 64;
const SEGMENT_MIN: u64 = 64 * 1024;
const SEGMENT_MAX: u64 = 4 * 1024 * 1024;
/// The same thing is said at most so often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// What cannot be read now is read after this time.
const LATER: Duration = Duration::from_millis(100);

/// Opens `spool` and starts its thread.
pub(super) fn open(spool: &Arc<Spool>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&spool.folder)?;
    let lock = lock::take(&spool.folder)?.ok_or_else(|| {
        io::Error::other(
            "is in use, by another logchute or another route of the same address and options; \
             give one of them another spool=",
        )
    })?;
    let mut old = Vec::new();
    for mut volume in Volume::find(&spool.folder, spool.route)? {
        match volume.log().held() {
            0 => volume.remove()?,
            _ => old.push(volume),
        }
    }
    let found = old.iter().map(|volume| volume.log().held()).sum();
    if found > 0 {
        let folder = spool.shown();
        tracing::info!(route = spool.name, "{folder} holds {found} lines, which go first");
    }
    spool.found.store(found, SeqCst);
    let run = next_run(spool)?;
    let keeper = Keeper::new(Arc::clone(spool), lock, run, old, found);
    #[cfg(test)]
    if simulated::is_entered() {
        tokio::task::spawn_local(keeper.run_simulated());
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(|| keeper.run())?;
    spool.worker.get_or_init(|| thread.thread().clone());
    Ok(())
}

/// The number of this run: higher than those of the logs that are there.
fn next_run(spool: &Spool) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(&spool.folder)? {
        let name = entry?.file_name();
        let run = name.to_str().and_then(|name| name.split('-').next()?.parse().ok());
        last = last.max(run.unwrap_or(0));
    }
    Ok(last + 1)
}

/// The state of the thread.
struct Keeper {
    spool: Arc<Spool>,
    lanes: Vec<Lane>,
    said: Said,
    /// Lets nobody else have the folder, as long as it is open.
    _lock: File,
}

/// What a shard's orders are about.
struct Lane {
    /// What is read, oldest first; the last one is written, too.
    logs: VecDeque<Shelved>,
    /// Records that were taken back at the end, older than all others of this run.
    before: Volume,
    /// Orders of an earlier generation are refused.
    generation: u64,
    closed: bool,
}

/// A log, and the places of its records in the lane.
struct Shelved {
    volume: Volume,
    /// The number of its first record that was not delivered at start, and the place of that.
    start: u64,
    place: u64,
}

/// What was said, and when.
#[derive(Default)]
struct Said {
    times: Vec<(&'static str, Instant)>,
    /// Lines that were lost, and of which that was not said.
    lost: u64,
    /// Records were refused since some were last written.
    refuses: bool,
}

impl Said {
    /// Whether it is time to say such a thing; it is said now.
    fn is_due(&mut self, what: &'static str) -> bool {
        let last = self.times.iter().position(|(other, _)| *other == what);
        if last.is_some_and(|at| self.times[at].1.elapsed() < SAY_EVERY) {
            return false;
        }
        self.times.retain(|(other, _)| *other != what);
        self.times.push((what, Instant::now()));
        true
    }
}

impl Shelved {
    /// The number that `place` means, if it lies behind the first record.
    fn number(&self, place: u64) -> Option<u64> {
        let behind = place.checked_sub(self.place).filter(|behind| *behind > 0)?;
        Some(self.start.saturating_add(behind).min(self.volume.log().next()))
    }

    /// What a number lacks to be a place.
    fn shift(&self) -> u64 {
        self.place.wrapping_sub(self.start)
    }
}

impl Lane {
    fn new(spool: &Spool, shard: usize, run: u64, old: Vec<Volume>, found: u64) -> Lane {
        let segment_max = (spool.max / SEGMENTS).clamp(SEGMENT_MIN, SEGMENT_MAX);
        let volume = |part: u8| {
            let name = format!("{run:010}-{shard:03}-{part}");
            Volume::new(&spool.folder, &name, spool.route, segment_max)
        };
        let mut place = 0;
        let mut logs = VecDeque::new();
        for volume in old {
            let (start, held) = (volume.log().delivered(), volume.log().held());
            logs.push_back(Shelved { volume, start, place });
            place += held;
        }
        logs.push_back(Shelved { volume: volume(1), start: 0, place: found });
        Lane { logs, before: volume(0), generation: 0, closed: false }
    }

    fn all(&self) -> impl Iterator<Item = &Volume> {
        self.logs.iter().map(|log| &log.volume).chain([&self.before])
    }

    fn unread(&self) -> u64 {
        self.logs.iter().map(|log| log.volume.log().unread()).sum()
    }

    fn bytes(&self) -> u64 {
        self.all().map(|volume| volume.log().bytes()).sum()
    }

    fn held(&self) -> u64 {
        self.all().map(|volume| volume.log().held()).sum()
    }
}

impl Keeper {
    fn new(spool: Arc<Spool>, lock: File, run: u64, old: Vec<Volume>, found: u64) -> Keeper {
        let mut old = Some(old);
        let shards = 0..spool.trays.len();
        let lane = |shard| {
            let old = old.take().unwrap_or_default();
            Lane::new(&spool, shard, run, old, if shard == 0 { found } else { 0 })
        };
        let lanes = shards.map(lane).collect();
        let keeper = Keeper { spool, lanes, said: Said::default(), _lock: lock };
        keeper.spool.counters.spool_found.add(found);
        keeper.let_go();
        keeper.count();
        keeper
    }

    /// Works until all shards have closed.
    fn run(mut self) {
        while !self.is_over() {
            if !self.work() {
                std::thread::park();
            }
        }
    }

    /// The same without a thread, on a disk that takes its time.
    #[cfg(test)]
    async fn run_simulated(mut self) {
        while !self.is_over() {
            let spool = Arc::clone(&self.spool);
            let rung = spool.rung.notified();
            tokio::time::sleep(simulated::pause()).await;
            if !self.work() {
                rung.await;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.lanes.iter().all(|lane| lane.closed)
    }

    /// Does the oldest that each shard has ordered; says whether there was anything.
    fn work(&mut self) -> bool {
        let mut any = false;
        for shard in 0..self.lanes.len() {
            let order = self.tray(shard).papers().orders.pop_front();
            if let Some(order) = order {
                any = true;
                self.obey(shard, order);
            }
        }
        any
    }

    fn tray(&self, shard: usize) -> &Tray {
        &self.spool.trays[shard]
    }

    fn obey(&mut self, shard: usize, order: Order) {
        let answer = match order {
            Order::Write(chunk, generation) if generation < self.lanes[shard].generation => {
                Some(Answer::Refused(chunk))
            }
            Order::Write(chunk, generation) => Some(self.write(shard, chunk, Some(generation))),
            Order::Before(chunk) => Some(self.write(shard, chunk, None)),
            Order::Read(chunk) => Some(Answer::Read(self.read(shard, chunk))),
            Order::Delivered(place) => {
                self.delivered(shard, place);
                None
            }
            Order::Close => {
                self.close(shard);
                Some(Answer::Closed)
            }
        };
        self.count();
        if let Some(answer) = answer {
            self.tray(shard).answer(answer, self.lanes[shard].unread());
        }
    }

    /// Writes records: behind the others, or with no `generation` before them.
    fn write(&mut self, shard: usize, chunk: Chunk, generation: Option<u64>) -> Answer {
        let others: u64 = self.lanes.iter().map(Lane::bytes).sum();
        let lane = &mut self.lanes[shard];
        let volume = match generation {
            Some(_) => lane.logs.back_mut().map(|log| &mut log.volume),
            None => Some(&mut lane.before),
        };
        let Some(volume) = volume else { return Answer::Refused(chunk) };
        let most = (self.spool.max + volume.log().bytes()).saturating_sub(others);
        let result = volume.append(&chunk, most);
        if let Ok(true) = result {
            self.spool.counters.spool_written.add(chunk.records() as u64);
            self.say_accepts();
            return Answer::Written(chunk);
        }
        lane.generation = generation.map_or(lane.generation, |generation| generation + 1);
        match result {
            Err(error) => self.trouble("cannot write", &error.to_string()),
            Ok(_) => self.say_full(),
        }
        self.said.refuses = true;
        Answer::Refused(chunk)
    }

    fn read(&mut self, shard: usize, mut chunk: Chunk) -> Chunk {
        let mut at = 0;
        while let Some(log) = self.lanes[shard].logs.get_mut(at) {
            let shift = log.shift();
            let found = log.volume.read(&mut chunk, shift);
            let lost = log.volume.take_lost();
            self.lost(lost);
            match found {
                Found::Records => {
                    self.spool.counters.spool_read.add(chunk.records() as u64);
                    return chunk;
                }
                Found::Nothing => at += 1,
                Found::Trouble(why) => self.trouble("cannot read", &why),
                Found::Later(why) => {
                    self.trouble("cannot read now", &why);
                    std::thread::sleep(LATER);
                    return chunk;
                }
            }
        }
        // What is lost at the end of a log keeps nothing from going.
        self.tidy(shard);
        chunk
    }

    fn delivered(&mut self, shard: usize, place: u64) {
        let (mut result, before) = (Ok(()), self.lanes[shard].bytes());
        for log in &mut self.lanes[shard].logs {
            let Some(number) = log.number(place) else { break };
            if number > log.volume.log().delivered() {
                result = result.and(log.volume.deliver(number));
            }
        }
        if let Err(error) = result {
            self.trouble("cannot note what is delivered", &error.to_string());
        }
        self.tidy(shard);
        if self.said.refuses && self.lanes[shard].bytes() < before {
            for (tray, lane) in self.spool.trays.iter().zip(&self.lanes) {
                tray.answer(Answer::Room, lane.unread());
            }
        }
    }

    /// Lets go of logs of earlier runs that hold nothing.
    fn tidy(&mut self, shard: usize) {
        let mut result = Ok(());
        let logs = &mut self.lanes[shard].logs;
        while logs.len() > 1 && logs[0].volume.log().held() == 0 {
            if let Some(mut log) = logs.pop_front() {
                result = result.and(log.volume.remove());
            }
        }
        if let Some(log) = logs.back_mut() {
            result = result.and(log.volume.tidy());
        }
        if let Err(error) = result {
            self.trouble("cannot delete what is delivered", &error.to_string());
        }
        self.let_go();
    }

    /// Once the records of earlier runs are delivered, the other shards' may go.
    fn let_go(&self) {
        if self.lanes.first().is_some_and(|lane| lane.logs.len() > 1) {
            return;
        }
        for (tray, lane) in self.spool.trays.iter().zip(&self.lanes) {
            if !tray.go.swap(true, SeqCst) {
                tray.answer(Answer::Go, lane.unread());
            }
        }
    }

    fn close(&mut self, shard: usize) {
        let lane = &mut self.lanes[shard];
        lane.closed = true;
        let mut result = Ok(());
        let own = lane.logs.iter_mut().map(|log| &mut log.volume).chain([&mut lane.before]);
        for volume in own {
            result = result.and(match volume.log().held() {
                0 => volume.remove(),
                _ => volume.sync(),
            });
        }
        if let Err(error) = result {
            self.trouble("cannot be closed in order", &error.to_string());
        }
        self.say_lost();
    }

    fn count(&self) {
        let counters = &self.spool.counters;
        counters.spool_bytes.set(self.lanes.iter().map(Lane::bytes).sum());
        counters.spool_records.set(self.lanes.iter().map(Lane::held).sum());
    }

    fn trouble(&mut self, what: &'static str, why: &str) {
        self.spool.counters.spool_errors.add(1);
        if self.said.is_due(what) {
            let folder = self.spool.shown();
            tracing::warn!(route = self.spool.name, "spool {folder}: {what}: {why}");
        }
    }

    /// Counts records that cannot be read any more.
    fn lost(&mut self, records: u64) {
        self.spool.counters.dropped_spool.add(records);
        self.said.lost += records;
        if self.said.lost > 0 && self.said.is_due("lost") {
            self.say_lost();
        }
    }

    fn say_lost(&mut self) {
        let lost = std::mem::take(&mut self.said.lost);
        if lost > 0 {
            let folder = self.spool.shown();
            tracing::warn!(
                route = self.spool.name,
                "spool {folder}: {lost} lines are damaged, \
                and lost"
            );
        }
    }

    fn say_full(&mut self) {
        if self.said.is_due("full") {
            let (folder, max) = (self.spool.shown(), self.spool.max);
            tracing::warn!(
                route = self.spool.name,
                "spool {folder} is full: it has the {max} bytes that it may have (SPOOL_MAX)"
            );
        }
    }

    fn say_accepts(&mut self) {
        if std::mem::take(&mut self.said.refuses) {
            let folder = self.spool.shown();
            tracing::info!(route = self.spool.name, "spool {folder} takes lines again");
        }
    }
}
