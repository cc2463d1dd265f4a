//! Folders that are one program's alone: a lock that keeps a second one out, and files that nobody
//! else reads.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file's name.
const LOCK: &str = "lock";

/// Takes `folder`, which is there, for as long as the file lives; `None` where somebody else has
/// it. The lock is the kernel's (`flock`): it ends with the program, whatever ends that, and the
/// file that stays behind means nothing.
///
/// # Errors
/// Where the file cannot be made, or the file system has no locks.
pub fn take(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let lock = private().write(true).create(true).truncate(false).open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Files that nobody else reads: what containers write may be secret.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_none_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path()).unwrap();
        assert!(first.is_some() && take(folder.path()).unwrap().is_none());
        drop(first);
        assert!(take(folder.path()).unwrap().is_some(), "the file alone is no lock");
        assert!(take(&folder.path().join("missing")).is_err());
    }
}
