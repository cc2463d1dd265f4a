//! The programs that are compared, and how each is told where engine and receivers are.

use std::path::PathBuf;
use std::process::Command;

use crate::scenario::{Door, Filter, Forward, Receiver, Route, Scenario};

/// A program in the runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// The floor.
    Relay,
    /// The product, with this I/O driver instead of the scenario's if there is one.
    Logchute(Option<&'static str>),
    /// Any other.
    Other(Other),
}

impl Forwarder {
    /// What it is called in the report.
    pub fn name(&self) -> String {
        match self {
            Forwarder::Relay => "relay".to_owned(),
            Forwarder::Logchute(None) => "logchute".to_owned(),
            Forwarder::Logchute(Some(io)) => format!("logchute/{io}"),
            Forwarder::Other(other) => other.name(),
        }
    }

    /// Whether it can do what a scenario asks. Other programs know one route, over tcp.
    pub fn can(&self, scenario: &Scenario) -> bool {
        let Forward { routes, io, .. } = &scenario.forward;
        match self {
            Forwarder::Relay => scenario.source.door == Door::Both,
            Forwarder::Logchute(None) => true,
            Forwarder::Logchute(Some(driver)) => ["auto", driver].contains(&io.as_str()),
            Forwarder::Other(_) => {
                *routes == [Route { receiver: Receiver::Tcp, filter: Filter::None }]
            }
        }
    }
}

/// `[NAME=VALUE ...] CMD [ARG ...]` with `{docker}`, `{docker_tcp}` and `{tcp}` in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    env: Vec<(String, String)>,
    words: Vec<String>,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// URL of the engine's socket.
    pub docker: String,
    /// URL of the engine over tcp.
    pub docker_tcp: String,
    /// `ADDR:PORT` of the receiver.
    pub tcp: String,
}

impl Other {
    /// Reads it. Words are told apart by blanks; quotes, single or double, hold them together.
    ///
    /// # Errors
    /// One line that names what is wrong.
    pub fn parse(text: &str) -> Result<Other, String> {
        let words = split(text).ok_or(format!("--forwarder {text:?}: a quote has no end"))?;
        let variable = |word: &String| {
            let (name, value) = word.split_once('=')?;
            let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let is_name = !name.is_empty() && name.chars().all(known);
            is_name.then(|| (name.to_owned(), value.to_owned()))
        };
        let env: Vec<_> = words.iter().map_while(variable).collect();
        let words = words[env.len()..].to_vec();
        if words.is_empty() {
            return Err(format!("--forwarder {text:?}: names no program"));
        }
        if !text.contains("{tcp}") {
            let hint = "write {tcp} where it expects its receiver's ADDR:PORT";
            return Err(format!("--forwarder {text:?}: lines go nowhere; {hint}"));
        }
        Ok(Other { env, words })
    }

    fn name(&self) -> String {
        let program = self.words[0].rsplit('/').next().unwrap_or_default();
        program.to_owned()
    }

    /// How to start it.
    pub fn command(&self, places: &Places) -> Command {
        let fill = |text: &String| {
            text.replace("{docker_tcp}", &places.docker_tcp)
                .replace("{docker}", &places.docker)
                .replace("{tcp}", &places.tcp)
        };
        let mut command = Command::new(PathBuf::from(fill(&self.words[0])));
        command.args(self.words[1..].iter().map(fill)).env("DOCKER_HOST", &places.docker);
        command.envs(self.env.iter().map(|(name, value)| (name, fill(value))));
        command
    }
}

/// Words; `None` if a quote has no end.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<(String, String), String> {
        let places = Places {
            docker: "unix:///d.sock".to_owned(),
            docker_tcp: "tcp://127.0.0.1:2".to_owned(),
            tcp: "127.0.0.1:1".to_owned(),
        };
        let command = Other::parse(text)?.command(&places);
        let env: Vec<String> = command
            .get_envs()
            .map(|(name, value)| format!("{name:?}={:?}", value.unwrap_or_default()))
            .collect();
        let args: Vec<_> = command.get_args().collect();
        Ok((format!("{:?} {args:?}", command.get_program()), env.join(" ")))
    }

    #[test]
    fn a_command_with_its_places() {
        let (command, env) = shown("/bin/logspout syslog+tcp://{tcp}?a='b  c'").unwrap();
        assert_eq!(command, r#""/bin/logspout" ["syslog+tcp://127.0.0.1:1?a=b  c"]"#);
        assert_eq!(env, r#""DOCKER_HOST"="unix:///d.sock""#);
        let (command, env) = shown("A={docker_tcp} B='' prog --x=1 {tcp} \"\"").unwrap();
        assert_eq!(command, r#""prog" ["--x=1", "127.0.0.1:1", ""]"#);
        assert_eq!(env, r#""A"="tcp://127.0.0.1:2" "B"="" "DOCKER_HOST"="unix:///d.sock""#);
        assert_eq!(Other::parse("A=1 /x/y {tcp}").unwrap().name(), "y");
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        for (text, error) in [
            ("", "names no program"),
            ("A=1", "names no program"),
            ("x 'y", "a quote has no end"),
            ("logspout {docker}", "write {tcp}"),
        ] {
            let refused = shown(text).unwrap_err();
            assert!(refused.contains(error), "{text}: {refused}");
        }
    }
}
