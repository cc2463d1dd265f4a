//! Writes the lines of all containers, on one thread: as fast as they are received at the other
//! end, or each at its own time.
//!
//! Lines are counted as sent when the kernel has taken all of their frame. A block is rendered
//! anew where a socket took only a part of it: for less than the copy of it costs, and one block
//! in the cache serves all containers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};

use super::block::{Block, STAMP, VARIANTS, Wrap};
use crate::scenario::{Frames, Pace, Source};

/// Bytes of lines that may be on their way, over all containers: more than the sockets and a
/// pause of the receiver by the scheduler need, less than any forwarder's buffer.
const WINDOW: u64 = 4 * 1024 * 1024;
/// How long to wait when that many are.
const PAUSE: Duration = Duration::from_micros(100);
/// Where nothing is received for so long, what is on its way counts as lost.
const PATIENCE: Duration = Duration::from_millis(100);
/// The longest wait for a socket, so that the end of a run is seen.
const TICK: u16 = 20;

/// A stream that a forwarder has opened.
pub struct Stream {
    socket: File,
    container: u16,
    wrap: Wrap,
    /// Bytes of the current block that are written.
    written: usize,
    /// Time of the current block's messages.
    stamp: [u8; STAMP],
}

impl Stream {
    /// The stream of a container on this socket, which must not wait from now on.
    ///
    /// # Errors
    /// If that cannot be set.
    pub fn new(socket: OwnedFd, container: u16, wrap: Wrap) -> io::Result<Stream> {
        let socket = socket2::Socket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = File::from(OwnedFd::from(socket));
        Ok(Stream { socket, container, wrap, written: 0, stamp: [b' '; STAMP] })
    }
}

/// What all threads know of the lines.
pub struct Pump {
    source: Source,
    /// Streams that wait for the thread.
    fresh: Mutex<Vec<Stream>>,
    opened: AtomicUsize,
    stop: AtomicBool,
    begun: OnceLock<Instant>,
    /// Lines sent of each container.
    sent: Vec<AtomicU64>,
    sent_lines: AtomicU64,
    sent_bytes: AtomicU64,
    wire_bytes: AtomicU64,
    /// Times that nothing was received for [`PATIENCE`].
    stalls: AtomicU64,
}

/// What the thread spent.
pub struct Spent {
    /// CPU seconds.
    pub cpu: f64,
    /// How late lines were written, in nanoseconds.
    pub late: Histogram<u64>,
    /// The streams: a container goes on to run when it writes nothing more.
    _open: Vec<Stream>,
}

/// How many of the lines sent so far are received: counted by receivers, in lines as they were
/// sent, whatever a filter keeps out.
pub type Received = dyn Fn() -> u64 + Send + Sync;

impl Pump {
    /// For these containers.
    pub fn new(source: &Source) -> Arc<Pump> {
        let containers = usize::from(source.containers);
        Arc::new(Pump {
            source: source.clone(),
            fresh: Mutex::default(),
            opened: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            begun: OnceLock::new(),
            sent: (0..containers).map(|_| AtomicU64::new(0)).collect(),
            sent_lines: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
        })
    }

    /// Takes a stream.
    pub fn add(&self, stream: Stream) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        self.opened.fetch_add(1, SeqCst);
    }

    /// How many streams were opened.
    pub fn opened(&self) -> usize {
        self.opened.load(SeqCst)
    }

    /// When it began to write.
    pub fn begun(&self) -> Option<Instant> {
        self.begun.get().copied()
    }

    /// Lines sent so far.
    pub fn sent_lines(&self) -> u64 {
        self.sent_lines.load(Relaxed)
    }

    /// Bytes of lines sent so far, newlines included, up to a block more or less.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Relaxed)
    }

    /// Bytes sent so far, with all that is around lines.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Relaxed)
    }

    /// Lines sent of each container.
    pub fn sent(&self) -> Vec<u64> {
        self.sent.iter().map(|lines| lines.load(Relaxed)).collect()
    }

    /// How often what was on its way had to be given up.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    /// Lets the thread end with the next whole frame of each stream.
    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    /// When a line of a container is due: all lines of all containers are spread evenly.
    pub fn due(&self, container: u16, line: u64) -> Option<Instant> {
        let Pace::Rate(rate) = self.source.pace else { return None };
        let index = line * u64::from(self.source.containers) + u64::from(container);
        Some(*self.begun.get()? + Duration::from_nanos(index * 1_000_000_000 / u64::from(rate)))
    }

    /// Writes until told to stop; `received` tells how far receivers are.
    ///
    /// # Errors
    /// Those of epoll. A stream that its client has closed is given up.
    pub fn run(&self, received: &Received) -> io::Result<Spent> {
        // The default of 50 us is as much as what is to be measured.
        let _ = nix::sys::prctl::set_timerslack(1);
        let mut thread = Writer::new(self)?;
        let _ = self.begun.set(Instant::now());
        while !self.stop.load(SeqCst) {
            thread.admit()?;
            match self.source.pace {
                Pace::Saturated => thread.fill(received)?,
                Pace::Rate(_) => thread.write_what_is_due(),
                Pace::Silent => std::thread::sleep(Duration::from_millis(u64::from(TICK))),
            }
        }
        thread.finish();
        let cpu = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let open = thread.streams.into_values().collect();
        Ok(Spent { cpu: Duration::from(cpu).as_secs_f64(), late: thread.late, _open: open })
    }
}

/// The thread's own.
struct Writer<'a> {
    pump: &'a Pump,
    epoll: Epoll,
    streams: BTreeMap<u64, Stream>,
    next: u64,
    /// For each way of wrapping the variants of the block.
    blocks: Vec<(Wrap, Vec<Block>)>,
    /// Lines that count as received although they were not.
    given_up: u64,
    /// Lines received when that was last looked at, and when they had changed.
    progress: (u64, Instant),
    late: Histogram<u64>,
}

impl Writer<'_> {
    fn new(pump: &Pump) -> io::Result<Writer<'_>> {
        Ok(Writer {
            pump,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            streams: BTreeMap::new(),
            next: 0,
            blocks: Vec::new(),
            given_up: 0,
            progress: (0, Instant::now()),
            late: crate::stats::nanoseconds()?,
        })
    }

    /// Takes the streams that were opened meanwhile.
    fn admit(&mut self) -> io::Result<()> {
        if self.next == self.pump.opened.load(Relaxed) as u64 {
            return Ok(());
        }
        let mut fresh = self.pump.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let Source { line, frames, hits, .. } = self.pump.source;
        for stream in fresh.drain(..) {
            // A client that opens a stream again goes on with a new block: what was under way of
            // the last one counts as sent, and is lost. One that opens two has the later one.
            self.streams.retain(|_, other| other.container != stream.container);
            let sent = &self.pump.sent[usize::from(stream.container)];
            let event = EpollEvent::new(EpollFlags::EPOLLOUT, self.next);
            self.epoll.add(&stream.socket, event)?;
            if !self.blocks.iter().any(|(wrap, _)| *wrap == stream.wrap) {
                let block = |variant| Block::new(line, frames, hits, stream.wrap, variant);
                self.blocks.push((stream.wrap, (0..VARIANTS).map(block).collect()));
            }
            let lines = self.blocks[0].1[0].lines() as u64;
            sent.store(sent.load(Relaxed).next_multiple_of(lines), Relaxed);
            self.streams.insert(self.next, stream);
            self.next += 1;
        }
        Ok(())
    }

    /// A block for each stream that takes one, unless enough is on its way.
    fn fill(&mut self, received: &Received) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let ready = match self.epoll.wait(&mut events, EpollTimeout::from(TICK)) {
            Err(nix::Error::EINTR) => 0,
            ready => ready?,
        };
        for event in &events[..ready] {
            while !self.may_send(received) {
                if self.pump.stop.load(SeqCst) {
                    return Ok(());
                }
                std::thread::sleep(PAUSE);
            }
            self.write(event.data(), usize::MAX);
        }
        Ok(())
    }

    /// Whether less than a window is on its way.
    fn may_send(&mut self, received: &Received) -> bool {
        let (sent, received) = (self.pump.sent_lines(), received());
        if received != self.progress.0 {
            self.progress = (received, Instant::now());
        }
        let under_way = sent.saturating_sub(received + self.given_up);
        if under_way * u64::from(self.pump.source.line) < WINDOW {
            return true;
        }
        if self.progress.1.elapsed() >= PATIENCE {
            self.given_up += under_way;
            self.progress.1 = Instant::now();
            self.pump.stalls.fetch_add(1, Relaxed);
        }
        false
    }

    /// Writes up to the frame in which line `until` of the container ends, within the current
    /// block; whether there is more to write now.
    fn write(&mut self, key: u64, until: usize) -> bool {
        let Some(stream) = self.streams.get_mut(&key) else { return false };
        let sent = &self.pump.sent[usize::from(stream.container)];
        let Some((block, first)) = current(&mut self.blocks, stream, sent.load(Relaxed)) else {
            return false;
        };
        if stream.written == 0 && stream.wrap == (Wrap::Chunked { timestamps: true }) {
            stream.stamp = stamp(SystemTime::now());
        }
        block.number(stream.container, first, &stream.stamp);
        let until = usize::try_from(until as u64 - first.min(until as u64)).unwrap_or(usize::MAX);
        let whole = self.pump.source.frames != Frames::Write && until >= block.lines();
        let begun = stream.written;
        let mut fate = Fate::Taken;
        while stream.written < block.bytes().len() {
            let at = block.cuts().partition_point(|cut| cut.end <= stream.written);
            let before = at.checked_sub(1).map_or(0, |at| block.cuts()[at].lines);
            if before >= until {
                break;
            }
            let end = if whole { block.bytes().len() } else { block.cuts()[at].end };
            fate = put(&mut stream.socket, &block.bytes()[stream.written..end]);
            let Fate::Wrote(count) = fate else { break };
            stream.written += count;
        }
        self.pump.wire_bytes.fetch_add((stream.written - begun) as u64, Relaxed);
        let lines = lines_up_to(block, stream.written) as u64;
        let more = first + lines - sent.swap(first + lines, Relaxed);
        self.pump.sent_lines.fetch_add(more, Relaxed);
        let mean = block.payload() as f64 / block.lines() as f64;
        self.pump.sent_bytes.fetch_add((more as f64 * mean) as u64, Relaxed);
        if stream.written == block.bytes().len() {
            stream.written = 0;
        }
        if let Fate::Broken = fate {
            self.streams.remove(&key);
        }
        matches!(fate, Fate::Wrote(_))
    }

    /// Every line whose time has come; then sleeps until the next one's.
    fn write_what_is_due(&mut self) {
        let now = Instant::now();
        let mut next = now + Duration::from_millis(u64::from(TICK));
        let keys: Vec<(u64, u16)> = self.streams.iter().map(|(k, s)| (*k, s.container)).collect();
        for (key, container) in keys {
            let sent = self.pump.sent[usize::from(container)].load(Relaxed);
            let mut line = sent;
            while let Some(due) = self.pump.due(container, line) {
                if due > now {
                    next = next.min(due);
                    break;
                }
                let late = now.duration_since(due).as_nanos() as u64;
                self.late.saturating_record(late);
                line += 1;
            }
            while self.pump.sent[usize::from(container)].load(Relaxed) < line
                && self.write(key, line as usize)
            {}
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }

    /// Brings every stream to the end of a frame, so that no line stays half sent: for a second
    /// at most.
    fn finish(&mut self) {
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            let half: Vec<(u64, usize)> =
                self.streams.iter().filter_map(|(key, stream)| self.rest(*key, stream)).collect();
            if half.is_empty() || Instant::now() >= until {
                return;
            }
            for (key, line) in half {
                self.write(key, line);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The line in whose frame a stream stands, if it is within one.
    fn rest(&self, key: u64, stream: &Stream) -> Option<(u64, usize)> {
        let sent = self.pump.sent[usize::from(stream.container)].load(Relaxed);
        let (_, blocks) = self.blocks.iter().find(|(wrap, _)| *wrap == stream.wrap)?;
        let (index, first) = place(blocks, stream, sent);
        let block = &blocks[index];
        let at = block.cuts().partition_point(|cut| cut.end < stream.written);
        let cut = block.cuts().get(at).filter(|_| stream.written > 0)?;
        let whole = matches!(self.pump.source.frames, Frames::Cut(_));
        let lines = if whole { block.lines() } else { cut.lines };
        (cut.end != stream.written || whole).then_some((key, first as usize + lines))
    }
}

/// The block that a stream is at, and the number of its first line.
fn current<'a>(
    blocks: &'a mut [(Wrap, Vec<Block>)],
    stream: &Stream,
    sent: u64,
) -> Option<(&'a mut Block, u64)> {
    let (_, blocks) = blocks.iter_mut().find(|(wrap, _)| *wrap == stream.wrap)?;
    let (index, first) = place(blocks, stream, sent);
    Some((&mut blocks[index], first))
}

/// The index of that block, and the number of its first line, when so many lines are sent.
fn place(blocks: &[Block], stream: &Stream, sent: u64) -> (usize, u64) {
    let per_block = blocks[0].lines() as u64;
    let nth = sent / per_block;
    // Containers are not in step.
    (((nth + u64::from(stream.container)) % VARIANTS) as usize, nth * per_block)
}

/// What became of a write.
enum Fate {
    /// There was nothing to write.
    Taken,
    /// The kernel took so many bytes.
    Wrote(usize),
    /// The socket is full.
    Full,
    /// The client has gone.
    Broken,
}

fn put(socket: &mut File, bytes: &[u8]) -> Fate {
    match socket.write(bytes) {
        Ok(count) => Fate::Wrote(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Fate::Full,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Fate::Wrote(0),
        Err(_) => Fate::Broken,
    }
}

/// Lines of a block whose frames end within its first `written` bytes.
fn lines_up_to(block: &Block, written: usize) -> usize {
    let at = block.cuts().partition_point(|cut| cut.end <= written);
    at.checked_sub(1).map_or(0, |at| block.cuts()[at].lines)
}

/// A time as messages of the logs door have it, with a blank behind it.
fn stamp(now: SystemTime) -> [u8; STAMP] {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = crate::civil::Civil::of(since.as_secs());
    let text = format!("{date}.{:09}Z ", since.subsec_nanos());
    text.into_bytes().try_into().unwrap_or([b' '; STAMP])
}
