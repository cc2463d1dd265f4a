//! The thread that delivers to webhooks: started with the first route that needs it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::failure::fail;
use super::fleet::REPORT_GRACE;
use crate::io::{self, Driver};
use crate::shard::lane::Route;
use crate::transport::Delivery;
use crate::transport::webhook::{self, Station};

/// What a webhook gets once the shards have handed everything over, even if they took all the
/// time there was.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// The thread, if there is one.
#[derive(Default)]
pub(super) struct Webhooks {
    /// Brings it routes: at most as many as there may be.
    stations: OnceLock<mpsc::UnboundedSender<Station>>,
}

/// A route's place on the thread.
#[derive(Clone)]
pub(super) struct Posting {
    stop: watch::Sender<Option<Instant>>,
    undelivered: watch::Receiver<Option<u64>>,
}

impl Webhooks {
    /// Begins to deliver what the shards hand over of `route`, if that is how it delivers.
    pub(super) fn open(&self, route: &Route) -> Option<Posting> {
        let Delivery::Webhook(desk) = &route.delivery else { return None };
        let (stop, stopping) = watch::channel(None);
        let (report, undelivered) = watch::channel(None);
        let station = Station {
            name: route.display.clone(),
            desk: Arc::clone(desk),
            counters: Arc::clone(route.counters.last()?),
            stopping,
            undelivered: report,
        };
        // Where the thread could not start or died, the program is about to end.
        let _ = self.stations.get_or_init(start).send(station);
        Some(Posting { stop, undelivered })
    }
}

fn start() -> mpsc::UnboundedSender<Station> {
    let (sender, stations) = mpsc::unbounded_channel();
    let spawned = std::thread::Builder::new().name("webhooks".into()).spawn(move || {
        if let Err(error) = io::block_on(Driver::Poll, webhook::serve(stations)) {
            fail(format!("no epoll instance for webhooks: {error}"));
        }
    });
    if let Err(error) = spawned {
        fail(format!("no thread for webhooks: {error}"));
    }
    sender
}

impl Posting {
    /// Ends it, at `deadline` at the latest, or soon if that is past: what the shards brought last
    /// has a chance too. Returns how many lines were not delivered; `None` if it does not say.
    pub(super) async fn stop(mut self, deadline: Instant) -> Option<u64> {
        let deadline = deadline.max(Instant::now() + LAST_CHANCE);
        self.stop.send_replace(Some(deadline));
        let report = self.undelivered.wait_for(Option::is_some);
        *tokio::time::timeout_at((deadline + REPORT_GRACE).into(), report).await.ok()?.ok()?
    }
}
