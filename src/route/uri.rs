//! Route URIs, as Logspout reads them: `syslog+tls://logs.example.com:6514?filter.name=web_*`.
//!
//! Pure. Only the scheme, the authority and the query of a URI mean something (and the path, for
//! a `unix` transport); the rules are those of Go's `os.ExpandEnv` and `net/url`, because that is
//! what the users' URIs were written for. Nothing that may be a secret is repeated in an error or
//! a log line: user information, paths of other transports, and the values of options whose
//! names say so.

use std::borrow::Cow;
use std::fmt;

use super::{MULTILINE, RouteSpec, Selector};

/// Transports whose bare name means `raw` over them.
const BARE_TRANSPORTS: [&str; 4] = ["tcp", "udp", "tls", "unix"];

/// Parts of option names whose values are never shown. Loggly's customer token travels in
/// `structured_data`.
const SECRET_NAMES: [&str; 11] = [
    "token",
    "key",
    "pass",
    "pwd",
    "secret",
    "auth",
    "credential",
    "webhook",
    "structured_data",
    "url",
    "header",
];

/// Options of which a part of the name is among these, and whose values tell nothing.
const OPEN_NAMES: [&str; 5] =
    ["webhook.preset", "webhook.method", "webhook.content_type", "webhook.rate", "webhook.burst"];

/// The option that a path becomes, for the adapters that are asked over HTTP: it is a secret, an
/// address is not.
const PATHS: [(&str, &str); 6] = [
    ("webhook", "webhook.url"),
    ("http", "json.url"),
    ("https", "json.url"),
    ("sumo", "sumo.url"),
    ("loggly", "loggly.url"),
    ("elasticsearch", "elasticsearch.url"),
];

/// What to say where a host seems to follow what is no part of a host.
const CUT_PASSWORD: &str = "has an @ behind its ? or #; of a password, write these as %3F and %23";

/// The same where a comma seems to stand in an option.
const CUT_LIST: &str = "ends at a comma, and what follows has no adapter; where that is a part of \
                        the route, write the comma as %2C";

/// Why a list of routes is refused: one line that names the route and says what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    message: String,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RouteError {}

/// Parses a comma list of route URIs; `env` is asked for `$NAME` and `${NAME}`.
///
/// The list is split before anything else, so a comma inside a URI is written `%2C`. White space
/// around an entry is dropped, and so are entries that are empty as written (a comma too many);
/// an entry that *becomes* empty, because its variable is not set, is an error.
pub fn parse_routes(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<RouteSpec>, RouteError> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<&str> = entries.collect();
    let parsed = entries.iter().enumerate().map(|(id, entry)| {
        parse_route(&expand(entry, env), id).map_err(|what| {
            // The comma that ends it may be one of a password.
            let mut behind = entries[id + 1..].iter().take_while(|other| !other.contains("://"));
            let shown = match behind.any(|other| other.contains('@')) {
                true => without_authority(entry),
                false => redacted(entry),
            };
            match continued(&entries, id) {
                Some(begin) => {
                    RouteError { message: format!("route {}: {CUT_LIST}", quote(&begin)) }
                }
                None => RouteError { message: format!("route {}: {what}", quote(&shown)) },
            }
        })
    });
    parsed.collect()
}

/// How `spec` is shown in logs: as a URI that means the same, without its secrets.
pub fn display(spec: &RouteSpec) -> String {
    let mut uri = spec.adapter.clone();
    if let Some(transport) = &spec.transport {
        uri.push('+');
        uri.push_str(transport);
    }
    uri.push_str("://");
    let address = open_address(&uri, &spec.address);
    uri.push_str(&encode(&address, b"/:[]@!&'()*+;=<>\""));
    let mut separator = '?';
    let mut parameter = |name: &str, value: &str| {
        uri.push(separator);
        separator = '&';
        uri.push_str(&encode(name, b""));
        uri.push('=');
        uri.push_str(&if is_secret(name) { "***".to_owned() } else { encode(value, b"/:[]@*^") });
    };
    let Selector { id, name, sources, labels } = &spec.selector;
    for (key, value, given) in [
        ("filter.id", id.clone(), !id.is_empty()),
        ("filter.name", name.clone(), !name.is_empty()),
        ("filter.sources", sources.join(","), !sources.is_empty()),
        ("filter.labels", labels.join(","), !labels.is_empty()),
    ] {
        if given {
            parameter(key, &value);
        }
    }
    for (key, value) in &spec.options {
        parameter(key, value);
    }
    uri
}

/// What of an address may be shown: of one that is asked over HTTP, nothing behind the host.
pub fn open_address<'a>(adapter: &str, address: &'a str) -> Cow<'a, str> {
    let mut parts = adapter.split(['+', ':']);
    match address.split_once('/') {
        Some((host, _)) if parts.any(|part| part == "slack" || path_option(part).is_some()) => {
            Cow::Owned(format!("{host}/***"))
        }
        _ => Cow::Borrowed(address),
    }
}

/// The names of `spec`'s options that are not in `known`, in the order given. Logspout takes any
/// option silently, so these are for a warning.
pub fn unknown_options(spec: &RouteSpec, known: &[&str]) -> Vec<String> {
    let names = spec.options.iter().map(|(name, _)| name);
    names.filter(|name| !known.contains(&name.as_str())).cloned().collect()
}

/// One URI, its variables expanded. The error says what is wrong, without the value.
fn parse_route(uri: &str, id: usize) -> Result<RouteSpec, String> {
    if uri.trim().is_empty() {
        return Err("is empty once its variables are expanded; set them".to_owned());
    }
    if uri.bytes().any(|b| b.is_ascii_control()) {
        return Err("contains a control character; write it as %XX".to_owned());
    }
    let (uri, fragment) = uri.split_once('#').unwrap_or((uri, ""));
    if fragment.contains('@') {
        return Err(CUT_PASSWORD.to_owned());
    }
    let (scheme, rest) = split_scheme(uri)?;
    let (hierarchy, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(hierarchy) = hierarchy.strip_prefix("//") else {
        return Err("has no // behind its scheme; write ADAPTER+TRANSPORT://HOST:PORT".to_owned());
    };
    let path_at = hierarchy.find('/').unwrap_or(hierarchy.len());
    let (authority, path) = hierarchy.split_at(path_at);
    let (adapter, transport) = split_adapter(&scheme)?;
    let host = parse_host(authority.rsplit_once('@').map_or(authority, |(_, host)| host))?;
    let address = if transport == Some("unix") { unix_path(&host, path)? } else { host };
    let mut spec = RouteSpec {
        id: id.to_string(),
        adapter,
        transport: transport.map(str::to_owned),
        address,
        selector: Selector::default(),
        options: Vec::new(),
    };
    read_query(query, &mut spec)?;
    if let Some(option) = path_option(spec.sink()) {
        if authority.contains('@') {
            let fix = match spec.sink() {
                "webhook" => "give it as WEBHOOK_HEADERS=Authorization: Basic ...",
                "elasticsearch" => "set ELASTICSEARCH_USER and ELASTICSEARCH_PASSWORD",
                "http" | "https" => "give it as JSON_HEADERS=Authorization: Basic ...",
                _ => "leave it out",
            };
            return Err(format!("has a user before its host; {fix}"));
        }
        if path.len() > 1 && spec.option(option).is_none() {
            spec.options.push((option.to_owned(), path.to_owned()));
        }
    }
    Ok(spec)
}

/// The route that this entry seems to be a part of, as it may be shown: the one before, if that has
/// options and this is no route. What the entry says may be the rest of a secret.
fn continued(entries: &[&str], id: usize) -> Option<String> {
    let no_route = |entry: &str| !entry.contains("://") && !entry.contains('@');
    let begin = entries[..id].iter().rfind(|before| !no_route(before))?;
    (no_route(entries[id]) && begin.contains('?')).then(|| redacted(begin))
}

/// The option that the path of such an adapter's URI becomes.
fn path_option(adapter: &str) -> Option<&'static str> {
    PATHS.iter().find(|(name, _)| *name == adapter).map(|(_, option)| *option)
}

/// Whether an option is one of an adapter that is asked over HTTP.
pub(super) fn is_of_http(option: &str) -> bool {
    let prefix = option.split('.').next().unwrap_or_default();
    PATHS.iter().any(|(_, path)| path.split('.').next() == Some(prefix))
}

/// The scheme in lower case, and what follows its colon.
fn split_scheme(uri: &str) -> Result<(String, &str), String> {
    const FIX: &str = "has no adapter; write ADAPTER+TRANSPORT://HOST:PORT, \
                       e.g. syslog+tcp://logs.example.com:514";
    let (scheme, rest) = uri.split_once(':').ok_or(FIX)?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if valid { Ok((scheme.to_ascii_lowercase(), rest)) } else { Err(FIX.to_owned()) }
}

/// The adapter and the transport of a scheme. `multiline+` stands before the adapter alone.
pub(super) fn split_adapter(scheme: &str) -> Result<(String, Option<&str>), String> {
    if let Some(rest) = scheme.strip_prefix(MULTILINE) {
        let (adapter, transport) = split_plain(rest)?;
        return Ok((format!("{MULTILINE}{adapter}"), transport));
    }
    if scheme == MULTILINE.trim_end_matches('+') {
        return Err("joins lines for nobody; write multiline+ADAPTER+TRANSPORT://HOST:PORT, \
                    e.g. multiline+raw+tcp://logs.example.com:5000"
            .to_owned());
    }
    let (adapter, transport) = split_plain(scheme)?;
    Ok((adapter.to_owned(), transport))
}

fn split_plain(scheme: &str) -> Result<(&str, Option<&str>), String> {
    match scheme.split_once('+') {
        None if BARE_TRANSPORTS.contains(&scheme) => Ok(("raw", Some(scheme))),
        None if !scheme.is_empty() => Ok((scheme, None)),
        None | Some(("", _) | (_, "")) => {
            Err("has nothing on one side of its +; write ADAPTER+TRANSPORT://…".to_owned())
        }
        Some((adapter, transport)) if BARE_TRANSPORTS.contains(&adapter) => Err(format!(
            "names the transport {adapter} where an adapter belongs; write raw+{transport}://…"
        )),
        Some((adapter, transport)) => Ok((adapter, Some(transport))),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, checked as `net/url` does.
fn parse_host(host: &str) -> Result<String, String> {
    let colon_port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("lacks the ] of its IPv6 address")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |colon| &host[colon..])
    };
    let digits = colon_port.strip_prefix(':').unwrap_or("");
    if !colon_port.is_empty()
        && (!colon_port.starts_with(':') || !digits.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("has a port that is no number; write HOST:PORT".to_owned());
    }
    let bad = |b: u8| !b.is_ascii_alphanumeric() && !b"-_.~!$&'()*+,;=:[]<>\"%".contains(&b);
    let escaped_ascii = host.split('%').skip(1).any(|part| {
        let zone = host.starts_with('[') && part.starts_with("25");
        part.bytes().next().is_some_and(|b| b < b'8') && !zone
    });
    if host.bytes().any(|b| b.is_ascii() && bad(b)) || escaped_ascii {
        return Err("has a character in its host that no host has".to_owned());
    }
    decode(host, false)
}

/// The path of a unix socket: what follows an empty authority.
fn unix_path(host: &str, path: &str) -> Result<String, String> {
    let path = decode(path, false)?;
    if !host.is_empty() || path.len() < 2 {
        return Err("needs the path of a socket; write it with three slashes, \
                    e.g. syslog+unix:///dev/log"
            .to_owned());
    }
    Ok(path)
}

/// Reads the query into `spec`: the first value of each name counts.
fn read_query(query: &str, spec: &mut RouteSpec) -> Result<(), String> {
    let mut seen: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Err("has a ; in its query; separate options with &, or write %3B".to_owned());
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.contains('@') {
            return Err(CUT_PASSWORD.to_owned());
        }
        let name = decode(name, true)?;
        let value = decode(value, true)?;
        if seen.contains(&name) {
            continue;
        }
        match name.as_str() {
            "filter.id" => spec.selector.id = value,
            "filter.name" => spec.selector.name = value,
            "filter.sources" => spec.selector.sources = split_list(&value),
            "filter.labels" => spec.selector.labels = split_list(&value),
            _ => spec.options.push((name.clone(), value)),
        }
        seen.push(name);
    }
    Ok(())
}

fn split_list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_owned).collect()
}

/// Percent-decodes; in a query `+` is a space.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that does not repeat it.
pub fn decode(text: &str, query: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => {
                        return Err("has a % without two hexadecimal digits behind it; \
                                    write %25 for a %"
                            .to_owned());
                    }
                }
            }
            b'+' if query => b' ',
            _ => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 once decoded".to_owned())
}

/// `text` as the value of an option: without anything that means something in a list of URIs.
pub fn encoded(text: &str) -> String {
    encode(text, b"")
}

/// Percent-encodes all but letters, digits, `-._~` and `plain`.
fn encode(text: &str, plain: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let keep = match u8::try_from(c) {
            Ok(b) if b.is_ascii() => {
                b.is_ascii_alphanumeric() || b"-._~".contains(&b) || plain.contains(&b)
            }
            _ => c.is_alphanumeric(),
        };
        if keep {
            out.push(c);
        } else {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

/// Expands `$NAME` and `${NAME}` as Go's `os.ExpandEnv` does.
///
/// A name is letters, digits and `_`, or one of `* # $ @ ! ? -` or a single digit; between braces
/// it is anything. What is not set becomes nothing. `${}` and an unclosed `${` are dropped; a `$`
/// that no name follows stays.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let (name, length) = variable(after);
        if name.is_empty() && length == 0 {
            out.push('$');
        } else if !name.is_empty() {
            out.push_str(&env(name).unwrap_or_default());
        }
        rest = &after[length..];
    }
    out + rest
}

/// The name that follows a `$`, and how many bytes it takes there, braces included.
fn variable(text: &str) -> (&str, usize) {
    let special = |b: &u8| b.is_ascii_digit() || b"*#$@!?-".contains(b);
    if let Some(braced) = text.strip_prefix('{') {
        return match braced.find('}') {
            Some(end) => (&braced[..end], end + 2),
            None => ("", 1),
        };
    }
    if text.bytes().next().as_ref().is_some_and(special) {
        return (&text[..1], 1);
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let length = text.bytes().position(|b| !word(b)).unwrap_or(text.len());
    (&text[..length], length)
}

/// Whether the value of an option of this name may be a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !OPEN_NAMES.contains(&name.as_str()) && SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// A URI as the user wrote it (variables not expanded), without what may be secret; it need not
/// be well-formed.
fn redacted(entry: &str) -> String {
    let query_at = entry.find(['?', '#']).unwrap_or(entry.len());
    let (base, query) = entry.split_at(query_at);
    if query.contains('@') {
        // What looks like the beginning of the query may be a part of a password.
        return without_authority(entry);
    }
    let mut out = redacted_base(base);
    for (position, pair) in query.split('&').enumerate() {
        out.push_str(if position == 0 { "" } else { "&" });
        // A value may hold these characters, or they stand where an `&` belongs.
        let hidden = pair.split(['?', ';', '#']).any(|part| match part.split_once('=') {
            Some((name, _)) => decode(name, true).map_or(true, |name| is_secret(&name)),
            None => false,
        });
        match pair.split_once('=') {
            Some((name, _)) if hidden => out.push_str(&format!("{name}=***")),
            _ => out.push_str(pair),
        }
    }
    out
}

/// What stands before the query: without user information, and without a path unless it is that
/// of a socket. A slash may be missing or stand in a password, so where it is not clear what is
/// what, nothing is shown.
fn redacted_base(base: &str) -> String {
    let (scheme, rest) = split_slashes(base);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let socket = scheme.to_ascii_lowercase().ends_with("unix://");
    let doubtful = path.contains('@') && !(socket && authority.is_empty());
    let path = if socket || path.len() < 2 { path } else { "/***" };
    let host = match authority.rsplit_once('@') {
        _ if doubtful => "***".to_owned(),
        Some((_, host)) => format!("***@{host}{path}"),
        None => format!("{authority}{path}"),
    };
    format!("{scheme}{host}")
}

/// The scheme alone.
fn without_authority(entry: &str) -> String {
    let base = entry.split(['?', '#']).next().unwrap_or_default();
    format!("{}***", split_slashes(base).0)
}

/// The scheme with its `://`, if there is one, and what follows it.
fn split_slashes(base: &str) -> (&str, &str) {
    let at = base.find("//").map_or(0, |at| at + 2);
    let (scheme, rest) = base.split_at(at);
    let named = scheme.find([':', '@', '/']).is_some_and(|at| &scheme[at..] == "://");
    if named { (scheme, rest) } else { ("", base) }
}

/// Between quotes, on one line.
fn quote(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("logs.example.com".to_owned()),
            "SUFFIX" => Some("-staging".to_owned()),
            "PAIR" => Some("a,b".to_owned()),
            "MY_TOKEN" => Some("hunter2".to_owned()),
            "#" | "{x" => Some("odd".to_owned()),
            _ => None,
        }
    }

    fn routes(text: &str) -> Vec<RouteSpec> {
        parse_routes(text, &env).unwrap()
    }

    fn one(text: &str) -> RouteSpec {
        routes(text).remove(0)
    }

    fn error(text: &str) -> String {
        parse_routes(text, &env).unwrap_err().to_string()
    }

    #[test]
    fn variables_expand_as_in_go() {
        let cases = [
            ("$HOST", "logs.example.com"),
            ("${HOST}x", "logs.example.comx"),
            ("$HOSTx", ""),
            ("$HOST.x$SUFFIX", "logs.example.com.x-staging"),
            ("a$", "a$"),
            ("a$.b", "a$.b"),
            ("$&$|", "$&$|"),
            ("${}a", "a"),
            ("${a", "a"),
            ("${", ""),
            ("$1a", "a"),
            ("$12", "2"),
            ("$$", ""),
            ("$#", "odd"),
            ("${#}", "odd"),
            ("${{x}", "odd"),
            ("$*-$-", "-"),
            ("$é", "$é"),
            ("${é}", ""),
            ("x", "x"),
        ];
        for (text, expect) in cases {
            assert_eq!(expand(text, &env), expect, "{text}");
        }
    }

    #[test]
    fn a_route_has_an_adapter_a_transport_and_an_address() {
        let cases = [
            (
                "syslog+tls://logs.example.com:6514",
                ("syslog", Some("tls"), "logs.example.com:6514"),
            ),
            ("SYSLOG+TCP://H:1", ("syslog", Some("tcp"), "H:1")),
            ("syslog://h", ("syslog", None, "h")),
            ("tcp://h:1", ("raw", Some("tcp"), "h:1")),
            ("udp://h:1", ("raw", Some("udp"), "h:1")),
            ("tls://h:1", ("raw", Some("tls"), "h:1")),
            ("unix:///run/x.sock", ("raw", Some("unix"), "/run/x.sock")),
            ("syslog+unix:///dev/log", ("syslog", Some("unix"), "/dev/log")),
            ("raw+unix:///a%20b?x=1", ("raw", Some("unix"), "/a b")),
            ("multiline+raw+tcp://h:1", ("multiline+raw", Some("tcp"), "h:1")),
            ("Multiline+TCP://h:1", ("multiline+raw", Some("tcp"), "h:1")),
            ("multiline+slack://h", ("multiline+slack", None, "h")),
            ("multiline+raw+unix:///s", ("multiline+raw", Some("unix"), "/s")),
            ("console://", ("console", None, "")),
            ("raw+udp://[::1]:514", ("raw", Some("udp"), "[::1]:514")),
            ("raw+udp://[fe80::1%25eth0]:514", ("raw", Some("udp"), "[fe80::1%eth0]:514")),
            ("raw+udp://user:pw@h:1/path", ("raw", Some("udp"), "h:1")),
            ("raw+udp://$HOST:1#fragment?x=1", ("raw", Some("udp"), "logs.example.com:1")),
            ("  raw+udp://h:1\n", ("raw", Some("udp"), "h:1")),
        ];
        for (text, (adapter, transport, address)) in cases {
            let spec = one(text);
            assert_eq!(spec.adapter, adapter, "{text}");
            assert_eq!(spec.transport.as_deref(), transport, "{text}");
            assert_eq!(spec.address, address, "{text}");
        }
    }

    #[test]
    fn the_query_selects_and_sets_options() {
        let spec =
            one("raw+udp://h:1?filter.name=*_db&filter.id=12ab&filter.sources=stdout%2Cstderr\
             &filter.labels=tier:back*%2Curl:http%3A%2F%2Fx%3A80&append_tag=.a+b%2Bc\
             &append_tag=.second&&filter.name=second&flag&p=$SUFFIX&filter.match=a%7C%24$");
        let expect = Selector {
            id: "12ab".to_owned(),
            name: "*_db".to_owned(),
            sources: vec!["stdout".to_owned(), "stderr".to_owned()],
            labels: vec!["tier:back*".to_owned(), "url:http://x:80".to_owned()],
        };
        assert_eq!(spec.selector, expect);
        let options: Vec<(&str, &str)> =
            spec.options.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expect =
            [("append_tag", ".a b+c"), ("flag", ""), ("p", "-staging"), ("filter.match", "a|$$")];
        assert_eq!(options, expect);
        assert_eq!(
            unknown_options(&spec, &["append_tag", "filter.match"]),
            ["flag".to_owned(), "p".to_owned()]
        );
    }

    #[test]
    fn the_list_is_split_before_anything_is_expanded() {
        let both = routes("raw+udp://a:1?x=$PAIR, ,\nsyslog://b:2,");
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].option("x"), Some("a,b"));
        assert_eq!((both[0].id.as_str(), both[1].id.as_str()), ("0", "1"));
        assert_eq!(routes(" , "), []);
    }

    #[test]
    fn errors_name_the_route_and_the_fix() {
        let cases = [
            ("nonsense", "has no adapter"),
            ("127.0.0.1:514", "has no adapter"),
            ("$UNSET", "is empty once its variables are expanded"),
            ("syslog:h:514", "has no //"),
            ("syslog+://h", "nothing on one side"),
            ("+tcp://h", "has no adapter"),
            ("multiline://h:1", "write multiline+ADAPTER+TRANSPORT://"),
            ("multiline+://h:1", "nothing on one side"),
            ("multiline+tcp+tls://h:1", "write raw+tls://"),
            ("tcp+tls://h", "write raw+tls://"),
            ("raw+udp://h:x", "port that is no number"),
            ("raw+udp://[::1", "lacks the ]"),
            ("raw+udp://[::1]x", "port that is no number"),
            ("raw+udp://a b:1", "no host has"),
            ("raw+udp://a%20b:1", "no host has"),
            ("raw+udp://h:1?x=%zz", "write %25"),
            ("raw+udp://h:1?x=%4", "write %25"),
            ("raw+udp://h:1?x=%ff", "not UTF-8"),
            ("raw+udp://h:1?a=1;b=2", "separate options with &"),
            ("raw+udp://h:1?a=\u{1}", "control character"),
            ("syslog+unix://dev/log", "three slashes"),
            ("syslog+unix://", "three slashes"),
        ];
        for (text, expect) in cases {
            let error = error(text);
            assert!(error.contains(expect), "{text}: {error}");
            assert!(error.starts_with(&format!("route {text:?}: ")), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        assert!(error("raw://a:1,syslog:b").starts_with("route \"syslog:b\": "));
    }

    #[test]
    fn secrets_are_not_repeated() {
        let secret = "hunter2";
        for text in [
            "raw+udp://user:hunter2@h:x",
            "https://h:x/services/hunter2",
            "raw+udp://h:x?token=hunter2",
            "raw+udp://h:x?a=1&API_KEY=hunter2&b=%zz",
            "raw+udp://h:x?to%6ben=hunter2",
            "raw+udp://h:x?password=hunter2;b=1",
            "raw+udp://h:x?structured_data=hunter2%4041058",
            "raw+udp://h:x?tok%zzen=hunter2",
            "raw+udp://h:x?x=$MY_TOKEN",
            // A slash too few, no scheme, or a slash in the password.
            "raw+udp:/user:hunter2@h:1",
            "raw+udp:user:hunter2@h:1",
            "https:/hooks.example.com/services/hunter2",
            "user:hunter2@h:1",
            "user:hunter2@h:1//",
            "raw+udp://user:hunter2/x@h:1",
            "https://h:x/services/@hunter2",
            // What separates a query or fragment, in a password.
            "raw://user:hunter2?a@h:x",
            "raw://user:a?hunter2@h:x",
            "raw://user:a#hunter2@h:x",
            "raw://user:hunter2#a?b=c@h:x",
            "raw://hunter2?@h:x",
            "raw://hunter2?@h:1",
            "raw://hunter2#@h:1",
            "raw:/user:hunter2?a@h:x",
            "user?hunter2://a@h:x",
            // What separates routes.
            "raw://h:1?filter.sources=a,b&token=hunter2",
            "raw://h:1?token=a,hunter2",
            "raw://h:1?token=a,b,hunter2=x",
            "raw://user:hunter2,a@h:x",
            "raw://user:hunter2,a,b@h:x,raw://c",
            "raw://user:a,hunter2@h:x",
            "user:hunter2?a=b&c=d@h",
            // What separates options, in a value or where an & belongs.
            "raw+udp://h:x?token=a?hunter2",
            "raw+udp://h:x?token=a;hunter2",
            "raw+udp://h:x?token=a#hunter2",
            "raw+udp://h:x?a=1;token=hunter2",
            "raw+udp://h:x?a=1#token=hunter2",
        ] {
            assert!(!error(text).contains(secret), "{}", error(text));
        }
        assert!(error("raw+udp://h:x?token=hunter2&x=1").contains("?token=***&x=1"));
        assert!(error("raw+udp://u:p?@h:x").starts_with("route \"raw+udp://***\": "));
        assert!(error("raw://h:x,raw://a@h:1").starts_with("route \"raw://h:x\": "));
        let spec = one("raw+udp://user:hunter2@h:1/hunter2?my_token=$MY_TOKEN&x=1");
        assert_eq!(display(&spec), "raw+udp://h:1?my_token=***&x=1");
    }

    #[test]
    fn odd_characters_of_hosts_and_empty_lists_are_displayed_as_they_are_read() {
        for text in
            ["raw+udp://a\"b<c>(d)'!*;=&+:1", "raw+udp://h:1?filter.labels=&filter.sources="]
        {
            let spec = one(text);
            assert_eq!(one(&display(&spec)), spec, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_means_the_same(
            scheme in "(multiline\\+)?(syslog|raw|console)(\\+(tcp|tls))?",
            host in "[a-z0-9.-]{0,12}(:[0-9]{1,5})?",
            id in "[0-9a-f]{0,12}",
            name in ".{0,8}",
            lists in prop::collection::vec("[^,]{1,6}", 0..6),
            options in prop::collection::vec(("[a-z.]{1,6}", ".{0,8}"), 0..4),
        ) {
            let (adapter, transport) = split_adapter(&scheme).unwrap();
            let (sources, labels) = lists.split_at(lists.len() / 2);
            let mut spec = RouteSpec {
                id: "0".to_owned(),
                adapter,
                transport: transport.map(str::to_owned),
                address: host,
                selector: Selector { id, name, sources: sources.to_vec(), labels: labels.to_vec() },
                options: Vec::new(),
            };
            for (name, value) in options {
                let plain = !is_secret(&name) && !name.starts_with("filter.");
                if plain && spec.option(&name).is_none() {
                    spec.options.push((name, value));
                }
            }
            let shown = display(&spec);
            prop_assert_eq!(parse_routes(&shown, &env), Ok(vec![spec]), "{}", shown);
        }

        #[test]
        fn any_text_is_safe(text in "[a-z+:/?#&;=%@$.,\\[\\]{}é \\n0-9]{0,40}") {
            match parse_routes(&text, &env) {
                Ok(specs) => specs.iter().for_each(|spec| { display(spec); }),
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            }
        }
    }
}
