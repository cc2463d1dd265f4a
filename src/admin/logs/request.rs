//! What a request below `/logs` asks for. Pure.
//!
//! Paths and parameters are Logspout's, to its oddities: an unknown predicate asks for everything,
//! plain clients choose with `sources=`, websockets with `source=`.

use crate::route::Selector;
use crate::route::uri::decode;
use crate::sink::viewer::Form;

/// An id is at least so long: the part that `docker ps` shows.
const ID_LEAST: usize = 12;

/// What a client wants to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// One container alone, by its id or the beginning of that; the selector has it too.
    pub one: bool,
    /// Which containers and sources.
    pub selector: Selector,
    /// What lines look like.
    pub form: Form,
    /// `match` and `exclude`: expressions as those of `filter.match` and `filter.exclude`.
    pub matching: Option<String>,
    /// See `matching`.
    pub exclude: Option<String>,
}

/// How a client asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// It wants a websocket.
    pub(crate) websocket: bool,
    /// Its `Accept` is `application/json`, nothing else.
    pub(crate) json: bool,
}

/// What is asked for by a path and a query, as they came; `None` where nothing is.
pub(crate) fn parse(path: &str, query: &str, manner: Manner) -> Option<Wish> {
    let mut selector = Selector::default();
    match decode(path, false).ok()?.strip_prefix("/logs")? {
        "" => {}
        below => {
            let (predicate, value) = below.strip_prefix('/')?.split_once(':')?;
            let letters = predicate.bytes().all(|byte| byte.is_ascii_alphabetic());
            if !letters || predicate.is_empty() || value.is_empty() || value.contains('/') {
                return None;
            }
            match predicate {
                "id" if value.len() < ID_LEAST => return None,
                "id" => selector.id = value.to_owned(),
                "name" => selector.name = value.to_owned(),
                _ => {}
            }
        }
    }
    let many = selector.id.is_empty() && selector.name.is_empty() || selector.name.contains('*');
    let colors = first(query, "colors").as_deref() != Some("off");
    let form = match manner {
        Manner { websocket: false, json: false } if many => Form::Named { colors },
        Manner { websocket: false, json: false } => Form::Raw,
        _ => Form::Json,
    };
    let sources = first(query, if manner.websocket { "source" } else { "sources" });
    if let Some(sources) = sources.filter(|sources| !sources.is_empty()) {
        selector.sources = sources.split(',').map(str::to_owned).collect();
    }
    let given = |name| first(query, name).filter(|value| !value.is_empty());
    let (matching, exclude) = (given("match"), given("exclude"));
    Some(Wish { one: !selector.id.is_empty(), selector, form, matching, exclude })
}

/// The first value of a parameter, as Go's `url.Values.Get`: a pair that cannot be read is not
/// there.
fn first(query: &str, name: &str) -> Option<String> {
    query.split('&').filter(|pair| !pair.contains(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value, true).ok()?;
        (decode(key, true).ok()? == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Manner = Manner { websocket: false, json: false };
    const JSON: Manner = Manner { websocket: false, json: true };
    const SOCKET: Manner = Manner { websocket: true, json: false };
    const COLORS: Form = Form::Named { colors: true };

    fn asked(path: &str, query: &str) -> Wish {
        parse(path, query, PLAIN).unwrap_or_else(|| panic!("{path}"))
    }

    #[test]
    fn paths() {
        let all = asked("/logs", "");
        assert_eq!((all.form, all.one, &all.selector), (COLORS, false, &Selector::default()));
        for (path, name, form) in [
            ("/logs/name:web", "web", Form::Raw),
            ("/logs/name:we%3F", "we?", Form::Raw),
            ("/logs/name:[a-z]eb", "[a-z]eb", Form::Raw),
            ("/logs/name:web_*", "web_*", COLORS),
            ("/logs/name:a:b", "a:b", Form::Raw),
        ] {
            let wish = asked(path, "");
            assert_eq!((wish.selector.name.as_str(), wish.form, wish.one), (name, form, false));
        }
        for id in ["1222c4295f26", &"1222c4295f26".repeat(5)] {
            let wish = asked(&format!("/logs/id:{id}"), "");
            assert_eq!((wish.selector.id.as_str(), wish.form, wish.one), (id, Form::Raw, true));
        }
        let unknown = asked("/logs/label:x", "");
        assert_eq!((unknown.form, &unknown.selector), (COLORS, &Selector::default()));
        for path in [
            "/logs/",
            "/logs/name:",
            "/logs/web",
            "/logs/name:a/b",
            "/logs/name:a%2Fb",
            "/logs/1:x",
            "/logs/:x",
            "/logs/id:1222c4",
            "/logsx",
            "/logs//name:x",
            "/logs/name:%",
            "/logs/name:%ff",
            "",
        ] {
            assert_eq!(parse(path, "", PLAIN), None, "{path}");
        }
    }

    #[test]
    fn queries() {
        for query in ["colors=off", "x=1&colors=off&colors=on", "%63olors=of%66", "a;b&colors=off"]
        {
            assert_eq!(asked("/logs", query).form, Form::Named { colors: false }, "{query}");
        }
        for query in ["colors=OFF", "colors=no", "colors", "colors=off;x", "colors=on&colors=off"] {
            assert_eq!(asked("/logs", query).form, COLORS, "{query}");
        }
        let sources = |query, manner| parse("/logs", query, manner).unwrap().selector.sources;
        assert_eq!(sources("sources=stdout", PLAIN), ["stdout"]);
        assert_eq!(sources("sources=stdout,stderr", PLAIN), ["stdout", "stderr"]);
        assert_eq!(sources("sources=stdout%2Cstderr", JSON), ["stdout", "stderr"]);
        assert_eq!(sources("source=stdout,stderr", SOCKET), ["stdout", "stderr"]);
        for (query, manner) in [
            ("", PLAIN),
            ("sources=", PLAIN),
            ("sources=&sources=stderr", PLAIN),
            ("source=stderr", PLAIN),
            ("sources=stderr", SOCKET),
        ] {
            assert_eq!(sources(query, manner), [""; 0], "{query}");
        }
        let wish = asked("/logs", "match=error|warn&exclude=a%20b");
        assert_eq!(wish.matching.as_deref(), Some("error|warn"));
        assert_eq!(wish.exclude.as_deref(), Some("a b"));
        assert_eq!(asked("/logs", "match=").matching, None);
    }

    #[test]
    fn objects_are_for_those_who_ask() {
        for path in ["/logs", "/logs/name:web", "/logs/name:*", "/logs/id:1222c4295f26"] {
            for manner in [JSON, SOCKET, Manner { websocket: true, json: true }] {
                assert_eq!(parse(path, "colors=off", manner).unwrap().form, Form::Json);
            }
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_asked(path in "/logs[/a-z:%0-9*]{0,12}", query in "[a-z=&%;0-9]{0,20}") {
            for manner in [PLAIN, JSON, SOCKET] {
                if let Some(wish) = parse(&path, &query, manner) {
                    prop_assert!(!wish.selector.name.contains('/'));
                    prop_assert!(wish.selector.id.is_empty() || wish.selector.id.len() >= ID_LEAST);
                    prop_assert_eq!(wish.one, !wish.selector.id.is_empty());
                }
            }
        }
    }
}
