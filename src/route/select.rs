//! Which containers and sources a route takes: its [`Selector`], compiled, and the options that go
//! beyond what Logspout knows ([`OPTIONS`]).
//!
//! Pure. A selector is text that a user wrote; what is wrong with it is said once, as warnings,
//! when the route is built, and never makes the route take more than was asked for. What is wrong
//! with an option that Logspout does not have is an error.

use regex::{Regex, RegexBuilder};

use super::glob::Glob;
use super::{RouteSpec, Selector};
use crate::docker::Source;
use crate::docker::inspect::Container;

/// Options of a route that select containers by what else is known of them: see [`Rule`].
pub const OPTIONS: [&str; 7] = [
    "filter.image",
    "filter.name.regex",
    "filter.image.regex",
    "filter.skip.name",
    "filter.skip.image",
    "filter.skip.name.regex",
    "filter.skip.image.regex",
];

/// Groups that may nest in an expression: it is compiled by recursion, and clients of `/routes` may
/// send one.
const DEPTH_MAX: u32 = 60;

/// Memory that the compiled form of one expression may take, in bytes.
const COMPILED_MAX: usize = 1 << 20;

/// A selector, compiled; asked once per container, when it appears or changes its name.
#[derive(Clone, Debug)]
pub struct Selection {
    id: String,
    name: Text,
    labels: Vec<Label>,
    sources: [bool; Source::ALL.len()],
    rules: Vec<Rule>,
    /// No source that was asked for exists: nothing can ever be taken.
    no_source: bool,
}

/// One of [`OPTIONS`]: what a container's name or image has to be like, or must not be like
/// (`skip`). All have to hold, so one that skips wins over those that match.
#[derive(Clone, Debug)]
struct Rule {
    is_image: bool,
    skips: bool,
    pattern: Pattern,
}

/// A glob sees a name without its slash, as that of `filter.name` does. An expression is searched
/// for in the name with its slash, as the daemon has it, and as `docker-logentries` saw it.
#[derive(Clone, Debug)]
enum Pattern {
    Glob(Glob),
    Regex(Regex),
}

/// A condition on a name or on a label's value.
#[derive(Clone, Debug)]
enum Text {
    Any,
    Like(Glob),
    /// A malformed pattern: Logspout lets it match nothing.
    Nothing,
}

#[derive(Clone, Debug)]
enum Label {
    /// The label has to be there, with any value.
    Present(String),
    /// The value has to match; a label that is not there has the value "".
    Value(String, Text),
}

impl Selection {
    /// Compiles `selector`. The warnings are one line each and say what to write instead.
    pub fn new(selector: &Selector) -> (Selection, Vec<String>) {
        let mut warnings = Vec::new();
        let name = Text::new("filter.name", &selector.name, &mut warnings);
        let labels =
            selector.labels.iter().filter_map(|entry| Label::new(entry, &mut warnings)).collect();
        let mut known = selector.sources.is_empty();
        for source in &selector.sources {
            if Source::ALL.iter().any(|s| s.name() == source) {
                known = true;
            } else {
                warnings.push(format!(
                    "filter.sources: {source:?} is no source; use stdout, stderr, stats or events \
                     (no spaces around the comma)"
                ));
            }
        }
        let sources = Source::ALL.map(|source| selector.takes_source(source));
        let selection = Selection {
            id: selector.id.clone(),
            name,
            labels,
            sources,
            rules: Vec::new(),
            no_source: !known,
        };
        (selection, warnings)
    }

    /// Compiles the selector of `spec` and those of its options that are in [`OPTIONS`]; an empty
    /// one counts as not given.
    ///
    /// # Errors
    /// A pattern that cannot be read: one line that names the option, its value and the fix.
    pub fn of(spec: &RouteSpec) -> Result<(Selection, Vec<String>), String> {
        let (mut selection, mut warnings) = Selection::new(&spec.selector);
        for option in OPTIONS {
            let Some(pattern) = spec.given(option) else { continue };
            selection.rules.push(Rule::new(option, pattern)?);
            if option.ends_with("name.regex") && never_matches(pattern) {
                warnings.push(format!(
                    "{option}: {pattern:?} matches no container: names begin with a slash there; \
                     write ^/ for ^"
                ));
            }
        }
        Ok((selection, warnings))
    }

    /// Whether the route wants this container, whatever the source.
    ///
    /// * id: a prefix of the full id, of any length;
    /// * name: a pattern for the name without its slash;
    /// * labels: all of them have to hold;
    /// * the other options: see [`OPTIONS`].
    pub fn takes(&self, container: &Container) -> bool {
        let name = container.name.strip_prefix('/').unwrap_or(&container.name);
        !self.no_source
            && container.id.starts_with(&self.id)
            && self.name.matches(name)
            && self.labels.iter().all(|label| label.holds(container))
            && self.rules.iter().all(|rule| rule.holds(name, &container.image))
    }

    /// Whether the route wants what is told of other things than containers: one that asks for an
    /// id, a name, labels or one of [`OPTIONS`] is about containers.
    pub fn takes_others(&self) -> bool {
        let any = matches!(self.name, Text::Any) && self.labels.is_empty();
        !self.no_source && self.id.is_empty() && any && self.rules.is_empty()
    }

    /// Whether the route wants lines of `source`, of the containers that it takes.
    pub fn takes_source(&self, source: Source) -> bool {
        self.sources.get(source as usize).copied().unwrap_or(false)
    }
}

impl Rule {
    fn new(option: &str, pattern: &str) -> Result<Rule, String> {
        let compiled = if option.ends_with(".regex") {
            Pattern::Regex(regex(option, pattern)?)
        } else {
            let glob = Glob::new(pattern).map_err(|error| {
                format!(
                    "{option}: {error}; write a pattern of *, ? and [a-z], or use {option}.regex"
                )
            })?;
            Pattern::Glob(glob)
        };
        let (is_image, skips) = (option.contains("image"), option.contains("skip"));
        Ok(Rule { is_image, skips, pattern: compiled })
    }

    /// Whether a container of this name, without its slash, may be taken.
    fn holds(&self, name: &str, image: &str) -> bool {
        let matches = match (&self.pattern, self.is_image) {
            (Pattern::Glob(glob), true) => glob.matches(image),
            (Pattern::Glob(glob), false) => glob.matches(name),
            (Pattern::Regex(regex), true) => regex.is_match(image),
            (Pattern::Regex(regex), false) => regex.is_match(&format!("/{name}")),
        };
        matches != self.skips
    }
}

/// Compiles an expression in the dialect of the `regex` crate.
fn regex(option: &str, pattern: &str) -> Result<Regex, String> {
    let refused = |what: &str, fix: &str| format!("{option}: {pattern:?}: {what}; {fix}");
    let mut parser = regex_syntax::ParserBuilder::new().nest_limit(DEPTH_MAX).build();
    let unsupported = "write it without; to leave containers out, use filter.skip.name.regex or \
                       filter.skip.image.regex";
    match parser.parse(pattern) {
        Ok(_) => {}
        Err(regex_syntax::Error::Parse(error)) => {
            use regex_syntax::ast::ErrorKind::{UnsupportedBackreference, UnsupportedLookAround};
            let fix = match error.kind() {
                UnsupportedBackreference | UnsupportedLookAround => unsupported,
                _ => "correct the expression; its syntax is that of Rust's regex crate",
            };
            return Err(refused(&error.kind().to_string(), fix));
        }
        Err(error) => {
            let what = match error {
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                other => other.to_string(),
            };
            return Err(refused(&what.replace('\n', " "), "correct the expression"));
        }
    }
    let built = RegexBuilder::new(pattern).nest_limit(DEPTH_MAX).size_limit(COMPILED_MAX).build();
    built.map_err(|_| {
        refused(&format!("needs more than {} MiB compiled", COMPILED_MAX >> 20), "simplify it")
    })
}

/// Whether an expression for names asks for one that begins with a letter or digit, as none does.
fn never_matches(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    chars.next() == Some('^')
        && chars.next().is_some_and(char::is_alphanumeric)
        && !matches!(chars.next(), Some('?' | '*' | '{'))
        && !pattern.contains('|')
}

impl Text {
    fn new(setting: &str, pattern: &str, warnings: &mut Vec<String>) -> Text {
        if pattern.is_empty() {
            return Text::Any;
        }
        Glob::new(pattern).map(Text::Like).unwrap_or_else(|error| {
            warnings.push(format!("{setting}: {error}; the route takes nothing"));
            Text::Nothing
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Like(glob) => glob.matches(text),
            Text::Nothing => false,
        }
    }
}

impl Label {
    /// Reads one entry; the empty one (`filter.labels=`) asks for nothing.
    fn new(entry: &str, warnings: &mut Vec<String>) -> Option<Label> {
        match entry.split_once(':') {
            None if entry.is_empty() => None,
            None => Some(Label::Present(entry.to_owned())),
            Some((key, pattern)) => {
                let text = Text::new("filter.labels", pattern, warnings);
                Some(Label::Value(key.to_owned(), text))
            }
        }
    }

    fn holds(&self, container: &Container) -> bool {
        match self {
            Label::Present(key) => container.labels.contains_key(key),
            Label::Value(key, text) => {
                text.matches(container.labels.get(key).map_or("", String::as_str))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1222c4295f2600000000000000000000000000000000000000000000000000ab";

    fn container(name: &str, labels: &[(&str, &str)]) -> Container {
        Container {
            id: ID.to_owned(),
            name: name.to_owned(),
            labels: labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..Container::default()
        }
    }

    fn selection(selector: Selector) -> Selection {
        let (selection, warnings) = Selection::new(&selector);
        assert_eq!(warnings, Vec::<String>::new());
        selection
    }

    fn labels(entries: &[&str]) -> Selector {
        Selector { labels: entries.iter().map(|&e| e.to_owned()).collect(), ..Selector::default() }
    }

    fn sources(names: &[&str]) -> Selector {
        Selector { sources: names.iter().map(|&e| e.to_owned()).collect(), ..Selector::default() }
    }

    #[test]
    fn an_empty_selector_takes_everything() {
        let all = selection(Selector::default());
        assert!(all.takes(&container("", &[])));
        assert!(Source::ALL.iter().all(|&s| all.takes_source(s) == s.is_output()));
    }

    #[test]
    fn ids_match_by_prefix_up_to_full_length() {
        let web = container("web", &[]);
        for length in [1, 11, 12, 13, 63, 64] {
            let id = ID[..length].to_owned();
            assert!(selection(Selector { id, ..Selector::default() }).takes(&web), "{length}");
        }
        for id in ["2", "1222d", "1222C", &format!("{ID}0")] {
            let id = id.to_owned();
            assert!(!selection(Selector { id, ..Selector::default() }).takes(&web));
        }
    }

    #[test]
    fn names_match_by_pattern_without_their_slash() {
        let db = selection(Selector { name: "*_db".to_owned(), ..Selector::default() });
        assert!(db.takes(&container("shop_db", &[])));
        assert!(db.takes(&container("/shop_db", &[])));
        assert!(!db.takes(&container("shop_app", &[])));
    }

    #[test]
    fn a_malformed_pattern_takes_nothing_and_warns() {
        let bad = Selector { name: "[".to_owned(), ..labels(&["tier:[b"]) };
        let (selection, warnings) = Selection::new(&bad);
        assert!(!selection.takes(&container("[", &[("tier", "[b")])));
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("filter.name: malformed pattern \"[\""), "{warnings:?}");
        assert!(warnings[1].starts_with("filter.labels: malformed pattern \"[b\""));
    }

    #[test]
    fn labels_are_anded_and_absent_ones_are_empty() {
        let db = container("db", &[("tier", "backend"), ("url", "http://x:80"), ("p", "a/b")]);
        let cases: [(&[&str], bool); 14] = [
            (&["tier:backend"], true),
            (&["tier:back*", "url:http://x:80"], true),
            (&["tier:back*", "url:no"], false),
            (&["tier:front"], false),
            (&["tier"], true),
            (&["absent"], false),
            (&["absent:"], true),
            (&["absent:*"], true),
            (&["absent:?*"], false),
            (&["tier:"], true),
            (&["p:a*"], false),
            (&["p:a/*"], true),
            (&[""], true),
            (&[":x"], false),
        ];
        for (entries, expect) in cases {
            assert_eq!(selection(labels(entries)).takes(&db), expect, "{entries:?}");
        }
    }

    #[test]
    fn unknown_sources_warn_and_take_nothing() {
        let (none, warnings) = Selection::new(&sources(&["stdin", ""]));
        assert_eq!(warnings.len(), 2);
        assert!(!none.takes(&container("web", &[])));

        let (some, warnings) = Selection::new(&sources(&["stdout", " stderr"]));
        assert_eq!(warnings.len(), 1);
        assert!(some.takes(&container("web", &[])));
        assert!(some.takes_source(Source::Stdout) && !some.takes_source(Source::Stderr));
    }

    fn with_options(options: &[(&str, &str)]) -> Result<(Selection, Vec<String>), String> {
        Selection::of(&RouteSpec {
            id: "0".to_owned(),
            adapter: "raw".to_owned(),
            transport: None,
            address: String::new(),
            selector: Selector::default(),
            options: options.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
        })
    }

    #[test]
    fn names_and_images_match_or_are_skipped() {
        let image = "registry.example:5000/shop/web:1.2";
        let web = Container { image: image.to_owned(), ..container("shop_web", &[]) };
        let cases: [(&[(&str, &str)], bool); 22] = [
            (&[("filter.image", "registry.example:5000/shop/web:*")], true),
            (&[("filter.image", "*/*/web:1.?")], true),
            // A star stops at a slash, as in filter.name.
            (&[("filter.image", "*web*")], false),
            (&[("filter.image", "")], true),
            (&[("filter.image.regex", "web")], true),
            (&[("filter.image.regex", "^web")], false),
            (&[("filter.image.regex", r"shop\/web:\d")], true),
            (&[("filter.name.regex", "shop")], true),
            (&[("filter.name.regex", "^/shop_web$")], true),
            (&[("filter.name.regex", "^shop_web$")], false),
            (&[("filter.name.regex", "(?i)SHOP")], true),
            (&[("filter.name.regex", "SHOP")], false),
            (&[("filter.skip.name", "shop_*")], false),
            (&[("filter.skip.name", "/shop_*")], true),
            (&[("filter.skip.name", "web")], true),
            (&[("filter.skip.image", "*/*/*")], false),
            (&[("filter.skip.name.regex", "web")], false),
            (&[("filter.skip.name.regex", "^web")], true),
            (&[("filter.skip.image.regex", "web:2")], true),
            // What skips wins.
            (&[("filter.name.regex", "web"), ("filter.skip.image.regex", "web")], false),
            (&[("filter.name.regex", "web"), ("filter.image", "*/*/web:*")], true),
            (&[("filter.name.regex", "web"), ("filter.image", "db")], false),
        ];
        for (options, expect) in cases {
            let (selection, _) = with_options(options).unwrap();
            assert_eq!(selection.takes(&web), expect, "{options:?}");
            let slashed = Container { name: format!("/{}", web.name), ..web.clone() };
            assert_eq!(selection.takes(&slashed), expect, "{options:?}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_refused() {
        let deep = format!("{}a{}", "(".repeat(200), ")".repeat(200));
        for (option, pattern, what) in [
            ("filter.name.regex", "^(?!web)", "look-around, including look-ahead"),
            ("filter.skip.image.regex", "(?<=a)b", "look-around"),
            ("filter.image.regex", r"(a)\1", "backreferences are not supported"),
            ("filter.skip.name.regex", "a(b", "unclosed group"),
            ("filter.name.regex", r"\p{Klingon}", "Unicode property not found"),
            ("filter.name.regex", &deep, "nest"),
            ("filter.name.regex", "(a{500}){500}", "needs more than 1 MiB"),
            ("filter.image", "[a", "malformed pattern"),
            ("filter.skip.name", "[", "malformed pattern"),
        ] {
            let error = with_options(&[(option, pattern)]).unwrap_err();
            let begin = format!("{option}: ");
            assert!(error.starts_with(&begin) && error.contains(what), "{error}");
            assert!(error.contains(&format!("{pattern:?}")) && !error.contains('\n'), "{error}");
        }
        let error = with_options(&[("filter.name.regex", "(?!a)")]).unwrap_err();
        assert!(error.contains("use filter.skip.name.regex or"), "{error}");
    }

    #[test]
    fn an_expression_that_forgets_the_slash_is_warned_of() {
        for (pattern, warns) in [
            ("^web", true),
            ("^web|db", false),
            ("^w?/", false),
            ("^/web", false),
            ("^.web", false),
            ("web", false),
        ] {
            let (_, warnings) = with_options(&[("filter.skip.name.regex", pattern)]).unwrap();
            assert_eq!(!warnings.is_empty(), warns, "{pattern}: {warnings:?}");
            let (_, warnings) = with_options(&[("filter.image.regex", pattern)]).unwrap();
            assert_eq!(warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn a_route_for_some_containers_is_for_nothing_else() {
        assert!(selection(Selector::default()).takes_others());
        assert!(selection(labels(&[""])).takes_others());
        let id = Selector { id: "12".to_owned(), ..Selector::default() };
        let name = Selector { name: "*".to_owned(), ..Selector::default() };
        for some in [id, name, labels(&["tier"])] {
            assert!(!selection(some).takes_others());
        }
        assert!(!Selection::new(&sources(&["stdin"])).0.takes_others());
        assert!(!with_options(&[("filter.skip.name", "db")]).unwrap().0.takes_others());
    }

    #[test]
    fn sources_that_no_container_writes_are_asked_for() {
        let side = selection(sources(&["stats", "events"]));
        assert!(side.takes(&container("web", &[])));
        assert!(Source::ALL.iter().all(|&s| side.takes_source(s) != s.is_output()));
    }
}
