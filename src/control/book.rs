//! The routes by their names, as `/routes` shows and changes them: [`super::routes`] carries them,
//! [`super::store`] keeps those that were made over HTTP.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::build;
use super::routes::{Purpose, Routes, account};
use super::store::{Store, Stored, check_id};
use crate::admin::Refused;
use crate::config::{Settings, load};
use crate::route::RouteSpec;
use crate::route::json::{Definition, MASK};
use crate::route::uri::display;
use crate::shard::lane::Route;

/// Routes at a time: far more than anybody needs, and few enough for any machine.
const ROUTES_MAX: usize = 1000;

/// The routes by their names.
pub(super) struct Book {
    routes: Arc<Routes>,
    settings: Arc<Settings>,
    /// So many routes were given at start.
    given: usize,
    store: Option<Store>,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// One change at a time: a disk may be waited for in between.
    changing: tokio::sync::Mutex<()>,
}

struct Entry {
    definition: Definition,
    route: Arc<Route>,
    /// Where it is kept.
    file: Option<PathBuf>,
}

/// What was found under `ROUTESPATH` at start.
pub(super) struct Found {
    /// So many routes were given otherwise, whether they are carried or not.
    given: usize,
    store: Option<Store>,
    /// Of the routes in the settings, the last ones.
    stored: Vec<Stored>,
}

/// Adds the routes under `ROUTESPATH` to those of `settings`.
///
/// # Errors
/// One line that names the file of a route whose adapter cannot be read.
pub(super) fn find(settings: &mut Settings) -> Result<Found, String> {
    let path = &settings.api.routes_path;
    let store = Store::open(path);
    if store.is_none() && settings.api.routes_path_given {
        tracing::warn!(
            "ROUTESPATH {}: is no directory, so routes made over HTTP are not kept",
            path.display()
        );
    }
    let mut stored: Vec<Stored> = Vec::new();
    for mut found in store.iter().flat_map(Store::load) {
        let definition = &mut found.definition;
        if definition.id.is_empty() {
            definition.id = made_up(&found.path);
        }
        if let Err(what) = check_id(&definition.id) {
            tracing::warn!("{}: has no effect: {what}", found.path.display());
            continue;
        }
        stored.retain(|before| {
            let same = before.definition.id == definition.id;
            if same {
                let (one, other) = (before.path.display(), found.path.display());
                tracing::warn!("{one}: has no effect, since {other} is a route of the same id");
            }
            !same
        });
        stored.push(found);
    }
    if !stored.is_empty() && !settings.routes_given {
        settings.routes.clear();
    }
    let given = settings.routes.len();
    // Such a route was replaced over HTTP.
    settings.routes.retain(|spec| {
        let id = given_id(spec);
        let instead = stored.iter().find(|stored| stored.definition.id == id);
        if let Some(Stored { path, .. }) = instead {
            let (one, other) = (display(spec), path.display());
            tracing::warn!("route {one}: has no effect, since {other} is a route of the same id");
        }
        instead.is_none()
    });
    for found in &stored {
        let spec = spec(&found.definition, given).map_err(|what| bad(found, &what))?;
        load::unknown_options(&spec).iter().for_each(|warning| tracing::warn!("{warning}"));
        settings.routes.push(spec);
    }
    Ok(Found { given, store, stored })
}

/// What to say of a file whose route cannot be carried.
fn bad(stored: &Stored, what: &str) -> String {
    format!("{}: {what}; mend or remove it", stored.path.display())
}

impl Found {
    /// Builds all routes of the settings that it was added to.
    ///
    /// # Errors
    /// One line that names the file of a route that came from one.
    pub(super) fn build(&self, settings: &Settings) -> Result<Vec<Arc<Route>>, String> {
        let others = settings.routes.len() - self.stored.len();
        build::try_routes(settings).map_err(|(number, what)| {
            let stored = number.checked_sub(others).and_then(|number| self.stored.get(number));
            stored.map_or(what.clone(), |stored| bad(stored, &what))
        })
    }
}

/// The id of a route that was given at start: the same at each.
fn given_id(spec: &RouteSpec) -> String {
    made_up(&(&spec.id, &spec.adapter, &spec.address, &spec.options))
}

/// The route that `definition` means, where so many routes were `given` at start: these are known
/// to metrics and messages by their numbers.
fn spec(definition: &Definition, given: usize) -> Result<RouteSpec, String> {
    let spec = definition.spec()?;
    let is_taken = spec.id.parse::<usize>().is_ok_and(|number| number < given);
    Ok(if is_taken { RouteSpec { id: format!("routes/{}", spec.id), ..spec } } else { spec })
}

/// An id of Logspout's form, the same whenever it is made of the same.
fn made_up(of: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    twelve_digits(hasher.finish())
}

fn twelve_digits(number: u64) -> String {
    format!("{:012x}", number >> 16)
}

impl Book {
    /// The routes that the program starts with: those of `settings`, of which the last were
    /// `found`, in the same order as `routes` has them.
    pub(super) fn new(settings: Arc<Settings>, found: Found, routes: Arc<Routes>) -> Book {
        let Found { given, store, stored } = found;
        let mut entries = BTreeMap::new();
        let mut carried = settings.routes.iter().zip(routes.list());
        for (spec, route) in carried.by_ref().take(settings.routes.len() - stored.len()) {
            if settings.routes_given {
                let id = given_id(spec);
                let definition = Definition::of(spec, &id);
                entries.insert(id, Entry { definition, route, file: None });
            }
        }
        for (Stored { path, definition }, (_, route)) in stored.into_iter().zip(carried) {
            let id = definition.id.clone();
            entries.insert(id, Entry { definition, route, file: Some(path) });
        }
        let entries = Mutex::new(entries);
        Book { routes, settings, given, store, entries, changing: tokio::sync::Mutex::default() }
    }

    /// Never held across an await.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, by name, with what became of their lines if they are to be `counted`. The
    /// console route of who gives none is not one of them.
    pub(super) fn list(&self, counted: bool) -> Vec<Definition> {
        let entries = self.entries();
        let shown = entries.values().map(|Entry { definition, route, .. }| Definition {
            lines: counted.then(|| account(route)),
            ..definition.clone()
        });
        shown.collect()
    }

    /// Makes a route; one of the same id is replaced by it. Returns it under the id it has got.
    pub(super) async fn create(&self, mut definition: Definition) -> Result<Definition, Refused> {
        let _alone = self.changing.lock().await;
        if definition.id.is_empty() {
            definition.id = self.new_id();
        }
        check_id(&definition.id).map_err(Refused::Bad)?;
        self.check_file(&definition.id).map_err(Refused::Bad)?;
        if self.entries().len() >= ROUTES_MAX && !self.entries().contains_key(&definition.id) {
            return Err(Refused::Bad(format!("there are {ROUTES_MAX} routes already")));
        }
        let route = self.build(&definition).await.map_err(Refused::Bad)?;
        let file = match self.store.clone() {
            Some(store) => {
                let saved = self.save(store, &definition).await;
                if let (Err(_), Some(spool)) = (&saved, &route.spool) {
                    spool.close();
                }
                Some(saved?)
            }
            None => None,
        };
        let id = definition.id.clone();
        let before = self.entries().remove(&id);
        let route = match &before {
            Some(before) => self.routes.replace(&before.route, route),
            None => self.routes.add(route, Purpose::Receiver),
        };
        let entry = Entry { definition: definition.clone(), route, file: file.clone() };
        self.entries().insert(id, entry);
        let old = before.and_then(|entry| entry.file);
        if let Some(old) = old.filter(|old| Some(old) != file.as_ref()) {
            self.forget(old).await;
        }
        Ok(definition)
    }

    /// Whether the file of a route `id` would be that of another one: files may have any name.
    fn check_file(&self, id: &str) -> Result<(), String> {
        let Some(path) = self.store.as_ref().map(|store| store.path(id)) else { return Ok(()) };
        let entries = self.entries();
        let other = entries.values().find(|entry| entry.file.as_ref() == Some(&path));
        match other.map(|entry| &entry.definition.id).filter(|other| *other != id) {
            Some(other) => {
                let path = path.display();
                Err(format!("bad id: {path} is the file of the route {other:?}; use another one"))
            }
            None => Ok(()),
        }
    }

    fn new_id(&self) -> String {
        loop {
            let id = twelve_digits(RandomState::new().hash_one(()));
            if !self.entries().contains_key(&id) {
                return id;
            }
        }
    }

    /// Building reads authorities, compiles expressions and opens a spool: not on the control
    /// thread.
    async fn build(&self, definition: &Definition) -> Result<Route, String> {
        if definition.is_masked() {
            return Err(format!("{MASK} stands for a secret that is not shown; write the secret"));
        }
        let spec = spec(definition, self.given)?;
        load::unknown_options(&spec).iter().for_each(|warning| tracing::warn!("{warning}"));
        let settings = Arc::clone(&self.settings);
        let build = move || {
            let route = build::added(&spec, &settings)?;
            route.open_spool().map(|()| route)
        };
        let built = tokio::task::spawn_blocking(build).await;
        built.map_err(|error| error.to_string()).flatten()
    }

    async fn save(&self, store: Store, definition: &Definition) -> Result<PathBuf, Refused> {
        let definition = definition.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&definition)).await;
        saved.map_err(std::io::Error::other).flatten().map_err(|error| {
            let dir = self.settings.api.routes_path.display();
            tracing::warn!("ROUTESPATH {dir}: a route cannot be kept: {error}");
            Refused::NotKept(error.to_string())
        })
    }

    async fn forget(&self, file: PathBuf) {
        let Some(store) = self.store.clone() else { return };
        let shown = file.display().to_string();
        let removed = tokio::task::spawn_blocking(move || store.remove(&file)).await;
        if let Err(error) = removed.map_err(std::io::Error::other).flatten() {
            tracing::warn!("{shown}: cannot be removed, so the route comes back: {error}");
        }
    }

    /// Ends a route; `false` if there is none of that id.
    pub(super) async fn remove(&self, id: &str) -> bool {
        let _alone = self.changing.lock().await;
        let Some(entry) = self.entries().remove(id) else { return false };
        self.routes.remove(&entry.route);
        if let Some(file) = entry.file {
            self.forget(file).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The routes of who gives one and has such a file.
    fn built(file: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("r.json"), file).unwrap();
        let mut settings = Settings { routes_given: true, ..Settings::default() };
        settings.api.routes_path = dir.path().to_owned();
        let found = find(&mut settings)?;
        let routes = found.build(&settings)?;
        Ok(routes.iter().map(|route| route.display.clone()).collect())
    }

    #[test]
    fn a_given_route_that_was_replaced_stays_replaced() {
        let id = given_id(&Settings::default().routes[0]);
        let file = |id: &str| {
            format!("{{\"id\": \"{id}\", \"adapter\": \"raw+tcp\", \"address\": \"h:1\"}}")
        };
        assert_eq!(built(&file("x")).unwrap(), ["console://", "raw+tcp://h:1"]);
        assert_eq!(built(&file(&id)).unwrap(), ["raw+tcp://h:1"]);
    }

    #[test]
    fn the_file_of_a_route_that_cannot_be_carried_is_named() {
        let route = |adapter: &str, options: &str| {
            built(&format!(
                "{{\"adapter\": \"{adapter}\", \"address\": \"h:1\", \"options\": {{{options}}}}}"
            ))
        };
        assert_eq!(route("raw", "").map(|routes| routes.len()), Ok(2));
        for (adapter, options, why) in [
            ("raw+", "", "bad adapter"),
            ("nonsense", "", "bad adapter"),
            ("raw", "\"buffer\": \"1\"", "too small"),
            ("raw", "\"filter.match\": \"(\"", "filter.match: bad regular expression"),
            ("multiline+raw", "\"multiline.pattern\": \"(\"", "multiline.pattern: bad regular"),
        ] {
            let error = route(adapter, options).unwrap_err();
            assert!(error.contains("/r.json: ") && error.contains(why), "{error}");
            assert!(error.ends_with("; mend or remove it"), "{error}");
        }
    }
}
