//! Keeps in files how far containers' lines are delivered (`STATE_DIR`), so that a later run of
//! the program goes on there. A thread of its own writes them, for a disk may take its time; it is
//! woken when there is something to write.
//!
//! One file has all places and is replaced as a whole; the other is the journal of what has changed
//! since. What was handed to the kernel survives the program's death; only the whole file is synced
//! to the disk, so that a power cut may take places back to where it was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Wake;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use super::store;
use crate::shard::intake::nanos;
use crate::shard::positions::{Due, Positions};
use crate::spool::lock::{self, private};

/// The files' names.
const FILE: &str = "positions.json";
const JOURNAL: &str = "positions.journal";
/// After so many bytes of journal all is written anew: so many, and so often what that had.
const JOURNAL_MIN: u64 = 256 * 1024;
const JOURNAL_SHARE: u64 = 4;
/// Shards that write at about the same time are written together.
const GATHER: Duration = Duration::from_millis(5);
/// After this time a disk that took nothing is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// What an earlier run has left, and where to leave more.
pub(super) struct State {
    /// How far that run came.
    pub(super) positions: Arc<Positions>,
    files: Files,
}

/// Reads what an earlier run has left in `folder`, and keeps others out of it.
///
/// # Errors
/// One line that names the folder and the fix, where nothing can be written there, or another
/// program does.
pub(super) fn open(folder: &Path) -> Result<State, String> {
    let path = folder.join(FILE);
    let fix = "choose another STATE_DIR, or let the program write there";
    let failed = |error: io::Error| format!("STATE_DIR={}: {error}; {fix}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let lock = lock::take(folder).map_err(failed)?.ok_or_else(|| {
        format!(
            "STATE_DIR={}: is in use by another logchute; end that one, or give one of them \
             another STATE_DIR",
            folder.display()
        )
    })?;
    let read = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    };
    let (whole, journal) = (read(FILE)?, read(JOURNAL)?.unwrap_or_default());
    // Before it is too late to say so.
    try_to_write(folder).map_err(failed)?;
    let now = nanos(SystemTime::now());
    let parse = |whole: Vec<u8>| {
        let whole = String::from_utf8(whole).map_err(|error| error.to_string())?;
        Positions::parse(&whole, &journal, now)
    };
    let positions = match whole.map(parse).transpose() {
        Ok(positions) => positions.unwrap_or_else(|| Positions::new(now)),
        Err(error) => {
            let kept = path.with_extension("unreadable");
            let _ = fs::rename(&path, &kept);
            tracing::error!(
                "{} cannot be read ({error}): containers are followed from now on; see {}",
                path.display(),
                kept.display()
            );
            Positions::new(now)
        }
    };
    let files = Files { folder: folder.to_owned(), journal: None, _lock: lock };
    Ok(State { positions: Arc::new(positions), files })
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(".writable");
    File::create(&path)?;
    fs::remove_file(&path)
}

/// Where places are written: what a simulation has its own of.
pub(crate) trait Disk {
    /// Replaces the whole file: it has all of `bytes`, or is what it was, whatever happens.
    ///
    /// # Errors
    /// Where the disk does not take it; then nothing has changed.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes `bytes` at a place of the journal.
    ///
    /// # Errors
    /// Where the disk does not take all of it. Some of it may be there.
    fn write_journal(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
}

/// Writes places on a disk, as they change.
pub(crate) struct Scribe<D> {
    positions: Arc<Positions>,
    disk: D,
    /// Bytes of the journal that are of use; `None` before all was written for the first time.
    journal: Option<u64>,
    /// How many they may be, at least and now.
    journal_min: u64,
    journal_max: u64,
}

impl<D: Disk> Scribe<D> {
    /// One that has written nothing yet. All is written anew after `journal_min` bytes of journal
    /// at the soonest.
    pub(crate) fn new(positions: Arc<Positions>, disk: D, journal_min: u64) -> Scribe<D> {
        Scribe { positions, disk, journal: None, journal_min, journal_max: journal_min }
    }

    /// Writes what has changed since the last call. Returns how long to wait before the next one.
    ///
    /// # Errors
    /// Where the disk does not take it: the next call tries to write all.
    pub(crate) fn write(&mut self) -> io::Result<Duration> {
        let at = self.journal.unwrap_or(0);
        match self.positions.take_due(at > self.journal_max) {
            Due::Nothing => {}
            Due::Whole(bytes) => self.replace(&bytes)?,
            Due::Record(bytes) => match self.disk.write_journal(&bytes, at) {
                Ok(()) => self.journal = Some(at + bytes.len() as u64),
                // There may be room for all of it once more.
                Err(_) => return self.write_whole().map(|()| AGAIN),
            },
        }
        Ok(GATHER)
    }

    fn write_whole(&mut self) -> io::Result<()> {
        match self.positions.take_due(true) {
            Due::Whole(bytes) => self.replace(&bytes),
            Due::Record(_) | Due::Nothing => Ok(()),
        }
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let replaced = self.disk.replace(bytes);
        match &replaced {
            Ok(()) => {
                self.journal = Some(0);
                self.journal_max = self.journal_min + JOURNAL_SHARE * bytes.len() as u64;
            }
            Err(_) => self.positions.set_changed(),
        }
        replaced
    }
}

/// The files in `STATE_DIR`.
struct Files {
    folder: PathBuf,
    /// Written over from its beginning each time that the whole file was: so it needs no more room
    /// than it has had, also on a disk that is full.
    journal: Option<File>,
    _lock: File,
}

impl Disk for Files {
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(FILE);
        store::replace(&path, &path.with_extension("new"), bytes)
    }

    fn write_journal(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let file = match self.journal.take() {
            Some(file) => file,
            None => private()
                .write(true)
                .create(true)
                .truncate(false)
                .open(self.folder.join(JOURNAL))?,
        };
        self.journal.insert(file).write_all_at(bytes, at)
    }
}

/// Wakes the thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Who keeps the files.
pub(super) struct Keeper {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Writes `state` from now on.
    pub(super) fn start(state: State) -> io::Result<Keeper> {
        let ends = Arc::new(AtomicBool::new(false));
        let path = state.files.folder.join(FILE);
        let scribe = Scribe::new(Arc::clone(&state.positions), state.files, JOURNAL_MIN);
        let ending = Arc::clone(&ends);
        let keep = move || keep(scribe, &path, &ending);
        let thread = std::thread::Builder::new().name("state".into()).spawn(keep)?;
        state.positions.written_by(Arc::new(Unpark(thread.thread().clone())).into());
        Ok(Keeper { ends, thread })
    }

    /// Writes it for the last time.
    pub(super) fn finish(self) {
        self.ends.store(true, SeqCst);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

/// Writes what changes until the program `ends`.
fn keep(mut scribe: Scribe<Files>, path: &Path, ends: &AtomicBool) {
    let mut failing = false;
    loop {
        let last = ends.load(SeqCst);
        let mut written = scribe.write();
        if last && written.is_ok() {
            written = scribe.finish();
        }
        if let Err(error) = &written
            && (!failing || last)
        {
            // Once for each time that it begins to fail.
            tracing::error!("cannot write {}: {error}", path.display());
        }
        failing = written.is_err();
        if last {
            return;
        }
        if !failing {
            std::thread::park();
        }
        pause(written.unwrap_or(AGAIN), ends);
    }
}

/// Lets so much time pass, unless the program ends.
fn pause(time: Duration, ends: &AtomicBool) {
    let until = Instant::now() + time;
    while !ends.load(SeqCst)
        && let Some(left) = until.checked_duration_since(Instant::now())
    {
        std::thread::park_timeout(left);
    }
}

impl Scribe<Files> {
    /// Leaves all in one file.
    fn finish(&mut self) -> io::Result<Duration> {
        match self.journal {
            // What an earlier run has left is as good as it was.
            None => return Ok(GATHER),
            Some(0) => {}
            Some(_) => self.write_whole()?,
        }
        match fs::remove_file(self.disk.folder.join(JOURNAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(GATHER),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::doors::mark::Mark;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_left_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let left = open(&state).unwrap();
        assert!(!left.positions.is_continued());
        let now = nanos(SystemTime::now());
        left.positions.set("c", "r", &Mark::since(now));
        Keeper::start(left).unwrap().finish();
        let path = state.join(FILE);
        let left = open(&state).unwrap();
        assert_eq!(left.positions.of("c", "r").unwrap().at(), now);
        assert_eq!(names(&state), ["lock", FILE], "nothing else is left");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it has lines in it");
        drop(left);

        for broken in [&b"{\"until\":"[..], b"\xff\xfe"] {
            fs::write(&path, broken).unwrap();
            let left = open(&state).unwrap();
            assert!(!left.positions.is_continued());
            assert_eq!(fs::read(path.with_extension("unreadable")).unwrap(), broken);
        }
    }

    /// Killed, it has left the journal; a run without anything to do leaves it as it is.
    #[test]
    fn what_a_program_wrote_survives_its_death() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path()).unwrap();
        let at = |container: &str| {
            let state = open(folder.path()).unwrap();
            let at = state.positions.of(container, "r").unwrap().at();
            Keeper::start(state).unwrap().finish();
            at
        };
        let (positions, now) = (Arc::clone(&state.positions), nanos(SystemTime::now()));
        let mut scribe = Scribe::new(Arc::clone(&positions), state.files, JOURNAL_MIN);
        for (container, at) in [("a", now), ("b", now), ("a", now + 1), ("b", now + 2)] {
            positions.set(container, "r", &Mark::since(at));
            assert_eq!(scribe.write().unwrap(), GATHER);
        }
        drop(scribe);
        let mode = fs::metadata(folder.path().join(JOURNAL)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it has lines in it");
        assert_eq!([at("a"), at("b"), at("a")], [now + 1, now + 2, now + 1]);
    }

    /// A disk of which everything is known.
    #[derive(Default)]
    struct Paper {
        wholes: usize,
        journal: u64,
        room: bool,
        journal_room: bool,
    }

    impl Disk for Paper {
        fn replace(&mut self, _bytes: &[u8]) -> io::Result<()> {
            self.wholes += usize::from(self.room);
            self.room.then_some(()).ok_or(io::ErrorKind::StorageFull.into())
        }

        fn write_journal(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
            self.journal = at + bytes.len() as u64;
            self.journal_room.then_some(()).ok_or(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_full_journal_begins_anew_and_a_full_disk_is_tried_again() {
        let positions = Arc::<Positions>::default();
        let paper = Paper { room: true, journal_room: true, ..Paper::default() };
        let mut scribe = Scribe::new(Arc::clone(&positions), paper, 1000);
        let mut longest = 0;
        for at in 0..100 {
            positions.set("c", "r", &Mark::since(at));
            scribe.write().unwrap();
            longest = longest.max(scribe.disk.journal);
        }
        let wholes = scribe.disk.wholes;
        assert!((2..20).contains(&wholes), "{wholes} times");
        assert!((1000..2000).contains(&longest), "{longest} bytes");
        assert_eq!(scribe.write().unwrap(), GATHER);
        assert_eq!(scribe.disk.wholes, wholes, "nothing has changed");

        scribe.disk.journal_room = false;
        positions.set("c", "r", &Mark::since(1));
        assert_eq!(scribe.write().unwrap(), AGAIN, "more rarely than into a journal");
        assert_eq!(scribe.disk.wholes, wholes + 1);
        scribe.disk.room = false;
        positions.set("c", "r", &Mark::since(2));
        assert!(scribe.write().is_err() && scribe.write().is_err());
        scribe.disk.room = true;
        assert_eq!(scribe.write().unwrap(), GATHER, "nothing has changed since, but all is due");
        assert_eq!(scribe.disk.wholes, wholes + 2);
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = open(file.path()).err().unwrap();
        assert!(error.starts_with(&format!("STATE_DIR={}: ", file.path().display())), "{error}");
        assert!(error.ends_with("let the program write there"), "{error}");
    }

    #[test]
    fn two_programs_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path()).unwrap();
        let error = open(folder.path()).err().unwrap();
        let shown = folder.path().display();
        assert!(error.starts_with(&format!("STATE_DIR={shown}: is in use by another")), "{error}");
        drop(state);
        assert!(open(folder.path()).is_ok(), "a lock that was left behind means nothing");
    }
}
