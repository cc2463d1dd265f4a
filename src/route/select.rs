//! Which containers and sources a route takes: its [`Selector`], compiled.
//!
//! Pure. A selector is text that a user wrote; what is wrong with it is said once, as warnings,
//! when the route is built, and never makes the route take more than was asked for.

use super::Selector;
use super::glob::Glob;
use crate::docker::Source;
use crate::docker::inspect::Container;

/// Names of `filter.sources` that carry no lines but are not mistakes either.
const OTHER_SOURCES: [&str; 2] = ["stats", "events"];

/// A selector, compiled; asked once per container, when it appears or changes its name.
#[derive(Clone, Debug)]
pub struct Selection {
    id: String,
    name: Text,
    labels: Vec<Label>,
    sources: [bool; Source::ALL.len()],
    /// No source that was asked for exists: nothing can ever be taken.
    no_source: bool,
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
            let lines = Source::ALL.iter().any(|s| s.name() == source);
            if lines || OTHER_SOURCES.contains(&source.as_str()) {
                known = true;
            } else {
                warnings.push(format!(
                    "filter.sources: {source:?} is no source; use stdout or stderr \
                     (no spaces around the comma)"
                ));
            }
        }
        let sources = Source::ALL.map(|source| selector.takes_source(source));
        let selection =
            Selection { id: selector.id.clone(), name, labels, sources, no_source: !known };
        (selection, warnings)
    }

    /// Whether the route wants this container, whatever the source.
    ///
    /// * id: a prefix of the full id, of any length;
    /// * name: a pattern for the name without its slash;
    /// * labels: all of them have to hold.
    pub fn takes(&self, container: &Container) -> bool {
        let name = container.name.strip_prefix('/').unwrap_or(&container.name);
        !self.no_source
            && container.id.starts_with(&self.id)
            && self.name.matches(name)
            && self.labels.iter().all(|label| label.holds(container))
    }

    /// Whether the route wants lines of `source`, of the containers that it takes.
    pub fn takes_source(&self, source: Source) -> bool {
        self.sources.get(source as usize).copied().unwrap_or(false)
    }
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
        assert!(Source::ALL.iter().all(|&s| all.takes_source(s)));
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

    #[test]
    fn sources_without_lines_are_no_mistake() {
        let stats = selection(sources(&["stats", "events"]));
        assert!(stats.takes(&container("web", &[])));
        assert!(!Source::ALL.iter().any(|&s| stats.takes_source(s)));
    }
}
