//! What a route's options say, and else the settings of the same names: for sinks that have many.
//!
//! Pure but for the PEM files that TLS needs. Errors show no value that may be a secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Settings, value};
use crate::route::RouteSpec;
use crate::route::uri::is_secret;
use crate::transport::tls;

/// The options of a route, and what is given for all routes, by the name of the option.
pub(super) struct Options<'a> {
    pub(super) spec: &'a RouteSpec,
    pub(super) given: &'a BTreeMap<&'static str, String>,
}

impl<'a> Options<'a> {
    /// What the route itself says.
    pub(super) fn own(&self, option: &str) -> Option<&'a str> {
        self.spec.given(option)
    }

    /// What the settings say.
    pub(super) fn shared(&self, option: &str) -> Option<&'a str> {
        self.given.get(option).map(String::as_str)
    }

    /// What either says; the route's own words win.
    pub(super) fn get(&self, option: &str) -> Option<&'a str> {
        self.own(option).or(self.shared(option))
    }

    /// What is given, or `default`, read by `parse`.
    pub(super) fn read<T>(
        &self,
        option: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        match self.get(option) {
            Some(text) => parse(text).map_err(|fix| {
                let secret = is_secret(option);
                let value = if secret { "the value".to_owned() } else { value::shown(text) };
                self.bad(option, &format!("{value} {fix}"))
            }),
            None => Ok(default),
        }
    }

    /// What is given, or `usual`, of an option that is yes or no.
    pub(super) fn switch(&self, option: &str, usual: bool) -> Result<bool, String> {
        self.read(option, usual, value::boolean)
    }

    /// What to say of an option, under the name by which it was given: `what` ends the sentence.
    pub(super) fn bad(&self, option: &str, what: &str) -> String {
        let variable = option.to_ascii_uppercase().replace('.', "_");
        let name = if self.own(option).is_some() { option } else { &variable };
        format!("{name} of route {}: {what}", self.spec.id)
    }

    /// The whole URL that `option` holds: a path alone is one on the route's host. A route that
    /// names a host does not lead to another one because of the environment. `scheme` is the
    /// route's, `fix` says what to write.
    pub(super) fn url(&self, option: &str, scheme: &str, fix: &str) -> Result<String, String> {
        let address = &self.spec.address;
        let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        let is_whole = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        let own = self.own(option).or(Some(path).filter(|path| path.len() > 1));
        let shared = self.shared(option).map(str::trim);
        let shared = shared.filter(|url| host.is_empty() || !is_whole(url));
        let given = own.or(shared).unwrap_or_default().trim();
        let bad = |what: &str| Err(self.bad(option, &format!("{what}; {fix}")));
        match given {
            given if given.starts_with(['"', '\'']) => {
                bad("is in quotes, which are part of the value here")
            }
            given if is_whole(given) => Ok(given.to_owned()),
            given if given.contains("://") => bad("is neither an https nor an http URL"),
            _ if host.is_empty() => bad("is not whole, and the route names no host"),
            given => Ok(format!("{scheme}://{host}/{}", given.trim_start_matches('/'))),
        }
    }

    /// What TLS needs to reach `url`, if it needs TLS.
    pub(super) fn tls(
        &self,
        url: &str,
        settings: &Settings,
    ) -> Result<Option<Arc<rustls::ClientConfig>>, String> {
        let config = url.starts_with("https://").then(|| tls::client_config(&settings.tls));
        config.transpose().map_err(|error| format!("no TLS for route {}: {error}", self.spec.id))
    }
}
