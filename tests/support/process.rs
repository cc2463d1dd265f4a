//! A child process as a guard: signalled by its id, its standard error kept, ended on drop.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait_until;

/// A running program.
pub(crate) struct Process {
    child: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with no standard input and its standard error collected.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let reader = child.stderr.take().map(|pipe| collect(pipe, Arc::clone(&stderr)));
        Process { child, stderr, reader }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output, where the command was given a pipe for it; once.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends `name` (`TERM`, `STOP` …) to the process, unless it has ended.
    pub(crate) fn signal(&mut self, name: &str) {
        if self.ended().is_none() {
            signal(self.child.id(), name);
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, at most so long.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(limit, || {
            status = self.ended();
            status.is_some()
        });
        status
    }

    /// Waits until all is read that it wrote to standard error before it ended.
    pub(crate) fn hear_out(&self) {
        let is_over = || self.reader.as_ref().is_none_or(JoinHandle::is_finished);
        wait_until(Duration::from_secs(5), is_over);
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// Ends it at once (SIGKILL) and waits for that.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // A grandchild may hold the pipe open: the reader is left to end by itself then.
        if let Some(reader) = self.reader.take() {
            wait_until(Duration::from_millis(200), || reader.is_finished());
        }
    }
}

/// Sends a signal by name; the process must be one that a test started.
pub(crate) fn signal(pid: u32, name: &str) {
    // `kill` of the shell: no crate for one call, and no dependence on procps.
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).status();
}

/// Whether there is a process of this id that is more than a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Whether every thread of a process stands still (SIGSTOP).
pub(crate) fn stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    });
    states.next().is_some_and(|first| first && states.all(|s| s))
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let uid = status.lines().find_map(|l| l.strip_prefix("Uid:"));
        uid.and_then(|l| l.split_whitespace().nth(1)) == Some("0")
    })
}

fn collect(mut pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
    })
}
