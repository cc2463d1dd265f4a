//! Answers, as Go's `net/http` writes them where Logspout's do. Pure.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};

use super::logs::body::LogBody;
use super::path;

/// An answer: its body is there, or goes on as lines come.
pub(super) type Answer = Response<Either<Full<Bytes>, LogBody>>;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// A text of this type.
pub(super) fn plain(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = Either::Left(Full::new(Bytes::from(text)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Nothing but a status.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

/// As Go's `http.Error`: a line of text.
pub(super) fn error(status: StatusCode, line: &str) -> Answer {
    let mut answer = plain(status, TEXT, format!("{line}\n"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// As Go's `http.NotFound`.
pub(super) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// Another method is needed.
pub(super) fn not_allowed(allowed: &'static str) -> Answer {
    let text = "Method Not Allowed\n".to_string();
    allowing(plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, text), allowed)
}

/// Says which methods there are.
pub(super) fn allowing(mut answer: Answer, allowed: &'static str) -> Answer {
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// As Go's `ServeMux` redirects a path that is not clean; the body is for `GET` alone.
pub(super) fn redirect(method: &Method, path: &str, query: Option<&str>) -> Answer {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_string(),
    };
    let with_body = method == Method::GET || method == Method::HEAD;
    let text = if with_body {
        format!("<a href=\"{}\">Moved Permanently</a>.\n\n", path::escape_html(&target))
    } else {
        String::new()
    };
    let mut answer = plain(StatusCode::MOVED_PERMANENTLY, HTML, text);
    if !with_body {
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    // A URI that hyper took holds nothing that a header may not hold.
    if let Ok(location) = HeaderValue::from_str(&target) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}
