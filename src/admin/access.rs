//! Who may see lines, and see and change routes. Pure: a request's head in, yes or an answer out.
//!
//! With a token, whoever shows it may do all of it, and nobody else anything. Without one, the
//! listener's address decides: on loopback all is open to the machine's own users, but not to
//! pages of other sites in their browsers, whatever address their names lead to (DNS rebinding);
//! elsewhere routes can be seen and not changed.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Uri};
use subtle::ConstantTimeEq;

use super::answer::{Answer, error};
use crate::route::uri::decode;

/// What may be done with `/routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// All.
    Change,
    /// Look.
    See,
    /// Nothing.
    Nothing,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// There is a token, and the client does not show it.
    NoToken,
    /// The page of another site asks, or one that may be.
    OtherSite,
    /// Routes can be seen here, not changed.
    ReadOnly,
    /// Routes can neither be seen nor changed.
    Off,
}

impl Denial {
    /// What the client is told, with what to do about it.
    pub(super) fn answer(self) -> Answer {
        let line = match self {
            Denial::NoToken => {
                "401 unauthorized: show the HTTP_TOKEN (Authorization: Bearer TOKEN)"
            }
            Denial::OtherSite => {
                "Pages of other sites may not, and by the name of one nobody; set HTTP_TOKEN and \
                 show it"
            }
            Denial::ReadOnly => {
                "Changing routes is off. It is on where HTTP_TOKEN is set, where the listener is \
                 on loopback, and with ROUTES_API=open"
            }
            Denial::Off => "Routes are neither shown nor changed (ROUTES_API=off)",
        };
        if self != Denial::NoToken {
            return error(StatusCode::FORBIDDEN, line);
        }
        let mut answer = error(StatusCode::UNAUTHORIZED, line);
        let scheme = HeaderValue::from_static("Bearer realm=\"logchute\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        answer
    }
}

/// Who may do what.
#[derive(Clone)]
pub struct Access {
    token: Option<String>,
    local: bool,
    routes: Permission,
}

impl Access {
    /// For a listener that is, or is not, `local`: on loopback. `routes`: what was asked for;
    /// `None` lets routes be changed by those who show the token or are on this machine.
    pub fn new(token: Option<String>, local: bool, routes: Option<Permission>) -> Access {
        let own = if token.is_some() || local { Permission::Change } else { Permission::See };
        Access { token, local, routes: routes.unwrap_or(own) }
    }

    /// Whether anybody who reaches the listener may see lines and routes.
    pub fn is_open(&self) -> bool {
        self.token.is_none() && !self.local
    }

    /// Whether routes can be changed.
    pub fn permission(&self) -> Permission {
        self.routes
    }

    /// Whether clients that passed the checks below have shown to be who may know secrets.
    pub(super) fn is_trusted(&self) -> bool {
        !self.is_open()
    }

    /// Whether the client may see what containers write.
    pub(super) fn may_see_lines(&self, head: &Parts) -> Result<(), Denial> {
        self.check(head, self.local)
    }

    pub(super) fn may_see_routes(&self, head: &Parts) -> Result<(), Denial> {
        self.check(head, self.local)?;
        match self.routes {
            Permission::Nothing => Err(Denial::Off),
            Permission::See | Permission::Change => Ok(()),
        }
    }

    pub(super) fn may_change_routes(&self, head: &Parts) -> Result<(), Denial> {
        self.check(head, true)?;
        match self.routes {
            Permission::Nothing => Err(Denial::Off),
            Permission::See => Err(Denial::ReadOnly),
            Permission::Change => Ok(()),
        }
    }

    /// The token, if there is one; else, if `own_pages`, that no other site's page asks, and on
    /// loopback, that it is asked for by a name that no site has.
    fn check(&self, head: &Parts, own_pages: bool) -> Result<(), Denial> {
        match &self.token {
            Some(token) if shown(head).is_some_and(|shown| is_same(&shown, token)) => Ok(()),
            Some(_) => Err(Denial::NoToken),
            None if own_pages && is_other_site(head) => Err(Denial::OtherSite),
            None if self.local && is_other_name(head) => Err(Denial::OtherSite),
            None => Ok(()),
        }
    }
}

/// The token that a client shows: in a header, or, where it cannot set any (websockets in a
/// browser), as a parameter.
fn shown(head: &Parts) -> Option<String> {
    let header = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(header) = header {
        let (scheme, token) = header.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    if head.method != Method::GET {
        return None;
    }
    let mut pairs = head.uri.query()?.split('&');
    let token = pairs.find_map(|pair| pair.strip_prefix("token="))?;
    decode(token, false).ok()
}

/// Takes as long for tokens of one length, however alike they are.
fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Whether the page of another site asks: browsers say from where, other clients do not.
fn is_other_site(head: &Parts) -> bool {
    let Some(origin) = head.headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let Some(origin) = origin.as_ref().and_then(Uri::host) else { return true };
    let is_own = asked_for(head).as_ref().and_then(Uri::host).is_some_and(|own| own == origin);
    !is_own && !matches!(origin, "localhost" | "127.0.0.1" | "[::1]")
}

/// Whether a listener on loopback is asked for by a name that a site may have. Whose page it is may
/// have such a name lead here, and then its requests look like those of our own pages.
fn is_other_name(head: &Parts) -> bool {
    let asked_for = asked_for(head);
    let Some(host) = asked_for.as_ref().and_then(Uri::host) else { return false };
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    name.contains('.') && !is_address && !name.ends_with(".localhost")
}

/// The host that the client means to speak to.
fn asked_for(head: &Parts) -> Option<Uri> {
    head.headers.get(HOST)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(result: Result<(), Denial>) -> u16 {
        result.map_or_else(|denial| denial.answer().status().as_u16(), |()| 200)
    }

    fn all(access: &Access, head: &Parts) -> [u16; 3] {
        [
            status(access.may_see_lines(head)),
            status(access.may_see_routes(head)),
            status(access.may_change_routes(head)),
        ]
    }

    #[test]
    fn a_token_opens_all_and_its_lack_nothing() {
        for local in [true, false] {
            let access = Access::new(Some("s3cret+/=".into()), local, None);
            let bearer = |value: &str| head("POST", "/x", &[("authorization", value)]);
            for right in ["Bearer s3cret+/=", "bearer s3cret+/=", "BEARER  s3cret+/= "] {
                assert_eq!(all(&access, &bearer(right)), [200; 3], "{right}");
            }
            for wrong in ["Bearer s3cret+/", "Bearer s3cret+/=x", "Bearer ", "s3cret+/=", "Basic x"]
            {
                assert_eq!(all(&access, &bearer(wrong)), [401; 3], "{wrong}");
            }
            assert_eq!(all(&access, &head("GET", "/x", &[])), [401; 3]);
            assert_eq!(all(&access, &head("GET", "/x?a=b&token=s3cret+/=", &[])), [200; 3]);
            assert_eq!(all(&access, &head("GET", "/x?token=s3cret%2B%2F%3D", &[])), [200; 3]);
            assert_eq!(all(&access, &head("GET", "/x?token=s3cre", &[])), [401; 3]);
            assert_eq!(all(&access, &head("POST", "/x?token=s3cret+/=", &[])), [401; 3]);
            // A token that is shown wrong in the header is not made good by a parameter.
            let both = head("GET", "/x?token=s3cret+/=", &[("authorization", "Bearer x")]);
            assert_eq!(all(&access, &both), [401; 3]);
        }
        let answer = Access::new(Some("t".into()), true, None);
        let answer = answer.may_see_lines(&head("GET", "/", &[])).unwrap_err().answer();
        assert!(answer.headers()[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"));
    }

    #[test]
    fn without_a_token_the_address_decides() {
        let anybody = head("GET", "/x", &[]);
        let access = |local, routes| Access::new(None, local, routes);
        assert_eq!(all(&access(true, None), &anybody), [200, 200, 200]);
        assert_eq!(all(&access(false, None), &anybody), [200, 200, 403]);
        assert_eq!(all(&access(false, Some(Permission::Change)), &anybody), [200, 200, 200]);
        assert_eq!(all(&access(true, Some(Permission::See)), &anybody), [200, 200, 403]);
        assert_eq!(all(&access(true, Some(Permission::Nothing)), &anybody), [200, 403, 403]);
    }

    #[test]
    fn pages_of_other_sites_are_kept_out() {
        let page = |origin: &str| head("POST", "/x", &[("origin", origin), ("host", "here:80")]);
        for own in ["http://here", "http://here:8080", "https://localhost", "http://127.0.0.1:1"] {
            assert_eq!(all(&Access::new(None, true, None), &page(own)), [200; 3], "{own}");
        }
        for other in ["http://evil.example", "null", "http://here.evil.example", "file://", "a b"] {
            assert_eq!(all(&Access::new(None, true, None), &page(other)), [403; 3], "{other}");
        }
        // A page whose name its owner has lead here says nothing that would tell it from our own.
        let asked = |host: &str| head("GET", "/x", &[("host", host)]);
        for host in
            ["evil.example:8080", "evil.example.", "127.0.0.1.evil.example", "x.localhost.y"]
        {
            assert_eq!(all(&Access::new(None, true, None), &asked(host)), [403; 3], "{host}");
            assert_eq!(all(&Access::new(None, false, None), &asked(host)), [200, 200, 403]);
        }
        for host in ["here:80", "LOCALHOST", "a.localhost:1", "127.8.0.1:80", "[::1]:80", "[::1]"] {
            assert_eq!(all(&Access::new(None, true, None), &asked(host)), [200; 3], "{host}");
        }
        // What everybody may see, pages may too, as with Logspout.
        let open = Access::new(None, false, Some(Permission::Change));
        assert_eq!(all(&open, &page("http://evil.example")), [200, 200, 403]);
        let token = ("authorization", "Bearer t");
        let page = head("POST", "/x", &[("origin", "http://dash.example"), token]);
        assert_eq!(all(&Access::new(Some("t".into()), true, None), &page), [200; 3]);
    }
}
