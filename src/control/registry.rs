//! Which containers there are, and which shard follows each.
//!
//! Pure: events and lists of the daemon in, commands for the shards out. The list is the truth:
//! events may be missed (the daemon drops them for a slow listener, and forgets them when it
//! restarts), so after each connect a list is reconciled with what is known.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::docker::events::{Action, DockerEvent};
use crate::docker::inspect::{Container, Listed, State};
use crate::shard::command::{Command, Origin, Signal};

/// What is known of the daemon's containers.
#[derive(Debug)]
pub struct Registry {
    /// The shard of each container, by full id.
    shard_of: HashMap<String, usize>,
    /// Containers on each shard.
    load: Vec<usize>,
    /// Our own container's id, if it is not to be followed.
    own: Option<String>,
    /// Whether a list has been seen.
    listed: bool,
}

/// A command and the shard it is for.
pub type Order = (usize, Command);

impl Registry {
    /// An empty registry for `shards` shards (at least one). `own` is never followed.
    pub fn new(shards: usize, own: Option<String>) -> Registry {
        Registry { shard_of: HashMap::new(), load: vec![0; shards.max(1)], own, listed: false }
    }

    /// Number of containers that are known.
    pub fn len(&self) -> usize {
        self.shard_of.len()
    }

    /// Whether no container is known.
    pub fn is_empty(&self) -> bool {
        self.shard_of.is_empty()
    }

    /// What an event asks for.
    pub fn event(&mut self, event: DockerEvent) -> Option<Order> {
        let signal = match event.action {
            Action::Create => {
                return self.follow(&event.id, event.name, event.labels, Origin::Created);
            }
            Action::Start | Action::Restart => {
                if !self.shard_of.contains_key(&event.id) {
                    return self.follow(&event.id, event.name, event.labels, Origin::Started);
                }
                Signal::Started
            }
            Action::Unpause => Signal::Unpaused,
            Action::Rename { .. } => Signal::Renamed(event.name),
            Action::Destroy => return self.forget(&event.id),
            _ => return None,
        };
        let shard = *self.shard_of.get(&event.id)?;
        Some((shard, Command::Signal { id: event.id, signal }))
    }

    /// What a list of all containers asks for: those that are new are followed, those that are
    /// gone are let go, and the others are told to look at themselves.
    pub fn reconcile(&mut self, list: Vec<Listed>) -> Vec<Order> {
        let first = !std::mem::replace(&mut self.listed, true);
        let present: HashSet<String> = list.iter().map(|listed| listed.id.clone()).collect();
        let gone: Vec<String> =
            self.shard_of.keys().filter(|id| !present.contains(*id)).cloned().collect();
        let mut orders: Vec<Order> = gone.iter().filter_map(|id| self.forget(id)).collect();
        for listed in list {
            if let Some(&shard) = self.shard_of.get(&listed.id) {
                let signal = Signal::Check(listed.name);
                orders.push((shard, Command::Signal { id: listed.id, signal }));
                continue;
            }
            let origin = match listed.state {
                State::Created => Origin::Created,
                _ if first => Origin::Found,
                _ => Origin::Started,
            };
            orders.extend(self.follow(&listed.id, listed.name, listed.labels, origin));
        }
        orders
    }

    fn follow(
        &mut self,
        id: &str,
        name: String,
        labels: BTreeMap<String, String>,
        origin: Origin,
    ) -> Option<Order> {
        if self.own.as_deref() == Some(id) || self.shard_of.contains_key(id) {
            return None;
        }
        let (shard, load) = self.load.iter_mut().enumerate().min_by_key(|(_, load)| **load)?;
        *load += 1;
        self.shard_of.insert(id.to_owned(), shard);
        let container = Container { id: id.to_owned(), name, labels, ..Container::default() };
        Some((shard, Command::Follow { container, origin }))
    }

    fn forget(&mut self, id: &str) -> Option<Order> {
        let shard = self.shard_of.remove(id)?;
        self.load[shard] -= 1;
        Some((shard, Command::Signal { id: id.to_owned(), signal: Signal::Destroyed }))
    }
}
