//! `logchute slack-test`, or `webhook-test`: one message over each route to a webhook, on the very
//! way of a line, and what came back in clear words.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::build;
use crate::buffer::Outbox;
use crate::config::Settings;
use crate::config::cli::{EXIT_FAILURE, EXIT_OK};
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::io::{self, Driver};
use crate::lines::blocks::Blocks;
use crate::shard::lane::Route;
use crate::stamp::Stamp;
use crate::transport::Delivery;
use crate::transport::webhook::{Desk, try_once};

const LINE: &[u8] = b"logchute slack-test: if you can read this, the webhook works\n";

/// Sends the messages; returns the exit code.
///
/// # Errors
/// One line about what is wrong with the configuration; nothing was contacted.
pub fn slack_test(settings: &Settings) -> Result<u8, String> {
    let routes = build::routes(settings)?;
    let desk = |route: &Arc<Route>| match &route.delivery {
        Delivery::Webhook(desk) => Some((Arc::clone(route), Arc::clone(desk))),
        _ => None,
    };
    let slack: Vec<_> = routes.iter().filter_map(desk).collect();
    if slack.is_empty() {
        return Err("slack-test: no route leads to Slack or another webhook; give one, such as \
                    slack://hooks.slack.com, and SLACK_WEBHOOK_URL"
            .into());
    }
    let mut code = EXIT_OK;
    for (route, desk) in slack {
        let body = message(&route, &desk);
        let sent = io::block_on(Driver::Poll, try_once(desk.webhook(), &body))
            .unwrap_or_else(|error| Err(format!("no epoll instance to be had: {error}")));
        let (name, host) = (&route.display, desk.webhook());
        match sent {
            Ok(answer) => tracing::info!("route {name}: {host} has taken the message ({answer})"),
            Err(why) => {
                tracing::error!("route {name}: {host} has not taken the message: {why}");
                code = EXIT_FAILURE;
            }
        }
    }
    Ok(code)
}

/// A line of a made-up container as the route writes it.
fn message(route: &Route, desk: &Desk) -> Vec<u8> {
    let container = Container {
        id: "0".repeat(64),
        name: "logchute-slack-test".into(),
        ..Container::default()
    };
    let mut out = Outbox::new(Arc::clone(&route.budget), usize::MAX);
    let prefix = route.sink.prefix(&container, Source::Stdout);
    route.sink.encode(&prefix, &Stamp::new(SystemTime::now()), Blocks::whole(LINE), &mut out);
    let (mut digest, mut body) = (desk.digest(), Vec::new());
    while let Some(chunk) = out.take() {
        chunk.pending_records().for_each(|record| digest.add(record, Instant::now()));
        out.recycle(chunk);
    }
    digest.compose(Instant::now(), &mut body);
    body
}
