//! What a process is given and what it takes: limits of memory, descriptors and disk as guards, and
//! the kernel's figures of a process. Only processes that a test started are limited.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::process::is_root;
use super::wait_until;

/// The highest resident size that a process has had (`VmHWM`), in bytes.
pub(crate) fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// The processor time that a process has used (user and system).
pub(crate) fn processor_time(pid: u32) -> Duration {
    // In ticks, of which Linux has 100 a second whatever the machine (proc(5)).
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// How many descriptors a process has open.
pub(crate) fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How many descriptors a process may have open.
pub(crate) fn descriptors_allowed(pid: u32) -> usize {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let soft =
        limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next());
    soft.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// Sets how many descriptors a process may have open from now on.
pub(crate) fn limit_descriptors(pid: u32, most: usize) {
    // Only the soft limit, so that the test can raise it again without any right to do so.
    let args = ["--pid".to_owned(), pid.to_string(), format!("--nofile={most}:")];
    let status = Command::new("prlimit").args(&args).status();
    assert!(status.as_ref().is_ok_and(|s| s.success()), "prlimit {args:?}: {status:?}");
}

/// A group of processes that share so much memory: a cgroup, of either version.
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    limit: &'static str,
    peak: &'static str,
}

impl MemoryGroup {
    /// A group of so many bytes. `None` where this kernel, or this user, has no such thing.
    pub(crate) fn of(bytes: u64) -> Option<MemoryGroup> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("logchute-test-{}-{n}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory");
        let second = Path::new("/sys/fs/cgroup");
        let (parent, limit, peak) = if first.join("memory.limit_in_bytes").is_file() {
            (first, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        } else {
            let enabled = fs::read_to_string(second.join("cgroup.subtree_control"));
            enabled.is_ok_and(|e| e.split_whitespace().any(|c| c == "memory")).then_some(())?;
            (second, "memory.max", "memory.peak")
        };
        let group = MemoryGroup { folder: parent.join(name), limit, peak };
        fs::create_dir(&group.folder).ok()?;
        fs::write(group.folder.join(group.limit), bytes.to_string()).ok()?;
        Some(group)
    }

    /// Its folder: processes come into it by being written to `cgroup.procs` there.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The most that its processes had at once, page cache included.
    pub(crate) fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join(self.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It can be removed once its last process has been waited for.
        wait_until(Duration::from_secs(5), || fs::remove_dir(&self.folder).is_ok());
    }
}

/// A disk of its own, and a small one: a tmpfs on a temporary folder.
pub(crate) struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// One of so many bytes. `None` without the right to mount it.
    pub(crate) fn of(bytes: u64) -> Option<SmallDisk> {
        let folder = tempfile::Builder::new().prefix("lct-disk-").tempdir().unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "logchute-test"]).arg(folder.path());
        let mounted = is_root() && mount.status().is_ok_and(|s| s.success());
        mounted.then_some(SmallDisk { folder })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
