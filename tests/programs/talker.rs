//! The program inside the test containers: writes lines that the tests can account for.
//!
//! Only `std`; it is the sole file of an image made `FROM scratch`. It touches its standard
//! output and error and nothing else. The arguments are in [`USAGE`].

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What it understands. A numbered line is `PREFIX NNNNNNNN PADDING\n`; see [`put_line`].
const USAGE: &str = "\
talker lines N [OPTION]...  N numbered lines
talker timed N [OPTION]...  the same, line by line; then `PREFIX slowest write NNN us of N`
talker repeat TEXT N        TEXT, N times, one a line
talker long BYTES           one line of so many bytes, newline included
talker binary               all 256 byte values, newline last, between two lines of text
talker tick MS              numbered lines for ever, one each MS milliseconds
talker traces MS            a numbered line and, on standard error, the stack trace of a Java program
                            with its number, for ever; MS milliseconds after each of its lines
talker silent SECS          nothing, for so long
talker load PERCENT MIB     nothing, for ever: so much of one processor, and so much memory
options: --prefix P (@t)  --bytes B (64, a line's length, newline included)
  --stderr-every K (every Kth line to standard error)  --delay-us D (after each line)
  --rate LPS (lines a second)  --linewise (one write a line)  --first N (first number, 1)
  --hex (number in hexadecimal, right behind the prefix)
  --unterminated (no newline after the last)  --sleep-first MS  --sleep-last MS
  --fail (exit code 3)
";

/// Written at once unless `--linewise`.
const CHUNK: usize = 64 * 1024;

/// What the padding of a line repeats.
const PADDING: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

struct Options {
    prefix: String,
    bytes: usize,
    stderr_every: u64,
    delay: Duration,
    rate: u64,
    linewise: bool,
    hex: bool,
    first: u64,
    unterminated: bool,
    sleep_first: Duration,
    sleep_last: Duration,
    fail: bool,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut o = Options {
        prefix: "@t".into(),
        bytes: 64,
        stderr_every: 0,
        delay: Duration::ZERO,
        rate: 0,
        linewise: false,
        hex: false,
        first: 1,
        unterminated: false,
        sleep_first: Duration::ZERO,
        sleep_last: Duration::ZERO,
        fail: false,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        match name.as_str() {
            "--linewise" => o.linewise = true,
            "--hex" => o.hex = true,
            "--unterminated" => o.unterminated = true,
            "--fail" => o.fail = true,
            "--prefix" => o.prefix = args.next().ok_or("--prefix needs a value")?.clone(),
            _ => {
                let value = number(args.next())?;
                match name.as_str() {
                    "--bytes" => o.bytes = value as usize,
                    "--stderr-every" => o.stderr_every = value,
                    "--delay-us" => o.delay = Duration::from_micros(value),
                    "--rate" => o.rate = value,
                    "--first" => o.first = value,
                    "--sleep-first" => o.sleep_first = Duration::from_millis(value),
                    "--sleep-last" => o.sleep_last = Duration::from_millis(value),
                    _ => return Err(format!("unknown option {name}")),
                }
            }
        }
    }
    Ok(o)
}

fn number(text: Option<&String>) -> Result<u64, String> {
    let text = text.ok_or("a number is missing")?;
    text.parse().map_err(|_| format!("not a number: {text}"))
}

/// Appends line `n`: the prefix, the number in 8 digits, and padding up to `o.bytes`, the newline
/// included (a line is never shorter than prefix and number).
fn put_line(buffer: &mut Vec<u8>, o: &Options, n: u64) {
    let begin = buffer.len();
    buffer.extend_from_slice(o.prefix.as_bytes());
    let number = if o.hex { format!("{n:08x} ") } else { format!(" {n:08} ") };
    buffer.extend_from_slice(number.as_bytes());
    let left = (o.bytes.saturating_sub(1)).saturating_sub(buffer.len() - begin);
    buffer.extend(PADDING.iter().cycle().take(left));
    buffer.push(b'\n');
}

/// The two outputs, each with what is not yet written, and the slowest write so far.
struct Outputs {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    slowest: Duration,
}

impl Outputs {
    fn flush(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        if !self.stdout.is_empty() {
            io::stdout().lock().write_all(&self.stdout)?;
            // Standard output keeps what follows the last newline until it is told to let go.
            io::stdout().lock().flush()?;
            self.stdout.clear();
        }
        if !self.stderr.is_empty() {
            io::stderr().lock().write_all(&self.stderr)?;
            self.stderr.clear();
        }
        self.slowest = self.slowest.max(begun.elapsed());
        Ok(())
    }
}

fn lines(count: u64, o: &Options) -> io::Result<Duration> {
    let mut out = Outputs { stdout: Vec::new(), stderr: Vec::new(), slowest: Duration::ZERO };
    let begun = Instant::now();
    let each_alone = o.linewise || !o.delay.is_zero();
    for i in 0..count {
        let n = o.first + i;
        let to_stderr = o.stderr_every > 0 && n % o.stderr_every == 0;
        let buffer = if to_stderr { &mut out.stderr } else { &mut out.stdout };
        put_line(buffer, o, n);
        if o.unterminated && i + 1 == count {
            buffer.pop();
        }
        if each_alone || out.stdout.len() + out.stderr.len() >= CHUNK {
            out.flush()?;
        }
        if !o.delay.is_zero() {
            sleep(o.delay);
        }
        if o.rate > 0 {
            let due = Duration::from_micros(1_000_000 * (i + 1) / o.rate);
            // Sleeping for less than this costs more than it paces.
            if due > begun.elapsed() + Duration::from_millis(2) {
                out.flush()?;
                sleep(due.saturating_sub(begun.elapsed()));
            }
        }
    }
    out.flush()?;
    Ok(out.slowest)
}

fn tick(every: Duration, o: &Options) -> io::Result<()> {
    let mut line = Vec::new();
    for n in o.first.. {
        line.clear();
        put_line(&mut line, o, n);
        io::stdout().lock().write_all(&line)?;
        sleep(every);
    }
    Ok(())
}

fn traces(pause: Duration, o: &Options) -> io::Result<()> {
    for n in o.first.. {
        let mut line = Vec::new();
        put_line(&mut line, o, n);
        io::stdout().lock().write_all(&line)?;
        for text in [
            format!("java.lang.IllegalStateException: {} {n:08}\n", o.prefix),
            "\tat com.acme.Orders.open(Orders.java:42)\n".into(),
            "\tat com.acme.Api.get(Api.java:17) ~[app.jar:1.4.2]\n".into(),
            "\tSuppressed: java.io.IOException: close failed\n".into(),
            "\t\tat com.acme.Pool.close(Pool.java:9)\n\t\t... 2 more\n".into(),
            "Caused by: java.sql.SQLException: connection refused\n".into(),
            "\tat org.postgresql.Driver.connect(Driver.java:297)\n\t... 12 more\n".into(),
        ] {
            io::stderr().lock().write_all(text.as_bytes())?;
            sleep(pause);
        }
    }
    Ok(())
}

fn binary() -> io::Result<()> {
    let mut all = b"before\n".to_vec();
    all.extend((0..=255u8).filter(|&b| b != b'\n'));
    all.extend_from_slice(b"\nafter\n");
    io::stdout().lock().write_all(&all)
}

fn long(bytes: usize) -> io::Result<()> {
    let mut line: Vec<u8> = PADDING.iter().copied().cycle().take(bytes.max(1) - 1).collect();
    line.push(b'\n');
    io::stdout().lock().write_all(&line)
}

/// Is busy for so many milliseconds of each hundred, with memory of its own that is not zero.
fn load(percent: u64, mib: u64) -> Result<(), String> {
    let mut memory = Vec::new();
    for n in 0..mib {
        memory.push(vec![n as u8 | 1; 1024 * 1024]);
    }
    let begun = Instant::now();
    for period in 0.. {
        let from = Duration::from_millis(100 * period);
        while begun.elapsed() < from + Duration::from_millis(percent) {
            std::hint::black_box(&memory);
        }
        sleep((from + Duration::from_millis(100)).saturating_sub(begun.elapsed()));
    }
    Ok(())
}

fn numbered(command: &str, args: &[String]) -> Result<(), String> {
    let count = number(args.first())?;
    let mut o = options(&args[1..])?;
    sleep(o.sleep_first);
    let told = match command {
        "timed" => {
            o.linewise = true;
            lines(count, &o).and_then(|slowest| {
                let us = slowest.as_micros();
                writeln!(io::stdout(), "{} slowest write {us} us of {count}", o.prefix)
            })
        }
        "tick" => tick(Duration::from_millis(count), &o),
        "traces" => traces(Duration::from_millis(count), &o),
        _ => lines(count, &o).map(drop),
    };
    told.map_err(|e| e.to_string())?;
    sleep(o.sleep_last);
    if o.fail {
        std::process::exit(3);
    }
    Ok(())
}

fn run(args: &[String]) -> Result<(), String> {
    let command = args.first().map_or("", String::as_str);
    let rest = args.get(1..).unwrap_or_default();
    match command {
        "lines" | "timed" | "tick" | "traces" => return numbered(command, rest),
        "repeat" => {
            let text = rest.first().ok_or("repeat needs a text")?;
            let count = number(rest.get(1))?;
            io::stdout().lock().write_all(format!("{text}\n").repeat(count as usize).as_bytes())
        }
        "long" => long(number(rest.first())? as usize),
        "binary" => binary(),
        "load" => return load(number(rest.first())?, number(rest.get(1))?),
        "silent" => {
            sleep(Duration::from_secs(number(rest.first())?));
            Ok(())
        }
        _ => return Err(USAGE.into()),
    }
    .map_err(|e| e.to_string())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "talker: {e}");
            ExitCode::from(2)
        }
    }
}
