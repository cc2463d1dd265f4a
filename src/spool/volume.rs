//! One log on the disk: the files behind [`super::log`], in the format of [`super::segment`]. May
//! wait for the disk: for the spool's thread alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::libc::{EMFILE, ENFILE, ENOMEM};

use super::disk;
use super::lock::private;
use super::log::{Log, Segment};
use super::segment::{
    self, Foreign, HEAD_LEN, HEADER_LEN, Header, MARK_LEN, Next, latest_mark, mark,
};
use crate::buffer::Chunk;

const SEGMENT: &str = "segment";
const MARK: &str = "mark";

/// A log and its files: `NAME.mark` and `NAME.NUMBER.segment`.
pub(super) struct Volume {
    /// Where its files are, with the beginning of their names.
    stem: PathBuf,
    route: u64,
    log: Log,
    /// The last segment, while it is written.
    writing: Option<File>,
    /// The segment that is read, and its name.
    reading: Option<(u64, File)>,
    marks: Option<File>,
    /// Which of the two places of the mark is written next.
    turn: bool,
    scratch: Vec<u8>,
}

/// What was found where a frame should be.
pub(super) enum Found {
    /// Records; they are in the chunk.
    Records,
    /// Nothing more.
    Nothing,
    /// Something that could not be read, and why. There may be more behind it.
    Trouble(String),
    /// Something that can be read later, and why not now.
    Later(String),
}

impl Volume {
    /// A log that is to be written. No file is made before the first record comes.
    pub(super) fn new(folder: &Path, name: &str, route: u64, segment_max: u64) -> Volume {
        Volume::around(folder.join(name), route, Log::new(segment_max))
    }

    fn around(stem: PathBuf, route: u64, log: Log) -> Volume {
        let (writing, reading, marks) = (None, None, None);
        Volume { stem, route, log, writing, reading, marks, turn: false, scratch: Vec::new() }
    }

    /// The logs in `folder`, in the order of their names.
    ///
    /// # Errors
    /// Where the disk cannot be read, or the files are not ours to read.
    pub(super) fn find(folder: &Path, route: u64) -> io::Result<Vec<Volume>> {
        let mut names: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            match name.split('.').collect::<Vec<_>>()[..] {
                [log, MARK] => _ = names.entry(log.to_owned()).or_default(),
                [log, number, SEGMENT] => {
                    if let Ok(number) = number.parse() {
                        names.entry(log.to_owned()).or_default().push(number);
                    }
                }
                _ => {}
            }
        }
        let open = |(name, mut segments): (String, Vec<u64>)| {
            segments.sort_unstable();
            Volume::found(folder.join(name), segments, route)
        };
        names.into_iter().map(open).collect()
    }

    fn found(stem: PathBuf, numbers: Vec<u64>, route: u64) -> io::Result<Volume> {
        let mut volume = Volume::around(stem, route, Log::new(0));
        let marks = match fs::read(volume.mark_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            marks => marks?,
        };
        let mut segments = Vec::new();
        for (at, first) in numbers.iter().copied().enumerate() {
            let file = File::open(volume.segment_path(first))?;
            let len = file.metadata()?.len();
            let next = numbers.get(at + 1).copied();
            let (whole, end) = match next {
                Some(end) => (len, end),
                None => volume.measure(&file, first, len)?,
            };
            if whole < len {
                let (path, rest) = (volume.segment_path(first), len - whole);
                let path = path.display();
                tracing::warn!("{path}: leaves out its last {rest} bytes, which are not whole");
            }
            segments.push(Segment { first, end, len: whole });
        }
        volume.log = Log::found(segments, latest_mark(&marks, route));
        Ok(volume)
    }

    /// How far the last segment is whole, in bytes and records: it was being written.
    fn measure(&self, file: &File, first: u64, len: u64) -> io::Result<(u64, u64)> {
        let (mut at, mut end) = (HEADER_LEN as u64, first);
        if !self.is_ours(file, first)? {
            return Ok((0, first));
        }
        loop {
            let left = len.saturating_sub(at);
            match segment::next(&read_head(file, at, left)?, left, self.route) {
                Next::Frame(head) if head.first >= end => {
                    (at, end) = (at + head.frame_len(), head.end())
                }
                _ => return Ok((at, end)),
            }
        }
    }

    /// Whether a file begins as the segment `first` should.
    fn is_ours(&self, file: &File, first: u64) -> io::Result<bool> {
        let mut bytes = [0; HEADER_LEN];
        let len = read_up_to(file, &mut bytes, 0)?;
        match Header::decode(&bytes[..len]) {
            Ok(header) => Ok(header == Header { route: self.route, first }),
            Err(Foreign::Damaged) => Ok(false),
            Err(Foreign::Version(version)) => Err(io::Error::other(format!(
                "{}: was written by another version of logchute (format {version}); use that \
                 version, or another spool",
                self.segment_path(first).display()
            ))),
        }
    }

    /// The books.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// How many records were lost since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        self.log.take_lost()
    }

    /// Appends what is pending of `chunk`, if all of the log then has `most` bytes at most; `false`
    /// if it would have more.
    ///
    /// # Errors
    /// Where the disk does not take it; then none of it was appended.
    pub(super) fn append(&mut self, chunk: &Chunk, most: u64) -> io::Result<bool> {
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        let (first, again, ends) = (self.log.next(), chunk.sent_before(), chunk.pending_ends());
        segment::write_frame(&mut frame, self.route, first, again, chunk.pending(), ends);
        let result = self.append_frame(&frame, chunk.records() as u64, most);
        self.scratch = frame;
        result
    }

    fn append_frame(&mut self, frame: &[u8], records: u64, most: u64) -> io::Result<bool> {
        let len = frame.len() as u64;
        let begins = self.log.begins_segment(len);
        let more = if begins { len + HEADER_LEN as u64 } else { len };
        if self.log.bytes() + more > most {
            return Ok(false);
        }
        if begins {
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&self.writing, self.log.writing()) else {
            return Err(io::Error::other("no segment is open"));
        };
        if let Err(error) = disk::write(file, frame, segment.len) {
            // What was written of it must not be taken for more than it is.
            let cut = disk::cut(file, segment.len);
            if cut.is_err() || segment.end > segment.first {
                self.log.stop_segment();
                self.writing = None;
            }
            return Err(error);
        }
        self.log.appended(records, len);
        Ok(true)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        if let Some(file) = self.writing.take() {
            disk::sync(&file)?;
        }
        if self.marks.is_none() {
            self.open_marks()?;
        }
        let first = self.log.next();
        let path = self.segment_path(first);
        let file = private().read(true).write(true).create(true).truncate(true).open(&path)?;
        let header = Header { route: self.route, first };
        if let Err(error) = disk::write(&file, &header.encode(), 0) {
            let _ = disk::remove(&path);
            return Err(error);
        }
        self.log.began();
        self.writing = Some(file);
        Ok(())
    }

    /// Opens the file of marks; one that is made has its final size at once, so that a full disk
    /// takes later marks too.
    fn open_marks(&mut self) -> io::Result<()> {
        let path = self.mark_path();
        let file = private().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() < 2 * MARK_LEN as u64 {
            let marks = [mark(self.log.delivered(), self.route); 2];
            if let Err(error) = disk::write(&file, marks.as_flattened(), 0) {
                let _ = disk::remove(&path);
                return Err(error);
            }
        }
        self.marks = Some(file);
        Ok(())
    }

    /// Reads the next records into `chunk`. Their places are their numbers and `shift` more.
    pub(super) fn read(&mut self, chunk: &mut Chunk, shift: u64) -> Found {
        match self.try_read(chunk, shift) {
            Ok(found) => found,
            // The system lacks something; the file is as good as it was.
            Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM)) => {
                Found::Later(error.to_string())
            }
            Err(error) => {
                self.log.leave_segment();
                Found::Trouble(error.to_string())
            }
        }
    }

    fn try_read(&mut self, chunk: &mut Chunk, shift: u64) -> io::Result<Found> {
        while let Some(place) = self.log.place() {
            let file = self.open_segment(place.segment)?;
            let head = read_head(&file, place.offset, place.left)?;
            let head = match segment::next(&head, place.left, self.route) {
                Next::Frame(head) => head,
                Next::End | Next::Torn => return Err(io::Error::other("the file is too short")),
                Next::Broken => return Err(io::Error::other("a checksum is wrong")),
            };
            self.log.passed(&head);
            self.scratch.resize(head.body_len() as usize, 0);
            file.read_exact_at(&mut self.scratch, place.offset + HEAD_LEN as u64)?;
            self.reading = Some((place.segment, file));
            let Some(records) = head.open(&self.scratch, self.route) else {
                return Ok(Found::Trouble("the checksum of some records is wrong".to_owned()));
            };
            let delivered = self.log.taken(&head);
            #[cfg(test)]
            let delivered = delivered + u64::from(disk::simulated::skips());
            if delivered < u64::from(head.records) {
                let place = head.first.wrapping_add(shift);
                chunk.fill(records.bytes, records.ends(), delivered as usize, place);
                chunk.set_sent_before(head.again);
                return Ok(Found::Records);
            }
        }
        Ok(Found::Nothing)
    }

    fn open_segment(&mut self, first: u64) -> io::Result<File> {
        match self.reading.take() {
            Some((open, file)) if open == first => Ok(file),
            _ => {
                let file = File::open(self.segment_path(first))?;
                match self.is_ours(&file, first)? {
                    true => Ok(file),
                    false => Err(io::Error::other("the header is damaged")),
                }
            }
        }
    }

    /// Records before `number` are delivered: notes so, and deletes what is of no use any more.
    ///
    /// # Errors
    /// Where the disk does not take the note; then these records come twice if the program does not
    /// come to a good end.
    pub(super) fn deliver(&mut self, number: u64) -> io::Result<()> {
        let finished = self.log.deliver(number);
        let noted = self.note();
        noted.and(self.delete(finished))
    }

    /// Deletes what is of no use any more without anything being delivered.
    pub(super) fn tidy(&mut self) -> io::Result<()> {
        let finished = self.log.finished();
        self.delete(finished)
    }

    fn note(&mut self) -> io::Result<()> {
        if self.marks.is_none() {
            self.open_marks()?;
        }
        let Some(marks) = &self.marks else { return Ok(()) };
        let place = if self.turn { MARK_LEN as u64 } else { 0 };
        self.turn = !self.turn;
        disk::write(marks, &mark(self.log.delivered(), self.route), place)
    }

    fn delete(&mut self, segments: Vec<u64>) -> io::Result<()> {
        let mut result = Ok(());
        for first in segments {
            if self.reading.as_ref().is_some_and(|(open, _)| *open == first) {
                self.reading = None;
            }
            result = result.and(disk::remove(&self.segment_path(first)));
        }
        if self.log.bytes() == 0 {
            self.writing = None;
        }
        result
    }

    /// Has the disk write what it has of the log.
    pub(super) fn sync(&self) -> io::Result<()> {
        let files = self.writing.iter().chain(&self.marks);
        files.map(disk::sync).fold(Ok(()), Result::and)
    }

    /// Deletes what is left of a log that holds nothing.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.tidy()?;
        self.marks = None;
        match disk::remove(&self.mark_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn mark_path(&self) -> PathBuf {
        self.with(&format!(".{MARK}"))
    }

    fn segment_path(&self, first: u64) -> PathBuf {
        self.with(&format!(".{first:020}.{SEGMENT}"))
    }

    fn with(&self, end: &str) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(end);
        path.into()
    }
}

/// What there is of a frame's head at `offset`, where the file has `left` bytes.
fn read_head(file: &File, offset: u64, left: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; left.min(HEAD_LEN as u64) as usize];
    let len = read_up_to(file, &mut head, offset)?;
    head.truncate(len);
    Ok(head)
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
