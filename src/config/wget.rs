//! The little of `wget` that health checks written for Logspout's Alpine image use. The image has
//! a link of that name to logchute: `wget -q --tries=1 --spider http://localhost:80/health`.
//!
//! Pure: arguments in, what to ask out.

use hyper::Uri;

use super::ConfigError;

/// The name that makes logchute this.
pub const NAME: &str = "wget";

/// A page whose being there is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The host's name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

/// Reads the arguments behind the name.
///
/// # Errors
/// Where they are anything but `--spider`, the options that go with it in health checks, and one
/// URL.
pub fn parse<'a>(args: impl Iterator<Item = &'a str>) -> Result<Page, ConfigError> {
    let (mut url, mut spider) = (None, false);
    for arg in args {
        match arg.split_once('=').map_or(arg, |(name, _)| name) {
            "--spider" => spider = true,
            "-q" | "--quiet" | "-nv" | "--no-verbose" | "--tries" | "--timeout" => {}
            name if name.starts_with('-') => return Err(wrong(&format!("{name}: not known"))),
            _ if url.is_some() => return Err(wrong("more than one URL")),
            _ => url = Some(arg),
        }
    }
    match url {
        Some(url) if spider => page(url),
        Some(_) => Err(wrong("it fetches nothing; give --spider")),
        None => Err(wrong("no URL")),
    }
}

fn page(url: &str) -> Result<Page, ConfigError> {
    // As wget takes them.
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = with_scheme.parse().map_err(|_| wrong("the URL cannot be read"))?;
    let host = uri.host().filter(|host| !host.is_empty());
    let (Some("http"), Some(host)) = (uri.scheme_str(), host) else {
        return Err(wrong("the URL is not http://HOST[:PORT][/PATH]"));
    };
    Ok(Page {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(80),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    })
}

fn wrong(what: &str) -> ConfigError {
    ConfigError::new(format!(
        "wget: {what}; this is logchute, which answers only \
         `wget -q --tries=1 --spider http://HOST:PORT/PATH`, for health checks"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Page, String> {
        parse(line.split_whitespace()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_health_checks_ask() {
        let health = Page { host: "localhost".into(), port: 80, path: "/health".into() };
        for line in [
            "-q --tries=1 --spider http://localhost:80/health",
            "--spider -q http://localhost/health",
            "--quiet --timeout=3 --tries=1 --spider localhost/health",
        ] {
            assert_eq!(parsed(line), Ok(health.clone()), "{line}");
        }
        let other = Page { host: "::1".into(), port: 8080, path: "/".into() };
        assert_eq!(parsed("--spider http://[::1]:8080"), Ok(other));
    }

    #[test]
    fn anything_else_is_refused() {
        for (line, why) in [
            ("", "no URL"),
            ("http://localhost/health", "give --spider"),
            ("--spider https://localhost/", "is not http://"),
            ("--spider http://", "cannot be read"),
            ("--spider http://a/ http://b/", "more than one URL"),
            ("--spider -O- http://a/", "-O-: not known"),
            ("--spider --post-data=secret http://a/", "--post-data: not known"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{line}: {error}");
        }
    }
}
