//! `/routes`: shows, makes and ends routes, as Logspout's API does. With `?lines` behind it each
//! route is shown with what became of its lines.

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::answer::{Answer, JSON, TEXT, allowing, empty, error, not_found, plain};
use super::server::NoBody;
use super::{Refused, View};
use crate::route::json::{Definition, list_to_json};
use crate::route::uri::decode;

/// `/routes` and what is below it.
pub(super) async fn answer(head: &Parts, body: Result<Bytes, NoBody>, view: &dyn View) -> Answer {
    let access = view.access();
    let allowed = match head.method {
        Method::GET | Method::HEAD => access.may_see_routes(head),
        _ => access.may_change_routes(head),
    };
    if let Err(denial) = allowed {
        return denial.answer();
    }
    let trusted = access.is_trusted();
    let counted = is_asked_for_lines(head);
    let Some(id) = head.uri.path().strip_prefix("/routes/") else {
        return match head.method {
            Method::GET => list(&view.routes(counted), trusted),
            Method::POST => create(body, view, trusted).await,
            _ => allowing(empty(StatusCode::METHOD_NOT_ALLOWED), "GET, POST"),
        };
    };
    // A slash that is written as %2F is one all the same; no id has any.
    let id = match decode(id, false) {
        Ok(id) if !id.is_empty() && !id.contains('/') => id,
        _ => return not_found(),
    };
    match head.method {
        Method::GET => match view.routes(counted).into_iter().find(|route| route.id == id) {
            // Logspout forgets to say that it is JSON.
            Some(route) => plain(StatusCode::OK, TEXT, shown(&route, trusted)),
            None => not_found(),
        },
        Method::DELETE => match view.remove_route(id).await {
            true => empty(StatusCode::OK),
            false => not_found(),
        },
        _ => allowing(empty(StatusCode::METHOD_NOT_ALLOWED), "GET, DELETE"),
    }
}

/// `lines` among the query's parameters, whatever its value.
fn is_asked_for_lines(head: &Parts) -> bool {
    let mut parameters = head.uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| parameter.split('=').next() == Some("lines"))
}

fn list(routes: &[Definition], trusted: bool) -> Answer {
    let shown: Vec<Definition> = routes.iter().map(|route| route.shown(trusted)).collect();
    plain(StatusCode::OK, JSON, list_to_json(&shown) + "\n")
}

fn shown(route: &Definition, trusted: bool) -> String {
    route.shown(trusted).to_json() + "\n"
}

async fn create(body: Result<Bytes, NoBody>, view: &dyn View, trusted: bool) -> Answer {
    let body = match body {
        Ok(body) => body,
        Err(NoBody::TooLong) => {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "Bad request: no route is so long");
        }
        Err(NoBody::Broken) => {
            return error(StatusCode::BAD_REQUEST, "Bad request: unexpected EOF: no whole body");
        }
    };
    let route = match Definition::parse(&body) {
        Ok(route) => route,
        Err(what) => return error(StatusCode::BAD_REQUEST, &format!("Bad request: {what}")),
    };
    match view.create_route(route).await {
        Ok(route) => plain(StatusCode::CREATED, JSON, shown(&route, trusted)),
        Err(Refused::Bad(what)) => error(StatusCode::BAD_REQUEST, &format!("Bad route: {what}")),
        Err(Refused::NotKept(why)) => {
            let line = format!("the route cannot be kept under ROUTESPATH: {why}");
            error(StatusCode::INTERNAL_SERVER_ERROR, &line)
        }
    }
}
