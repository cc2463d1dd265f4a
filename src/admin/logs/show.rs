//! The answer to a request for `/logs` or what is below it.

use http_body_util::Either;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use super::body::LogBody;
use super::request::{self, Manner};
use super::{CLIENTS_MAX, Refusal, socket};
use crate::admin::View;
use crate::admin::answer::{Answer, JSON, TEXT, not_allowed, not_found, plain};
use crate::admin::server::{Long, Stay};

/// `/logs` and what is below it.
pub(in crate::admin) async fn show_logs(head: Parts, view: &dyn View, stay: &Stay) -> Answer {
    let websocket = socket::is_wanted(&head.headers);
    let json = head.headers.get(ACCEPT).is_some_and(|accept| accept == JSON);
    let query = head.uri.query().unwrap_or_default();
    let wish = request::parse(head.uri.path(), query, Manner { websocket, json });
    let Some(wish) = wish else { return not_found() };
    if head.method != Method::GET {
        return not_allowed("GET");
    }
    let accept = socket::accept(&head.headers);
    if websocket && accept.is_none() {
        let text = "this is no handshake of a websocket (RFC 6455)\n".to_string();
        let mut answer = plain(StatusCode::BAD_REQUEST, TEXT, text);
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return answer;
    }
    let look = match view.look_on(wish).await {
        Ok(look) => look,
        Err(refusal) => return refused(refusal),
    };
    if let (true, Some(accept)) = (websocket, accept) {
        stay.set(Long::Socket(hyper::upgrade::on(Request::from_parts(head, ())), look));
        let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, TEXT, String::new());
        let headers = answer.headers_mut();
        headers.remove(CONTENT_TYPE);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        return answer;
    }
    let (body, watch) = LogBody::new(look);
    stay.set(Long::Body(watch));
    let mut answer = Response::new(Either::Right(body));
    let content_type = if json { JSON } else { "text/plain" };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Unknown => not_found(),
        Refusal::Bad(why) => plain(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        Refusal::TooMany => {
            let text = format!("{CLIENTS_MAX} clients look on already\n");
            plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
    }
}
