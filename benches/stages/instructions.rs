//! Instructions a line by stage, counted by callgrind, against the counts in the repository.
//!
//! The counts do not depend on how busy or how fast the machine is. They do depend on the compiler,
//! on libc (its `memcpy`) and on what the CPU can do: memchr and aho-corasick choose AVX2 when they
//! run. Valgrind shows every program the same CPU as far as AVX2 (never AVX-512), so the model does
//! not matter; on a machine without AVX2 nothing is counted, and that is said. With another
//! compiler, libc or valgrind than those of the baseline only a rise of more than 10 % fails.
//! Of what libc copies by `rep movsb` (from some KiB on) callgrind counts every byte: the counts of
//! lines of 8 KB say little about time.
//!
//! This process runs itself under valgrind, once for all cases: callgrind collects within
//! [`counted_by_callgrind`] alone and writes a file each time that [`counted_until_here`] is called,
//! under `target/release/deps/callgrind/`: `callgrind_annotate FILE` says where the instructions go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use crate::cases::{Case, Pass, Stage, cases};
use crate::corpus::READ;

/// The first argument of the process that valgrind runs.
pub(crate) const CHILD: &str = "counted-by-valgrind";
/// Relative changes beyond which a count has changed: with the tools of the baseline, and others.
const LIMIT: f64 = 0.03;
const LIMIT_OTHER_TOOLS: f64 = 0.10;
/// Instructions a line below which a change is none, whatever it is in percent.
const LEAST: f64 = 0.25;

/// What `benches/instructions.json` holds.
#[derive(Serialize, Deserialize)]
struct Baseline {
    tools: Tools,
    instructions_per_line: BTreeMap<String, f64>,
}

/// What the counts depend on, apart from the program.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Tools {
    rustc: String,
    libc: String,
    valgrind: String,
}

impl Tools {
    fn here() -> Result<Tools, String> {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let valgrind = first_line("valgrind", "--version")
            .map_err(|error| format!("valgrind: {error}; install it (apt-get install valgrind)"))?;
        let unknown = |_| "unknown".to_owned();
        Ok(Tools {
            rustc: first_line(&rustc, "--version").unwrap_or_else(unknown),
            libc: first_line("getconf", "GNU_LIBC_VERSION").unwrap_or_else(unknown),
            valgrind,
        })
    }
}

fn first_line(program: &str, argument: &str) -> io::Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// What the command line asks for.
struct Asked {
    record: bool,
    /// Parts of names; with none, all cases.
    parts: Vec<String>,
}

/// `instructions [--record] [PART OF A NAME]...`
pub(crate) fn main(args: &[String]) -> ExitCode {
    let done = asked(args).and_then(|asked| run(&asked));
    done.unwrap_or_else(|error| {
        println!("error: {error}");
        ExitCode::FAILURE
    })
}

fn asked(args: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { record: false, parts: Vec::new() };
    for arg in args {
        match arg.as_str() {
            "--record" => asked.record = true,
            // What cargo adds.
            "--bench" => {}
            flag if flag.starts_with('-') => {
                return Err(format!("bad argument {flag:?}: use --record, or a part of a name"));
            }
            part => asked.parts.push(part.to_owned()),
        }
    }
    if asked.record && !asked.parts.is_empty() {
        return Err("--record is for all cases: leave the names out".to_owned());
    }
    Ok(asked)
}

fn run(asked: &Asked) -> Result<ExitCode, String> {
    if cfg!(debug_assertions) {
        return Err("this build is not optimised: use the bench profile".to_owned());
    }
    let tools = Tools::here()?;
    let Some(counts) = count(&asked.parts)? else {
        let lack = "this CPU has no AVX2: what would be counted is other code";
        if asked.record {
            return Err(format!("{lack}; record on another machine"));
        }
        loud(&format!("{lack}. NOT CHECKED"));
        return Ok(ExitCode::SUCCESS);
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let baseline: Option<Baseline> = match fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).map_err(|e| format!("{path:?}: {e}"))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{path:?}: {error}")),
    };
    print!("{}", table(&counts, baseline.as_ref()));
    if asked.record {
        let instructions_per_line = counts.into_iter().map(|count| (count.name, count.per_line));
        let baseline = Baseline { tools, instructions_per_line: instructions_per_line.collect() };
        let text = serde_json::to_string_pretty(&baseline).map_err(|error| error.to_string())?;
        fs::write(&path, text + "\n").map_err(|error| format!("{path:?}: {error}"))?;
        println!("recorded: commit benches/instructions.json with what changed the counts");
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = baseline.ok_or(format!("{path:?} is not there: --record"))?;
    let whole = asked.parts.is_empty();
    Ok(if verdict(&counts, &baseline, &tools, whole) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn loud(text: &str) {
    println!("\n*** {text} ***");
}

/// A case and its count.
struct Count {
    stage: Stage,
    name: String,
    per_line: f64,
}

fn selected(parts: &[String]) -> Vec<(String, Case)> {
    let all = Stage::ALL.into_iter().flat_map(cases);
    let named = all.map(|case| (format!("{}: {case}", case.stage.name()), case));
    named.filter(|(name, _)| parts.is_empty() || parts.iter().any(|p| name.contains(p))).collect()
}

/// Runs the cases under valgrind; `None` where the CPU is not one that counts can be compared on.
fn count(parts: &[String]) -> Result<Option<Vec<Count>>, String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = exe.with_file_name("callgrind");
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::create_dir(&folder).map_err(failed)?;
    let out = folder.join("out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*counted_by_callgrind*"])
        .arg("--dump-before=*counted_until_here*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&exe)
        .arg(CHILD)
        .args(parts)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("valgrind: {}", output.status));
    }
    if said.trim() == NO_AVX2 {
        return Ok(None);
    }
    let cases = selected(parts);
    if said.lines().count() != cases.len() {
        return Err(format!("{} cases, but counted were:\n{said}", cases.len()));
    }
    let counts =
        cases.into_iter().zip(said.lines()).enumerate().map(|(at, ((name, case), lines))| {
            let lines: f64 = lines.parse().map_err(|_| format!("not a count of lines: {lines}"))?;
            let dump = PathBuf::from(format!("{}.{}", out.display(), at + 1));
            let total = total(&dump)?;
            let kept = folder.join(name.replace([' ', ':', ',', '*', '%', '/'], "_") + ".out");
            fs::rename(&dump, &kept).map_err(failed)?;
            let per_line = (total as f64 / lines * 100.0).round() / 100.0;
            Ok(Count { stage: case.stage, name, per_line })
        });
    println!("for callgrind_annotate: {}", folder.display());
    counts.collect::<Result<_, String>>().map(Some)
}

/// All instructions of a callgrind file.
fn total(dump: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(dump).map_err(|error| format!("{}: {error}", dump.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.and_then(|total| total.trim().parse().ok()).filter(|total| *total > 0);
    total.ok_or(format!("{}: nothing was counted", dump.display()))
}

/// The table that people read.
fn table(counts: &[Count], baseline: Option<&Baseline>) -> String {
    let mut text = String::from("\ninstructions a line, before and change\n");
    let mut stage = None;
    for count in counts {
        if stage != Some(count.stage) {
            let _ = writeln!(text, "\n{}", count.stage.name());
            stage = Some(count.stage);
        }
        let (_, name) = count.name.split_once(": ").unwrap_or_default();
        let _ = write!(text, "  {name:58} {:10.2}", count.per_line);
        if let Some(before) = baseline.and_then(|b| b.instructions_per_line.get(&count.name)) {
            let change = (count.per_line / before - 1.0) * 100.0;
            let _ = write!(text, " {before:10.2} {change:+7.1} %");
        }
        text.push('\n');
    }
    text
}

/// Says what changed; whether that is acceptable.
fn verdict(counts: &[Count], baseline: &Baseline, tools: &Tools, whole: bool) -> bool {
    let same_tools = *tools == baseline.tools;
    let limit = if same_tools { LIMIT } else { LIMIT_OTHER_TOOLS };
    if !same_tools {
        let was = &baseline.tools;
        loud("the baseline was recorded with other tools: only more than 10 % is a change");
        println!("recorded with {was:?}\nnow           {tools:?}");
    }
    let (mut rose, mut fell, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for Count { name, per_line, .. } in counts {
        let Some(before) = baseline.instructions_per_line.get(name) else {
            unknown.push(name.as_str());
            continue;
        };
        let least = LEAST.max(before * limit);
        if per_line - before > least {
            rose.push(name.as_str());
        } else if before - per_line > least {
            fell.push(name.as_str());
        }
    }
    let gone = baseline.instructions_per_line.keys().map(String::as_str);
    let gone: Vec<&str> =
        gone.filter(|name| whole && !counts.iter().any(|count| count.name == *name)).collect();
    let list = |what: &str, names: &[&str]| {
        if !names.is_empty() {
            loud(what);
            names.iter().for_each(|name| println!("  {name}"));
        }
    };
    let how = "cargo bench --bench stages -- instructions --record";
    list(&format!("cheaper than before: record it, so that it stays ({how})"), &fell);
    list(&format!("MORE INSTRUCTIONS than before: mend it, or record why ({how})"), &rose);
    list(&format!("not in the baseline ({how})"), &unknown);
    list(&format!("in the baseline, but not a case any more ({how})"), &gone);
    let good = rose.is_empty() && unknown.is_empty() && gone.is_empty();
    println!(
        "\n{}",
        if good { "instructions: as recorded or fewer" } else { "instructions: FAILED" }
    );
    good
}

/// What the child says instead of numbers.
const NO_AVX2: &str = "no AVX2";

/// Under valgrind: runs each case once where it is counted; says how many lines that were.
pub(crate) fn child(parts: &[String]) -> ExitCode {
    if !has_avx2() {
        println!("{NO_AVX2}");
        return ExitCode::SUCCESS;
    }
    for (_, case) in selected(parts) {
        let mut pass = case.pass(READ);
        // The third pass is as the thousandth: all buffers are there.
        pass.run();
        pass.run();
        counted_by_callgrind(&mut pass);
        counted_until_here(pass.lines);
    }
    ExitCode::SUCCESS
}

/// Callgrind collects in here: it finds this and the next function by their names.
#[inline(never)]
fn counted_by_callgrind(pass: &mut Pass) {
    pass.run();
}

/// Callgrind writes what it has collected whenever this is called. (`--dump-after`, for the
/// function that is counted, has no effect together with `--toggle-collect`.)
#[inline(never)]
fn counted_until_here(lines: usize) {
    println!("{lines}");
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}
