//! Which lines a `multiline+` route joins, and what becomes of them: by an expression, as
//! Logspout's adapter does, or by the shape of a language's stack traces.
//!
//! Pure. [`crate::lines::group`] joins; here is what is said of a line ([`Marker`]), of a container
//! ([`Multiline::joins`]) and of a joined text ([`JoinedFilter`]).

use std::str::FromStr;
use std::time::Duration;

use super::pattern::{Pattern, PatternError};
use crate::docker::inspect::Container;
pub use crate::lines::group::{Joint, Mark};
pub use crate::lines::trace::Preset;
use crate::lines::trace::Tracer;

/// The variable of a container that says whether its lines are joined.
const CONTAINER_SWITCH: &str = "LOGSPOUT_MULTILINE";

/// What the expression matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The first line of a group.
    First,
    /// The last line of a group.
    Last,
    /// Each line but the first.
    #[default]
    NonFirst,
    /// Each line but the last.
    NonLast,
}

impl FromStr for Mode {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text.to_ascii_lowercase().as_str() {
            "first" => Ok(Mode::First),
            "last" => Ok(Mode::Last),
            "nonfirst" => Ok(Mode::NonFirst),
            "nonlast" => Ok(Mode::NonLast),
            _ => Err("says nothing of a line; write first, last, nonfirst or nonlast".to_owned()),
        }
    }
}

impl FromStr for Preset {
    /// The end of a sentence that begins with the setting and the value.
    type Err = String;

    fn from_str(text: &str) -> Result<Preset, String> {
        let known = Preset::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| {
            let names = Preset::ALL.map(Preset::name).join(", ");
            format!("is no language with a preset; write one of {names}")
        })
    }
}

/// How it is told where a line belongs.
#[derive(Clone, Debug)]
pub enum Rule {
    /// By an expression.
    Pattern(Pattern, Mode),
    /// By the shape of stack traces.
    Preset(Preset),
}

impl Rule {
    /// By an expression in Go's syntax.
    pub fn pattern(pattern: &str, mode: Mode) -> Result<Rule, PatternError> {
        Ok(Rule::Pattern(Pattern::new(pattern)?, mode))
    }

    /// Where a line belongs that is alone with its rule; [`Rule::Preset`] needs a [`Marker`].
    fn mark(pattern: &Pattern, mode: Mode, text: &[u8]) -> Mark {
        match (mode, pattern.is_match(text)) {
            (Mode::First, true) | (Mode::NonFirst, false) => Mark::First,
            (Mode::Last, true) | (Mode::NonLast, false) => Mark::Last,
            _ => Mark::More,
        }
    }
}

/// How a route joins lines.
#[derive(Clone, Debug)]
pub struct Multiline {
    /// Whether the lines of a container are joined that does not say so itself.
    pub enable_default: bool,
    /// Which lines.
    pub rule: Rule,
    /// How.
    pub joint: Joint,
    /// A group goes out when its first line came so long ago.
    pub flush_after: Duration,
}

impl Multiline {
    /// Whether the lines of `container` are joined.
    pub fn joins(&self, container: &Container) -> bool {
        let given = container.env.iter().filter_map(|entry| entry.split_once('='));
        let own = given.filter(|(name, _)| *name == CONTAINER_SWITCH).map(|(_, value)| value);
        match own.map(str::to_ascii_lowercase).next().as_deref() {
            Some("true") => true,
            Some("false") => false,
            _ => self.enable_default,
        }
    }
}

/// Says of each line of one container and source where it belongs.
#[derive(Clone, Debug, Default)]
pub struct Marker {
    tracer: Option<Tracer>,
}

impl Marker {
    /// Where the next line belongs; it may have its `\n`.
    pub fn mark(&mut self, rule: &Rule, line: &[u8]) -> Mark {
        match rule {
            Rule::Pattern(pattern, mode) => {
                Rule::mark(pattern, *mode, line.strip_suffix(b"\n").unwrap_or(line))
            }
            Rule::Preset(preset) => {
                self.tracer.get_or_insert_with(|| Tracer::new(*preset)).mark(line)
            }
        }
    }

    /// What was seen before has nothing to do with what comes.
    pub fn forget(&mut self) {
        self.tracer = None;
    }
}

/// Which joined texts a route keeps: as [`super::filter::LineFilter`], whose shortcuts hold for a
/// single line alone.
#[derive(Clone, Debug, Default)]
pub struct JoinedFilter {
    matching: Vec<Pattern>,
    exclude: Option<Pattern>,
}

impl JoinedFilter {
    /// Keeps what matches all of `matching` somewhere, and not `exclude`.
    pub fn new(matching: &[&str], exclude: Option<&str>) -> Result<JoinedFilter, PatternError> {
        let matching = matching.iter().map(|pattern| Pattern::new(pattern));
        Ok(JoinedFilter {
            matching: matching.collect::<Result<_, _>>()?,
            exclude: exclude.map(Pattern::new).transpose()?,
        })
    }

    /// Whether the text, without its final `\n`, is kept.
    pub fn keeps(&self, text: &[u8]) -> bool {
        self.matching.iter().all(|pattern| pattern.is_match(text))
            && !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(mode: &str, lines: &[&str]) -> Vec<Mark> {
        let rule = Rule::pattern(r"^\s", mode.parse().unwrap()).unwrap();
        let mut marker = Marker::default();
        lines.iter().map(|line| marker.mark(&rule, line.as_bytes())).collect()
    }

    #[test]
    fn the_four_modes() {
        use Mark::{First, Last, More};
        let lines = ["a\n", " b\n", "c"];
        assert_eq!(marks("first", &lines), [More, First, More]);
        assert_eq!(marks("NonFirst", &lines), [First, More, First]);
        assert_eq!(marks("last", &lines), [More, Last, More]);
        assert_eq!(marks("nonlast", &lines), [Last, More, Last]);
        assert!("middle".parse::<Mode>().unwrap_err().contains("write first, last"));
        // The newline is no white space that a line begins with.
        assert_eq!(marks("first", &["\n"]), [More]);
    }

    #[test]
    fn presets_have_names() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().to_uppercase().parse(), Ok(preset));
        }
        let error = "perl".parse::<Preset>().unwrap_err();
        assert!(error.contains("java, python, go, dotnet, ruby, node"), "{error}");
    }

    #[test]
    fn a_container_decides_for_itself() {
        let multiline = |enable_default| Multiline {
            enable_default,
            rule: Rule::Preset(Preset::Go),
            joint: Joint { separator: (*b"\n").into(), bytes_max: 1, lines_max: 1 },
            flush_after: Duration::ZERO,
        };
        for (env, when_off, when_on) in [
            (&["A=b"][..], false, true),
            (&["LOGSPOUT_MULTILINE=TRUE"], true, true),
            (&["LOGSPOUT_MULTILINE=false", "LOGSPOUT_MULTILINE=true"], false, false),
            (&["LOGSPOUT_MULTILINE=1"], false, true),
            (&["LOGSPOUT_MULTILINE"], false, true),
        ] {
            let env = env.iter().map(|&entry| entry.to_owned()).collect();
            let container = Container { env, ..Container::default() };
            assert_eq!(multiline(false).joins(&container), when_off, "{:?}", container.env);
            assert_eq!(multiline(true).joins(&container), when_on, "{:?}", container.env);
        }
    }

    #[test]
    fn a_joined_text_is_judged_as_a_whole() {
        let keeps = |matching: &[&str], exclude: Option<&str>| {
            JoinedFilter::new(matching, exclude).unwrap().keeps(b"head\n\tat error\n")
        };
        assert!(keeps(&["head", "error"], None));
        assert!(keeps(&["(?s)head.*error"], None) && keeps(&[r"(?m)^\tat"], None));
        assert!(!keeps(&["head.*error"], None) && !keeps(&["^.*error"], None));
        assert!(!keeps(&["head"], Some("error")) && keeps(&[], None));
        assert!(JoinedFilter::new(&["("], None).is_err());
    }
}
