//! What a spool does to files that are there: the few calls by which they get other content. In the
//! simulation (`tests/sim`) the files are real and their disk is not: see [`simulated`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes all of `bytes` at a place of a file.
///
/// # Errors
/// Where the disk does not take all; some of it may be written.
pub(super) fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(test)]
    if let Some(len) = simulated::takes(bytes.len()) {
        file.write_all_at(&bytes[..len], at)?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all_at(bytes, at)
}

/// Cuts a file off.
///
/// # Errors
/// Where the disk does not do it.
pub(super) fn cut(file: &File, len: u64) -> io::Result<()> {
    #[cfg(test)]
    simulated::lives()?;
    file.set_len(len)
}

/// Deletes a file.
///
/// # Errors
/// Where the disk does not do it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    simulated::lives()?;
    fs::remove_file(path)
}

/// Has the disk write what it has of a file.
///
/// # Errors
/// Where it cannot.
pub(super) fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    if simulated::is_entered() {
        return Ok(());
    }
    file.sync_data()
}

/// A disk that is made up, for the spools of a thread that runs the simulation.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;
    use std::time::Duration;

    /// What happens to what is written to it.
    pub(crate) trait Disk {
        /// How many of `len` bytes are written before it fails; all, if it does not.
        fn takes(&self, len: usize) -> usize;
        /// Whether files can be cut and deleted.
        fn lives(&self) -> bool;
        /// How long it takes to come to the next order.
        fn pause(&self) -> Duration;
        /// A fault that is planted: the first record of each chunk that is read is missing.
        fn skips(&self) -> bool;
    }

    thread_local! {
        static DISK: RefCell<Option<Rc<dyn Disk>>> = const { RefCell::new(None) };
    }

    /// From now on the files of this thread's spools are on `disk`; with `None` on a real one.
    pub(crate) fn enter(disk: Option<Rc<dyn Disk>>) {
        DISK.set(disk);
    }

    fn disk() -> Option<Rc<dyn Disk>> {
        DISK.with_borrow(Clone::clone)
    }

    /// Whether the disk is made up.
    pub(crate) fn is_entered() -> bool {
        disk().is_some()
    }

    /// How much of a write comes onto the disk, if not all.
    pub(super) fn takes(len: usize) -> Option<usize> {
        disk().map(|disk| disk.takes(len)).filter(|taken| *taken < len)
    }

    /// See [`Disk::lives`].
    pub(super) fn lives() -> io::Result<()> {
        let dead = disk().is_some_and(|disk| !disk.lives());
        if dead { Err(io::Error::other("the disk is dead")) } else { Ok(()) }
    }

    /// See [`Disk::pause`].
    pub(in crate::spool) fn pause() -> Duration {
        disk().map_or(Duration::ZERO, |disk| disk.pause())
    }

    /// See [`Disk::skips`].
    pub(in crate::spool) fn skips() -> bool {
        disk().is_some_and(|disk| disk.skips())
    }
}
