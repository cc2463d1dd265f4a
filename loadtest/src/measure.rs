//! What a process costs, as the kernel tells it; and what machine this is.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::report::Machine;

/// The CPU clock of a process: user and system time of all its threads, ended ones included, to
/// the nanosecond (`/proc/PID/stat` tells hundredths of a second).
pub struct CpuClock(ClockId);

impl CpuClock {
    /// Of a process that runs.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(pid: u32) -> io::Result<CpuClock> {
        Ok(CpuClock(clock_getcpuclockid(Pid::from_raw(pid as i32))?))
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn now(&self) -> io::Result<Duration> {
        Ok(Duration::from(clock_gettime(self.0)?))
    }
}

/// The peak of a process' resident memory in MiB.
///
/// # Errors
/// If the process has ended.
pub fn peak_memory_mib(pid: u32) -> io::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib =
        field(&status, "VmHWM").and_then(|value| value.split(' ').next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("no VmHWM in /proc/PID/status"))
}

/// The value of a `name: value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// This machine, as far as it can be told.
pub fn machine() -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kib = field(&memory, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
    Machine {
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        memory_mib: kib.unwrap_or(0_u64) / 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_seen_to_be_busy() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let before = clock.now().unwrap();
        let mut sum = 0_u64;
        while clock.now().unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0 && peak_memory_mib(std::process::id()).unwrap() > 1.0);
    }

    #[test]
    fn fields_of_proc() {
        let text = "Name:\tx\nVmHWM:\t    4096 kB\nmodel name\t: Some CPU\n";
        assert_eq!(field(text, "VmHWM"), Some("4096 kB"));
        assert_eq!(field(text, "model name"), Some("Some CPU"));
        assert_eq!(field(text, "absent"), None);
    }
}
