//! Proxies on the way to an endpoint: whether there is one ([`Proxy::choose`]), and a tunnel
//! through it ([`tunnel`], RFC 9110, section 9.3.6).
//!
//! Choosing is pure. hyper-util reads the variables, as curl does; besides, this machine is never
//! asked for through a proxy, as in Go. A proxy's user and password are shown nowhere.

use std::fmt;
use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::upgrade::{self, Upgraded};
use hyper::{Request, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::ProxySettings;
use crate::transport::HostPort;

/// An HTTP proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Where it is.
    pub(super) at: HostPort,
    /// `Proxy-Authorization`: a secret.
    pub(super) authorization: Option<HeaderValue>,
    /// The variable that names it.
    variable: &'static str,
}

/// `HOST:PORT`, and who names it.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} ({})", self.at, self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.at)
    }
}

impl Proxy {
    /// The proxy for an endpoint at `host`, if it is to be reached through one.
    ///
    /// # Errors
    /// What is wrong with the variable, and what to write instead; without its value.
    pub fn choose(
        settings: &ProxySettings,
        host: &HostPort,
        https: bool,
    ) -> Result<Option<Proxy>, String> {
        let (given, variable) = match https {
            true => (&settings.https, "HTTPS_PROXY"),
            false => (&settings.http, "HTTP_PROXY"),
        };
        let Some(given) = given.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if is_local(&host.host) {
            return Ok(None);
        }
        let bad = || {
            format!("{variable}: is no proxy that can be used; write http://HOST:PORT, or unset it")
        };
        let matcher = |except: &str| Matcher::builder().https(given).http(given).no(except).build();
        let scheme = if https { "https" } else { "http" };
        let target: Uri = format!("{scheme}://{host}/").parse().map_err(|_| bad())?;
        let found = matcher("").intercept(&target).ok_or_else(bad)?;
        if found.uri().scheme_str() != Some("http") {
            return Err(bad());
        }
        if matcher(&settings.except).intercept(&target).is_none() {
            return Ok(None);
        }
        let place = found.uri().host().unwrap_or_default();
        let port = found.uri().port_u16().unwrap_or(80);
        let at = HostPort::parse(&format!("{place}:{port}")).map_err(|_| bad())?;
        Ok(Some(Proxy { at, authorization: found.basic_auth().cloned(), variable }))
    }
}

/// Whether a host is this machine: Go asks no proxy for it.
fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Asks the proxy at the other end of `stream` for a way to `target`.
pub(super) async fn tunnel(
    stream: TcpStream,
    proxy: &Proxy,
    target: &HostPort,
) -> io::Result<TokioIo<Upgraded>> {
    let failed = |why: &dyn fmt::Display| io::Error::other(format!("{proxy} {why}"));
    let broken = |error: hyper::Error| failed(&format_args!("does not work: {error}"));
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the tunnel.
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    let target = target.to_string();
    let mut request = Request::connect(&target).header(HOST, &target);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let meaning = match response.status().as_u16() {
        200..=299 => {
            return upgrade::on(response).await.map(TokioIo::new).map_err(broken);
        }
        407 => ": it wants a user and a password, or others; write http://USER:PASSWORD@HOST:PORT",
        403 => ": it does not allow this host",
        _ => "",
    };
    let status = response.status().as_u16();
    Err(failed(&format_args!("does not connect to {target}: answer {status}{meaning}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(https: &str, except: &str, host: &str) -> Result<Option<String>, String> {
        let settings = ProxySettings {
            https: Some(https.to_owned()),
            http: Some("plain.example:1".to_owned()),
            except: except.to_owned(),
        };
        let host = HostPort { host: host.to_owned(), port: 443 };
        Ok(Proxy::choose(&settings, &host, true)?.map(|proxy| proxy.at.to_string()))
    }

    #[test]
    fn the_variables_name_it() {
        for (given, expected) in [
            ("http://proxy.example:3128", "proxy.example:3128"),
            (" http://proxy.example:3128/ ", "proxy.example:3128"),
            ("proxy.example:3128", "proxy.example:3128"),
            ("http://proxy.example", "proxy.example:80"),
            ("http://u:p%40ss@proxy.example:1", "proxy.example:1"),
            ("http://[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(chosen(given, "", "hooks.example"), Ok(Some(expected.to_owned())));
        }
        assert_eq!(chosen(" ", "", "hooks.example"), Ok(None));
        let host = HostPort { host: "h.example".to_owned(), port: 80 };
        let settings = ProxySettings { https: Some("x.example:1".into()), ..Default::default() };
        assert!(Proxy::choose(&settings, &host, false).unwrap().is_none());
        let settings = ProxySettings { http: Some("u:sEcReT@x.example".into()), ..settings };
        let proxy = Proxy::choose(&settings, &host, false).unwrap().unwrap();
        assert_eq!(proxy.to_string(), "the proxy x.example:80 (HTTP_PROXY)");
        let authorization = proxy.authorization.as_ref().unwrap();
        assert_eq!(authorization, "Basic dTpzRWNSZVQ=");
        assert!(authorization.is_sensitive() && !format!("{proxy:?}").contains("ZVQ"));
    }

    #[test]
    fn some_hosts_need_none() {
        let proxy = "http://proxy.example:3128";
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.0.1", "::1"] {
            assert_eq!(chosen(proxy, "", host), Ok(None), "{host}");
        }
        for (except, host, direct) in [
            ("*", "hooks.example", true),
            ("example", "hooks.example", true),
            (".hooks.example", "a.hooks.example", true),
            ("a.example, hooks.example", "hooks.example", true),
            ("ooks.example", "hooks.example", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
        ] {
            assert_eq!(chosen(proxy, except, host).unwrap().is_none(), direct, "{except} {host}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_its_value() {
        for given in ["socks5://u:sEcReT@h:1", "https://sEcReT:1", "http://", "sEcReT h", "ftp://h"]
        {
            let error = chosen(given, "", "hooks.example").unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY: is no proxy"), "{given}: {error}");
            assert!(!error.contains("sEcReT"), "{error}");
        }
    }
}
