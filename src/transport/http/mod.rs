//! HTTP to a receiver, for webhooks and batches: where it is ([`Endpoint`]), and one request at a
//! time over a connection that is made anew where need be ([`Client`]), through a proxy if one is
//! set ([`Proxy`]).
//!
//! An endpoint's path and headers are secrets: no error, message or metric holds them.

mod client;
mod proxy;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;

pub use self::client::{Answer, Client};
pub use self::proxy::Proxy;
use super::HostPort;
use crate::config::ProxySettings;

/// The ports of an endpoint that names none.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// Headers that a request has anyway, or that would break it.
const OURS: [&str; 6] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"];

/// Where requests go.
#[derive(Clone)]
pub struct Endpoint {
    host: HostPort,
    path: Secret,
    /// `None`: without TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
    proxy: Option<Proxy>,
    manner: Manner,
}

/// How an endpoint wants to be asked.
#[derive(Clone, Debug)]
pub struct Manner {
    /// POST, mostly.
    pub method: Method,
    /// Of the body.
    pub content_type: HeaderValue,
    /// Further headers, see [`headers`].
    pub headers: HeaderMap,
    /// For the request and the whole answer, once connected.
    pub answer_timeout: Duration,
    /// Most bytes of an answer's body that are kept.
    pub answer_max: usize,
}

/// Reads a header, `Content-Type` for one.
///
/// # Errors
/// The end of a sentence; without the value.
pub fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| "has a character that no header has; write it without".to_owned())
}

/// Reads further headers, `NAME: VALUE` a line.
///
/// # Errors
/// The end of a sentence: which line is wrong, and what to write instead; without the line.
pub fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (at, line) in lines {
        let bad = |what: &str| format!("has {what} in line {}; write NAME: VALUE", at + 1);
        let (name, value) = line.split_once(':').ok_or_else(|| bad("no colon"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad("no name of a header"))?;
        if OURS.contains(&name.as_str()) {
            return Err(format!("has {name}, which is not for it to set; leave it out"));
        }
        let mut value = header_value(value.trim()).map_err(|_| bad("a bad value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Reads a method.
///
/// # Errors
/// The end of a sentence.
pub fn method(text: &str) -> Result<Method, String> {
    match text.to_ascii_uppercase().as_str() {
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        _ => Err("is no method that brings something; write POST, PUT or PATCH".to_owned()),
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The endpoint at `url`, which is `https://HOST[:PORT][/PATH]`, or `http://` without `tls`.
    /// Its path may be what makes it secret.
    ///
    /// # Errors
    /// What is wrong with the URL, and what to write instead; without its path.
    pub fn parse(
        url: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
        manner: Manner,
    ) -> Result<Endpoint, String> {
        let (scheme, port) = if tls.is_some() { ("https", HTTPS) } else { ("http", HTTP) };
        let fix = format!("write {scheme}://HOST/PATH");
        let rest = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        let Some(rest) = rest else {
            return Err(format!("is no {scheme} URL; {fix}"));
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // The error's own text may hold the path.
        PathAndQuery::try_from(&path)
            .map_err(|_| format!("has a character in its path that no URL has; {fix}"))?;
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => authority.to_owned(),
            _ => format!("{authority}:{port}"),
        };
        let host = match authority.split(':').next() {
            Some("") => return Err(format!("names no host; {fix}")),
            _ => HostPort::parse(&with_port)?,
        };
        Ok(Endpoint { host, path: Secret(path), tls, proxy: None, manner })
    }

    /// The same, through the proxy that it needs, if any.
    ///
    /// # Errors
    /// As [`Proxy::choose`].
    pub fn through(mut self, settings: &ProxySettings) -> Result<Endpoint, String> {
        self.proxy = Proxy::choose(settings, &self.host, self.tls.is_some())?;
        Ok(self)
    }

    /// The first words of an answer's body, on one line, less what may be a secret of this
    /// endpoint's; nothing of pages for people.
    pub fn cleaned(&self, body: &[u8]) -> String {
        client::cleaned(body, &client::secrets(self))
    }

    /// What the `Host` header holds.
    fn authority(&self) -> String {
        let text = self.host.to_string();
        let port = format!(":{}", if self.tls.is_some() { HTTPS } else { HTTP });
        text.strip_suffix(&port).unwrap_or(&text).to_owned()
    }

    /// Whether both are one to whoever answers: what holds for the one holds for the other. Headers
    /// say who asks.
    pub fn is_same(&self, other: &Endpoint) -> bool {
        let (tls, headers) = (self.tls.is_some(), &self.manner.headers);
        (&self.host, &self.path) == (&other.host, &other.path)
            && (tls, headers) == (other.tls.is_some(), &other.manner.headers)
    }
}

/// `HOST:PORT`, nothing of the path.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shows_other_headers_is_somebody_else() {
        let endpoint = |url: &str, header: &str| {
            let manner = Manner {
                method: Method::POST,
                content_type: HeaderValue::from_static("text/plain"),
                headers: headers(header).unwrap(),
                answer_timeout: Duration::from_secs(1),
                answer_max: 0,
            };
            Endpoint::parse(url, None, manner).unwrap()
        };
        let one = endpoint("http://h/a", "Authorization: x");
        assert!(one.is_same(&endpoint("http://h:80/a", "authorization:x")));
        for (url, header) in [
            ("http://h/b", "Authorization: x"),
            ("http://i/a", "Authorization: x"),
            ("http://h/a", "Authorization: y"),
            ("http://h/a", ""),
        ] {
            assert!(!one.is_same(&endpoint(url, header)), "{url} {header}");
        }
    }
}
