//! Settings: whatever flags, variables and files say, there is no panic; an error is one line that
//! names a setting; nothing that may be secret is shown; and what is taken is within its limits.
//!
//! Input: parts between zero bytes, each a setting: which one, where it is given, and its value.

#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use logchute::config::cli::{self, CliArgs, Command};
use logchute::config::env::{HOST_HOSTNAME, MapEnv};
use logchute::config::load::{Loaded, load};
use logchute::config::table::{SETTINGS, Setting};
use logchute::config::{BUFFER_RANGE, MAX_LINE_RANGE};
use logchute::docker::endpoint::endpoint;
use logchute::route::filter::LineFilter;
use logchute::route::uri::display;
use logchute::sink;
use logchute_fuzz::{SECRET, check_message};

fuzz_target!(|data: &[u8]| {
    let mut given = Given::default();
    data.split(|&byte| byte == 0).take(8).for_each(|part| given.take(part));
    let names = given.names;
    // Where it is not given the number of cores is asked for, which takes longer than all else.
    let shards = [("SHARDS", "1")].into_iter();
    let given_ones = given.variables.iter().map(|(name, value)| (*name, &**value));
    let variables: Vec<(&str, &str)> = shards.chain(given_ones).collect();
    let mut env = MapEnv::new(&variables);
    if let Some(bytes) = given.host_hostname {
        env = env.with_host_hostname(&bytes);
    }
    // Reading flags takes far longer than reading what they say.
    let outcome = if given.flags.is_empty() {
        let mut arguments = CliArgs::default();
        arguments.routes = given.routes;
        load(&arguments, &env)
    } else {
        let routes = given.routes.into_iter().map(OsString::from);
        let program = [OsString::from("logchute"), OsString::from("check")];
        match cli::parse(program.into_iter().chain(given.flags).chain(routes), &env) {
            Ok(Command::Check(loaded)) => Ok(loaded),
            Ok(other) => panic!("not asked for: {other:?}"),
            Err(error) => Err(error),
        }
    };
    match outcome {
        Ok(loaded) => taken(&loaded),
        Err(error) => {
            let message = error.to_string();
            check_message(&message);
            let named = names.iter().any(|name| message.contains(name));
            assert!(named, "{message:?} names none of {names:?}");
        }
    }
});

#[derive(Default)]
struct Given {
    flags: Vec<OsString>,
    routes: Vec<String>,
    variables: Vec<(&'static str, String)>,
    host_hostname: Option<Vec<u8>>,
    /// What an error may be about.
    names: Vec<&'static str>,
}

impl Given {
    fn take(&mut self, part: &[u8]) {
        let [which, place, value @ ..] = part else { return };
        if usize::from(*which) % (SETTINGS.len() + 1) == SETTINGS.len() {
            self.names.push(HOST_HOSTNAME);
            self.host_hostname = Some(value.to_vec());
            return;
        }
        let setting = &SETTINGS[usize::from(*which) % (SETTINGS.len() + 1)];
        let Ok(value) = str::from_utf8(value) else { return };
        let value = with_secret(setting, value);
        match (setting.env, setting.flag) {
            (Some("ROUTE_URIS"), _) if place % 2 == 1 => {
                // Not an option's name.
                let route = format!("{}{value}", if value.starts_with('-') { "r" } else { "" });
                self.names.push("ROUTE_URI");
                self.names.push("route ");
                self.routes.push(route);
            }
            (_, Some(flag)) if place % 8 == 1 => {
                self.flags.push(format!("--{flag}={value}").into());
                self.names.push(flag);
            }
            (Some(name), _) => {
                self.variables.push((name, value));
                self.names.push(name);
                self.names.push("route ");
            }
            _ => {}
        }
    }
}

/// `value`, and a secret in it where there may be one.
fn with_secret(setting: &Setting, value: &str) -> String {
    let value = value.replace(SECRET, "");
    match setting.env {
        Some("ROUTE_URIS") if !value.starts_with("raw") => {
            let (adapter, rest) = value.split_once("://").unwrap_or(("syslog+tcp", &value));
            if adapter.contains([',', '?', '#', '/']) {
                return value;
            }
            format!("{adapter}://u:{SECRET}@{rest}")
        }
        Some("DOCKER_HOST") if value.starts_with("tcp://") => {
            value.replacen("//", "//u:hunter2@", 1)
        }
        _ if setting.secret && setting.env != Some("ROUTE_URIS") => format!("{value}{SECRET}"),
        _ => value,
    }
}

fn taken(loaded: &Loaded) {
    let settings = &loaded.settings;
    loaded.warnings.iter().chain(&loaded.notes).for_each(|text| check_message(text));
    let within = |value: usize, (least, most): (u64, u64)| {
        assert!((least..=most).contains(&(value as u64)), "{value}");
    };
    within(settings.buffer, BUFFER_RANGE);
    within(settings.max_line, MAX_LINE_RANGE);
    assert!((1..=256).contains(&settings.shards));
    assert!(settings.drain_timeout.as_secs() <= 24 * 3600);
    assert!(!settings.routes.is_empty());
    for (route, id) in settings.routes.iter().zip(0..) {
        assert_eq!(route.id, format!("{id}"));
        assert!(!display(route).contains(SECRET), "{}", display(route));
        within(settings.buffer_of(route).expect("it was checked"), BUFFER_RANGE);
        let pattern = |name| route.option(name).filter(|pattern| pattern.len() < 12);
        if let Err(error) = LineFilter::new(pattern("filter.match"), pattern("filter.exclude")) {
            check_message(&error);
        }
        // TLS reads files.
        if route.transport.as_deref() != Some("tls")
            && let Err(error) = sink::build(route, settings)
        {
            check_message(&error);
        }
    }
    let home = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    if let Err(error) = endpoint(&settings.docker, &home, &|_| false) {
        assert!(error.starts_with("DOCKER_"), "{error}");
        check_message(&error);
    }
}
