//! The style of the source, as far as it can be told from its text: what a reviewer would have to
//! look for otherwise. Reads files, runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Which module may use which: an arrow that is not here is a decision to be taken, and then to
/// be written down here and in `docs/ARCHITECTURE.md`. The stages of a line's way come first, in
/// its order; `shard` composes them, `control` runs the program.
const ARROWS: &[(&str, &[&str])] = &[
    ("metrics", &[]),
    ("msgpack", &[]),
    ("stamp", &[]),
    ("buffer", &[]),
    ("sys", &[]),
    ("template", &["stamp", "sys"]),
    // Values are checked where they are read, by the parsers of whoever they are for.
    ("config", &["buffer", "docker", "route"]),
    ("docker", &["config", "stamp"]),
    ("lines", &["sys"]),
    ("route", &["docker", "lines", "sys"]),
    (
        "sink",
        &[
            "buffer",
            "config",
            "docker",
            "lines",
            "msgpack",
            "route",
            "stamp",
            "sys",
            "template",
            "transport",
        ],
    ),
    ("doors", &["docker"]),
    ("io", &["config", "sys"]),
    ("spool", &["buffer", "metrics"]),
    (
        "transport",
        &["buffer", "config", "docker", "io", "metrics", "msgpack", "spool", "stamp", "sys"],
    ),
    // The last three for what clients of `/logs` are shown.
    ("admin", &["metrics", "route", "sink", "stamp", "transport"]),
    (
        "shard",
        &[
            "buffer",
            "config",
            "docker",
            "doors",
            "io",
            "lines",
            "metrics",
            "route",
            "sink",
            "spool",
            "stamp",
            "transport",
        ],
    ),
    (
        "control",
        &[
            "admin",
            "buffer",
            "config",
            "docker",
            "io",
            "lines",
            "metrics",
            "route",
            "shard",
            "sink",
            "spool",
            // For the one line of `slack-test`.
            "stamp",
            "transport",
        ],
    ),
];

/// Pure: bytes (and `now`) in, values out.
const STAGES: &[&str] = &[
    "metrics", "msgpack", "stamp", "buffer", "template", "docker", "lines", "route", "sink",
    "doors",
];
/// What no stage may know. `sink` alone says how its records travel.
const NOT_FOR_STAGES: &[&str] = &["io", "spool", "transport", "shard", "control", "admin"];
const SINK_MAY_USE: &[&str] = &[
    "Delivery",
    "StreamTarget",
    "DatagramTarget",
    "HostPort",
    "batch",
    "forward",
    "http",
    "tls",
    "webhook",
];

const LINE_MAX: usize = 100;
const FUNCTION_MAX: usize = 70;

/// A file and its text.
#[derive(Clone)]
struct Source {
    /// Where it is, from the root of the project.
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file under `place`, which may be one itself.
fn files(place: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut places = vec![root().join(place)];
    while let Some(place) = places.pop() {
        if place.is_dir() {
            let entries = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path());
            places.extend(entries.filter(|path| !path.ends_with("target")));
        } else if let Ok(text) = fs::read_to_string(&place) {
            let path = place.strip_prefix(root()).unwrap().to_owned();
            found.push(Source { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The Rust files of the product.
fn sources() -> Vec<Source> {
    rust_files("src")
}

/// Those that the style is for: the product's and the load-test harness's.
fn styled() -> Vec<Source> {
    [rust_files("src"), rust_files("loadtest/src")].concat()
}

fn rust_files(place: &str) -> Vec<Source> {
    let mut sources = files(place);
    sources.retain(|source| source.path.extension().is_some_and(|ext| ext == "rs"));
    assert!(sources.len() > 15, "where is the source?");
    sources
}

impl Source {
    /// The module at the top of the tree that it belongs to.
    fn module(&self) -> &str {
        let part = self.path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
        part.strip_suffix(".rs").unwrap_or(part)
    }

    /// The lines that are built into the product: without comments, and without what is marked as
    /// for tests, which by custom is at the end of a file. With their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let test =
            |line: &&str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(any(test");
        let lines = self.text.lines().collect::<Vec<_>>();
        // A declaration such as `mod tests;` is no end of the code.
        let end = lines
            .iter()
            .enumerate()
            .position(|(at, line)| {
                test(line) && lines.get(at + 1).is_some_and(|l| l.ends_with('{'))
            })
            .unwrap_or(lines.len());
        let code = lines.into_iter().enumerate().take(end);
        code.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Whether it is compiled for tests only: its parent declares it so.
    fn is_test(&self) -> bool {
        let stem = self.path.file_stem().unwrap().to_str().unwrap();
        let parent = root().join(&self.path).with_file_name("mod.rs");
        let declared = fs::read_to_string(parent).unwrap_or_default();
        declared.contains(&format!("#[cfg(test)]\nmod {stem};"))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// Fails with all complaints at once.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_says_why_it_exists() {
    let silent = styled().into_iter().filter(|source| !source.text.starts_with("//! "));
    none(silent.map(|source| source.at(1)).collect());
}

#[test]
fn lines_and_functions_are_short() {
    let head = Regex::new(r"^( *)(pub(\([a-z]+\))? )?(const |async |unsafe )*fn (\w+)").unwrap();
    let mut complaints = Vec::new();
    for source in styled() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.chars().count() > LINE_MAX {
                complaints.push(format!("{}: longer than {LINE_MAX}", source.at(at + 1)));
            }
            let Some(head) = head.captures(line) else { continue };
            let rest = &lines[at..];
            let opens = rest.iter().find(|line| line.ends_with(['{', '}', ';']));
            // As rustfmt has it, a function ends where its own indentation comes back; one that
            // is a line, or has no body, does not open.
            let close = format!("{}}}", &head[1]);
            let end = rest.iter().position(|line| *line == close);
            if let (true, Some(end)) = (opens.is_some_and(|line| line.ends_with('{')), end)
                && end >= FUNCTION_MAX
            {
                let (at, name) = (source.at(at + 1), &head[5]);
                complaints.push(format!("{at}: {name} has {} lines", end + 1));
            }
        }
    }
    none(complaints);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"];
    let mut complaints = Vec::new();
    for source in styled() {
        for (at, line) in source.text.lines().enumerate() {
            let word = |mark: &&str| Regex::new(&format!(r"\b{mark}")).unwrap().is_match(line);
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark) && word(mark)) {
                complaints.push(format!("{}: {mark}", source.at(at + 1)));
            }
        }
    }
    none(complaints);
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let word = Regex::new(r"\bunsafe\b").unwrap();
    let mut complaints = Vec::new();
    for source in styled().iter().filter(|source| !source.path.starts_with("src/sys")) {
        let places = source.code().filter(|(_, line)| word.is_match(line));
        complaints.extend(places.map(|(at, _)| source.at(at)));
    }
    none(complaints);
}

#[test]
fn stages_never_wait() {
    let waits = Regex::new(r"\.await\b|\basync\b|\bsleep\(").unwrap();
    let mut complaints = Vec::new();
    let stages = sources().into_iter().filter(|source| STAGES.contains(&source.module()));
    for source in stages.filter(|source| !source.is_test()) {
        let places = source.code().filter(|(_, line)| waits.is_match(line));
        complaints.extend(places.map(|(at, _)| source.at(at)));
    }
    none(complaints);
}

/// A simulation has clocks of its own. Tokio's is the runtime's.
#[test]
fn clocks_are_read_in_one_place() {
    let reads = Regex::new(r"\b(?:Instant|SystemTime)::now\(\)|\.elapsed\(\)").unwrap();
    let mut complaints = Vec::new();
    let simulated = sources().into_iter().filter(|source| {
        let path = source.path.to_str().unwrap();
        let is_there = matches!(source.module(), "io" | "shard" | "transport");
        (is_there || path.ends_with("control/watch.rs"))
            && !path.contains("/webhook/")
            && !path.ends_with("io/clock.rs")
            && !source.text.contains("use tokio::time::{Instant")
    });
    for source in simulated {
        let places = source.code().filter(|(_, line)| reads.is_match(line));
        complaints.extend(places.map(|(at, _)| source.at(at)));
    }
    none(complaints);
}

#[test]
fn arrows_are_those_of_the_drawing() {
    let path = Regex::new(r"\bcrate::(\w+)(?:::(\{[^}]*\}|\w+))?").unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let from = source.module();
        let Some(to) = allowed.get(from) else {
            let known = matches!(from, "lib" | "main");
            complaints.extend((!known).then(|| format!("{from}: a module without a row")));
            continue;
        };
        // Joined, since a list in braces may take more than one line.
        let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        for used in path.captures_iter(&code).filter(|used| &used[1] != from) {
            seen.insert((from.to_owned(), used[1].to_owned()));
            let here = source.path.display();
            if !to.contains(&&used[1]) {
                complaints.push(format!("{here}: {from} uses {}", &used[1]));
            }
            if from == "sink" && &used[1] == "transport" {
                let names = used.get(2).map_or("", |names| names.as_str());
                let names = names.split([' ', ',', '{', '}', '\n']).filter(|name| !name.is_empty());
                let others = names.filter(|name| !SINK_MAY_USE.contains(name));
                complaints.extend(others.map(|name| format!("{here}: transport::{name}")));
            }
        }
    }
    // An arrow that is gone is to be taken out of the table too.
    for (from, to) in ARROWS.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to))) {
        let unused = !seen.contains(&((*from).to_owned(), (*to).to_owned()));
        complaints.extend(unused.then(|| format!("{from} does not use {to} any more")));
    }
    none(complaints);
}

#[test]
fn stages_know_nothing_of_what_is_around_them() {
    for (from, to) in ARROWS.iter().filter(|(from, _)| STAGES.contains(from)) {
        let foreign: Vec<_> = to.iter().filter(|to| NOT_FOR_STAGES.contains(to)).collect();
        let travels: &[&&str] = if *from == "sink" { &[&"transport"] } else { &[] };
        assert_eq!(foreign, travels, "{from}");
    }
}

/// One that is not would be said to have no effect.
#[test]
fn every_option_that_is_read_is_in_the_table() {
    let read = Regex::new(r#"\b(?:option|given|own|read|text|value)\(\s*"([a-z_.]+)""#).unwrap();
    let sources = sources();
    let table = sources.iter().find(|source| source.path.ends_with("config/table.rs")).unwrap();
    let (mut complaints, mut options) = (Vec::new(), 0);
    // What `admin` reads is of its clients.
    let others = sources.iter().filter(|source| source.module() != "admin" && !source.is_test());
    for source in others.filter(|source| source.path != table.path) {
        let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        for option in read.captures_iter(&code) {
            options += 1;
            let known = table.text.contains(&format!(".option(\"{}\")", &option[1]));
            complaints.extend((!known).then(|| format!("{}: {option:?}", source.path.display())));
        }
    }
    none(complaints);
    assert!(options > 20, "{options}");
}

#[test]
fn every_sink_is_in_the_table() {
    let sources = sources();
    let table = sources.iter().find(|source| source.path.ends_with("sink/mod.rs")).unwrap();
    let table = table.text.split("pub const SINKS").nth(1).unwrap();
    let table = table.split(';').next().unwrap();
    let mut sinks = 0;
    for source in sources.iter().filter(|source| source.module() == "sink") {
        if source.text.contains("pub const SPEC: SinkSpec") {
            let stem = source.path.file_stem().unwrap().to_str().unwrap();
            assert!(table.contains(&format!("{stem}::SPEC")), "{stem} is not in SINKS");
            sinks += 1;
        }
    }
    assert_eq!(table.matches("::SPEC").count(), sinks);
    assert!(sinks >= 3);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Put together here, so that this file does not name them itself.
    let places = ["work", "tmp/wt"].map(|place| format!("/{place}/"));
    let mut complaints = Vec::new();
    let parts = [
        "src",
        "tests",
        "benches",
        "fuzz",
        "loadtest",
        "docs",
        "README.md",
        "CHANGELOG.md",
        "Cargo.toml",
    ];
    for source in parts.iter().flat_map(|part| files(part)) {
        // Recorded from other programs: what they say of themselves is data.
        if source.path.starts_with("tests/conformance") {
            continue;
        }
        for (at, line) in source.text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| line.contains(&***place)) {
                complaints.push(format!("{}: {place}", source.at(at + 1)));
            }
        }
    }
    none(complaints);
}
