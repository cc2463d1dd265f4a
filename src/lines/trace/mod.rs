//! The shapes of stack traces: which lines belong to the one before them, by language.
//!
//! Pure: a line and what was seen before it in, a [`Mark`] out. Where any line may be the head of a
//! trace (Java, .NET, Ruby, Node) every line waits for the next one; where heads are known (Python,
//! Go) the others go their way at once. What is not part of a trace is never joined.

use memchr::{memchr_iter, memmem};

use super::group::Mark;

/// A language whose traces are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Java, Kotlin, Scala.
    Java,
    /// Python 2 and 3, groups of exceptions too.
    Python,
    /// Go: panics, fatal errors and dumps of goroutines.
    Go,
    /// .NET, and entries of its console logger.
    Dotnet,
    /// Ruby, whichever end comes first; Rails.
    Ruby,
    /// Node.js, with the properties of an error and the excerpt of the source.
    Node,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 6] =
        [Preset::Java, Preset::Python, Preset::Go, Preset::Dotnet, Preset::Ruby, Preset::Node];

    /// As it is written in settings.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Java => "java",
            Preset::Python => "python",
            Preset::Go => "go",
            Preset::Dotnet => "dotnet",
            Preset::Ruby => "ruby",
            Preset::Node => "node",
        }
    }
}

/// What came last, as far as the next line depends on it. Not every language has all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    /// Nothing of a trace.
    #[default]
    Plain,
    /// The head of a trace.
    Head,
    /// A frame, or what stands between frames.
    Frame,
    /// The end of a trace, behind which another one may be linked to it.
    End,
    /// An empty line behind that.
    Gap,
    /// The words that link the next trace to this one.
    Link,
    /// Node: where in the source it happened; Ruby: an empty line before an excerpt of it.
    Place,
    /// That line of the source.
    Excerpt,
    /// What points at the place in that line.
    Pointer,
    /// A part of a group of exceptions, an entry of a logger, or the properties of an error.
    Inner,
    /// Node: the modules on whose behalf one was looked for.
    Requirers,
}

/// Tells where each line of one container and source belongs.
#[derive(Clone, Debug)]
pub struct Tracer {
    preset: Preset,
    seen: Seen,
}

/// A line, without its `\n` and `\r`.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// All of it.
    text: &'a [u8],
    /// What is behind the white space at its beginning.
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn new(line: &'a [u8]) -> Line<'a> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Line { text, rest: text.trim_ascii_start() }
    }

    fn is_blank(self) -> bool {
        self.rest.is_empty()
    }

    fn indent(self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// It begins with white space, and has more.
    fn is_indented(self) -> bool {
        self.indent() > 0 && !self.is_blank()
    }

    /// Without regard to white space at its beginning.
    fn begins(self, words: &[&str]) -> bool {
        words.iter().any(|word| self.rest.starts_with(word.as_bytes()))
    }

    fn has(self, word: &str) -> bool {
        memmem::find(self.text, word.as_bytes()).is_some()
    }

    /// Where `word`, which begins with a colon, is first. Much cheaper than a search for all of it,
    /// which has to be prepared anew for each line.
    fn find_colon(self, word: &str) -> Option<usize> {
        let mut colons = memchr_iter(b':', self.text);
        colons.find(|&at| self.text[at..].starts_with(word.as_bytes()))
    }

    fn ends(self, word: &str) -> bool {
        self.text.ends_with(word.as_bytes())
    }

    /// `  at what(where)`, as Java, .NET and Node write a frame; Node may leave the brackets out.
    fn is_at(self) -> bool {
        self.indent() > 0 && self.rest.starts_with(b"at ")
    }

    /// Nothing but `^`, as what points at a place of the line above.
    fn points(self) -> bool {
        let marks = self.rest.trim_ascii_end();
        !marks.is_empty() && marks.iter().all(|byte| matches!(byte, b'^' | b'~'))
    }
}

impl Tracer {
    /// One that has seen no line.
    pub fn new(preset: Preset) -> Tracer {
        Tracer { preset, seen: Seen::Plain }
    }

    /// What was seen before has nothing to do with what comes.
    pub fn forget(&mut self) {
        self.seen = Seen::Plain;
    }

    /// Where the next line belongs; it may have its `\n`.
    pub fn mark(&mut self, line: &[u8]) -> Mark {
        let line = Line::new(line);
        let (mark, seen) = match self.preset {
            Preset::Java => java(self.seen, line),
            Preset::Python => python(self.seen, line),
            Preset::Go => go(self.seen, line),
            Preset::Dotnet => dotnet(self.seen, line),
            Preset::Ruby => ruby(self.seen, line),
            Preset::Node => node(self.seen, line),
        };
        self.seen = seen;
        mark
    }
}

fn java(seen: Seen, line: Line<'_>) -> (Mark, Seen) {
    const NESTED: [&str; 4] =
        ["Caused by: ", "Suppressed: ", "Wrapped by: ", "nested exception is:"];
    let omitted = line.indent() > 0 && line.begins(&["... ", "[CIRCULAR REFERENCE"]);
    if omitted || line.begins(&NESTED) || line.is_at() && line.has("(") {
        return (Mark::More, Seen::Frame);
    }
    // The further lines of a message, where they are indented.
    if matches!(seen, Seen::Head | Seen::Frame) && line.is_indented() {
        return (Mark::More, seen);
    }
    (Mark::First, if names_throwable(line) { Seen::Head } else { Seen::Plain })
}

/// Whether a word such as `IllegalStateException` is there, at the end or before a colon.
fn names_throwable(line: Line<'_>) -> bool {
    let ends = memchr_iter(b':', line.text).chain([line.text.len()]);
    let mut names = ends.map(|end| &line.text[..end]);
    names.any(|name| {
        [&b"Exception"[..], b"Error", b"Throwable"].iter().any(|word| {
            let before = name.strip_suffix(*word).and_then(<[u8]>::last);
            before.is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'.')
        })
    })
}

fn dotnet(seen: Seen, line: Line<'_>) -> (Mark, Seen) {
    const LEVELS: [&str; 6] = ["trce: ", "dbug: ", "info: ", "warn: ", "fail: ", "crit: "];
    /// How far the console logger indents the lines of an entry.
    const ENTRY: usize = 6;
    let inner = line.indent() > 0 && line.begins(&["---> "]) || line.begins(&["--- End of "]);
    if inner || line.is_at() && line.has("(") {
        let entry = seen == Seen::Inner;
        // An inner exception of an AggregateException has an empty line behind it.
        let seen = if line.ends("<---") { Seen::End } else { Seen::Frame };
        return (Mark::More, if entry { Seen::Inner } else { seen });
    }
    match seen {
        Seen::Inner if line.indent() >= ENTRY && !line.is_blank() => (Mark::More, seen),
        Seen::Head | Seen::Frame if line.is_indented() => (Mark::More, seen),
        Seen::Head | Seen::Frame if line.ends("<---") => (Mark::More, Seen::End),
        Seen::End if line.is_blank() => (Mark::Perhaps, Seen::End),
        _ if line.indent() == 0 && line.begins(&LEVELS) => (Mark::First, Seen::Inner),
        _ if names_throwable(line) => (Mark::First, Seen::Head),
        _ => (Mark::First, Seen::Plain),
    }
}

fn python(seen: Seen, line: Line<'_>) -> (Mark, Seen) {
    const TRACEBACK: &str = "Traceback (most recent call last):";
    const LINKS: [&str; 2] = [
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    ];
    let group = line.begins(&["+ Exception Group Traceback"]);
    // An error of syntax in the program itself has no heading.
    let bare = line.text.starts_with(b"  File \"") && line.has(", line ");
    match seen {
        Seen::Head | Seen::Frame if line.is_indented() => (Mark::More, Seen::Frame),
        Seen::Head | Seen::Frame if is_python_exception(line) => (Mark::More, Seen::End),
        Seen::Inner if line.begins(&["|", "+"]) => (Mark::More, Seen::Inner),
        // A message of several lines, as far as they are indented.
        Seen::End if line.is_indented() && !group && !bare => (Mark::More, Seen::End),
        Seen::End | Seen::Inner if line.is_blank() => (Mark::Perhaps, Seen::Gap),
        Seen::Gap if line.begins(&LINKS) => (Mark::More, Seen::Link),
        Seen::Link if line.is_blank() => (Mark::More, Seen::Link),
        Seen::Link if group => (Mark::More, Seen::Inner),
        Seen::Link if line.ends(TRACEBACK) => (Mark::More, Seen::Head),
        _ if group => (Mark::First, Seen::Inner),
        _ if bare || line.ends(TRACEBACK) => (Mark::First, Seen::Head),
        _ => (Mark::Alone, Seen::Plain),
    }
}

/// `package.Class: message`, or the class alone.
fn is_python_exception(line: Line<'_>) -> bool {
    let name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let name = line.text.iter().position(|byte| !name_byte(byte)).unwrap_or(line.text.len());
    let named = line.text.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    // `app.<locals>.Error` is a class too.
    let local = line.text[name..].starts_with(b"<locals>.");
    named && (local || matches!(line.text.get(name), None | Some(b':')))
}

fn go(seen: Seen, line: Line<'_>) -> (Mark, Seen) {
    const HEADS: [&str; 6] = [
        "panic: ",
        "fatal error: ",
        "unexpected fault address ",
        "runtime: goroutine stack exceeds ",
        "SIGQUIT: ",
        "SIGABRT: ",
    ];
    const BEFORE_STACKS: [&str; 7] =
        ["[signal ", "[recovered", "PC=", "sp=", "runtime: ", "goroutine running on", "signal "];
    let flush_left = line.indent() == 0;
    let stack = flush_left
        && (line.begins(&["goroutine "]) && line.has(" [") || line.begins(&["runtime stack:"]));
    let head = flush_left && line.begins(&HEADS) || line.find_colon(": panic serving ").is_some();
    let in_trace = matches!(seen, Seen::Head | Seen::Frame);
    match seen {
        _ if in_trace && line.text.starts_with(b"\t") => (Mark::More, seen),
        _ if in_trace && line.is_blank() => (Mark::Perhaps, seen),
        _ if in_trace && stack => (Mark::More, Seen::Frame),
        Seen::Head if head || flush_left && line.begins(&BEFORE_STACKS) => (Mark::More, Seen::Head),
        Seen::Frame if is_go_frame(line) || is_go_register(line) => (Mark::More, Seen::Frame),
        _ if stack => (Mark::First, Seen::Frame),
        _ if head => (Mark::First, Seen::Head),
        _ => (Mark::Alone, Seen::Plain),
    }
}

/// `main.(*Server).run(0xc000010000)`, `created by main.main`, or that some were left out.
fn is_go_frame(line: Line<'_>) -> bool {
    let call = line.text.iter().position(|byte| matches!(byte, b'(' | b' '));
    let called = call.is_some_and(|at| at > 0 && line.text[at] == b'(') && line.ends(")");
    called || line.indent() == 0 && line.begins(&["created by ", "..."])
}

/// `rax    0x0`, in the dump behind a signal.
fn is_go_register(line: Line<'_>) -> bool {
    let mut words = line.text.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let (name, value, more) = (words.next(), words.next(), words.next());
    name.is_some_and(|name| name.len() <= 6 && name.iter().all(u8::is_ascii_alphanumeric))
        && value.is_some_and(|value| value.starts_with(b"0x"))
        && more.is_none()
}

fn ruby(seen: Seen, line: Line<'_>) -> (Mark, Seen) {
    let reversed = line.text == b"Traceback (most recent call last):";
    let head = is_ruby_head(line);
    match seen {
        _ if is_ruby_from(line) => (Mark::More, Seen::Frame),
        // A logger writes the places alone.
        _ if is_ruby_place(line) => (Mark::More, Seen::Inner),
        Seen::Frame if line.begins(&["... "]) && line.indent() > 0 => (Mark::More, Seen::Frame),
        // With `from` before it, it is the cause of what that belongs to, or what its own frames,
        // in reverse order, end with.
        Seen::Frame if head => (Mark::More, Seen::Head),
        _ if head => (Mark::First, Seen::Head),
        Seen::Head | Seen::Pointer if line.begins(&["Did you mean?"]) => (Mark::More, Seen::Head),
        Seen::Place | Seen::Excerpt if line.points() => (Mark::More, Seen::Pointer),
        Seen::Place if !line.is_blank() => (Mark::Perhaps, Seen::Excerpt),
        // An excerpt of the source may follow; Rails has an empty line before the frames.
        Seen::Head | Seen::Pointer if line.is_blank() => (Mark::Perhaps, Seen::Place),
        Seen::Plain if line.is_blank() => (Mark::Perhaps, Seen::Gap),
        _ if reversed => (Mark::First, Seen::Frame),
        _ => (Mark::First, Seen::Plain),
    }
}

/// Where in a line the quote behind `PATH:NUMBER:in ` is.
fn ruby_place(line: Line<'_>) -> Option<usize> {
    let at = line.find_colon(":in ")?;
    let text = line.text;
    let digits = text[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let path = at.checked_sub(digits + 1)?;
    let quote = at + b":in ".len();
    let placed = digits > 0 && path > 0 && text[path] == b':';
    (placed && matches!(text.get(quote), Some(b'`' | b'\''))).then_some(quote)
}

/// `from app.rb:5:in 'run'` or `2: from ...`, indented.
fn is_ruby_from(line: Line<'_>) -> bool {
    line.indent() > 0
        && ruby_place(line)
            .is_some_and(|quote| memmem::find(&line.text[..quote], b"from ").is_some())
}

/// `app.rb:5:in 'run'`, and nothing else.
fn is_ruby_place(line: Line<'_>) -> bool {
    ruby_place(line).is_some_and(|quote| {
        let name = &line.text[quote + 1..];
        name.iter().position(|&byte| byte == b'\'').is_some_and(|end| end + 1 == name.len())
    })
}

/// `app.rb:2:in 'run': what happened (RuntimeError)`.
fn is_ruby_head(line: Line<'_>) -> bool {
    line.indent() == 0
        && ruby_place(line).is_some_and(|quote| memmem::find(&line.text[quote..], b"': ").is_some())
}

fn node(seen: Seen, line: Line<'_>) -> (Mark, Seen) {
    let opens = line.ends("{") && !line.is_indented();
    match seen {
        Seen::Inner if line.is_indented() => (Mark::More, Seen::Inner),
        Seen::Inner if line.text == b"}" => (Mark::More, Seen::Frame),
        _ if line.is_at() => (Mark::More, if line.ends("{") { Seen::Inner } else { Seen::Frame }),
        Seen::Place if !line.is_blank() => (Mark::Perhaps, Seen::Excerpt),
        Seen::Excerpt if line.points() => (Mark::More, Seen::Pointer),
        Seen::Pointer if line.is_blank() => (Mark::More, Seen::Pointer),
        Seen::Pointer => (Mark::More, if opens { Seen::Inner } else { Seen::Head }),
        _ if line.text == b"Require stack:" => (Mark::More, Seen::Requirers),
        Seen::Requirers if line.begins(&["- "]) => (Mark::More, Seen::Requirers),
        Seen::Head if line.begins(&["(Use `node --trace"]) => (Mark::More, Seen::Head),
        Seen::Frame | Seen::Head if line.is_blank() => (Mark::Perhaps, Seen::Gap),
        Seen::Gap if line.begins(&["Node.js v"]) => (Mark::Last, Seen::Plain),
        _ if is_node_place(line) => (Mark::First, Seen::Place),
        _ if opens && ["Error", "Exception", "Rejection"].iter().any(|word| line.has(word)) => {
            (Mark::First, Seen::Inner)
        }
        _ => (Mark::First, Seen::Plain),
    }
}

/// `/app/index.js:3`, `file:///app/index.mjs:3` or `node:internal/process/promises:246`.
fn is_node_place(line: Line<'_>) -> bool {
    let digits = line.text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let path = &line.text[..line.text.len() - digits];
    let windows = matches!(path, [b'A'..=b'Z', b':', b'\\', ..]);
    digits > 0
        && path.ends_with(b":")
        && !path.contains(&b' ')
        && (windows || [&b"/"[..], b"file:///", b"node:"].iter().any(|p| path.starts_with(p)))
}

#[cfg(test)]
mod tests;
