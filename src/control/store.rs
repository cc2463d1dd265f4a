//! Routes made over HTTP, kept in files under `ROUTESPATH`, as Logspout keeps them: `ID.json`.
//!
//! Touches that directory alone. A file is there whole or not at all, whenever the machine stops:
//! it is written beside and renamed. Everything here may wait for a disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::route::json::Definition;
use crate::spool::lock::private;

/// The longest file that is read.
const FILE_MAX: u64 = 1024 * 1024;
/// The longest id: with what is put around it, a file name.
const ID_MAX: usize = 200;
/// What the name of a file ends with that is being written.
const UNFINISHED: &str = ".json.tmp";

/// A directory of routes.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

/// A route as it was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) definition: Definition,
}

/// Whether `id` may name a route: as part of a file name it must not lead elsewhere.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    let wrong = if id.is_empty() {
        "is empty"
    } else if id.len() > ID_MAX {
        "is longer than 200 bytes"
    } else if id.starts_with('.') {
        "begins with a point"
    } else if id.contains('/') || id.contains(char::is_control) {
        "has a slash or a control character"
    } else {
        return Ok(());
    };
    Err(format!("bad id: it {wrong}; use letters, digits, - and _"))
}

impl Store {
    /// The routes under `dir`, if that is a directory.
    pub(super) fn open(dir: &Path) -> Option<Store> {
        dir.is_dir().then(|| Store { dir: dir.to_owned() })
    }

    /// All routes, in the order of their files' names. What cannot be read is said and passed
    /// over, as Logspout does it (without a word).
    pub(super) fn load(&self) -> Vec<Stored> {
        let mut paths = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>(),
            Err(error) => {
                tracing::warn!("ROUTESPATH {}: cannot be read: {error}", self.dir.display());
                return Vec::new();
            }
        };
        paths.sort();
        let mut stored = Vec::new();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(UNFINISHED) {
                // Its writer was stopped before it was done: nobody was told that it is kept.
                let _ = fs::remove_file(&path);
            } else if name.ends_with(".json") && !name.starts_with('.') {
                match read(&path) {
                    Ok(definition) => stored.push(Stored { path, definition }),
                    Err(error) => {
                        let shown = path.display();
                        tracing::warn!("{shown}: is no route and has no effect: {error}");
                    }
                }
            }
        }
        stored
    }

    /// Keeps a route whose id [`check_id`] has passed; returns in which file.
    pub(super) fn save(&self, route: &Definition) -> io::Result<PathBuf> {
        let path = self.path(&route.id);
        let unfinished = self.dir.join(format!(".{}{UNFINISHED}", route.id));
        replace(&path, &unfinished, route.to_json().as_bytes())?;
        self.sync()?;
        Ok(path)
    }

    /// Where [`Store::save`] keeps the route `id`.
    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Forgets what is kept in `path`; that it is gone already is fine.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// Names are safe once their directory is.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// Replaces the file at `path`, of which nobody else reads anything: it has all of `bytes`, or is
/// what it was. They are written to `unfinished` first, in the same folder.
pub(super) fn replace(path: &Path, unfinished: &Path, bytes: &[u8]) -> io::Result<()> {
    // Whatever lies there is not ours: a link could lead anywhere.
    let _ = fs::remove_file(unfinished);
    let write = || {
        let mut file = private().write(true).create_new(true).open(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(unfinished, path)
    };
    // What there is of it is of no use, and in the way where the disk is full.
    write().inspect_err(|_| _ = fs::remove_file(unfinished))
}

fn read(path: &Path) -> Result<Definition, String> {
    // To open anything else may wait for ever.
    let about = fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() || about.len() > FILE_MAX {
        return Err("it is no file, or longer than 1 MiB".to_owned());
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Definition::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: &str) -> Definition {
        Definition { id: id.into(), adapter: "raw".into(), ..Definition::default() }
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn ids_stay_in_their_directory() {
        let long = "x".repeat(201);
        for id in ["", ".", "..", "../x", "/etc/x", "a/b", "x\0", "a\nb", ".x.json", &long] {
            assert!(check_id(id).unwrap_err().starts_with("bad id: it "), "{id:?}");
        }
        for id in ["my route", "%2e%2e%2fx", "a..b", "ü", "x\\y", &long[1..]] {
            assert_eq!(check_id(id), Ok(()), "{id:?}");
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let long = "x".repeat(ID_MAX);
        for id in ["b", "a", "b", "my route", &long] {
            let path = store.save(&route(id)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), route(id).to_json());
        }
        let loaded = store.load();
        let ids: Vec<&str> = loaded.iter().map(|stored| &*stored.definition.id).collect();
        assert_eq!(ids, ["a", "b", "my route", &long]);
        store.remove(&loaded[0].path).unwrap();
        store.remove(&loaded[0].path).unwrap();
        assert_eq!(store.load(), loaded[1..]);
    }

    #[test]
    fn what_is_no_route_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&route("good")).unwrap();
        for (name, text) in [
            ("half.json", "{\"id\": \"half\", \"adap"),
            ("list.json", "[]"),
            ("readme.txt", "{}"),
            (".hidden.json", "{}"),
            (".good.json.tmp", "{\"id\": \"good\""),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        fs::create_dir(dir.path().join("folder.json")).unwrap();
        fs::write(dir.path().join("huge.json"), vec![b' '; FILE_MAX as usize + 1]).unwrap();
        let fifo = dir.path().join("fifo.json");
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        let ids: Vec<String> = store.load().into_iter().map(|s| s.definition.id).collect();
        assert_eq!(ids, ["good"]);
        // What was left half-written is gone; nobody else's file is.
        let left = ["half.json", "huge.json", "list.json", "readme.txt", ".hidden.json"];
        assert!(left.iter().all(|name| names(dir.path()).contains(&(*name).to_owned())));
        assert!(!names(dir.path()).iter().any(|name| name.ends_with(".tmp")));
    }

    /// What lies where the new file is written first is not followed.
    #[test]
    fn a_link_leads_nowhere() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let link = dir.path().join(".a.json.tmp");
        std::os::unix::fs::symlink(other.path(), &link).unwrap();
        Store::open(dir.path()).unwrap().save(&route("a")).unwrap();
        assert_eq!(fs::read(other.path()).unwrap(), b"");
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        drop(dir);
        assert!(store.save(&route("a")).is_err());
        assert_eq!(store.load(), []);
    }
}
