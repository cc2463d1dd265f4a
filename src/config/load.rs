//! From the texts of the command line and the environment to [`Settings`], or to one line that
//! says what is wrong. Contacts nothing and reads no file but what [`Env`] reads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::EnvFilter;

use super::cli::CliArgs;
use super::env::{Env, HOST_HOSTNAME, MapEnv};
use super::table::{self, FileEnd, Group, Setting};
use super::{
    ApiSettings, BUFFER_RANGE, BatchSettings, ConfigError, DockerSettings, ExcludeLabel,
    FluentSettings, FollowSettings, Framing, HttpSettings, IoChoice, MAX_LINE_RANGE,
    MessageTemplates, MultilineSettings, Precision, ProxySettings, RoutesApi, SHARDS_MAX, Settings,
    SlackSettings, SyslogFormat, SyslogSettings, Timestamp, TlsSettings, Token, WebhookSettings,
    multiline, value,
};
use crate::buffer::Overflow;
use crate::docker::request::Version;
use crate::route::uri::{self, parse_routes};
use crate::route::{RouteSpec, Selector};

/// The outcome of a load that found nothing wrong.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program was told to do.
    pub settings: Settings,
    /// How it talks about itself.
    pub log: LogSettings,
    /// What the user should know: settings that were given and have no effect.
    pub warnings: Vec<String>,
    /// The same, where the lack of effect is harmless.
    pub notes: Vec<String>,
}

/// logchute's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// A filter in the syntax of tracing-subscriber's `EnvFilter`, known to be valid.
    pub filter: String,
    /// `NO_COLOR` is not set.
    pub color: bool,
}

/// Reads every setting.
pub fn load(cli: &CliArgs, env: &dyn Env) -> Result<Loaded, ConfigError> {
    let reader = Reader { cli, env };
    let (max_line_least, max_line_most) = MAX_LINE_RANGE;
    let (buffer_least, buffer_most) = BUFFER_RANGE;
    let routes = reader.routes()?;
    let settings = Settings {
        docker: reader.docker()?,
        follow: reader.follow()?,
        routes_given: routes.is_some(),
        routes: routes.unwrap_or_else(|| vec![console_route()]),
        raw_format: reader.text(&table::RAW_FORMAT)?,
        syslog: reader.syslog()?,
        slack: reader.slack()?,
        webhook: reader.webhook()?,
        batch: reader.batch()?,
        fluent: reader.fluent()?,
        proxy: reader.proxy()?,
        multiline: reader.multiline()?,
        tls: reader.tls()?,
        buffer: reader
            .value(&table::BUFFER, |text| value::size_within(text, buffer_least, buffer_most))?,
        max_line: reader.value(&table::MAX_LINE, |text| {
            value::size_within(text, max_line_least, max_line_most)
        })?,
        overflow: reader.value(&table::OVERFLOW, str::parse::<Overflow>)?,
        spool_dir: reader.value(&table::SPOOL_DIR, super::spool_dir)?,
        spool_max: reader.value(&table::SPOOL_MAX, super::spool_max)?,
        resend: reader.value(&table::RESEND, value::boolean)?,
        timestamp: reader.value(&table::TIMESTAMP, str::parse::<Timestamp>)?,
        silence: reader.value(&table::INACTIVITY_TIMEOUT, value::duration).map(silence)?,
        read_wait: reader.value(&table::READ_WAIT, read_wait)?,
        stats_interval: reader.value(&table::STATS_INTERVAL, stats_interval)?,
        stats_format: reader.text(&table::STATS_FORMAT)?,
        events_format: reader.text(&table::EVENTS_FORMAT)?,
        shards: reader.value(&table::SHARDS, shards)?,
        io: reader.value(&table::IO, str::parse::<IoChoice>)?,
        http: reader.http()?,
        api: reader.api()?,
        state_dir: reader.text(&table::STATE_DIR)?.map(PathBuf::from),
        drain_timeout: reader.value(&table::DRAIN_TIMEOUT, value::duration)?,
    };
    for route in &settings.routes {
        settings.buffer_of(route)?;
        settings.resend_of(route)?;
        settings.spool_of(route)?;
        settings.overflow_of(route)?;
        settings.multiline_of(route)?;
    }
    let mut warnings = reader.misread()?;
    warnings.extend(settings.routes.iter().flat_map(unknown_options));
    for route in settings.routes.iter().filter(|route| route.sink() == "slack") {
        if settings.slack.webhook_url.is_none() && route.given("slack.webhook_url").is_none() {
            warnings.push(format!(
                "route {}: SLACK_WEBHOOK_URL is not set, so messages go to https://{}/; set it to \
                 the URL of an incoming webhook, or to its path",
                route.id, route.address
            ));
        }
        let filter = route.given("slack.message_filter").unwrap_or_default();
        warnings.extend(quoted(&format!("route {}: slack.message_filter", route.id), filter));
    }
    Ok(Loaded { settings, log: reader.log()?, warnings, notes: reader.notes()? })
}

impl Default for Settings {
    /// What holds where nothing is given.
    fn default() -> Settings {
        let loaded = load(&CliArgs::default(), &MapEnv::default());
        loaded.expect("the defaults of the table are good, which a test holds").settings
    }
}

/// Reads the settings of the HTTP listener alone; `None` where it is switched off.
pub fn load_http(cli: &CliArgs, env: &dyn Env) -> Result<Option<HttpSettings>, ConfigError> {
    Reader { cli, env }.http()
}

/// A text that the user gave, and where.
struct Given {
    origin: String,
    text: String,
    secret: bool,
}

impl Given {
    fn parse<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        parse(&self.text).map_err(|complaint| self.error(&complaint))
    }

    /// `complaint` ends the sentence that the setting and its value begin.
    fn error(&self, complaint: &str) -> ConfigError {
        let shown = if self.secret { "the value".to_string() } else { value::shown(&self.text) };
        ConfigError::new(format!("{}: {shown} {complaint}", self.origin))
    }
}

struct Reader<'a> {
    cli: &'a CliArgs,
    env: &'a dyn Env,
}

impl Reader<'_> {
    /// What was given for `setting`: the flag wins over the variable, empty is not given.
    fn given(&self, setting: &Setting) -> Result<Option<Given>, ConfigError> {
        let secret = setting.secret;
        if let Some(flag) = setting.flag
            && let Some(text) = self.cli.flag(flag)
        {
            return Ok(Some(Given { origin: format!("--{flag}"), text: text.to_string(), secret }));
        }
        let Some(name) = setting.env else { return Ok(None) };
        let given = |text| Given { origin: name.to_string(), text, secret };
        let text = self.env.get(name)?;
        let Some(variable) = table::file_variable(setting) else { return Ok(text.map(given)) };
        let Some(path) = self.env.get(&variable)? else { return Ok(text.map(given)) };
        if text.is_some() {
            let complaint = format!("{name} and {variable} are both set; unset one of them");
            return Err(ConfigError::new(complaint));
        }
        let text = self.file(setting, &variable, &path)?;
        Ok(Some(text).filter(|text| !text.is_empty()).map(given))
    }

    /// The value that the file at `path` holds.
    fn file(&self, setting: &Setting, variable: &str, path: &str) -> Result<String, ConfigError> {
        let error = |complaint: &str| {
            let shown = value::shown(path);
            ConfigError::new(format!("{variable}: {shown} {complaint}"))
        };
        let bytes = self.env.file(path).map_err(|reason| {
            error(&format!("cannot be read ({reason}); name a file that logchute may read"))
        })?;
        let text =
            String::from_utf8(bytes).map_err(|_| error("is not UTF-8; write it in UTF-8"))?;
        if setting.file == Some(FileEnd::Kept) {
            return Ok(text);
        }
        let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        Ok(line.unwrap_or(&text).to_string())
    }

    fn is_given(&self, setting: &Setting) -> Result<bool, ConfigError> {
        Ok(self.given(setting)?.is_some())
    }

    fn text(&self, setting: &Setting) -> Result<Option<String>, ConfigError> {
        Ok(self.given(setting)?.map(|given| given.text))
    }

    /// What was given, or else the table's default, parsed.
    fn value<T>(
        &self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let given = self.given(setting)?.unwrap_or_else(|| Given {
            origin: "default".to_string(),
            text: setting.default.to_string(),
            secret: false,
        });
        given.parse(parse)
    }

    fn docker(&self) -> Result<DockerSettings, ConfigError> {
        let api_version = match self.given(&table::DOCKER_API_VERSION)? {
            Some(given) => Some(given.parse(api_version)?),
            None => None,
        };
        Ok(DockerSettings {
            host: self.text(&table::DOCKER_HOST)?,
            // go-dockerclient: any value that is not empty, `0` too.
            tls_verify: self.is_given(&table::DOCKER_TLS_VERIFY)?,
            cert_path: self.text(&table::DOCKER_CERT_PATH)?.map(PathBuf::from),
            api_version,
        })
    }

    fn follow(&self) -> Result<FollowSettings, ConfigError> {
        Ok(FollowSettings {
            allow_tty: self.value(&table::ALLOW_TTY, value::logspout_switch)?,
            backlog: self.value(&table::BACKLOG, value::logspout_switch)?,
            tail: self.value(&table::TAIL, |text| Ok(tail(text)))?,
            exclude_labels: self.exclude_labels()?,
            log_drivers: self.value(&table::LOG_DRIVERS, log_drivers)?,
            follow_self: self.value(&table::FOLLOW_SELF, value::boolean)?,
        })
    }

    /// As in Logspout, `EXCLUDE_LABEL` is read only where `EXCLUDE_LABELS` is not set.
    fn exclude_labels(&self) -> Result<Vec<ExcludeLabel>, ConfigError> {
        for setting in [&table::EXCLUDE_LABELS, &table::EXCLUDE_LABEL] {
            if let Some(given) = self.given(setting)? {
                return given.parse(exclude_labels);
            }
        }
        Ok(Vec::new())
    }

    /// Arguments win over `ROUTE_URIS`; ids count the routes in the order given. `None` if there
    /// are none.
    fn routes(&self) -> Result<Option<Vec<RouteSpec>>, ConfigError> {
        let arguments: Vec<&str> = self
            .cli
            .routes
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
            .collect();
        let from_env = if arguments.is_empty() { self.given(&table::ROUTE_URIS)? } else { None };
        let (origin, text) = match from_env {
            Some(given) => (given.origin, given.text),
            None => ("ROUTE_URI".to_string(), arguments.join(",")),
        };
        if text.is_empty() {
            return Ok(None);
        }
        let refused = RefCell::new(None);
        let lookup = |name: &str| {
            self.env.get(name).unwrap_or_else(|error| {
                refused.replace(Some(error));
                None
            })
        };
        let parsed = parse_routes(&text, &lookup);
        if let Some(error) = refused.take() {
            return Err(error);
        }
        let mut routes = parsed.map_err(|e| ConfigError::new(format!("{origin}: {e}")))?;
        if routes.is_empty() {
            return Err(ConfigError::new(format!(
                "{origin}: holds no route; write e.g. syslog+tcp://logs.example.org:514"
            )));
        }
        for (position, route) in routes.iter_mut().enumerate() {
            route.id = position.to_string();
        }
        Ok(Some(routes))
    }

    fn syslog(&self) -> Result<SyslogSettings, ConfigError> {
        let structured_data = match self.given(&table::SYSLOG_STRUCTURED_DATA)? {
            Some(given) if given.text != table::SYSLOG_STRUCTURED_DATA.default => {
                given.parse(printable)?
            }
            _ => String::new(),
        };
        let mut templates = BTreeMap::new();
        for (field, setting) in [
            ("priority", &table::SYSLOG_PRIORITY),
            ("timestamp", &table::SYSLOG_TIMESTAMP),
            ("hostname", &table::SYSLOG_HOSTNAME),
            ("tag", &table::SYSLOG_TAG),
            ("pid", &table::SYSLOG_PID),
            ("data", &table::SYSLOG_DATA),
        ] {
            templates.extend(self.text(setting)?.map(|text| (field, text)));
        }
        Ok(SyslogSettings {
            format: self.value(&table::SYSLOG_FORMAT, str::parse::<SyslogFormat>)?,
            framing: self.value(&table::SYSLOG_TCP_FRAMING, str::parse::<Framing>)?,
            precision: self
                .given(&table::SYSLOG_PRECISION)?
                .map(|given| given.parse(str::parse::<Precision>))
                .transpose()?,
            structured_data,
            templates,
            host_hostname: self.host_hostname()?,
        })
    }

    fn slack(&self) -> Result<SlackSettings, ConfigError> {
        Ok(SlackSettings {
            webhook_url: self.text(&table::SLACK_WEBHOOK_URL)?,
            message_filter: self.text(&table::SLACK_MESSAGE_FILTER)?,
            templates: MessageTemplates {
                title: self.text(&table::SLACK_TITLE_TEMPLATE)?,
                message: self.text(&table::SLACK_MESSAGE_TEMPLATE)?,
                link: self.text(&table::SLACK_LINK_TEMPLATE)?,
                color: self.text(&table::SLACK_COLOR_TEMPLATE)?,
            },
            blocks: self.value(&table::SLACK_BLOCKS, value::boolean)?,
            environment: self.environment(),
        })
    }

    /// What templates may show of the environment: whoever may make a route could have our own
    /// secrets sent to himself.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.env.all();
        environment.retain(|name, _| !table::is_secret(name));
        environment
    }

    fn webhook(&self) -> Result<WebhookSettings, ConfigError> {
        let mut given = BTreeMap::new();
        for setting in [
            &table::WEBHOOK_URL,
            &table::WEBHOOK_PRESET,
            &table::WEBHOOK_BODY,
            &table::WEBHOOK_HEADERS,
            &table::WEBHOOK_METHOD,
            &table::WEBHOOK_CONTENT_TYPE,
            &table::WEBHOOK_RATE,
            &table::WEBHOOK_BURST,
        ] {
            given.extend(setting.option.zip(self.text(setting)?));
        }
        let templates = MessageTemplates {
            title: self.text(&table::WEBHOOK_TITLE_TEMPLATE)?,
            message: self.text(&table::WEBHOOK_MESSAGE_TEMPLATE)?,
            link: self.text(&table::WEBHOOK_LINK_TEMPLATE)?,
            color: self.text(&table::WEBHOOK_COLOR_TEMPLATE)?,
        };
        Ok(WebhookSettings { given, templates })
    }

    fn batch(&self) -> Result<BatchSettings, ConfigError> {
        let mut given = BTreeMap::new();
        for group in [Group::Batch, Group::Logentries, Group::Logstash] {
            for setting in table::of_group(group) {
                given.extend(setting.option.zip(self.text(setting)?));
            }
        }
        Ok(BatchSettings { given })
    }

    fn fluent(&self) -> Result<FluentSettings, ConfigError> {
        let mut given = BTreeMap::new();
        for setting in table::of_group(table::Group::Fluent) {
            given.extend(setting.option.zip(self.text(setting)?));
        }
        Ok(FluentSettings { given })
    }

    /// As Go reads them: both spellings, the upper-case one first.
    fn proxy(&self) -> Result<ProxySettings, ConfigError> {
        let either = |setting: &Setting| match self.text(setting)? {
            Some(text) => Ok(Some(text)),
            None => self.env.get(&setting.env.unwrap_or_default().to_ascii_lowercase()),
        };
        Ok(ProxySettings {
            https: either(&table::HTTPS_PROXY)?,
            http: either(&table::HTTP_PROXY)?,
            except: either(&table::NO_PROXY)?.unwrap_or_default(),
        })
    }

    fn multiline(&self) -> Result<MultilineSettings, ConfigError> {
        let preset = self.given(&table::MULTILINE_PRESET)?;
        let mode = self.given(&table::MULTILINE_MATCH)?;
        let separator = self.text(&table::MULTILINE_SEPARATOR)?;
        Ok(MultilineSettings {
            enable_default: self.value(&table::MULTILINE_ENABLE_DEFAULT, value::go_boolean)?,
            preset: preset.map(|given| given.parse(str::parse)).transpose()?,
            pattern: self.text(&table::MULTILINE_PATTERN)?,
            mode: mode.map(|given| given.parse(multiline::mode)).transpose()?,
            flush_after: self.value(&table::MULTILINE_FLUSH_AFTER, multiline::flush_after)?,
            separator: separator.unwrap_or_else(|| "\n".to_string()),
            bytes_max: self.value(&table::MULTILINE_MAX_BYTES, multiline::bytes)?,
            lines_max: self.value(&table::MULTILINE_MAX_LINES, multiline::lines)?,
        })
    }

    fn host_hostname(&self) -> Result<Option<String>, ConfigError> {
        let Some(bytes) = self.env.host_hostname()? else { return Ok(None) };
        let error = |complaint: &str| ConfigError::new(format!("{HOST_HOSTNAME}: {complaint}"));
        let text = String::from_utf8(bytes)
            .map_err(|_| error("is not UTF-8; write the host's name there"))?;
        let name = text.trim();
        if name.chars().any(char::is_control) {
            return Err(error("has several lines; write the host's name alone"));
        }
        Ok(Some(name.to_string()).filter(|name| !name.is_empty()))
    }

    fn tls(&self) -> Result<TlsSettings, ConfigError> {
        let file = |setting| self.text(setting).map(|text| text.map(PathBuf::from));
        let (client_cert, client_key) =
            (file(&table::TLS_CLIENT_CERT)?, file(&table::TLS_CLIENT_KEY)?);
        let ca_certs = self.text(&table::TLS_CA_CERTS)?.unwrap_or_default();
        Ok(TlsSettings {
            disable_system_roots: self
                .value(&table::TLS_DISABLE_SYSTEM_ROOTS, value::logspout_switch)?,
            ca_certs: value::list(&ca_certs, ',').into_iter().map(PathBuf::from).collect(),
            client_cert,
            client_key,
            hardening: self.value(&table::TLS_HARDENING, value::logspout_switch)?,
        })
    }

    /// `--http` decides alone; else `HTTP_BIND_ADDRESS` with `PORT` or `HTTP_PORT`. Where only a
    /// port is set, the listener is on every interface, as Logspout's is.
    fn http(&self) -> Result<Option<HttpSettings>, ConfigError> {
        if let Some(given) = self.given(&table::HTTP)? {
            let address = given.parse(listen_address)?;
            return Ok(address.map(|address| HttpSettings { address, asked: true }));
        }
        let bind = match self.given(&table::HTTP_BIND_ADDRESS)? {
            Some(given) => match given.parse(bind_address)? {
                Some(ip) => Some(ip),
                None => return Ok(None),
            },
            None => None,
        };
        let mut port = None;
        for setting in [&table::HTTP_PORT, &table::PORT] {
            if let Some(given) = self.given(setting)? {
                port = Some(given.parse(port_number)?);
            }
        }
        if bind.is_none() && port.is_none() {
            let address = self.value(&table::HTTP, listen_address)?;
            return Ok(address.map(|address| HttpSettings { address, asked: false }));
        }
        let ip = bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = match port {
            Some(port) => port,
            None => self.value(&table::PORT, port_number)?,
        };
        Ok(Some(HttpSettings { address: SocketAddr::new(ip, port), asked: true }))
    }

    fn api(&self) -> Result<ApiSettings, ConfigError> {
        let token = self.given(&table::HTTP_TOKEN)?;
        let routes = self.given(&table::ROUTES_API)?;
        let path = self.text(&table::ROUTESPATH)?;
        Ok(ApiSettings {
            token: token.map(|given| given.parse(str::parse::<Token>)).transpose()?,
            routes: routes.map(|given| given.parse(str::parse::<RoutesApi>)).transpose()?,
            routes_path_given: path.is_some(),
            routes_path: path.map_or_else(|| table::ROUTESPATH.default.into(), PathBuf::from),
        })
    }

    /// `DEBUG` makes logchute talk, not the libraries under it.
    fn log(&self) -> Result<LogSettings, ConfigError> {
        let filter = match self.given(&table::LOG)? {
            Some(given) => given.parse(log_filter)?,
            None if self.is_given(&table::DEBUG)? => "info,logchute=debug".to_string(),
            None => table::LOG.default.to_string(),
        };
        Ok(LogSettings { filter, color: !self.is_given(&table::NO_COLOR)? })
    }

    /// Values that Logspout takes without a word, but not for what their writer meant.
    fn misread(&self) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for setting in table::LOGSPOUT_SWITCHES {
            let Some(given) = self.given(setting)? else { continue };
            if given.parse(value::boolean)? && !given.parse(value::logspout_switch)? {
                warnings.push(format!(
                    "{}: {} counts as false, as in Logspout; write true to the letter",
                    given.origin,
                    value::shown(&given.text)
                ));
            }
        }
        if let Some(given) = self.given(&table::SLACK_MESSAGE_FILTER)? {
            warnings.extend(quoted(&given.origin, &given.text));
        }
        if let Some(given) = self.given(&table::TAIL)?
            && tail(&given.text).is_none()
            && given.text != table::TAIL.default
        {
            let shown = value::shown(&given.text);
            warnings.push(format!(
                "{}: {shown} is no number of lines and counts as all, as in Logspout; write a \
                 number or all",
                given.origin
            ));
        }
        Ok(warnings)
    }

    /// Settings that are checked, and have nothing to act on here.
    fn notes(&self) -> Result<Vec<String>, ConfigError> {
        let mut notes = Vec::new();
        if let Some(given) = self.given(&table::RETRY_COUNT)? {
            given.parse(|text| value::number_within(text, 0, i64::MAX as u64))?;
            notes.push("RETRY_COUNT has no effect: reconnecting never ends".to_string());
        }
        Ok(notes)
    }
}

/// After how much silence a stream is asked about. Logspout's default of nothing means that it
/// leaves silent streams alone; a question a minute harms none, and less than a moment is no
/// silence.
fn silence(given: Duration) -> Duration {
    const USUAL: Duration = Duration::from_secs(60);
    const LEAST: Duration = Duration::from_millis(100);
    if given.is_zero() { USUAL } else { given.max(LEAST) }
}

/// The route of whoever gives none: every line to the terminal.
fn console_route() -> RouteSpec {
    RouteSpec {
        id: "0".to_string(),
        adapter: "console".to_string(),
        transport: None,
        address: String::new(),
        selector: Selector::default(),
        options: Vec::new(),
    }
}

/// Warnings about options of a route that nothing reads: a slip of the pen, most likely.
pub fn unknown_options(route: &RouteSpec) -> Vec<String> {
    let options = table::SETTINGS.iter().filter_map(|setting| setting.option);
    let (joining, others): (Vec<_>, Vec<_>) =
        options.partition(|option| option.starts_with("multiline."));
    let known = if route.is_multiline() { [others, joining.clone()].concat() } else { others };
    let warning = |name: String| {
        let RouteSpec { id, adapter, .. } = route;
        if joining.contains(&&*name) {
            return format!(
                "route {id}: option {name} joins no lines here; write multiline+{adapter}"
            );
        }
        let name = value::shown(&name);
        let more = match route.sink() {
            "webhook" => "; a query of the webhook's own belongs into WEBHOOK_URL",
            "http" | "https" => "; a query of the receiver's own belongs into JSON_URL",
            _ => "",
        };
        let what = "is not known and has no effect; see logchute settings";
        format!("route {id}: option {name} {what}{more}")
    };
    uri::unknown_options(route, &known).into_iter().map(warning).collect()
}

/// What to say of an expression between quotation marks: hardly anybody means them. Compose passes
/// those of a list's entry (`- NAME="value"`) on.
fn quoted(origin: &str, text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote)).then(|| {
        format!(
            "{origin}: begins and ends with {quote}, which is part of the expression here, so \
             that only lines with these quotes match; write it without them"
        )
    })
}

/// Text for the head of a record, which a control character would end.
fn printable(text: &str) -> Result<String, String> {
    match text.contains(char::is_control) {
        true => Err("has a control character; write it without".to_string()),
        false => Ok(text.to_string()),
    }
}

fn api_version(text: &str) -> Result<String, String> {
    match Version::parse(text) {
        Some(version) => Ok(version.to_string()),
        None => Err("is not an API version; write e.g. 1.43".to_string()),
    }
}

/// `None` is all of it, which is also what the daemon makes of a text that is no number.
fn tail(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn exclude_labels(text: &str) -> Result<Vec<ExcludeLabel>, String> {
    value::list(text, ';').into_iter().map(exclude_label).collect()
}

fn exclude_label(entry: &str) -> Result<ExcludeLabel, String> {
    let (key, value) = entry.split_once(':').unwrap_or((entry, "true"));
    if key.is_empty() {
        return Err("has an entry without a label; write KEY or KEY:VALUE".to_string());
    }
    Ok(ExcludeLabel { key: key.to_string(), value: value.to_string() })
}

fn log_drivers(text: &str) -> Result<Option<Vec<String>>, String> {
    let names: Vec<String> = value::list(text, ',').into_iter().map(String::from).collect();
    if names.is_empty() {
        return Err("names no log driver; write e.g. json-file,local or all".to_string());
    }
    Ok(if names.iter().any(|name| name == "all") { None } else { Some(names) })
}

/// Beyond this it would cost more in latency than it could save.
const READ_WAIT_MAX: Duration = Duration::from_millis(10);

fn read_wait(text: &str) -> Result<Duration, String> {
    value::duration(text)
        .ok()
        .filter(|&wait| wait <= READ_WAIT_MAX)
        .ok_or_else(|| "is not a wait; write e.g. 500us, at most 10ms, or 0 for none".into())
}

/// The daemon tells once a second; counts of more than a day are for others to add up.
const STATS_INTERVAL: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

fn stats_interval(text: &str) -> Result<Duration, String> {
    let interval = value::duration(text)?;
    let fix = || "is out of range; write e.g. 30s, at least 1s and at most 24h".to_owned();
    STATS_INTERVAL.contains(&interval).then_some(interval).ok_or_else(fix)
}

/// `auto`: as many as the cgroup's quota and the affinity mask leave cores.
fn shards(text: &str) -> Result<usize, String> {
    if text.eq_ignore_ascii_case("auto") {
        let most = usize::try_from(SHARDS_MAX).unwrap_or(usize::MAX);
        return Ok(std::thread::available_parallelism().map_or(1, |n| n.get().min(most)));
    }
    value::number_within(text, 1, SHARDS_MAX)
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| format!("is not a number of threads; write auto or 1 to {SHARDS_MAX}"))
}

/// `ADDR:PORT`, or `None` for `off`.
fn listen_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text.to_string(),
    };
    numeric
        .parse()
        .map(Some)
        .map_err(|_| "is not an address; write e.g. 127.0.0.1:8080, [::1]:8080 or off".to_string())
}

/// An IP address, or `None` for `off`.
fn bind_address(text: &str) -> Result<Option<IpAddr>, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Ok(None),
        "localhost" => Ok(Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        text => {
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            bare.parse()
                .map(Some)
                .map_err(|_| "is not an IP address; write e.g. 0.0.0.0, ::1 or off".to_string())
        }
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "is not a port; write a number from 0 to 65535".to_string())
}

/// A bare word that is no level would be taken for a target and silence everything else: refused.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let plausible = |part: &str| {
        part.contains(['=', '[']) || LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
    };
    let parts = value::list(text, ',');
    let valid = !parts.is_empty() && EnvFilter::builder().parse(text).is_ok();
    if !valid || !parts.into_iter().all(plausible) {
        return Err("is not a log filter; write e.g. warn, debug or info,logchute=debug".into());
    }
    Ok(text.to_string())
}
