//! Who says what, and when. Pure: a tick is a tenth of a second.

use crate::civil::Civil;

/// A container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// Its id.
    pub(super) id: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// Its image.
    pub(super) image: &'static str,
    /// It runs now and then; the others all the time.
    pub(super) comes_and_goes: bool,
}

const WEB: Who = Who {
    id: "5f0c1a7be9d24386b1f7c0d2e8a49b63c715de02f98a6b4d3c2e1f0a9b8c7d6e",
    name: "web",
    image: "nginx:1.27",
    comes_and_goes: false,
};
const DATABASE: Who = Who {
    id: "a94e2b6c8d10f3572be6094dc8a17f35e20b9d64c8f1a3752e6d0b9c4f8a1e73",
    name: "db",
    image: "postgres:17",
    comes_and_goes: false,
};
const WORKER: Who = Who {
    id: "0d7e3f9a5b1c8246e0f7a3d95c1b8e42f60a7d93b5c1e8240f6a7d3e9b5c1f84",
    name: "worker",
    image: "example/mailer:3",
    comes_and_goes: false,
};
const BACKUP: Who = Who {
    id: "c3b8f21e6a094d75c3b8e21f6a904d57c38b2e1f6a09d475c3b82f1e6a094d57",
    name: "backup",
    image: "example/backup:1",
    comes_and_goes: true,
};

/// All of them.
pub(super) const ACTORS: &[Who] = &[WEB, DATABASE, WORKER, BACKUP];

/// What stands in lines that are for Slack, and in no other.
pub(super) const ERROR: &str = "ERROR";

/// What happens. Text may be several lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The container starts.
    Starts(&'static Who),
    /// It writes to standard output.
    Says(&'static Who, String),
    /// It writes to standard error.
    Complains(&'static Who, String),
    /// It ends.
    Ends(&'static Who),
}

/// What happens in a tick; `now` is in seconds since 1970.
pub(super) fn acts(tick: u64, now: u64) -> Vec<Act> {
    let time = Civil::of(now);
    let mut acts = Vec::new();
    if tick % 7 == 2 {
        acts.push(Act::Says(&ACTORS[0], request(tick / 7, time)));
    }
    if tick % 23 == 5 {
        acts.push(Act::Complains(&ACTORS[1], statement(tick / 23, time)));
    }
    if tick % 11 == 4 {
        acts.push(mail(tick / 11));
    }
    acts.extend(backup(tick % 150));
    acts
}

fn request(n: u64, time: Civil) -> String {
    let (path, status, bytes) = [
        ("GET /", 200, 5123),
        ("GET /static/app.js", 304, 0),
        ("POST /cart", 201, 87),
        ("GET /products?page=2", 200, 18_204),
        ("GET /favicon.ico", 404, 153),
        ("POST /checkout", 302, 0),
    ][n as usize % 6];
    let host = 10 + n * 37 % 200;
    format!("10.0.3.{host} - - [{time}+00:00] \"{path} HTTP/1.1\" {status} {bytes}\n")
}

fn statement(n: u64, time: Civil) -> String {
    let text = match n % 3 {
        0 => "checkpoint complete: wrote 41 buffers (0.3%); 0 WAL file(s) added",
        1 => "duration: 1204.118 ms  statement: SELECT * FROM orders WHERE paid IS NULL",
        _ => "automatic vacuum of table \"shop.public.carts\": index scans: 1",
    };
    format!("{time} UTC [27] LOG:  {text}\n")
}

/// Each sixth fails, the second of all first.
fn mail(n: u64) -> Act {
    let job = 1042 + n;
    if n % 6 != 1 {
        let took = 23 + n * 17 % 60;
        return Act::Says(&ACTORS[2], format!("INFO mail {job} sent in {took} ms\n"));
    }
    let text = format!(
        "{ERROR} mail {job} failed: connection to smtp.example.com:25 refused\n\
         Traceback (most recent call last):\n\
         \x20 File \"/app/worker.py\", line 88, in run\n\
         \x20   self.deliver(mail)\n\
         \x20 File \"/app/smtp.py\", line 31, in deliver\n\
         \x20   raise ConnectionError(f\"connection to {{host}} refused\")\n"
    );
    Act::Complains(&ACTORS[2], text)
}

fn backup(tick: u64) -> Option<Act> {
    let says = |text: &str| Some(Act::Says(&ACTORS[3], format!("{text}\n")));
    match tick {
        20 => Some(Act::Starts(&ACTORS[3])),
        24 => says("backup of shop begins"),
        30 => says("dumped 18 tables, 4.2 MB"),
        36 => says("backup of shop is complete"),
        38 => Some(Act::Ends(&ACTORS[3])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_four_seconds_everyone_has_spoken_and_one_has_gone() {
        let acts: Vec<Act> = (0..40).flat_map(|tick| acts(tick, 1_795_305_600)).collect();
        for actor in ACTORS {
            let speaks = |act: &Act| {
                matches!(act, Act::Says(who, text) | Act::Complains(who, text)
                    if *who == actor && text.ends_with('\n'))
            };
            assert!(acts.iter().any(speaks), "{}: {acts:?}", actor.name);
        }
        let place = |wanted: &Act| acts.iter().position(|act| act == wanted);
        let (begin, end) = (place(&Act::Starts(&BACKUP)), place(&Act::Ends(&BACKUP)));
        assert!(begin.is_some() && begin < end, "{acts:?}");
        let errors = acts.iter().filter(|act| format!("{act:?}").contains(ERROR)).count();
        assert_eq!(errors, 1, "{acts:?}");
    }
}
