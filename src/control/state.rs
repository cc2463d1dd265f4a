//! Keeps in a file how far containers' lines are delivered (`STATE_DIR`), so that a later run of
//! the program goes on there. A thread of its own writes it, for a disk may take its time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Sender, bounded};

use crate::shard::intake::nanos;
use crate::shard::positions::Positions;

/// The file's name.
const FILE: &str = "positions.json";
/// How often it is written, if anything has changed.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// Who keeps the file.
pub(super) struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Reads what an earlier run has left in `folder`.
///
/// # Errors
/// One line that names the folder and the fix, where nothing can be written there.
pub(super) fn open(folder: &Path) -> Result<(Arc<Positions>, PathBuf), String> {
    let path = folder.join(FILE);
    let fix = "choose another STATE_DIR, or let the program write there";
    let failed = |error: io::Error| format!("STATE_DIR={}: {error}; {fix}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let text = match fs::read(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    // Before it is too late to say so.
    try_to_write(folder).map_err(failed)?;
    let now = nanos(SystemTime::now());
    let parse = |text: Vec<u8>| {
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        Positions::parse(&text, now)
    };
    let read = text.map(parse);
    let positions = match read.transpose() {
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
    Ok((Arc::new(positions), path))
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(".writable");
    File::create(&path)?;
    fs::remove_file(&path)
}

impl Keeper {
    /// Writes `positions` to the file at `path` from now on.
    pub(super) fn start(positions: Arc<Positions>, path: PathBuf) -> io::Result<Keeper> {
        let (stop, stopped) = bounded(0);
        let keep = move || {
            let mut failing = false;
            loop {
                let last = stopped.recv_timeout(WRITE_EVERY).is_ok();
                let written = positions.take_text().map(|text| write(&path, &text));
                match written.transpose() {
                    Ok(written) => failing &= written.is_none(),
                    Err(error) => {
                        // Once for each time that it begins to fail.
                        if !failing || last {
                            tracing::error!("cannot write {}: {error}", path.display());
                        }
                        failing = true;
                        positions.set_changed();
                    }
                }
                if last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("state".into()).spawn(keep)?;
        Ok(Keeper { stop, thread })
    }

    /// Writes it for the last time.
    pub(super) fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Writes `text` so that the file has all of it or none, whatever happens.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    // It has lines of containers in it. Whatever lies there is not ours.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::doors::mark::Mark;

    #[test]
    fn what_was_left_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let (positions, path) = open(&state).unwrap();
        assert!(!positions.is_continued());
        let now = nanos(SystemTime::now());
        positions.set("c", "r", &Mark::since(now));
        let keeper = Keeper::start(positions, path.clone()).unwrap();
        keeper.finish();
        let (positions, _) = open(&state).unwrap();
        assert_eq!(positions.of("c", "r").unwrap().at(), now);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing else is left");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it has lines in it");

        for broken in [&b"{\"until\":"[..], b"\xff\xfe"] {
            fs::write(&path, broken).unwrap();
            let (positions, _) = open(&state).unwrap();
            assert!(!positions.is_continued());
            assert_eq!(fs::read(path.with_extension("unreadable")).unwrap(), broken);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = open(file.path()).err().unwrap();
        assert!(error.starts_with(&format!("STATE_DIR={}: ", file.path().display())), "{error}");
        assert!(error.ends_with("let the program write there"), "{error}");
    }
}
