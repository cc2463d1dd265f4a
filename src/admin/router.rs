//! Which path means what.

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::answer::{Answer, TEXT, not_allowed, not_found, plain, redirect};
use super::logs::show::show_logs;
use super::server::{NoBody, Stay};
use super::{View, metrics, path, ready, routes};

/// What Logspout answers, and `/metrics` and `/ready`.
pub(super) async fn answer(
    head: Parts,
    body: Result<Bytes, NoBody>,
    view: &dyn View,
    stay: &Stay,
) -> Answer {
    let path = head.uri.path();
    let clean = path::clean(path);
    if clean != path {
        return redirect(&head.method, &clean, head.uri.query());
    }
    let is_below = |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    match path {
        "/health" => health(view),
        "/metrics" => read_only(&head, || {
            let mut text = String::new();
            view.metrics(&mut text);
            plain(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }),
        "/ready" => read_only(&head, || ready::answer(&view.ready())),
        _ if path == "/routes" || is_below("/routes") => routes::answer(&head, body, view).await,
        _ if path == "/logs" || is_below("/logs") => match view.access().may_see_lines(&head) {
            Ok(()) => show_logs(head, view, stay).await,
            Err(denial) => denial.answer(),
        },
        _ => not_found(),
    }
}

fn read_only(head: &Parts, answer: impl FnOnce() -> Answer) -> Answer {
    match head.method {
        Method::GET | Method::HEAD => answer(),
        _ => not_allowed("GET, HEAD"),
    }
}

/// Logspout's answer while all is well; it knows no other.
fn health(view: &dyn View) -> Answer {
    match view.health() {
        Ok(()) => plain(StatusCode::OK, TEXT, "Healthy!\n".to_string()),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("Not healthy: {why}\n")),
    }
}
