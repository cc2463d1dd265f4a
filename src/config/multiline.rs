//! What `multiline+` routes join: the variables, and a route's own options, which win. Pure.

use std::time::Duration;

use super::{ConfigError, Settings, value};
use crate::route::RouteSpec;
use crate::route::multiline::{Joint, Mode, Multiline, Preset, Rule};

/// Smallest and largest `MULTILINE_MAX_BYTES`.
pub const BYTES_RANGE: (u64, u64) = (1 << 10, 64 << 20);
/// Largest `MULTILINE_MAX_LINES`.
pub const LINES_MAX: u64 = 1_000_000;
/// `MULTILINE_PATTERN` where none is given.
const PATTERN: &str = r"^\s";
/// The shortest `MULTILINE_FLUSH_AFTER`: what a timer can tell.
const FLUSH_LEAST: Duration = Duration::from_millis(1);

/// Defaults of `multiline+` routes (`MULTILINE_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultilineSettings {
    /// `MULTILINE_ENABLE_DEFAULT`: join the lines of containers that do not say so themselves.
    pub enable_default: bool,
    /// `MULTILINE_PRESET`.
    pub preset: Option<Preset>,
    /// `MULTILINE_PATTERN`, not looked at yet.
    pub pattern: Option<String>,
    /// `MULTILINE_MATCH`.
    pub mode: Option<Mode>,
    /// `MULTILINE_FLUSH_AFTER`.
    pub flush_after: Duration,
    /// `MULTILINE_SEPARATOR`; not empty.
    pub separator: String,
    /// `MULTILINE_MAX_BYTES`.
    pub bytes_max: usize,
    /// `MULTILINE_MAX_LINES`.
    pub lines_max: u64,
}

impl Settings {
    /// How the lines of a route are joined; `None` if they are not.
    pub fn multiline_of(&self, route: &RouteSpec) -> Result<Option<Multiline>, ConfigError> {
        if !route.is_multiline() {
            return Ok(None);
        }
        let (own, defaults) = (Own { route }, &self.multiline);
        let separator = own.text("multiline.separator").unwrap_or(&defaults.separator);
        let joint = Joint {
            separator: separator.as_bytes().into(),
            bytes_max: own.value("multiline.max_bytes", bytes)?.unwrap_or(defaults.bytes_max),
            lines_max: own.value("multiline.max_lines", lines)?.unwrap_or(defaults.lines_max),
        };
        let enable = own.value("multiline.enable_default", value::go_boolean)?;
        let flush_after = own.value("multiline.flush_after", flush_after)?;
        Ok(Some(Multiline {
            enable_default: enable.unwrap_or(defaults.enable_default),
            rule: rule(&own, defaults)?,
            joint,
            flush_after: flush_after.unwrap_or(defaults.flush_after),
        }))
    }
}

/// A route's own options; an empty one counts as not given.
struct Own<'a> {
    route: &'a RouteSpec,
}

impl<'a> Own<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.route.given(name)
    }

    fn value<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text).map(Some).map_err(|fix| self.error(&format!("{name}={text:?} {fix}")))
    }

    fn error(&self, what: &str) -> ConfigError {
        ConfigError::new(format!("route {}: {what}", self.route.id))
    }
}

/// What the route says itself, be it a preset or an expression, is not mixed with the other kind
/// from a variable.
fn rule(own: &Own<'_>, defaults: &MultilineSettings) -> Result<Rule, ConfigError> {
    let preset = own.value("multiline.preset", str::parse::<Preset>)?;
    let (pattern, mode) = (own.text("multiline.pattern"), own.value("multiline.match", mode)?);
    let by_pattern = pattern.is_some() || mode.is_some();
    match (preset, by_pattern) {
        (Some(_), true) => {
            let both = "multiline.preset and multiline.pattern exclude each other; write one";
            return Err(own.error(both));
        }
        (Some(preset), false) => return Ok(Rule::Preset(preset)),
        (None, _) => {}
    }
    if let (Some(preset), false) = (defaults.preset, by_pattern) {
        if defaults.pattern.is_some() || defaults.mode.is_some() {
            let both = "MULTILINE_PRESET and MULTILINE_PATTERN (or MULTILINE_MATCH) exclude each \
                        other; unset one";
            return Err(own.error(both));
        }
        return Ok(Rule::Preset(preset));
    }
    let name = if pattern.is_some() { "multiline.pattern" } else { "MULTILINE_PATTERN" };
    let pattern = pattern.or(defaults.pattern.as_deref()).unwrap_or(PATTERN);
    let mode = mode.or(defaults.mode).unwrap_or_default();
    Rule::pattern(pattern, mode).map_err(|error| own.error(&format!("{name}: {error}")))
}

/// `MULTILINE_MATCH`.
pub(super) fn mode(text: &str) -> Result<Mode, String> {
    text.parse()
}

/// `MULTILINE_FLUSH_AFTER`: milliseconds, as in Logspout, or a Go duration.
pub(super) fn flush_after(text: &str) -> Result<Duration, String> {
    let millis = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if millis { format!("{text}ms") } else { text.to_owned() };
    let time = value::duration(&text)?;
    match time >= FLUSH_LEAST {
        true => Ok(time),
        false => Err("is too short a time; write at least 1, which is a millisecond".to_owned()),
    }
}

/// `MULTILINE_MAX_BYTES`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    value::size_within(text, BYTES_RANGE.0, BYTES_RANGE.1)
}

/// `MULTILINE_MAX_LINES`.
pub(super) fn lines(text: &str) -> Result<u64, String> {
    value::number_within(text, 1, LINES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cli::{self, Command};
    use crate::config::env::MapEnv;

    fn outcome(uri: &str, env: &[(&str, &str)]) -> Result<Multiline, String> {
        let args = ["logchute", uri].map(Into::into);
        match cli::parse(args, &MapEnv::new(env)) {
            Ok(Command::Run(loaded)) => {
                let settings = loaded.settings;
                Ok(settings.multiline_of(&settings.routes[0]).unwrap().unwrap())
            }
            Ok(_) => panic!("not to be run"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn multiline(options: &str, env: &[(&str, &str)]) -> Multiline {
        outcome(&format!("multiline+raw+tcp://h:1?{options}"), env).unwrap()
    }

    #[test]
    fn what_holds_where_nothing_is_given_is_as_in_logspout() {
        let defaults = multiline("", &[]);
        assert!(defaults.enable_default);
        assert!(matches!(defaults.rule, Rule::Pattern(_, Mode::NonFirst)));
        assert_eq!(defaults.flush_after, Duration::from_millis(500));
        let joint = Joint { separator: (*b"\n").into(), bytes_max: 256 << 10, lines_max: 5000 };
        assert_eq!(defaults.joint, joint);
        let plain = RouteSpec { adapter: "raw".to_owned(), ..Settings::default().routes.remove(0) };
        assert!(Settings::default().multiline_of(&plain).unwrap().is_none());
    }

    #[test]
    fn a_routes_own_options_win() {
        let env = [
            ("MULTILINE_ENABLE_DEFAULT", "T"),
            ("MULTILINE_MATCH", "last"),
            ("MULTILINE_PATTERN", ";$"),
            ("MULTILINE_FLUSH_AFTER", "1500"),
            ("MULTILINE_SEPARATOR", " "),
            ("MULTILINE_MAX_BYTES", "64k"),
            ("MULTILINE_MAX_LINES", "9"),
        ];
        let all = multiline("", &env);
        assert!(all.enable_default && matches!(all.rule, Rule::Pattern(_, Mode::Last)));
        assert_eq!(all.flush_after, Duration::from_millis(1500));
        let joint = Joint { separator: (*b" ").into(), bytes_max: 64 << 10, lines_max: 9 };
        assert_eq!(all.joint, joint);
        let own = "multiline.enable_default=0&multiline.match=FIRST&multiline.flush_after=2s\
                   &multiline.separator=%0A-&multiline.max_bytes=1MiB&multiline.max_lines=7";
        let own = multiline(own, &env);
        assert!(!own.enable_default && matches!(own.rule, Rule::Pattern(_, Mode::First)));
        assert_eq!(own.flush_after, Duration::from_secs(2));
        let joint = Joint { separator: (*b"\n-").into(), bytes_max: 1 << 20, lines_max: 7 };
        assert_eq!(own.joint, joint);
        // The other kind of rule replaces all of that from the variables.
        let preset = multiline("multiline.preset=Java", &env);
        assert!(matches!(preset.rule, Rule::Preset(Preset::Java)));
        let pattern = multiline("multiline.pattern=x", &[("MULTILINE_PRESET", "go")]);
        assert!(matches!(pattern.rule, Rule::Pattern(_, Mode::NonFirst)));
        assert!(matches!(
            multiline("", &[("MULTILINE_PRESET", "go")]).rule,
            Rule::Preset(Preset::Go)
        ));
    }

    #[test]
    fn mistakes_name_the_value_and_the_fix() {
        let uri = |options: &str| format!("multiline+raw+tcp://h:1?{options}");
        for (options, env, expect) in [
            ("", ("MULTILINE_PATTERN", "("), "route 0: MULTILINE_PATTERN: bad regular expression"),
            ("", ("MULTILINE_ENABLE_DEFAULT", "perhaps"), "MULTILINE_ENABLE_DEFAULT: \"perhaps\""),
            ("", ("MULTILINE_MATCH", "x"), "write first, last, nonfirst or nonlast"),
            ("", ("MULTILINE_PRESET", "x"), "write one of java"),
            ("", ("MULTILINE_FLUSH_AFTER", "0"), "write at least 1"),
            ("", ("MULTILINE_FLUSH_AFTER", "-5"), "MULTILINE_FLUSH_AFTER: \"-5\""),
            ("", ("MULTILINE_MAX_LINES", "0"), "from 1 to"),
            ("multiline.pattern=%28", ("A", "b"), "route 0: multiline.pattern: bad regular"),
            ("multiline.match=x", ("A", "b"), "route 0: multiline.match=\"x\" says nothing"),
            ("multiline.max_bytes=1", ("A", "b"), "multiline.max_bytes=\"1\" is too small"),
            ("multiline.preset=go&multiline.match=first", ("A", "b"), "exclude each other"),
        ] {
            let error = outcome(&uri(options), &[env]).unwrap_err();
            assert!(error.contains(expect) && error.lines().count() == 1, "{error}");
        }
        let both = [("MULTILINE_PRESET", "go"), ("MULTILINE_MATCH", "first")];
        assert!(outcome(&uri(""), &both).unwrap_err().contains("exclude each other"));
    }
}
