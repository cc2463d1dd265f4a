//! How far each route has delivered the lines of each container, for a later run of the program
//! (`STATE_DIR`): a [`Ledger`] in each lane, and the book that all shards enter them into.
//!
//! Now and then the place of each container that has brought something is noted with the number
//! of records that the lane's outbox has had by then; when as many have left it, the lines before
//! that place are delivered. So a place in the book is never ahead of what was delivered, and
//! little behind it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::doors::mark::Mark;

/// How often places are noted.
pub const NOTE_EVERY: Duration = Duration::from_millis(250);
/// Places of containers that were not seen again are kept so long.
const KEPT_NANOS: u64 = 30 * 24 * 3600 * 1_000_000_000;

/// Places of the containers that one lane serves, which wait for their lines to be delivered.
#[derive(Debug, Default)]
pub struct Ledger {
    waiting: HashMap<Rc<str>, Waiting>,
    joining: HashMap<Rc<str>, (Rc<Mark>, Joining)>,
    /// What leaves the outbox from now on was not delivered.
    closed: bool,
}

/// How many groups of joined lines were written of each source, where one is begun and is not
/// written; `None` where none is.
pub type Joining = [Option<u64>; 2];

/// A place, and how many records the outbox had when its lines were in it.
type Noted = (u64, Rc<Mark>);

#[derive(Debug)]
struct Waiting {
    first: Noted,
    /// The latest place; those between are of no use.
    last: Option<Noted>,
}

impl Ledger {
    /// The same as [`Ledger::note`], where some of the lines before `mark` may not be among the
    /// records, because they are being joined: then an earlier place is noted, as soon as the
    /// groups are written that were begun there.
    pub fn note_joining(&mut self, id: &Rc<str>, appended: u64, mark: &Rc<Mark>, joining: Joining) {
        if joining == [None; 2] {
            self.joining.remove(id);
            return self.note(id, appended, mark);
        }
        let earlier = self.joining.get(id).cloned();
        let written =
            |then: Joining| (0..2).all(|at| then[at].is_none() || then[at] != joining[at]);
        match earlier {
            Some((_, then)) if !written(then) => return,
            Some((earlier, _)) => self.note(id, appended, &earlier),
            None => {}
        }
        self.joining.insert(Rc::clone(id), (Rc::clone(mark), joining));
    }

    /// The container is gone.
    pub fn forget(&mut self, id: &str) {
        self.waiting.remove(id);
        self.joining.remove(id);
    }

    /// Tells the places that are reached by `gone` records, and none after that.
    pub fn close(&mut self, gone: u64, tell: impl FnMut(&str, &Mark)) {
        self.settle(gone, tell);
        self.closed = true;
    }

    /// Notes that the lines of container `id` before `mark` are among the first `appended` records.
    pub fn note(&mut self, id: &Rc<str>, appended: u64, mark: &Rc<Mark>) {
        let noted = (appended, Rc::clone(mark));
        match self.waiting.get_mut(id) {
            Some(waiting) => waiting.last = Some(noted),
            None => {
                let waiting = Waiting { first: noted, last: None };
                self.waiting.insert(Rc::clone(id), waiting);
            }
        }
    }

    /// The first `gone` records have left the outbox: tells the places that are reached by that.
    pub fn settle(&mut self, gone: u64, mut tell: impl FnMut(&str, &Mark)) {
        if self.closed {
            return;
        }
        self.waiting.retain(|id, waiting| {
            if waiting.first.0 > gone {
                return true;
            }
            let reached = waiting.last.take_if(|(appended, _)| *appended <= gone);
            let is_last = reached.is_some() || waiting.last.is_none();
            tell(id, &reached.as_ref().unwrap_or(&waiting.first).1);
            if let Some(last) = waiting.last.take() {
                waiting.first = last;
            }
            !is_last
        });
    }
}

/// The places of all containers, as they are written down.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// Not all of it is written down.
    #[serde(skip)]
    changed: bool,
    /// Who has no place had written nothing by this time (nanoseconds since 1970).
    until: u64,
    /// By container, then by route.
    containers: BTreeMap<String, BTreeMap<String, Mark>>,
}

/// The book, shared by the shards and whoever keeps it in a file.
#[derive(Debug, Default)]
pub struct Positions {
    book: Mutex<Book>,
    /// Until when each shard has noted all.
    noted: Mutex<BTreeMap<usize, u64>>,
    /// Since when containers without a place are to be read; `None` where there was no book.
    since: Option<u64>,
}

impl Positions {
    /// A first run, which begins `now`.
    pub fn new(now: u64) -> Positions {
        let book = Book { until: now, ..Book::default() };
        Positions { book: Mutex::new(book), ..Positions::default() }
    }

    /// What an earlier run has written down.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, now: u64) -> Result<Positions, String> {
        let mut book: Book = serde_json::from_str(text).map_err(|error| error.to_string())?;
        book.containers.retain(|_, routes| {
            // Without a time: nothing has been delivered of it, from its beginning on.
            let is_kept = |at| at == 0 || at >= now.saturating_sub(KEPT_NANOS);
            routes.values().any(|mark| is_kept(mark.at()))
        });
        // A clock may have been set back: nothing was written after now.
        book.until = book.until.min(now);
        let since = Some(book.until);
        Ok(Positions { since, book: Mutex::new(book), noted: Mutex::default() })
    }

    /// What was taken could not be written down.
    pub fn set_changed(&self) {
        self.book().changed = true;
    }

    /// What is to be written down, if that has changed since the last call.
    pub fn take_text(&self) -> Option<String> {
        let mut book = self.book();
        if !std::mem::take(&mut book.changed) {
            return None;
        }
        // Maps of strings and numbers: there is nothing that JSON could not hold.
        serde_json::to_string(&*book).ok()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to go on with container `id` for `route`, if an earlier run has left a place, or was
    /// there before the container.
    pub fn of(&self, id: &str, route: &str) -> Option<Arc<Mark>> {
        let book = self.book();
        let mark = book.containers.get(id).and_then(|routes| routes.get(route));
        let mark = mark.cloned().or_else(|| self.since.map(Mark::since));
        mark.map(Arc::new)
    }

    /// Enters how far container `id` is delivered to `route`.
    pub fn set(&self, id: &str, route: &str, mark: &Mark) {
        let mut book = self.book();
        book.changed = true;
        let routes = book.containers.entry(id.to_owned()).or_default();
        routes.insert(route.to_owned(), mark.clone());
    }

    /// The same, unless there is a place.
    pub fn begin(&self, id: &str, route: &str, mark: &Mark) {
        let mut book = self.book();
        let routes = book.containers.entry(id.to_owned()).or_default();
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), mark.clone());
            book.changed = true;
        }
    }

    /// The container is gone.
    pub fn forget(&self, id: &str) {
        let mut book = self.book();
        book.changed |= book.containers.remove(id).is_some();
    }

    /// The route is gone: should one like it come later, it begins then.
    pub fn forget_route(&self, route: &str) {
        let mut book = self.book();
        let before = |routes: &mut BTreeMap<String, Mark>| routes.remove(route).is_some();
        let found = book.containers.values_mut().map(before).fold(false, |any, one| any | one);
        book.changed |= found;
    }

    /// Whether there was an earlier run.
    pub fn is_continued(&self) -> bool {
        self.since.is_some()
    }

    /// Those of the containers of `shard` that have no place had written nothing by `now`.
    pub fn all_until(&self, shard: usize, now: u64) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert(shard, now);
        self.book().until = noted.values().copied().min().unwrap_or(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_book_is_read_as_it_was_written() {
        let positions = Positions::default();
        assert!(positions.of("a", "r").is_none(), "there was no earlier run");
        positions.begin("a", "r", &Mark::since(5));
        positions.begin("a", "r", &Mark::since(6));
        positions.set("b", "r", &Mark::since(7));
        positions.forget("b");
        positions.all_until(0, 9);
        positions.all_until(1, 12);
        let text = positions.take_text().unwrap();
        assert!(positions.take_text().is_none(), "nothing has changed");
        let read = Positions::parse(&text, 10).unwrap();
        let at = |id: &str| read.of(id, "r").unwrap().at();
        assert_eq!((at("a"), at("b"), at("new")), (5, 9, 9));
        read.forget_route("r");
        assert_eq!(at("a"), 9);
        positions.begin("c", "r", &Mark::since(0));
        let text = positions.take_text().unwrap();
        let later = Positions::parse(&text, KEPT_NANOS + 10).unwrap();
        assert_eq!(later.of("c", "r").unwrap().at(), 0, "all of it is to be delivered");
        assert_eq!(later.of("a", "r").unwrap().at(), 9, "too old");
        assert!(Positions::parse("{", 0).is_err());
    }

    /// A place is told when the groups are written that were open there, and none after the end.
    #[test]
    fn lines_that_are_being_joined_are_not_delivered() {
        let (mut ledger, id) = (Ledger::default(), Rc::<str>::from("a"));
        let told = |ledger: &mut Ledger, gone| {
            let mut all = Vec::new();
            ledger.settle(gone, |_, mark| all.push(mark.at()));
            all
        };
        let note = |ledger: &mut Ledger, at, joining| {
            ledger.note_joining(&id, 0, &Rc::new(Mark::since(at)), joining);
        };
        note(&mut ledger, 1, [Some(0), None]);
        note(&mut ledger, 2, [Some(0), None]);
        assert!(told(&mut ledger, 0).is_empty(), "the group goes on");
        note(&mut ledger, 3, [Some(1), None]);
        assert_eq!(told(&mut ledger, 0), [1]);
        note(&mut ledger, 4, [None, None]);
        assert_eq!(told(&mut ledger, 0), [4]);
        note(&mut ledger, 5, [None, None]);
        ledger.forget("a");
        assert!(told(&mut ledger, 0).is_empty(), "it is gone");
        note(&mut ledger, 6, [None, None]);
        ledger.close(0, |_, mark| assert_eq!(mark.at(), 6));
        note(&mut ledger, 7, [None, None]);
        assert!(told(&mut ledger, 0).is_empty(), "it is closed");
    }

    proptest! {
        /// What is told is reached, is never taken back, and in the end is the latest.
        #[test]
        fn places_are_told_when_their_lines_are_gone(
            steps in prop::collection::vec((0u64..4, 0u64..4), 1..60),
        ) {
            let (mut ledger, id) = (Ledger::default(), Rc::<str>::from("a"));
            let (mut appended, mut gone, mut told) = (0, 0, 0);
            for (more, less) in steps {
                appended += more;
                // Marks are known by their times: the records there were.
                ledger.note(&id, appended, &Rc::new(Mark::since(appended)));
                gone = (gone + less).min(appended);
                ledger.settle(gone, |_, mark| {
                    assert!(told <= mark.at() && mark.at() <= gone);
                    told = mark.at();
                });
            }
            ledger.settle(appended, |_, mark| told = mark.at());
            prop_assert_eq!(told, appended);
            prop_assert!(ledger.waiting.is_empty());
        }
    }
}
