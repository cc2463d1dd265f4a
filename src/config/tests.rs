//! From texts to settings, and what is said of texts that are wrong.

use super::cli::{self, Command, EXIT_OK};
use super::env::MapEnv;
use super::load::{Loaded, load_http};
use super::*;
use std::ffi::OsString;

fn parse(args: &[&str], env: &MapEnv) -> Result<Command, ConfigError> {
    cli::parse(std::iter::once("logchute").chain(args.iter().copied()).map(OsString::from), env)
}

fn loaded(args: &[&str], variables: &[(&str, &str)]) -> Loaded {
    match parse(args, &MapEnv::new(variables)) {
        Ok(Command::Run(loaded)) => loaded,
        other => panic!("{other:?}"),
    }
}

fn settings(args: &[&str], variables: &[(&str, &str)]) -> Settings {
    loaded(args, variables).settings
}

fn refused(args: &[&str], variables: &[(&str, &str)]) -> String {
    parse(args, &MapEnv::new(variables)).unwrap_err().to_string()
}

fn http(args: &[&str], variables: &[(&str, &str)]) -> Option<HttpSettings> {
    settings(args, variables).http
}

#[test]
fn every_default_of_the_table_is_what_is_loaded() {
    let loaded = loaded(&[], &[]);
    let settings = loaded.settings;
    assert_eq!(settings.docker, DockerSettings::default());
    assert_eq!(
        settings.follow,
        FollowSettings {
            allow_tty: false,
            backlog: false,
            tail: None,
            exclude_labels: Vec::new(),
            log_drivers: Some(["json-file", "local", "journald", "db"].map(String::from).into()),
            follow_self: false,
        }
    );
    assert_eq!(settings.routes.len(), 1);
    assert_eq!((&*settings.routes[0].id, &*settings.routes[0].adapter), ("0", "console"));
    assert_eq!(settings.syslog, SyslogSettings::default());
    assert_eq!(settings.tls, TlsSettings::default());
    assert_eq!((settings.buffer, settings.max_line), (16 << 20, 1 << 20));
    assert!((1..=256).contains(&settings.shards));
    assert_eq!(settings.io, IoChoice::Auto);
    let address = "127.0.0.1:8080".parse().unwrap();
    assert_eq!(settings.http, Some(HttpSettings { address, asked: false }));
    assert_eq!(settings.drain_timeout, Duration::from_secs(5));
    assert_eq!(settings.read_wait, Duration::from_micros(500));
    assert_eq!((&*loaded.log.filter, loaded.log.color), ("info", true));
    assert!(loaded.warnings.is_empty() && loaded.notes.is_empty());
}

#[test]
fn flags_win_over_variables_and_empty_is_not_set() {
    let env = [("BUFFER", "1MiB"), ("TAIL", ""), ("SHARDS", "3"), ("BACKLOG", "true")];
    let settings = settings(&["--buffer", "2MiB", "--tail=7", "--shards="], &env);
    assert_eq!((settings.buffer, settings.follow.tail, settings.shards), (2 << 20, Some(7), 3));
    assert!(settings.follow.backlog);
}

#[test]
fn switches_need_no_value() {
    let on = settings(&["--backlog", "--allow-tty", "raw://a:1", "--follow-self"], &[]);
    assert!(on.follow.backlog && on.follow.allow_tty && on.follow.follow_self);
    assert_eq!(on.routes[0].adapter, "raw");
    let off = settings(&["--backlog=false"], &[("BACKLOG", "true")]);
    assert!(!off.follow.backlog);
}

#[test]
fn docker() {
    let env = [
        ("DOCKER_HOST", "tcp://d:2376"),
        ("DOCKER_TLS_VERIFY", "0"),
        ("DOCKER_CERT_PATH", "/certs"),
        ("DOCKER_API_VERSION", "v1.41"),
    ];
    let docker = settings(&["--docker-host", "unix:///x"], &env).docker;
    assert_eq!(docker.host.as_deref(), Some("unix:///x"));
    assert!(docker.tls_verify);
    assert_eq!(docker.cert_path, Some(PathBuf::from("/certs")));
    assert_eq!(docker.api_version.as_deref(), Some("1.41"));
}

#[test]
fn exclude_labels_as_documented() {
    let labels = |variables: &[(&str, &str)]| -> Vec<(String, String)> {
        let labels = settings(&[], variables).follow.exclude_labels;
        labels.into_iter().map(|label| (label.key, label.value)).collect()
    };
    let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
    assert_eq!(
        labels(&[("EXCLUDE_LABELS", "one; url:http:80;two:;;three:x y")]),
        [pair("one", "true"), pair("url", "http:80"), pair("two", ""), pair("three", "x y")]
    );
    assert_eq!(labels(&[("EXCLUDE_LABEL", "quiet")]), [pair("quiet", "true")]);
    let both = [("EXCLUDE_LABEL", "two:x"), ("EXCLUDE_LABELS", "one:x")];
    assert_eq!(labels(&both), [pair("one", "x")]);
}

#[test]
fn log_drivers() {
    let drivers = |text| settings(&["--log-drivers", text], &[]).follow.log_drivers;
    assert_eq!(drivers("all"), None);
    assert_eq!(drivers("local, none"), Some(vec!["local".to_string(), "none".to_string()]));
}

#[test]
fn routes_in_order() {
    let env = [("ROUTE_URIS", "raw://env:1"), ("HOST", "h:9")];
    let ids_and_addresses = |args: &[&str]| -> Vec<(String, String)> {
        settings(args, &env).routes.into_iter().map(|route| (route.id, route.address)).collect()
    };
    let pair = |id: &str, address: &str| (id.to_string(), address.to_string());
    assert_eq!(ids_and_addresses(&[]), [pair("0", "env:1")]);
    assert_eq!(ids_and_addresses(&["", " "]), [pair("0", "env:1")]);
    assert_eq!(
        ids_and_addresses(&["raw://a:1,raw://b:2", "raw://$HOST"]),
        [pair("0", "a:1"), pair("1", "b:2"), pair("2", "h:9")]
    );
    assert!(refused(&["--", ","], &[]).starts_with("ROUTE_URI: holds no route"));
    assert!(refused(&[], &[("ROUTE_URIS", "nonsense")]).starts_with("ROUTE_URIS: "));
}

#[test]
fn a_spool_is_a_folder_and_a_size_for_all_routes_or_one() {
    let env = [("SPOOL_DIR", "/var/spool/logchute"), ("SPOOL_MAX", "2GiB")];
    let routes = ["raw://a:1", "raw://b:2?spool=/other&spool.max=1MiB", "raw://c:3?spool=off"];
    let settings = settings(&routes, &env);
    let of = |index: usize| settings.spool_of(&settings.routes[index]).unwrap();
    assert_eq!(of(0), Some(("/var/spool/logchute".into(), 2 << 30)));
    assert_eq!(of(1), Some(("/other".into(), 1 << 20)));
    assert_eq!(of(2), None);
    let error = refused(&["raw://a:1?spool=here"], &[]);
    assert!(error.starts_with("route 0: spool=\"here\" is no absolute path; write /"), "{error}");
    let error = refused(&["raw://a:1?spool.max=1k"], &[]);
    assert_eq!(error, "route 0: spool.max=\"1k\" is too small; write at least 1MiB");
    let error = refused(&["raw://a:1"], &[("SPOOL_DIR", "here")]);
    assert!(error.starts_with("SPOOL_DIR: \"here\" is no absolute path"), "{error}");
}

#[test]
fn options_of_routes() {
    let route = "raw://a:1?buffer=64k&append_tag=x&fliter.name=y";
    let loaded = loaded(&[route, "raw://b:2"], &[("BUFFER", "1m")]);
    let of = |index: usize| loaded.settings.buffer_of(&loaded.settings.routes[index]);
    assert_eq!((of(0), of(1)), (Ok(64 << 10), Ok(1 << 20)));
    assert_eq!(loaded.settings.resend_of(&loaded.settings.routes[0]), Ok(true));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("fliter.name") && !loaded.warnings[0].contains("=y"));
    let error = refused(&["raw://a:1", "raw://b:2?buffer=1k"], &[]);
    assert_eq!(error, "route 1: buffer=\"1k\" is too small; write at least 64KiB");
    let error = refused(&["raw://a:1?resend=maybe"], &[]);
    assert_eq!(error, "route 0: resend=\"maybe\" is neither true nor false; write true or false");
    let settings = settings(&["raw://a:1", "raw://b:2?resend=on"], &[("RESEND", "off")]);
    let of = |index: usize| settings.resend_of(&settings.routes[index]);
    assert_eq!((of(0), of(1)), (Ok(false), Ok(true)));
}

#[test]
fn syslog() {
    let env = [
        ("SYSLOG_FORMAT", "rfc3164"),
        ("SYSLOG_TCP_FRAMING", "octet-counted"),
        ("SYSLOG_STRUCTURED_DATA", "a@1 t=\"x\""),
        ("SYSLOG_TAG", "{{.ContainerName}}"),
    ];
    let syslog = settings(&[], &env).syslog;
    assert_eq!(syslog.format, SyslogFormat::Rfc3164);
    assert_eq!(syslog.framing, Framing::OctetCounted);
    assert_eq!(syslog.structured_data, "a@1 t=\"x\"");
    assert_eq!(
        (syslog.template("tag"), syslog.template("pid")),
        (Some("{{.ContainerName}}"), None)
    );
    assert_eq!(settings(&[], &[("SYSLOG_STRUCTURED_DATA", "-")]).syslog.structured_data, "");
}

#[test]
fn host_hostname() {
    let name = |bytes: &[u8]| {
        let env = MapEnv::new(&[]).with_host_hostname(bytes);
        parse(&[], &env).map(|command| match command {
            Command::Run(loaded) => loaded.settings.syslog.host_hostname,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(name(b"node-1\r\n"), Ok(Some("node-1".to_string())));
    assert_eq!(name(b""), Ok(None));
    assert_eq!(name(b" \n"), Ok(None));
    for bytes in [&b"a\nb\n"[..], b"\xff"] {
        assert!(name(bytes).unwrap_err().to_string().starts_with("/etc/host_hostname: "));
    }
}

/// `NAME_FILE` names a file with the value of `NAME`.
#[test]
fn values_from_files() {
    let load = |variables: &[(&str, &str)], text: &[u8]| {
        let env = MapEnv::new(variables).with_file("/run/x", text);
        parse(&[], &env).map(|command| match command {
            Command::Run(loaded) => loaded.settings,
            other => panic!("{other:?}"),
        })
    };
    for setting in table::SETTINGS {
        let Some(variable) = table::file_variable(setting) else { continue };
        let error = load(&[(&variable, "/run/y")], b"").unwrap_err().to_string();
        let expected = format!("{variable}: \"/run/y\" cannot be read (there is no such file); ");
        assert!(error.starts_with(&expected), "{error}");
        let error = load(&[(&variable, "/run/x")], b"\xff").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable}: \"/run/x\" is not UTF-8")), "{error}");
        let name = setting.env.unwrap();
        let error = load(&[(&variable, "/run/x"), (name, "sEcReT")], b"x").unwrap_err();
        let expected = format!("{name} and {variable} are both set; unset one of them");
        assert_eq!(error.to_string(), expected);
    }
    let url = |text: &[u8]| {
        load(&[("SLACK_WEBHOOK_URL_FILE", "/run/x")], text).unwrap().slack.webhook_url
    };
    for text in [&b"https://h/x"[..], b"https://h/x\n", b"https://h/x\r\n"] {
        assert_eq!(url(text).as_deref(), Some("https://h/x"));
    }
    assert_eq!(url(b"\n"), None);
    let template = load(&[("SYSLOG_DATA_FILE", "/run/x")], b"{{.Data}}\n\n").unwrap();
    assert_eq!(template.syslog.template("data"), Some("{{.Data}}\n"));
    // There the line break ends a record.
    let raw = load(&[("RAW_FORMAT_FILE", "/run/x")], b"{{.Data}}\n").unwrap();
    assert_eq!(raw.raw_format.as_deref(), Some("{{.Data}}\n"));
}

#[test]
fn proxies_of_either_spelling() {
    let proxy = |variables: &[(&str, &str)]| settings(&[], variables).proxy;
    let both = proxy(&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:1")]);
    assert_eq!(both.https.as_deref(), Some("http://b:1"));
    let lower = proxy(&[("http_proxy", "http://u:sEcReT@a:1"), ("no_proxy", "x")]);
    assert_eq!((lower.http.is_some(), &*lower.except), (true, "x"));
    assert!(!format!("{lower:?}").contains("sEcReT"));
}

#[test]
fn a_webhooks_path_and_headers_are_in_no_text() {
    let env = [("WEBHOOK_HEADERS", "A: sEcReT"), ("WEBHOOK_URL", "/sEcReT")];
    let route = "webhook+https://h:1/sEcReT?webhook.preset=teams&webhook.headers=A: sEcReT&sig=1";
    let loaded = loaded(&[route], &env);
    assert!(!format!("{:?}", loaded.settings.webhook).contains("sEcReT"));
    let spec = &loaded.settings.routes[0];
    assert_eq!((&*spec.address, spec.option("webhook.url")), ("h:1", Some("/sEcReT")));
    let shown = crate::route::uri::display(spec);
    assert!(shown.contains("webhook.preset=teams") && !shown.contains("sEcReT"), "{shown}");
    let warnings = loaded.warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("\"sig\""), "{warnings:?}");
    assert!(warnings[0].ends_with("a query of the webhook's own belongs into WEBHOOK_URL"));
    // However a route came about.
    let mut spec = spec.clone();
    spec.address = "h:1/sEcReT".to_string();
    assert!(crate::route::uri::display(&spec).starts_with("webhook+https://h:1/***?"));
    let error = refused(&["webhook+https://u:sEcReT@h/x"], &[]);
    assert!(error.contains("give it as WEBHOOK_HEADERS") && !error.contains("sEcReT"), "{error}");
}

#[test]
fn what_is_secret_of_receivers_of_batches_is_in_no_text() {
    let env = [
        ("JSON_HEADERS", "A: sEcReT"),
        ("SUMO_URL", "https://h/sEcReT"),
        ("LOGGLY_TOKEN", "sEcReT"),
        ("ELASTICSEARCH_API_KEY", "sEcReT"),
        ("ELASTICSEARCH_PASSWORD", "sEcReT"),
    ];
    for (route, option) in [
        ("http+json://h:1/sEcReT?json.headers=A: sEcReT&batch.wait=2s", "json.url"),
        ("https+json://h:1/sEcReT?json.method=PUT&batch.wait=2s", "json.url"),
        ("multiline+sumo+https://h:1/sEcReT?sumo.category=c&batch.wait=2s", "sumo.url"),
        ("loggly+https://h:1/sEcReT?loggly.token=sEcReT&batch.wait=2s", "loggly.url"),
        (
            "elasticsearch+http://h:1/sEcReT?elasticsearch.api_key=sEcReT&\
             elasticsearch.password=sEcReT&batch.wait=2s",
            "elasticsearch.url",
        ),
    ] {
        let loaded = loaded(&[route], &env);
        assert!(!format!("{:?}", loaded.settings.batch).contains("sEcReT"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
        let mut spec = loaded.settings.routes[0].clone();
        assert_eq!((&*spec.address, spec.option(option)), ("h:1", Some("/sEcReT")));
        let shown = crate::route::uri::display(&spec);
        assert!(shown.contains("batch.wait=2s") && !shown.contains("sEcReT"), "{shown}");
        spec.address = "h:1/sEcReT".to_string();
        assert!(!crate::route::uri::display(&spec).contains("sEcReT"));
        let shown = crate::route::json::Definition::of(&spec, "0").shown(true).to_json();
        assert!(shown.contains("***") && !shown.contains("sEcReT"), "{shown}");
    }
    for route in ["sumo+https://u:sEcReT@h/x", "elasticsearch+http://sEcReT@h"] {
        let error = refused(&[route], &[]);
        assert!(error.contains("has a user before its host; "), "{error}");
        assert!(!error.contains("sEcReT"), "{error}");
    }
}

/// What templates show of the environment.
#[test]
fn our_own_secrets_are_not_in_the_environment() {
    let secrets = [
        ("HTTP_TOKEN", "sEcReT"),
        ("ROUTE_URIS", "slack://h?slack.webhook_url=/sEcReT"),
        ("WEBHOOK_URL_FILE", "/sEcReT"),
        ("WEBHOOK_HEADERS", "A: sEcReT"),
        ("https_proxy", "http://u:sEcReT@h"),
        ("HTTP_PROXY", "http://u:sEcReT@h"),
    ];
    let others = [("SUBDOMAIN", "a=b"), ("SLACK_BLOCKS", "true"), ("MY_TOKEN_2", "x")];
    let env = MapEnv::new(&[&secrets[..], &others].concat()).with_file("/sEcReT", b"/sEcReT");
    let Ok(Command::Run(loaded)) = parse(&[], &env) else { panic!("refused") };
    let expected = others.map(|(name, value)| (name.to_string(), value.to_string()));
    assert_eq!(loaded.settings.slack.environment, expected.into());
}

#[test]
fn options_that_nothing_reads_are_said() {
    let warnings = |route: &str| loaded(&[route], &[]).warnings;
    assert!(warnings("console://?colors=on").is_empty());
    assert!(warnings("multiline+console://?multiline.preset=go").is_empty());
    assert!(warnings("syslog://h:1?syslog.structured_data=x").is_empty());
    let said = |route: &str| {
        let warnings = warnings(route);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings[0].clone()
    };
    assert!(said("console://?multiline.preset=go").ends_with("write multiline+console"));
    for route in ["console://?multiline.prset=go", "multiline+console://?multiline.prset=go"] {
        let said = said(route);
        assert!(said.contains("option \"multiline.prset\" is not known"), "{said}");
    }
}

#[test]
fn tls() {
    let env = [
        ("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true"),
        ("LOGSPOUT_TLS_CA_CERTS", "/a.pem, /b.pem,"),
        ("LOGSPOUT_TLS_CLIENT_CERT", "/c.pem"),
        ("LOGSPOUT_TLS_CLIENT_KEY", "/k.pem"),
        ("LOGSPOUT_TLS_HARDENING", "true"),
    ];
    let tls = settings(&[], &env).tls;
    assert!(tls.disable_system_roots && tls.hardening);
    assert_eq!(tls.ca_certs, [PathBuf::from("/a.pem"), PathBuf::from("/b.pem")]);
    assert_eq!(tls.client_cert, Some(PathBuf::from("/c.pem")));
    assert_eq!(tls.client_key, Some(PathBuf::from("/k.pem")));
}

#[test]
fn http_listener() {
    let at = |text: &str| Some(HttpSettings { address: text.parse().unwrap(), asked: true });
    assert_eq!(http(&["--http", "[::1]:9"], &[("PORT", "junk")]), at("[::1]:9"));
    assert_eq!(http(&["--http", "localhost:9"], &[]), at("127.0.0.1:9"));
    assert_eq!(http(&["--http=off"], &[("PORT", "80")]), None);
    assert_eq!(http(&[], &[("HTTP_BIND_ADDRESS", "off"), ("PORT", "80")]), None);
    assert_eq!(http(&[], &[("PORT", "80"), ("HTTP_PORT", "81")]), at("0.0.0.0:80"));
    assert_eq!(http(&[], &[("HTTP_PORT", "81")]), at("0.0.0.0:81"));
    assert_eq!(http(&[], &[("HTTP_BIND_ADDRESS", "::1")]), at("[::1]:8080"));
    let both = [("HTTP_BIND_ADDRESS", "127.0.0.1"), ("PORT", "80")];
    assert_eq!(http(&[], &both), at("127.0.0.1:80"));
    // `health` reads these alone: what else is wrong is for the program itself to say.
    let env = MapEnv::new(&[("PORT", "82"), ("BUFFER", "junk")]);
    assert_eq!(load_http(&cli::CliArgs::default(), &env), Ok(at("0.0.0.0:82")));
}

#[test]
fn logging() {
    assert_eq!(loaded(&[], &[("DEBUG", "0")]).log.filter, "info,logchute=debug");
    let both = [("DEBUG", "1"), ("LOGCHUTE_LOG", "warn,logchute::route=trace")];
    assert_eq!(loaded(&[], &both).log.filter, "warn,logchute::route=trace");
    assert_eq!(loaded(&["--log", "error"], &both).log.filter, "error");
    assert!(!loaded(&[], &[("NO_COLOR", "1")]).log.color);
}

#[test]
fn what_clients_may_do() {
    let api = loaded(&[], &[]).settings.api;
    assert_eq!((api.token, api.routes, api.routes_path_given), (None, None, false));
    assert_eq!(api.routes_path, std::path::Path::new("/mnt/routes"));
    let variables = [("HTTP_TOKEN", "sEcReT"), ("ROUTES_API", "Off"), ("ROUTESPATH", "/r")];
    let loaded = loaded(&[], &variables);
    let api = &loaded.settings.api;
    assert_eq!(api.token.as_ref().map(Token::reveal), Some("sEcReT"));
    assert_eq!((api.routes, api.routes_path_given), (Some(RoutesApi::Off), true));
    assert!(!format!("{loaded:?}").contains("sEcReT"));
    assert!(
        refused(&[], &[("HTTP_TOKEN", "a b")]).starts_with("HTTP_TOKEN: the value has a space")
    );
}

#[test]
fn what_has_no_effect_is_said() {
    assert_eq!(loaded(&[], &[("RETRY_COUNT", "3")]).notes.len(), 1);
}

#[test]
fn a_silent_stream_is_asked_about_after_a_minute_or_as_is_asked_for() {
    let silence = |given| settings(&[], &[("INACTIVITY_TIMEOUT", given)]).silence;
    let seconds = ["0", "5m", "1ns"].map(|given| silence(given).as_secs_f64());
    assert_eq!(seconds, [60.0, 300.0, 0.1]);
}

/// Compose passes the quotes of `- NAME="value"` on.
#[test]
fn a_filter_in_quotes_is_said() {
    let url = ("SLACK_WEBHOOK_URL", "/x");
    let warnings =
        |filter| loaded(&["slack://h"], &[url, ("SLACK_MESSAGE_FILTER", filter)]).warnings;
    for (filter, quote) in [("\".*error\"", "with \","), ("'error'", "with ',")] {
        let warnings = warnings(filter);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("SLACK_MESSAGE_FILTER: begins and ends"), "{warnings:?}");
        assert!(warnings[0].contains(quote), "{warnings:?}");
    }
    for filter in [".*error", "\"", "say \"no\"", "\"a\"|b"] {
        assert!(warnings(filter).is_empty(), "{filter}");
    }
    let route = "slack://h?slack.message_filter=%22error%22";
    let warnings = loaded(&[route], &[url]).warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("route 0: "), "{warnings:?}");
    let warnings = loaded(&["slack://h"], &[]).warnings;
    assert!(warnings[0].contains("SLACK_WEBHOOK_URL is not set"), "{warnings:?}");
}

#[test]
fn the_webhook_is_in_no_text() {
    let variables = [("SLACK_WEBHOOK_URL", "https://h/sEcReT")];
    let loaded = loaded(&["slack://h?slack.webhook_url=/sEcReT"], &variables);
    assert_eq!(loaded.settings.slack.webhook_url.as_deref(), Some("https://h/sEcReT"));
    assert!(!format!("{:?}", loaded.settings.slack).contains("sEcReT"));
    let route = crate::route::uri::display(&loaded.settings.routes[0]);
    assert!(route.contains("slack.webhook_url=***"), "{route}");
}

/// What Logspout takes, but for something else than its writer meant.
#[test]
fn logspout_readings_are_kept_and_said() {
    for (name, value) in [("BACKLOG", "TRUE"), ("ALLOW_TTY", "1"), ("TAIL", "lots")] {
        let loaded = loaded(&[], &[(name, value)]);
        assert_eq!(loaded.settings.follow, settings(&[], &[]).follow, "{name}={value}");
        assert!(loaded.warnings[0].starts_with(name), "{:?}", loaded.warnings);
    }
}

/// Each kind of bad value: one line with the setting, the value and what to write.
#[test]
fn bad_values_are_named() {
    for (name, value, fix) in [
        ("BACKLOG", "perhaps", "write true or false"),
        ("FOLLOW_SELF", "2", "write true or false"),
        ("FOLLOW_SELF", "t", "write true or false"),
        ("EXCLUDE_LABELS", ":x", "write KEY or KEY:VALUE"),
        ("LOG_DRIVERS", ",", "write e.g. json-file"),
        ("MAX_LINE", "1", "at least 1KiB"),
        ("MAX_LINE", "65MiB", "at most 64MiB"),
        ("BUFFER", "12 apples", "write e.g. 16MiB"),
        ("BUFFER", "1k", "at least 64KiB"),
        ("BUFFER", "1000g", "at most 64GiB"),
        ("SHARDS", "0", "write auto or 1 to 256"),
        ("SHARDS", "257", "write auto or 1 to 256"),
        ("LOGCHUTE_IO", "uring", "write ring, poll or auto"),
        ("DRAIN_TIMEOUT", "soon", "write e.g. 5s"),
        ("DRAIN_TIMEOUT", "25h", "at most 24h"),
        ("READ_WAIT", "often", "write e.g. 500us, at most 10ms"),
        ("READ_WAIT", "11ms", "at most 10ms, or 0 for none"),
        ("STATS_INTERVAL", "often", "write e.g. 5s"),
        ("STATS_INTERVAL", "500ms", "at least 1s"),
        ("RETRY_COUNT", "ten", "number"),
        ("INACTIVITY_TIMEOUT", "often", "write e.g. 5s"),
        ("DOCKER_API_VERSION", "latest", "write e.g. 1.43"),
        ("DOCKER_API_VERSION", "99999999999.1", "write e.g. 1.43"),
        ("SYSLOG_FORMAT", "rfc9999", "write rfc5424 or rfc3164"),
        ("SYSLOG_TCP_FRAMING", "odd", "write traditional or octet-counted"),
        ("SYSLOG_PRECISION", "fine", "write seconds or micros"),
        ("TIMESTAMP", "mine", "write receive or daemon"),
        ("LOGSPOUT_TLS_HARDENING", "very", "write true or false"),
        ("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "x", "write true or false"),
        ("HTTP_BIND_ADDRESS", "eth0", "write e.g. 0.0.0.0"),
        ("ROUTES_API", "all", "write open, read or off"),
        ("PORT", "http", "from 0 to 65535"),
        ("HTTP_PORT", "65536", "from 0 to 65535"),
        ("LOGCHUTE_LOG", "verbose", "write e.g. warn"),
        ("LOGCHUTE_LOG", "a=b=c", "write e.g. warn"),
        ("BUFFER", "1\n2", "write e.g. 16MiB"),
    ] {
        let error = refused(&[], &[(name, value)]);
        assert!(error.starts_with(&format!("{name}: {value:?} ")), "{error}");
        assert!(error.contains(fix) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let error = refused(&[], &[("SYSLOG_STRUCTURED_DATA", "TOKEN\n")]);
    assert!(error.starts_with("SYSLOG_STRUCTURED_DATA: the value has a control"), "{error}");
    assert!(!error.contains("TOKEN"), "{error}");
}

#[test]
fn long_values_are_shown_in_part() {
    let error = refused(&["--buffer", &"\u{e9}".repeat(5000)], &[]);
    assert!(error.starts_with("--buffer: \"\u{e9}") && error.len() < 400, "{error}");
}

#[test]
fn bad_command_lines_are_one_line() {
    for (args, expected) in [
        (&["--bufer", "1m"][..], "--bufer: is not an option; did you mean --buffer?"),
        (&["-x"], "-x: is not an option; see logchute --help"),
        (&["--buffer"], "--buffer <SIZE>: lacks its value; see logchute --help"),
        (&["--tail", "1", "--tail", "2"], "--tail <LINES>: is there twice; see logchute --help"),
        (&["health", "raw://a:1"], "health: takes no route; leave out what follows it"),
        (&["settings", "x"], "settings: takes no route; leave out what follows it"),
        (&["health", "--http", "off"], "health: the HTTP listener is switched off; give --http"),
        (&["--http", ":80"], "--http: \":80\" is not an address; write e.g. 127.0.0.1:8080"),
        (&["check", "--io", "x"], "--io: \"x\" is not a driver; write ring, poll or auto"),
    ] {
        let error = refused(args, &[]);
        assert!(error.starts_with(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn commands() {
    let env = MapEnv::new(&[("PORT", "81")]);
    assert!(matches!(parse(&["check", "raw://a:1"], &env), Ok(Command::Check(_))));
    assert!(matches!(parse(&["--io", "poll", "settings"], &env), Ok(Command::Settings)));
    match parse(&["health"], &env) {
        Ok(Command::Health(http)) => assert_eq!(http.address, "0.0.0.0:81".parse().unwrap()),
        other => panic!("{other:?}"),
    }
    match parse(&["--version"], &env) {
        Ok(Command::Print { text, code }) => {
            assert_eq!((text.as_str(), code), ("logchute 0.1.0\n", EXIT_OK));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn help_fits_a_screen() {
    let Ok(Command::Print { text, code }) = parse(&["--help"], &MapEnv::default()) else {
        panic!("--help prints");
    };
    assert_eq!(code, EXIT_OK);
    assert!(text.lines().count() <= 45, "{} lines", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for setting in table::SETTINGS {
        if let Some(flag) = setting.flag {
            let starts = [format!("--{flag} "), format!("--{flag}[")];
            let named = |line: &&str| starts.iter().any(|start| line.contains(start));
            let line = text.lines().find(named).unwrap();
            assert!(line.contains(setting.meaning) && line.contains(setting.default), "{line}");
        }
    }
}
