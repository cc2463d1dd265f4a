//! How far each route has delivered the lines of each container, for a later run of the program
//! (`STATE_DIR`): a [`Ledger`] in each lane, and the book that all shards enter them into, which is
//! kept as two texts: the whole of it, and a [`journal`] of what has changed since.
//!
//! Now and then the place of each container that has brought something is noted with the number
//! of records that the lane's outbox has had by then; when as many have left it, the lines before
//! that place are delivered. So a place in the book is never ahead of what was delivered, and
//! little behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use serde::{Deserialize, Serialize};

use super::journal;
use crate::doors::mark::Mark;

/// So many places wait for the lines of one container to be delivered, and about so many in all,
/// but two of each container: the oldest and the latest.
const WAITING_EACH: usize = 16;
const WAITING: usize = 512;
/// Of so many containers at most it is known what has changed: of more all is written.
const CHANGES_MAX: usize = 8192;
/// Places of containers that were not seen again are kept so long.
const KEPT_NANOS: u64 = 30 * 24 * 3600 * 1_000_000_000;

/// Places of the containers that one lane serves, which wait for their lines to be delivered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The oldest first.
    waiting: HashMap<Rc<str>, VecDeque<Noted>>,
    joining: HashMap<Rc<str>, (Rc<Mark>, Joining)>,
    /// What leaves the outbox from now on was not delivered.
    closed: bool,
}

/// How many groups of joined lines were written of each source, where one is begun and is not
/// written; `None` where none is.
pub type Joining = [Option<u64>; 2];

/// A place, and how many records the outbox had when its lines were in it.
type Noted = (u64, Rc<Mark>);

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
        let most = (WAITING / self.waiting.len().max(1)).clamp(2, WAITING_EACH);
        let noted = (appended, Rc::clone(mark));
        let Some(places) = self.waiting.get_mut(id) else {
            self.waiting.insert(Rc::clone(id), VecDeque::from([noted]));
            return;
        };
        places.push_back(noted);
        while places.len() > most {
            // Those that stay are spread over all that waits.
            let gap = |&at: &usize| places[at + 1].0 - places[at - 1].0;
            let Some(nearest) = (1..places.len() - 1).min_by_key(gap) else { return };
            places.remove(nearest);
        }
    }

    /// The first `gone` records have left the outbox: tells the places that are reached by that.
    pub fn settle(&mut self, gone: u64, mut tell: impl FnMut(&str, &Mark)) {
        if self.closed {
            return;
        }
        self.waiting.retain(|id, places| {
            let reached = places.iter().take_while(|(appended, _)| *appended <= gone).count();
            if let Some((_, mark)) = places.drain(..reached).next_back() {
                tell(id, &mark);
            }
            !places.is_empty()
        });
    }
}

/// The places of all containers, as they are written down.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// Which writing of the whole book this is; [`super::journal`] has it, too.
    #[serde(default)]
    generation: u64,
    /// A container that has places, but none for some route, had written nothing for that by this
    /// time (nanoseconds since 1970).
    until: u64,
    /// One that has none at all was made after this time: then the daemon listed all that there
    /// were, and of those that were new each has a place since. `None` in a book of an older
    /// version.
    #[serde(default)]
    listed: Option<u64>,
    /// By container, then by route.
    containers: BTreeMap<String, BTreeMap<String, Mark>>,
    #[serde(skip)]
    changes: Changes,
    /// When the last list was asked for, and since when containers are to be read that were heard
    /// of and have no place yet: it is not known who they are.
    #[serde(skip)]
    last_list: u64,
    #[serde(skip)]
    pending: BTreeMap<String, u64>,
}

/// What of a book is not written down.
#[derive(Debug, Default)]
struct Changes {
    /// Of these containers these routes.
    of: BTreeMap<String, BTreeSet<String>>,
    /// More than that.
    any: bool,
    /// The whole book was written once: there is a journal of its generation.
    has_journal: bool,
}

/// What became of a book since something was written of it. Any number of them, from the first on,
/// make a book that there was.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    until: u64,
    #[serde(default)]
    listed: Option<u64>,
    /// Without a mark: there is no place any more.
    containers: BTreeMap<String, BTreeMap<String, Option<Mark>>>,
}

/// What is to be written down.
#[derive(Debug)]
pub enum Due {
    /// Nothing has changed.
    Nothing,
    /// All of it, instead of what there is. The journal begins anew.
    Whole(Vec<u8>),
    /// What has changed: behind the journal's other records.
    Record(Vec<u8>),
}

impl Changes {
    fn note(&mut self, id: &str, route: &str) {
        if self.any || self.of.get(id).is_some_and(|routes| routes.contains(route)) {
            return;
        }
        self.of.entry(id.to_owned()).or_default().insert(route.to_owned());
        if self.of.len() > CHANGES_MAX {
            (self.of, self.any) = (BTreeMap::new(), true);
        }
    }

    fn are_there(&self) -> bool {
        self.any || !self.of.is_empty()
    }
}

impl Book {
    fn set(&mut self, id: &str, route: &str, mark: Mark) {
        match self.containers.get_mut(id) {
            Some(routes) => match routes.get_mut(route) {
                Some(known) => *known = mark,
                None => _ = routes.insert(route.to_owned(), mark),
            },
            None => _ = self.containers.insert(id.into(), BTreeMap::from([(route.into(), mark)])),
        }
        self.changes.note(id, route);
    }

    fn has(&self, id: &str, route: &str) -> bool {
        self.containers.get(id).is_some_and(|routes| routes.contains_key(route))
    }

    fn remove(&mut self, id: &str, route: &str) {
        let Some(routes) = self.containers.get_mut(id) else { return };
        if routes.remove(route).is_some() {
            self.changes.note(id, route);
        }
        if self.containers.get(id).is_some_and(BTreeMap::is_empty) {
            self.containers.remove(id);
        }
    }

    /// Since when a container is to be read that has no place.
    fn listed(&self) -> u64 {
        self.listed.unwrap_or(self.until)
    }

    /// The last list, or who is pending, is another.
    fn note_listed(&mut self) {
        let settled = self.pending.values().copied().fold(self.last_list, u64::min);
        self.listed = Some(self.listed().max(settled));
    }

    fn take_record(&mut self) -> Record {
        let place = |id: &str, route: &str| self.containers.get(id)?.get(route).cloned();
        let containers = std::mem::take(&mut self.changes.of).into_iter().map(|(id, routes)| {
            let places = routes.into_iter().map(|route| {
                let mark = place(&id, &route);
                (route, mark)
            });
            let places = places.collect();
            (id, places)
        });
        Record { containers: containers.collect(), until: self.until, listed: self.listed }
    }

    fn enter(&mut self, record: Record) {
        self.until = record.until;
        self.listed = record.listed.or(self.listed);
        for (id, routes) in record.containers {
            for (route, mark) in routes {
                match mark {
                    Some(mark) => self.set(&id, &route, mark),
                    None => self.remove(&id, &route),
                }
            }
        }
    }
}

/// The book, shared by the shards and whoever keeps it in files.
#[derive(Debug, Default)]
pub struct Positions {
    book: Mutex<Book>,
    /// Until when each shard has noted all.
    noted: Mutex<BTreeMap<usize, u64>>,
    /// Since when containers without a place are to be read; `None` where there was no book.
    since: Option<Since>,
    /// Who is woken when there is something to be written down.
    writer: OnceLock<Waker>,
}

/// Since when containers without a place are to be read: nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Since {
    /// Those that have one for another route.
    known: u64,
    /// Others.
    unknown: u64,
}

impl Positions {
    /// A first run, which begins `now`.
    pub fn new(now: u64) -> Positions {
        // No earlier journal that may still lie there has a generation as late as this.
        let book = Book { until: now, listed: Some(now), generation: now, ..Book::default() };
        Positions { book: Mutex::new(book), ..Positions::default() }
    }

    /// What an earlier run has written down: the whole book, and what came behind it. A journal
    /// that is of another book, or is damaged from some place on, says nothing from there on.
    ///
    /// # Errors
    /// What is wrong with the text of the whole book.
    pub fn parse(whole: &str, journal: &[u8], now: u64) -> Result<Positions, String> {
        let mut book: Book = serde_json::from_str(whole).map_err(|error| error.to_string())?;
        let records = journal::records(journal, book.generation);
        for record in records.map_while(|text| serde_json::from_str(text).ok()) {
            book.enter(record);
        }
        book.changes = Changes::default();
        book.containers.retain(|_, routes| {
            // Without a time: nothing has been delivered of it, from its beginning on.
            let is_kept = |at| at == 0 || at >= now.saturating_sub(KEPT_NANOS);
            routes.values().any(|mark| is_kept(mark.at()))
        });
        // A clock may have been set back: nothing was written after now.
        book.until = book.until.min(now);
        book.listed = Some(book.listed().min(now));
        let since = Some(Since { known: book.until, unknown: book.listed() });
        Ok(Positions { since, book: Mutex::new(book), ..Positions::default() })
    }

    /// Has `writer` woken when there is something to be written down.
    pub fn written_by(&self, writer: Waker) {
        self.writer.get_or_init(|| writer);
    }

    /// Wakes who writes, if there is something to be written down.
    pub fn wake_writer(&self) {
        if self.book().changes.are_there()
            && let Some(writer) = self.writer.get()
        {
            writer.wake_by_ref();
        }
    }

    /// What was taken could not be written down: all of it is due.
    pub fn set_changed(&self) {
        self.book().changes.any = true;
    }

    /// What is to be written down, if something has changed since the last call; all of it if
    /// `whole` asks for that.
    pub fn take_due(&self, whole: bool) -> Due {
        let mut book = self.book();
        if !whole && !book.changes.are_there() {
            return Due::Nothing;
        }
        if whole || book.changes.any || !book.changes.has_journal {
            // That of a damaged file may be the last there is; all that counts is that it differs.
            book.generation = book.generation.wrapping_add(1);
            book.changes = Changes { has_journal: true, ..Changes::default() };
            // Maps of strings and numbers: there is nothing that JSON could not hold.
            return serde_json::to_vec(&*book).map_or(Due::Nothing, Due::Whole);
        }
        let (generation, record) = (book.generation, book.take_record());
        drop(book);
        let text = serde_json::to_string(&record);
        text.map_or(Due::Nothing, |text| Due::Record(journal::record(generation, &text)))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to go on with container `id` for `route`, if an earlier run has left a place, or was
    /// there before the container.
    pub fn of(&self, id: &str, route: &str) -> Option<Arc<Mark>> {
        let book = self.book();
        let routes = book.containers.get(id);
        let mark = routes.and_then(|routes| routes.get(route)).cloned();
        let begin =
            |since: Since| Mark::since(if routes.is_some() { since.known } else { since.unknown });
        mark.or_else(|| self.since.map(begin)).map(Arc::new)
    }

    /// Enters how far container `id` is delivered to `route`.
    pub fn set(&self, id: &str, route: &str, mark: &Mark) {
        self.book().set(id, route, mark.clone());
    }

    /// The same, unless there is a place.
    pub fn begin(&self, id: &str, route: &str, mark: &Mark) {
        let mut book = self.book();
        if !book.has(id, route) {
            book.set(id, route, mark.clone());
        }
    }

    /// The container is gone.
    pub fn forget(&self, id: &str) {
        let mut book = self.book();
        let routes = book.containers.remove(id).unwrap_or_default();
        routes.keys().for_each(|route| book.changes.note(id, route));
        drop(book);
        self.settled(id);
    }

    /// The daemon has told of container `id`, which is about to be followed: until it has its
    /// places a later run has to look for it as far back as now.
    pub fn heard_of(&self, id: &str) {
        let mut book = self.book();
        if !book.containers.contains_key(id) {
            let listed = book.listed();
            book.pending.entry(id.to_owned()).or_insert(listed);
        }
    }

    /// Container `id` has its places, as far as routes select it.
    pub fn settled(&self, id: &str) {
        let mut book = self.book();
        if book.pending.remove(id).is_some() {
            book.note_listed();
        }
    }

    /// The daemon has listed its containers, which was asked for at `at` (nanoseconds since 1970),
    /// and those that were new were [heard of](Positions::heard_of).
    pub fn listed(&self, at: u64) {
        let mut book = self.book();
        book.last_list = at;
        book.note_listed();
    }

    /// The route is gone: should one like it come later, it begins then.
    pub fn forget_route(&self, route: &str) {
        let mut book = self.book();
        let ids: Vec<String> = book.containers.keys().cloned().collect();
        ids.iter().for_each(|id| book.remove(id, route));
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

    /// What the files say after these calls of [`Positions::take_due`].
    fn written(positions: &Positions, wholes: &[bool]) -> (String, Vec<u8>) {
        let (mut text, mut journal) = (Vec::new(), Vec::new());
        for &whole in wholes {
            match positions.take_due(whole) {
                Due::Nothing => {}
                Due::Whole(new) => text = new,
                Due::Record(record) => journal.extend(record),
            }
        }
        (String::from_utf8(text).unwrap(), journal)
    }

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
        let (text, journal) = written(&positions, &[false]);
        assert!(journal.is_empty(), "there is none yet");
        assert!(matches!(positions.take_due(false), Due::Nothing), "nothing has changed");
        let read = Positions::parse(&text, &[], 10).unwrap();
        let at = |id: &str| read.of(id, "r").unwrap().at();
        assert_eq!((at("a"), at("b"), at("new")), (5, 9, 9));
        read.forget_route("r");
        assert_eq!(at("a"), 9);
        positions.begin("c", "r", &Mark::since(0));
        let (text, _) = written(&positions, &[true]);
        let later = Positions::parse(&text, &[], KEPT_NANOS + 10).unwrap();
        assert_eq!(later.of("c", "r").unwrap().at(), 0, "all of it is to be delivered");
        assert_eq!(later.of("a", "r").unwrap().at(), 9, "too old");
        assert!(Positions::parse("{", &[], 0).is_err());
        let before = r#"{"until":9,"containers":{"a":{"r":{"since":5,"lag":0,"ends":[
            {"at":0,"text":""},{"at":0,"text":""}]}}}}"#;
        let read = Positions::parse(before, &[], 10).unwrap();
        assert_eq!(read.of("a", "r").unwrap().at(), 5, "written without a journal");
    }

    /// One that events did not tell of is read from the last list on, or from an earlier one, if
    /// that had a container of which nobody knew who it was.
    #[test]
    fn a_container_that_was_not_known_is_read_from_the_last_list_on() {
        let positions = Positions::new(5);
        let of = |id: &str| {
            positions.set_changed();
            let (text, _) = written(&positions, &[false]);
            Positions::parse(&text, &[], 100).unwrap().of(id, "r").unwrap().at()
        };
        positions.all_until(0, 90);
        assert_eq!(of("new"), 5);
        positions.heard_of("a");
        positions.listed(10);
        assert_eq!(of("new"), 5, "a may be anybody");
        positions.begin("a", "other", &Mark::since(0));
        positions.settled("a");
        assert_eq!((of("new"), of("a")), (10, 90));
        positions.heard_of("b");
        positions.listed(20);
        positions.listed(30);
        positions.heard_of("c");
        positions.heard_of("a");
        assert_eq!(of("new"), 10);
        positions.forget("b");
        assert_eq!(of("new"), 10, "c was heard of when b was not settled");
        positions.settled("c");
        assert_eq!(of("new"), 30);
        positions.listed(25);
        assert_eq!(of("new"), 30, "a clock that was set back");
        let before = r#"{"until":9,"containers":{}}"#;
        let read = Positions::parse(before, &[], 10).unwrap();
        assert_eq!(read.of("new", "r").unwrap().at(), 9, "written without lists");
    }

    #[test]
    fn what_has_changed_is_read_from_the_journal() {
        let positions = Positions::default();
        ["a", "b", "c"].iter().for_each(|id| positions.begin(id, "r", &Mark::since(5)));
        positions.all_until(0, 6);
        let (text, _) = written(&positions, &[false]);
        positions.set("a", "r", &Mark::since(7));
        positions.all_until(0, 8);
        let (_, first) = written(&positions, &[false]);
        positions.forget("b");
        positions.begin("d", "r", &Mark::since(8));
        let (_, second) = written(&positions, &[false]);
        let at = |journal: &[u8]| {
            let read = Positions::parse(&text, journal, 100).unwrap();
            ["a", "b", "c", "d"].map(|id| read.of(id, "r").unwrap().at())
        };
        assert_eq!(at(&[]), [5, 5, 5, 6]);
        assert_eq!(at(&first), [7, 5, 5, 8]);
        let both = [first.clone(), second].concat();
        assert_eq!(at(&both), [7, 8, 5, 8]);
        assert_eq!(at(&both[..both.len() - 1]), [7, 5, 5, 8], "torn");
        let unknown = journal::record(1, "of another version");
        assert_eq!(at(&[first, unknown].concat()), [7, 5, 5, 8]);
        // What is written whole begins a journal of its own.
        let (whole, _) = written(&positions, &[true]);
        positions.set("a", "r", &Mark::since(9));
        let (_, third) = written(&positions, &[false]);
        assert_eq!(at(&third), [5, 5, 5, 6], "not of this book");
        let read = Positions::parse(&whole, &third, 100).unwrap();
        assert_eq!(read.of("a", "r").unwrap().at(), 9);
    }

    #[test]
    fn what_could_not_be_written_is_due_as_a_whole() {
        let positions = Positions::default();
        positions.begin("a", "r", &Mark::since(5));
        assert!(matches!(positions.take_due(false), Due::Whole(_)));
        positions.begin("b", "r", &Mark::since(5));
        assert!(matches!(positions.take_due(false), Due::Record(_)));
        positions.set_changed();
        assert!(matches!(positions.take_due(false), Due::Whole(_)));
        // More changes than are kept apart.
        (0..=CHANGES_MAX).for_each(|n| positions.begin(&n.to_string(), "r", &Mark::since(5)));
        assert!(matches!(positions.take_due(false), Due::Whole(_)));
        assert!(matches!(positions.take_due(false), Due::Nothing));
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

    /// A receiver that is slow: what is told is not far behind what it has taken.
    #[test]
    fn places_are_spread_over_what_waits() {
        let id = |n: usize| Rc::<str>::from(n.to_string());
        for (containers, behind) in [(1, 200), (100, 600), (1000, 1000)] {
            let mut ledger = Ledger::default();
            for appended in 1..=1000 {
                let mark = Rc::new(Mark::since(appended));
                (0..containers).for_each(|n| ledger.note(&id(n), appended, &mark));
            }
            let held: usize = ledger.waiting.values().map(VecDeque::len).sum();
            assert!(held <= (2 * containers).max(WAITING), "{held} of {containers}");
            let mut told = vec![0; containers];
            for gone in 1..=1000 {
                ledger.settle(gone, |id, mark| told[id.parse::<usize>().unwrap()] = mark.at());
                assert!(told.iter().all(|&at| at <= gone && gone - at <= behind), "{told:?}");
            }
        }
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
