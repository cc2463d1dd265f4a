//! What routes are told of what happens: each event once, and what no event told of.
//!
//! Pure: events and lists of the daemon in, happenings out. A connection that breaks is gone on
//! from the newest event, a little before it, so that events that the daemon told of out of order
//! are not missed; what came before is known by a hash of its line. The daemon has 256 events at
//! most, and none after a restart: what a list shows and no event told becomes a happening that is
//! marked, when its event has had time to come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::docker::events::Happening;
use crate::docker::inspect::{Listed, State};

/// Events that are known again; Docker has 256 of them, Podman may have more.
const TOLD_MAX: usize = 4096;
/// Of events that were told out of order, the later one is that much later at most.
const OUT_OF_ORDER_NANOS: u64 = 1_000_000_000;
/// So long after a list its events may still be under way.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// What was told, and what is known of the containers.
#[derive(Debug, Default)]
pub struct Chronicle {
    /// Hashes of the newest lines, the oldest first.
    told: VecDeque<u64>,
    /// How many with this hash were told before the connection, and may come again.
    again: HashMap<u64, usize>,
    /// The time of the newest event by the daemon's clock, if there was one.
    newest: Option<u64>,
    /// Containers by full id; `None` before there was a list.
    known: Option<BTreeMap<String, Known>>,
    /// While a list is waited for: what events told since it was asked for, `None` of those that
    /// are gone. It may have been taken before that.
    told_since: Option<BTreeMap<String, Option<Known>>>,
    /// What lists told of and events have not, oldest first; and when they should have.
    doubts: VecDeque<(Instant, Happening)>,
}

/// A container, as it was when it was last told of.
#[derive(Clone, Debug)]
struct Known {
    runs: bool,
    listed: Listed,
}

/// What tells one line of the event stream from others.
pub fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

impl Chronicle {
    /// A connection is about to be made: the time from which on events are to be asked for
    /// (nanoseconds since 1970, daemon's clock), if there were any before.
    pub fn begin(&mut self) -> Option<u64> {
        self.again.clear();
        for told in &self.told {
            *self.again.entry(*told).or_default() += 1;
        }
        Some(self.newest?.saturating_sub(OUT_OF_ORDER_NANOS))
    }

    /// An event came, with this [`hash`]; `None` if it was told before.
    pub fn event(&mut self, hash: u64, happening: Happening) -> Option<Happening> {
        if let Some(times) = self.again.get_mut(&hash).filter(|times| **times > 0) {
            *times -= 1;
            return None;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(hash);
        self.newest = self.newest.max(Some(happening.time_nanos));
        if happening.is_of_container() {
            self.doubts
                .retain(|(_, doubt)| doubt.id != happening.id || doubt.action != happening.action);
            self.learn(&happening);
        }
        Some(happening)
    }

    /// A list is about to be asked for: what events tell until it is there is newer than it may be.
    pub fn asks_for_list(&mut self) {
        self.told_since = Some(BTreeMap::new());
    }

    fn learn(&mut self, happening: &Happening) {
        let subject = happening.subject();
        let id = subject.id.clone();
        let runs = match &*happening.action {
            "create" | "die" => Some(false),
            "start" => Some(true),
            "destroy" => None,
            _ => return,
        };
        let known = runs.map(|runs| {
            let (id, name, image, labels) =
                (subject.id, subject.name, subject.image, subject.labels);
            Known { runs, listed: Listed { id, name, image, labels, ..Listed::default() } }
        });
        if let Some(told) = &mut self.told_since {
            told.insert(id.clone(), known.clone());
        }
        if let Some(all) = &mut self.known {
            match known {
                Some(known) => all.insert(id, known),
                None => all.remove(&id),
            };
        }
    }

    /// A list of all containers, taken `at` this time of the daemon's clock. The first one is what
    /// there was before.
    pub fn list(&mut self, list: &[Listed], at: u64, now: Instant) {
        let is = |listed: &Listed| Known {
            runs: matches!(listed.state, State::Running | State::Paused),
            listed: listed.clone(),
        };
        let told = self.told_since.take().unwrap_or_default();
        let list: Vec<&Listed> = list.iter().filter(|l| !told.contains_key(&l.id)).collect();
        let shown = list.iter().map(|listed| (listed.id.clone(), is(listed)));
        let newer = told.iter().filter_map(|(id, known)| Some((id.clone(), known.clone()?)));
        let Some(before) = self.known.replace(shown.chain(newer).collect()) else { return };
        let mut doubt = |action: &str, listed: &Listed| {
            let happening = Happening::reconciled(action, listed, at);
            self.doubts.push_back((now + UNDER_WAY, happening));
        };
        for listed in &list {
            let ran = before.get(&listed.id).map(|known| known.runs);
            match (ran, listed.state) {
                (None, State::Created) => doubt("create", listed),
                (None | Some(false), State::Running | State::Paused) => doubt("start", listed),
                (None | Some(true), State::Exited | State::Restarting | State::Gone) => {
                    doubt("die", listed);
                }
                _ => {}
            }
        }
        for (id, gone) in before {
            if told.contains_key(&id) || list.iter().any(|listed| listed.id == id) {
                continue;
            }
            if gone.runs {
                doubt("die", &gone.listed);
            }
            doubt("destroy", &gone.listed);
        }
    }

    /// When [`Chronicle::overdue`] may have something.
    pub fn due(&self) -> Option<Instant> {
        self.doubts.front().map(|(due, _)| *due)
    }

    /// What no event has told of that should have come by `now`.
    pub fn overdue(&mut self, now: Instant) -> Vec<Happening> {
        let due = self.doubts.iter().take_while(|(due, _)| *due <= now).count();
        self.doubts.drain(..due).map(|(_, happening)| happening).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn happening(id: &str, action: &str, at: u64) -> Happening {
        Happening {
            time_nanos: at * SECOND,
            kind: "container".into(),
            action: action.into(),
            id: id.into(),
            ..Happening::default()
        }
    }

    /// Whether the event is told; its line is its text.
    fn told(chronicle: &mut Chronicle, id: &str, action: &str, at: u64) -> bool {
        let line = format!("{id} {action} {at}");
        chronicle.event(hash(line.as_bytes()), happening(id, action, at)).is_some()
    }

    fn listed(id: &str, state: State) -> Listed {
        Listed { id: id.into(), state, exit_code: Some(3), ..Listed::default() }
    }

    fn short(happenings: &[Happening]) -> Vec<String> {
        assert!(happenings.iter().all(|happening| happening.reconciled));
        happenings.iter().map(|h| format!("{} {}", h.action, h.id)).collect()
    }

    #[test]
    fn what_comes_again_after_a_lost_connection_is_told_once() {
        let mut chronicle = Chronicle::default();
        assert_eq!(chronicle.begin(), None);
        assert!(told(&mut chronicle, "a", "start", 10));
        // Two that say the same are two.
        assert!(told(&mut chronicle, "a", "oom", 11) && told(&mut chronicle, "a", "oom", 11));
        assert_eq!(chronicle.begin(), Some(10 * SECOND));
        assert!(!told(&mut chronicle, "a", "start", 10));
        assert!(!told(&mut chronicle, "a", "oom", 11) && !told(&mut chronicle, "a", "oom", 11));
        assert!(told(&mut chronicle, "a", "oom", 11) && told(&mut chronicle, "a", "die", 12));
        // And once more, with one between that was told out of order.
        assert_eq!(chronicle.begin(), Some(11 * SECOND));
        let again = [("oom", 11), ("oom", 11), ("oom", 11), ("die", 12)];
        assert!(again.iter().all(|(action, at)| !told(&mut chronicle, "a", action, *at)));
        assert!(told(&mut chronicle, "b", "start", 11));
        assert_eq!(chronicle.begin(), Some(11 * SECOND));
        for n in 0..2 * TOLD_MAX as u64 {
            assert!(told(&mut chronicle, "c", "attach", n));
        }
        assert!(chronicle.told.len() == TOLD_MAX && chronicle.again.len() < TOLD_MAX);
    }

    #[test]
    fn a_list_tells_what_no_event_did() {
        let (mut chronicle, now) = (Chronicle::default(), Instant::now());
        let first =
            [listed("a", State::Running), listed("b", State::Exited), listed("e", State::Running)];
        chronicle.list(&first, 1, now);
        assert_eq!((chronicle.due(), chronicle.overdue(now + UNDER_WAY)), (None, Vec::new()));
        // Nothing has changed, or an event told of it.
        told(&mut chronicle, "c", "create", 2);
        told(&mut chronicle, "c", "start", 2);
        let same = [&first[..], &[listed("c", State::Paused)]].concat();
        chronicle.list(&same, 3, now);
        assert_eq!(chronicle.due(), None);
        // One has ended, one runs again, one is gone in the midst of its run, two are new.
        let later = [
            listed("a", State::Exited),
            listed("b", State::Running),
            listed("c", State::Running),
            listed("d", State::Created),
            listed("f", State::Exited),
        ];
        chronicle.list(&later, 4 * SECOND, now);
        assert_eq!(chronicle.due(), Some(now + UNDER_WAY));
        assert_eq!(chronicle.overdue(now), []);
        let found = chronicle.overdue(now + UNDER_WAY);
        let expected = ["die a", "start b", "create d", "die f", "die e", "destroy e"];
        assert_eq!(short(&found), expected);
        assert!(found.iter().all(|happening| happening.time_nanos == 4 * SECOND));
        assert_eq!((found[0].exit_code, found[1].exit_code), (Some(3), None));
        chronicle.list(&later, 5, now);
        assert_eq!(chronicle.due(), None);
    }

    #[test]
    fn an_event_that_is_under_way_is_waited_for() {
        let (mut chronicle, now) = (Chronicle::default(), Instant::now());
        chronicle.list(&[listed("a", State::Running)], 1, now);
        chronicle.list(&[listed("a", State::Exited), listed("b", State::Running)], 2, now);
        assert!(told(&mut chronicle, "a", "die", 2));
        assert_eq!(short(&chronicle.overdue(now + UNDER_WAY)), ["start b"]);
        // A list that was taken before what events told meanwhile.
        chronicle.asks_for_list();
        assert!(told(&mut chronicle, "b", "die", 2) && told(&mut chronicle, "n", "start", 2));
        chronicle.list(&[listed("b", State::Running)], 2, now);
        assert_eq!(short(&chronicle.overdue(now + UNDER_WAY)), ["destroy a"]);
        chronicle.list(&[listed("b", State::Exited), listed("n", State::Running)], 2, now);
        assert_eq!(chronicle.due(), None);
        assert!(told(&mut chronicle, "b", "start", 2) && told(&mut chronicle, "n", "destroy", 2));
        // It has started again since the list was taken; the end of the run before was missed.
        chronicle.list(&[listed("b", State::Exited)], 3, now);
        assert!(told(&mut chronicle, "b", "start", 4) && told(&mut chronicle, "a", "destroy", 4));
        assert_eq!(short(&chronicle.overdue(now + UNDER_WAY)), ["die b"]);
        chronicle.list(&[listed("b", State::Running)], 5, now);
        assert_eq!(chronicle.due(), None);
    }
}
