//! Which containers are being read now, and by which shard: told by the shards, for those who ask
//! by id. Changes when a container starts or ends, not per line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The containers that run and are followed.
#[derive(Debug, Default)]
pub struct Roster(Mutex<HashMap<String, usize>>);

/// A container's entry in the roster; dropping it takes it out.
#[derive(Debug)]
pub(super) struct Present {
    roster: Arc<Roster>,
    id: String,
}

impl Roster {
    /// The container with this id, or whose id begins so: its full id, and its shard.
    pub fn find(&self, id: &str) -> Option<(String, usize)> {
        let entries = self.entries();
        let found = entries.iter().find(|(known, _)| known.starts_with(id));
        found.map(|(id, shard)| (id.clone(), *shard))
    }

    /// The container `id` is read by shard number `shard`, until the entry is dropped.
    pub(super) fn enter(self: &Arc<Self>, id: &str, shard: usize) -> Present {
        self.entries().insert(id.to_owned(), shard);
        Present { roster: Arc::clone(self), id: id.to_owned() }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.roster.entries().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_by_the_beginning_of_their_id_while_they_are_there() {
        let roster = Arc::new(Roster::default());
        let ids = ["1222c4295f26".repeat(5), "a0ea45656f24".repeat(5)];
        let present = [roster.enter(&ids[0], 0), roster.enter(&ids[1], 1)];
        assert_eq!(roster.find("1222c4295f26"), Some((ids[0].clone(), 0)));
        assert_eq!(roster.find(&ids[1]), Some((ids[1].clone(), 1)));
        assert_eq!(roster.find(&format!("{}0", ids[1])), None);
        drop(present);
        assert_eq!(roster.find("1222c4295f26"), None);
    }
}
