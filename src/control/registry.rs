//! Which containers there are, and which shard follows each.
//!
//! Pure: events and lists of the daemon in, commands for the shards out. The list is the truth:
//! events may be missed (the daemon drops them for a slow listener, and forgets them when it
//! restarts), so after each connect a list is reconciled with what is known.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::placement::{Load, Meter, place};
use crate::docker::events::{Action, DockerEvent};
use crate::docker::inspect::{Container, Listed, State};
use crate::shard::command::{Command, Origin, Signal};

/// What is known of the daemon's containers.
#[derive(Debug)]
pub struct Registry {
    /// The shard of each container, by full id; in an order, so that all that follows is too.
    shard_of: BTreeMap<String, usize>,
    /// What each shard has to do.
    loads: Vec<Load>,
    meter: Meter,
    /// Our own container's id, if it is not to be followed.
    own: Option<String>,
    /// Whether a list has been seen.
    listed: bool,
    /// While a list is waited for: which containers came (`true`) and went since it was asked for,
    /// as events told. It may have been taken before that.
    told: Option<BTreeMap<String, bool>>,
}

/// A command and the shard it is for.
pub type Order = (usize, Command);

impl Registry {
    /// An empty registry for `shards` shards (at least one). `own` is never followed.
    pub fn new(shards: usize, own: Option<String>) -> Registry {
        Registry {
            shard_of: BTreeMap::new(),
            loads: vec![Load::default(); shards.max(1)],
            meter: Meter::default(),
            own,
            listed: false,
            told: None,
        }
    }

    /// How many bytes each shard has taken from containers by `now`: what new containers are
    /// placed by. To be said before events and lists, and at least once a minute.
    pub fn measure(&mut self, received: Vec<u64>, now: Instant) {
        if let Some(rates) = self.meter.measure(received, now) {
            for (load, rate) in self.loads.iter_mut().zip(rates) {
                (load.rate, load.fresh) = (rate, 0);
            }
        }
    }

    /// Number of containers that are known.
    pub fn len(&self) -> usize {
        self.shard_of.len()
    }

    /// Whether no container is known.
    pub fn is_empty(&self) -> bool {
        self.shard_of.is_empty()
    }

    /// A list is about to be asked for: what events tell until it is there is newer than it may be.
    pub fn asks_for_list(&mut self) {
        self.told = Some(BTreeMap::new());
    }

    /// What an event asks for.
    pub fn event(&mut self, event: DockerEvent) -> Option<Order> {
        let signal = match event.action {
            Action::Create => return self.follow_told(event, Origin::Created),
            Action::Start | Action::Restart if !self.shard_of.contains_key(&event.id) => {
                return self.follow_told(event, Origin::Started);
            }
            Action::Start | Action::Restart => Signal::Started,
            Action::Die { .. } if event.time_nanos > 0 => Signal::Died(event.time_nanos),
            Action::Unpause => Signal::Unpaused,
            Action::Rename { .. } => Signal::Renamed(event.name),
            Action::Destroy => {
                self.note_told(&event.id, false);
                return self.forget(&event.id);
            }
            _ => return None,
        };
        let shard = *self.shard_of.get(&event.id)?;
        Some((shard, Command::Signal { id: event.id, signal }))
    }

    /// What a list of all containers asks for: those that are new are followed, those that are
    /// gone are let go, and the others are told to look at themselves: all of them if `blind`,
    /// which says that there were no events for a while; else those that run.
    pub fn reconcile(&mut self, list: Vec<Listed>, blind: bool) -> Vec<Order> {
        let first = !std::mem::replace(&mut self.listed, true);
        let told = self.told.take().unwrap_or_default();
        let present: HashSet<String> = list.iter().map(|listed| listed.id.clone()).collect();
        let is_gone = |id: &&String| !present.contains(*id) && told.get(*id) != Some(&true);
        let gone: Vec<String> = self.shard_of.keys().filter(is_gone).cloned().collect();
        let mut orders: Vec<Order> = gone.iter().filter_map(|id| self.forget(id)).collect();
        for listed in list.into_iter().filter(|listed| told.get(&listed.id) != Some(&false)) {
            if let Some(&shard) = self.shard_of.get(&listed.id) {
                let look = blind || matches!(listed.state, State::Running | State::Paused);
                let signal = Signal::Check { name: listed.name, look };
                orders.push((shard, Command::Signal { id: listed.id, signal }));
                continue;
            }
            let origin = match listed.state {
                State::Created => Origin::Created,
                _ if first => Origin::Found,
                _ => Origin::Started,
            };
            let Listed { id, name, state, labels, .. } = listed;
            let container = Container { id, name, state, labels, ..Container::default() };
            orders.extend(self.follow(container, origin));
        }
        orders
    }

    fn follow_told(&mut self, event: DockerEvent, origin: Origin) -> Option<Order> {
        self.note_told(&event.id, true);
        self.follow(described(event), origin)
    }

    fn note_told(&mut self, id: &str, is_there: bool) {
        if let Some(told) = &mut self.told {
            told.insert(id.to_owned(), is_there);
        }
    }

    fn follow(&mut self, container: Container, origin: Origin) -> Option<Order> {
        let id = &container.id;
        if self.own.as_ref() == Some(id) || self.shard_of.contains_key(id) {
            return None;
        }
        let shard = place(&self.loads);
        self.loads[shard].containers += 1;
        self.loads[shard].fresh += 1;
        self.shard_of.insert(id.clone(), shard);
        Some((shard, Command::Follow { container, origin }))
    }

    fn forget(&mut self, id: &str) -> Option<Order> {
        let shard = self.shard_of.remove(id)?;
        let load = &mut self.loads[shard];
        load.containers -= 1;
        load.fresh = load.fresh.min(load.containers);
        Some((shard, Command::Signal { id: id.to_owned(), signal: Signal::Destroyed }))
    }
}

/// As much of a container as its event tells.
fn described(event: DockerEvent) -> Container {
    let DockerEvent { id, name, labels, .. } = event;
    Container { id, name, labels, ..Container::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn listed(id: &str, state: State) -> Listed {
        Listed { id: id.into(), name: format!("name-{id}"), state, ..Listed::default() }
    }

    fn event(id: &str, action: Action) -> DockerEvent {
        let name = format!("name-{id}");
        DockerEvent { id: id.into(), time_nanos: 0, action, name, labels: Default::default() }
    }

    /// What an order does, in short.
    fn short(order: &Order) -> String {
        match &order.1 {
            Command::Follow { container, origin } => format!("follow {} {origin:?}", container.id),
            Command::Signal { id, signal } => format!("{id} {signal:?}"),
            other => format!("{other:?}"),
        }
    }

    fn all(orders: &[Order]) -> Vec<String> {
        let mut all: Vec<String> = orders.iter().map(short).collect();
        all.sort();
        all
    }

    #[test]
    fn the_first_list_finds_and_later_ones_have_missed_starts() {
        let mut registry = Registry::new(1, None);
        let first = registry.reconcile(
            vec![
                listed("a", State::Running),
                listed("b", State::Created),
                listed("c", State::Exited),
            ],
            true,
        );
        assert_eq!(all(&first), ["follow a Found", "follow b Created", "follow c Found"]);
        // After a reconnect: c is gone, d is new, and a and b look at themselves.
        let again = registry.reconcile(
            vec![
                listed("a", State::Running),
                listed("b", State::Running),
                listed("d", State::Exited),
            ],
            true,
        );
        let look = |id, look| format!("{id} Check {{ name: \"name-{id}\", look: {look} }}");
        let others = ["c Destroyed".to_owned(), "follow d Started".to_owned()];
        assert_eq!(all(&again), [&[look("a", true), look("b", true)][..], &others].concat());
        assert_eq!(registry.len(), 3);
        // While events come, a container that has ended need not look.
        let listed = vec![listed("a", State::Paused), listed("d", State::Exited)];
        let last = ["b Destroyed".to_owned(), look("d", false)];
        assert_eq!(
            all(&registry.reconcile(listed, false)),
            [&[look("a", true)][..], &last].concat()
        );
    }

    #[test]
    fn events_and_lists_may_tell_the_same() {
        let mut registry = Registry::new(1, None);
        let order = registry.event(event("a", Action::Create)).unwrap();
        assert_eq!(short(&order), "follow a Created");
        assert!(registry.event(event("a", Action::Create)).is_none());
        let started = registry.event(event("a", Action::Start)).unwrap();
        assert_eq!(short(&started), "a Started");
        assert_eq!(all(&registry.reconcile(vec![listed("a", State::Running)], false)).len(), 1);
        let renamed = Action::Rename { old_name: "x".into() };
        assert_eq!(short(&registry.event(event("a", renamed)).unwrap()), "a Renamed(\"name-a\")");
        assert_eq!(short(&registry.event(event("a", Action::Destroy)).unwrap()), "a Destroyed");
        assert!(registry.event(event("a", Action::Destroy)).is_none());
        // A start without a create: it was made before we listened.
        let order = registry.event(event("b", Action::Start)).unwrap();
        assert_eq!(short(&order), "follow b Started");
        assert!(registry.event(event("z", Action::Die { exit_code: Some(1) })).is_none());
        assert!(!registry.is_empty());
    }

    /// A list that was taken before what events told meanwhile.
    #[test]
    fn events_are_newer_than_the_list_that_was_waited_for() {
        let mut registry = Registry::new(1, None);
        registry.event(event("old", Action::Create));
        registry.asks_for_list();
        registry.event(event("new", Action::Create));
        assert_eq!(short(&registry.event(event("old", Action::Destroy)).unwrap()), "old Destroyed");
        let list = || vec![listed("old", State::Exited)];
        assert_eq!(all(&registry.reconcile(list(), true)), [] as [String; 0]);
        // The next one knows.
        registry.asks_for_list();
        assert_eq!(all(&registry.reconcile(vec![], false)), ["new Destroyed"]);
    }

    #[test]
    fn our_own_container_is_not_followed() {
        let mut registry = Registry::new(2, Some("me".into()));
        assert!(registry.event(event("me", Action::Start)).is_none());
        assert!(registry.reconcile(vec![listed("me", State::Running)], true).is_empty());
        assert!(registry.event(event("me", Action::Destroy)).is_none());
    }

    #[test]
    fn shards_get_equal_shares() {
        let mut registry = Registry::new(3, None);
        for n in 0..30 {
            registry.event(event(&format!("c{n}"), Action::Create));
        }
        let counts = |registry: &Registry| {
            registry.loads.iter().map(|load| load.containers).collect::<Vec<_>>()
        };
        assert_eq!(counts(&registry), [10, 10, 10]);
        for n in 0..30 {
            let order = registry.event(event(&format!("c{n}"), Action::Destroy)).unwrap();
            assert!(order.0 < 3);
        }
        assert_eq!(counts(&registry), [0, 0, 0]);
    }

    #[test]
    fn a_shard_with_a_busy_container_gets_fewer_others() {
        let (mut registry, start) = (Registry::new(2, None), Instant::now());
        let order = registry.event(event("busy", Action::Create)).unwrap();
        let (busy, rest) = (order.0, 1 - order.0);
        let mut received = vec![0; 2];
        for second in 0..20 {
            registry.measure(received.clone(), start + Duration::from_secs(second));
            received[busy] += 200 << 20;
            received[rest] += 1 << 20;
            if second > 1 {
                let shard = registry.event(event(&format!("c{second}"), Action::Create)).unwrap().0;
                assert_eq!(shard, rest);
            }
        }
        // It has ended: the shards are even again, but for the number of their containers.
        registry.measure(received.clone(), start + Duration::from_secs(30));
        registry.measure(received, start + Duration::from_secs(32));
        assert_eq!(registry.event(event("next", Action::Create)).unwrap().0, busy);
    }
}
