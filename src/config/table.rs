//! The one list of settings. Everything that names a setting is made from it: the arguments, the
//! `--help` text, `logchute settings` and the README's reference. Pure: text out, nothing read.
//!
//! A new setting is a row here, and the line in [`super::load`] that reads it. A default is
//! written once, here: the loader parses this very text where nothing else was given.

use std::fmt::Write as _;

/// One setting: what it is called in each place where it can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub env: Option<&'static str>,
    /// The long flag, without its dashes; only the most used settings have one.
    pub flag: Option<&'static str>,
    /// The option of a route URI, for what can be set per route.
    pub option: Option<&'static str>,
    /// What it takes.
    pub value: Value,
    /// The text that applies where nothing is given, or words that say what happens then.
    pub default: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
    /// Where the reference lists it.
    pub group: Group,
    /// The value may hold a token: it is never printed.
    pub secret: bool,
    /// The variable with `_FILE` behind its name is read too: it names a file with the value.
    pub file: Option<FileEnd>,
}

/// What becomes of the line break at the end of a file that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileEnd {
    /// One is left out: it is the editor's, not the value's.
    Dropped,
    /// It is a part of the value.
    Kept,
}

/// What stands behind a variable's name where the value is in a file, as in Docker's own images.
pub const FILE_SUFFIX: &str = "_FILE";

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, shown under this placeholder.
    Text(&'static str),
    /// `true` or `false`; a flag given without a value means `true`.
    Switch,
}

impl Value {
    /// What stands for the value in help texts.
    pub fn placeholder(self) -> &'static str {
        match self {
            Value::Text(placeholder) => placeholder,
            Value::Switch => "BOOL",
        }
    }
}

/// A chapter of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where lines go.
    Routes,
    /// How to reach the daemon.
    Docker,
    /// Which containers are followed.
    Containers,
    /// What is told of containers beside their output.
    Sources,
    /// Memory, threads, time.
    Resources,
    /// Defaults of syslog routes.
    Syslog,
    /// Defaults of Slack routes.
    Slack,
    /// Defaults of routes to other webhooks.
    Webhook,
    /// Defaults of routes that deliver in batches over HTTP.
    Batch,
    /// Defaults of routes to Fluentd and Fluent Bit.
    Fluent,
    /// Defaults of routes to Logentries or InsightOps.
    Logentries,
    /// Defaults of routes to Logstash.
    Logstash,
    /// Defaults of routes that join lines.
    Multiline,
    /// TLS to receivers.
    Tls,
    /// The HTTP listener and logchute's own log.
    Operation,
}

impl Group {
    /// Every group, in the order of the reference.
    pub const ALL: [Group; 15] = [
        Group::Routes,
        Group::Docker,
        Group::Containers,
        Group::Sources,
        Group::Resources,
        Group::Syslog,
        Group::Slack,
        Group::Webhook,
        Group::Batch,
        Group::Fluent,
        Group::Logentries,
        Group::Logstash,
        Group::Multiline,
        Group::Tls,
        Group::Operation,
    ];

    /// The chapter's heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Routes => "Routes",
            Group::Docker => "Docker daemon",
            Group::Containers => "Containers",
            Group::Sources => "Stats and events",
            Group::Resources => "Memory, threads, time",
            Group::Syslog => "Syslog",
            Group::Slack => "Slack",
            Group::Webhook => "Other webhooks, and proxies for all of them",
            Group::Batch => "HTTP batches (Sumo Logic, Loggly, Elasticsearch, http+json)",
            Group::Fluent => "Fluentd and Fluent Bit",
            Group::Logentries => "Logentries and InsightOps",
            Group::Logstash => "Logstash",
            Group::Multiline => "Joined lines (multiline+ routes)",
            Group::Tls => "TLS to receivers",
            Group::Operation => "HTTP listener and log",
        }
    }
}

impl Setting {
    const fn new(group: Group, value: Value, default: &'static str, meaning: &'static str) -> Self {
        let (env, flag, option) = (None, None, None);
        let (secret, file) = (false, None);
        Setting { env, flag, option, value, default, meaning, group, secret, file }
    }

    const fn env(mut self, name: &'static str) -> Setting {
        self.env = Some(name);
        self
    }

    const fn flag(mut self, name: &'static str) -> Setting {
        self.flag = Some(name);
        self
    }

    const fn option(mut self, name: &'static str) -> Setting {
        self.option = Some(name);
        self
    }

    const fn file(mut self, end: FileEnd) -> Setting {
        self.file = Some(end);
        self
    }

    const fn secret(mut self) -> Setting {
        self.secret = true;
        self
    }
}

/// Switches of Logspout, which knows `true` to the letter and nothing else.
pub(super) static LOGSPOUT_SWITCHES: &[&Setting] =
    &[&BACKLOG, &ALLOW_TTY, &TLS_DISABLE_SYSTEM_ROOTS, &TLS_HARDENING];

/// Names each row, so that the loader cannot misspell one, and lists them all.
macro_rules! table {
    ($($name:ident = $row:expr;)*) => {
        $(pub(super) const $name: Setting = $row;)*

        /// Every setting, in the order of the reference.
        pub static SETTINGS: &[Setting] = &[$($name),*];
    };
}

use FileEnd::{Dropped, Kept};
use Group::{
    Batch, Containers, Docker, Fluent, Logentries, Logstash, Multiline, Operation, Resources,
    Routes, Slack, Sources, Syslog, Tls, Webhook,
};
use Value::{Switch, Text};

#[rustfmt::skip] // One row is one setting: rustfmt would spread each over eight lines.
table! {
    ROUTE_URIS = Setting::new(Routes, Text("ROUTE_URI,..."), "console://",
        "routes, where none is given as an argument: a comma list; `$NAME` is expanded")
        .env("ROUTE_URIS").secret();
    FILTER_ID = Setting::new(Routes, Text("ID"), "every container",
        "only the container whose id begins so").option("filter.id");
    FILTER_NAME = Setting::new(Routes, Text("GLOB"), "every container",
        "only containers whose name matches: `*`, `?`, `[a-z]`").option("filter.name");
    FILTER_SOURCES = Setting::new(Routes, Text("SOURCE,..."), "stdout,stderr",
        "only lines of these sources: stdout, stderr, stats, events").option("filter.sources");
    FILTER_LABELS = Setting::new(Routes, Text("KEY:GLOB,..."), "every container",
        "only containers that have all these labels; a lone key asks for its presence")
        .option("filter.labels");
    FILTER_IMAGE = Setting::new(Routes, Text("GLOB"), "every container",
        "only containers whose image matches: as filter.name, `*` stops at `/`")
        .option("filter.image");
    FILTER_NAME_REGEX = Setting::new(Routes, Text("REGEX"), "every container",
        "only containers whose name, its slash before it (`^/web`), has a match")
        .option("filter.name.regex");
    FILTER_IMAGE_REGEX = Setting::new(Routes, Text("REGEX"), "every container",
        "only containers whose image has a match").option("filter.image.regex");
    FILTER_SKIP_NAME = Setting::new(Routes, Text("GLOB"), "no container",
        "not containers whose name matches; what skips wins over what selects")
        .option("filter.skip.name");
    FILTER_SKIP_IMAGE = Setting::new(Routes, Text("GLOB"), "no container",
        "not containers whose image matches").option("filter.skip.image");
    FILTER_SKIP_NAME_REGEX = Setting::new(Routes, Text("REGEX"), "no container",
        "not containers whose name, its slash before it, has a match")
        .option("filter.skip.name.regex");
    FILTER_SKIP_IMAGE_REGEX = Setting::new(Routes, Text("REGEX"), "no container",
        "not containers whose image has a match").option("filter.skip.image.regex");
    FILTER_MATCH = Setting::new(Routes, Text("REGEX"), "every line",
        "only lines that the expression matches").option("filter.match");
    FILTER_EXCLUDE = Setting::new(Routes, Text("REGEX"), "no line",
        "not the lines that the expression matches").option("filter.exclude");

    DOCKER_HOST = Setting::new(Docker, Text("URL"), "a usual socket",
        "where the daemon is: unix://PATH or tcp://HOST:PORT")
        .env("DOCKER_HOST").flag("docker-host");
    DOCKER_TLS_VERIFY = Setting::new(Docker, Text("ANY"), "no TLS",
        "any value: TLS with client certificates to a tcp:// daemon").env("DOCKER_TLS_VERIFY");
    DOCKER_CERT_PATH = Setting::new(Docker, Text("DIR"), "~/.docker",
        "where ca.pem, cert.pem and key.pem are").env("DOCKER_CERT_PATH");
    DOCKER_API_VERSION = Setting::new(Docker, Text("VERSION"), "negotiated",
        "the API version to use, such as 1.43").env("DOCKER_API_VERSION");

    BACKLOG = Setting::new(Containers, Switch, "false",
        "also send what running containers have written before")
        .env("BACKLOG").flag("backlog");
    TAIL = Setting::new(Containers, Text("LINES"), "all",
        "at most so many lines of backlog for each container").env("TAIL").flag("tail");
    ALLOW_TTY = Setting::new(Containers, Switch, "false",
        "follow containers that have a terminal (docker run -t)")
        .env("ALLOW_TTY").flag("allow-tty");
    EXCLUDE_LABELS = Setting::new(Containers, Text("KEY:VALUE;..."), "none excluded",
        "do not follow containers with one of these labels; a lone key means `KEY:true`")
        .env("EXCLUDE_LABELS");
    EXCLUDE_LABEL = Setting::new(Containers, Text("KEY:VALUE;..."), "none excluded",
        "as EXCLUDE_LABELS, read where that is not set").env("EXCLUDE_LABEL");
    LOG_DRIVERS = Setting::new(Containers, Text("NAME,..."), "json-file,local,journald,db",
        "log drivers to follow, or `all`").env("LOG_DRIVERS").flag("log-drivers");
    FOLLOW_SELF = Setting::new(Containers, Switch, "false",
        "follow logchute's own container too: beware of loops")
        .env("FOLLOW_SELF").flag("follow-self");

    STATS_INTERVAL = Setting::new(Sources, Text("TIME"), "30s",
        "a line of the source stats for each container and so long a time; 1s to 24h")
        .env("STATS_INTERVAL");
    STATS_FORMAT = Setting::new(Sources, Text("TEMPLATE"), "a short text",
        "what people are shown of it, of its members, e.g. {{.cpu_percent}}; or json")
        .env("STATS_FORMAT").option("stats.format").file(Dropped);
    EVENTS_FORMAT = Setting::new(Sources, Text("TEMPLATE"), "a short text",
        "the same for lines of the source events, e.g. {{.type}} {{.action}} {{.name}}; or json")
        .env("EVENTS_FORMAT").option("events.format").file(Dropped);

    MAX_LINE = Setting::new(Resources, Text("SIZE"), "1MiB",
        "cut longer lines into marked parts; 1KiB to 64MiB").env("MAX_LINE").flag("max-line");
    BUFFER = Setting::new(Resources, Text("SIZE"), "16MiB",
        "memory of a route; if it is full: see OVERFLOW; min 64KiB")
        .env("BUFFER").flag("buffer").option("buffer");
    OVERFLOW = Setting::new(Resources, Text("POLICY"), "block",
        "if BUFFER is full: block (read on later, from the log), drop-oldest, drop-newest")
        .env("OVERFLOW").option("overflow");
    SPOOL_DIR = Setting::new(Resources, Text("DIR"), "off",
        "lines that BUFFER has no room for wait there, in a folder for each route; or off")
        .env("SPOOL_DIR").option("spool");
    SPOOL_MAX = Setting::new(Resources, Text("SIZE"), "1GiB",
        "what each route may have there; if full, see OVERFLOW; min 1MiB")
        .env("SPOOL_MAX").option("spool.max");
    RESEND = Setting::new(Resources, Switch, "true",
        "after a lost connection, send again what its receiver's host has not acknowledged")
        .env("RESEND").option("resend");
    TIMESTAMP = Setting::new(Resources, Text("CLOCK"), "receive",
        "a line's time: receive, by our clock when it is read; daemon, by that of the daemon")
        .env("TIMESTAMP");
    READ_WAIT = Setting::new(Resources, Text("TIME"), "500us",
        "pause before a busy stream is read; 0: none; max 10ms")
        .env("READ_WAIT").flag("read-wait");
    SHARDS = Setting::new(Resources, Text("COUNT"), "auto",
        "threads that carry lines, 1 to 256; auto: one per core").env("SHARDS").flag("shards");
    IO = Setting::new(Resources, Text("DRIVER"), "auto",
        "ring (io_uring), poll (epoll), or auto: the cheaper, poll")
        .env("LOGCHUTE_IO").flag("io");
    STATE_DIR = Setting::new(Resources, Text("DIR"), "none",
        "folder that keeps how far lines are delivered, for a restart")
        .env("STATE_DIR").flag("state-dir");
    DRAIN_TIMEOUT = Setting::new(Resources, Text("TIME"), "5s",
        "how long to go on delivering after SIGTERM; 24h at most")
        .env("DRAIN_TIMEOUT").flag("drain-timeout");
    RETRY_COUNT = Setting::new(Resources, Text("COUNT"), "10",
        "accepted and checked; has no effect: reconnecting never ends").env("RETRY_COUNT");
    INACTIVITY_TIMEOUT = Setting::new(Resources, Text("TIME"), "0",
        "ask the daemon about a stream that is silent for so long, lest it hangs; 0: 1 minute")
        .env("INACTIVITY_TIMEOUT");

    RAW_FORMAT = Setting::new(Routes, Text("TEMPLATE"), "the line and a newline",
        "raw records: Go's {{.Data}}, or %{.Data}; also .Source .Time .Container .Service, toJSON")
        .env("RAW_FORMAT").option("raw.format").file(Kept);

    COLORS = Setting::new(Routes, Text("WHEN"), "auto",
        "of console: on, off, or auto: on a terminal, unless NO_COLOR is set").option("colors");

    SYSLOG_FORMAT = Setting::new(Syslog, Text("FORMAT"), "rfc5424",
        "rfc5424 or rfc3164").env("SYSLOG_FORMAT").option("syslog.format");
    SYSLOG_TCP_FRAMING = Setting::new(Syslog, Text("FRAMING"), "traditional",
        "on byte streams: traditional (newline) or octet-counted")
        .env("SYSLOG_TCP_FRAMING").option("syslog.framing");
    SYSLOG_PRECISION = Setting::new(Syslog, Text("PRECISION"),
        "seconds, as Logspout; micros over RELP",
        "TIMESTAMP in whole seconds, or with six digits behind the point: seconds or micros")
        .env("SYSLOG_PRECISION").option("syslog.precision");
    SYSLOG_STRUCTURED_DATA = Setting::new(Syslog, Text("TEXT"), "-",
        "what stands between the brackets of STRUCTURED-DATA")
        .env("SYSLOG_STRUCTURED_DATA").option("structured_data").file(Dropped).secret();
    STRUCTURED_DATA = Setting::new(Syslog, Text("TEXT"), "structured_data",
        "the same, by the name that the other options of syslog routes have")
        .option("syslog.structured_data").secret();
    SYSLOG_PRIORITY = Setting::new(Syslog, Text("TEMPLATE"), "{{.Priority}}",
        "PRI; templates: .Container .Service .Task .Node .Stack .Data .Time .Hostname ...")
        .env("SYSLOG_PRIORITY").option("syslog.priority").file(Dropped);
    SYSLOG_TIMESTAMP = Setting::new(Syslog, Text("TEMPLATE"), "{{.Timestamp}}",
        "TIMESTAMP, e.g. {{.Time.Format \"Jan _2 15:04:05\"}}")
        .env("SYSLOG_TIMESTAMP").option("syslog.timestamp").file(Dropped);
    SYSLOG_HOSTNAME = Setting::new(Syslog, Text("TEMPLATE"), "{{.Container.Config.Hostname}}",
        "HOSTNAME; the text of /etc/host_hostname wins over it")
        .env("SYSLOG_HOSTNAME").option("syslog.hostname").file(Dropped);
    SYSLOG_TAG = Setting::new(Syslog, Text("TEMPLATE"), "{{.ContainerName}}",
        "the tag, and then without append_tag")
        .env("SYSLOG_TAG").option("syslog.tag").file(Dropped);
    SYSLOG_PID = Setting::new(Syslog, Text("TEMPLATE"), "{{.Container.State.Pid}}",
        "PROCID").env("SYSLOG_PID").option("syslog.pid").file(Dropped);
    SYSLOG_DATA = Setting::new(Syslog, Text("TEMPLATE"), "{{.Data}}",
        "MSG").env("SYSLOG_DATA").option("syslog.data").file(Dropped);
    APPEND_TAG = Setting::new(Syslog, Text("TEXT"), "nothing",
        "what the tag has after the container's name").option("append_tag");

    SLACK_WEBHOOK_URL = Setting::new(Slack, Text("URL"), "/",
        "the incoming webhook: https://HOST/PATH, or its path on the route's host; never shown")
        .env("SLACK_WEBHOOK_URL").option("slack.webhook_url").file(Dropped).secret();
    SLACK_MESSAGE_FILTER = Setting::new(Slack, Text("REGEX"), "every line",
        "only lines that the expression matches, besides filter.match; empty lines never")
        .env("SLACK_MESSAGE_FILTER").option("slack.message_filter");
    SLACK_TITLE_TEMPLATE = Setting::new(Slack, Text("TEMPLATE"), "{{.Message.Container.Name}}",
        "title of a message")
        .env("SLACK_TITLE_TEMPLATE").option("slack.title_template").file(Dropped);
    SLACK_MESSAGE_TEMPLATE = Setting::new(Slack, Text("TEMPLATE"), "{{.Message.Data}}",
        "text of a message")
        .env("SLACK_MESSAGE_TEMPLATE").option("slack.message_template").file(Dropped);
    SLACK_LINK_TEMPLATE = Setting::new(Slack, Text("TEMPLATE"), "no link",
        "where the title leads")
        .env("SLACK_LINK_TEMPLATE").option("slack.link_template").file(Dropped);
    SLACK_COLOR_TEMPLATE = Setting::new(Slack, Text("TEMPLATE"), "danger",
        "colour of a message: good, warning, danger or #RRGGBB")
        .env("SLACK_COLOR_TEMPLATE").option("slack.color_template").file(Dropped);

    SLACK_BLOCKS = Setting::new(Slack, Switch, "false",
        "messages in Block Kit, which knows no colours, rather than as attachments")
        .env("SLACK_BLOCKS").option("slack.blocks");

    WEBHOOK_URL = Setting::new(Webhook, Text("URL"), "of the route",
        "where a route without a path leads: https://HOST/PATH, or a path; never shown")
        .env("WEBHOOK_URL").option("webhook.url").file(Dropped).secret();
    WEBHOOK_PRESET = Setting::new(Webhook, Text("NAME"), "json",
        "what to write: json, mattermost, discord or teams")
        .env("WEBHOOK_PRESET").option("webhook.preset");
    WEBHOOK_BODY = Setting::new(Webhook, Text("TEMPLATE"), "of the preset",
        "the body, once a message: .Text .Lines .Count .More .Message .Env, toJSON")
        .env("WEBHOOK_BODY").option("webhook.body").file(Dropped);
    WEBHOOK_HEADERS = Setting::new(Webhook, Text("NAME: VALUE"), "none",
        "further headers, one a line; never shown")
        .env("WEBHOOK_HEADERS").option("webhook.headers").file(Dropped).secret();
    WEBHOOK_METHOD = Setting::new(Webhook, Text("METHOD"), "POST",
        "POST, PUT or PATCH").env("WEBHOOK_METHOD").option("webhook.method");
    WEBHOOK_CONTENT_TYPE = Setting::new(Webhook, Text("TYPE"), "application/json",
        "the Content-Type of the body")
        .env("WEBHOOK_CONTENT_TYPE").option("webhook.content_type");
    WEBHOOK_RATE = Setting::new(Webhook, Text("RATE"), "1/s",
        "messages in the long run, such as 5/s or 30/m; what waits is put together")
        .env("WEBHOOK_RATE").option("webhook.rate");
    WEBHOOK_BURST = Setting::new(Webhook, Text("COUNT"), "5",
        "messages at once after a quiet time; 1 to 1000")
        .env("WEBHOOK_BURST").option("webhook.burst");
    WEBHOOK_TITLE_TEMPLATE = Setting::new(Webhook, Text("TEMPLATE"), "{{.Message.Container.Name}}",
        "title, of the presets mattermost, discord and teams")
        .env("WEBHOOK_TITLE_TEMPLATE").option("webhook.title_template").file(Dropped);
    WEBHOOK_MESSAGE_TEMPLATE = Setting::new(Webhook, Text("TEMPLATE"), "{{.Message.Data}}",
        "text of a line, ditto")
        .env("WEBHOOK_MESSAGE_TEMPLATE").option("webhook.message_template").file(Dropped);
    WEBHOOK_LINK_TEMPLATE = Setting::new(Webhook, Text("TEMPLATE"), "no link",
        "where the title leads, ditto")
        .env("WEBHOOK_LINK_TEMPLATE").option("webhook.link_template").file(Dropped);
    WEBHOOK_COLOR_TEMPLATE = Setting::new(Webhook, Text("TEMPLATE"), "danger",
        "good, warning or danger, ditto; not of discord")
        .env("WEBHOOK_COLOR_TEMPLATE").option("webhook.color_template").file(Dropped);
    HTTPS_PROXY = Setting::new(Webhook, Text("URL"), "none",
        "for https:// webhooks and batches: http://[USER:PASSWORD@]HOST:PORT; or https_proxy")
        .env("HTTPS_PROXY").secret();
    HTTP_PROXY = Setting::new(Webhook, Text("URL"), "none",
        "ditto for http:// ones; or http_proxy").env("HTTP_PROXY").secret();
    NO_PROXY = Setting::new(Webhook, Text("HOST,..."), "this machine",
        "hosts that are connected to directly: names, addresses, networks, `*`; or no_proxy")
        .env("NO_PROXY");

    BATCH_SIZE = Setting::new(Batch, Text("SIZE"), "1000kB",
        "bytes of a batch before it is compressed; 1KiB to 64MiB")
        .env("BATCH_SIZE").option("batch.size");
    BATCH_WAIT = Setting::new(Batch, Text("DURATION"), "1s",
        "how long a line waits for others to go with it; 60s at most")
        .env("BATCH_WAIT").option("batch.wait");
    BATCH_TIMEOUT = Setting::new(Batch, Text("DURATION"), "60s",
        "how long a receiver may take to read a batch and answer")
        .env("BATCH_TIMEOUT").option("batch.timeout");
    BATCH_GZIP = Setting::new(Batch, Switch, "true",
        "compress bodies").env("BATCH_GZIP").option("batch.gzip");
    BATCH_LABELS = Setting::new(Batch, Text("NAME,..."), "none",
        "labels of the container that each record tells; `*` for all")
        .env("BATCH_LABELS").option("batch.labels");
    JSON_URL = Setting::new(Batch, Text("URL"), "of the route",
        "where an http+json or https+json route without a path leads: URL or path; never shown")
        .env("JSON_URL").option("json.url").file(Dropped).secret();
    JSON_HEADERS = Setting::new(Batch, Text("NAME: VALUE"), "none",
        "further headers, one a line; never shown")
        .env("JSON_HEADERS").option("json.headers").file(Dropped).secret();
    JSON_FRAMING = Setting::new(Batch, Text("NAME"), "ndjson",
        "an object a line (ndjson) or an array of objects (array)")
        .env("JSON_FRAMING").option("json.framing");
    JSON_METHOD = Setting::new(Batch, Text("METHOD"), "POST",
        "POST, PUT or PATCH").env("JSON_METHOD").option("json.method");
    JSON_CONTENT_TYPE = Setting::new(Batch, Text("TYPE"), "of the framing",
        "the Content-Type of the body: application/x-ndjson or application/json, or another")
        .env("JSON_CONTENT_TYPE").option("json.content_type");
    SUMO_URL = Setting::new(Batch, Text("URL"), "of the route",
        "the address of the HTTP source, or its path on the route's host; never shown")
        .env("SUMO_URL").option("sumo.url").file(Dropped).secret();
    SUMO_FORMAT = Setting::new(Batch, Text("NAME"), "json",
        "lines as JSON objects with their container (json), or as they are (text)")
        .env("SUMO_FORMAT").option("sumo.format");
    SUMO_CATEGORY = Setting::new(Batch, Text("TEXT"), "of the source",
        "X-Sumo-Category: _sourceCategory of what the route sends")
        .env("SUMO_CATEGORY").option("sumo.category");
    SUMO_NAME = Setting::new(Batch, Text("TEXT"), "of the source",
        "X-Sumo-Name: _sourceName, ditto").env("SUMO_NAME").option("sumo.name");
    SUMO_HOST = Setting::new(Batch, Text("TEXT"), "of the source",
        "X-Sumo-Host: _sourceHost, ditto").env("SUMO_HOST").option("sumo.host");
    LOGGLY_TOKEN = Setting::new(Batch, Text("TOKEN"), "none",
        "the customer token, over syslog too; never shown")
        .env("LOGGLY_TOKEN").option("loggly.token").file(Dropped).secret();
    LOGGLY_TAGS = Setting::new(Batch, Text("TAG,..."), "logchute",
        "tags of all events, over syslog too").env("LOGGLY_TAGS").option("loggly.tags");
    LOGGLY_URL = Setting::new(Batch, Text("URL"), "of the token",
        "the whole address of another bulk endpoint, as an option of a route; never shown")
        .option("loggly.url").secret();
    ELASTICSEARCH_URL = Setting::new(Batch, Text("URL"), "of the route",
        "where the cluster is, or its path on the route's host; never shown")
        .env("ELASTICSEARCH_URL").option("elasticsearch.url").file(Dropped).secret();
    ELASTICSEARCH_INDEX = Setting::new(Batch, Text("NAME"), "logs-docker-default",
        "data stream or index; %Y %m %d %H are parts of the line's time in UTC")
        .env("ELASTICSEARCH_INDEX").option("elasticsearch.index");
    ELASTICSEARCH_API_KEY = Setting::new(Batch, Text("KEY"), "none",
        "an encoded API key; never shown")
        .env("ELASTICSEARCH_API_KEY").option("elasticsearch.api_key").file(Dropped).secret();
    ELASTICSEARCH_USER = Setting::new(Batch, Text("NAME"), "none",
        "the user, where there is no API key")
        .env("ELASTICSEARCH_USER").option("elasticsearch.user");
    ELASTICSEARCH_PASSWORD = Setting::new(Batch, Text("TEXT"), "none",
        "the user's password; never shown")
        .env("ELASTICSEARCH_PASSWORD").option("elasticsearch.password").file(Dropped).secret();

    FLUENT_TAG = Setting::new(Fluent, Text("TEMPLATE"), "the short id of the container",
        "the tag of a record, as docker.{{.ContainerName}}; at most 255 bytes")
        .env("FLUENT_TAG").option("fluent.tag").file(Dropped);
    FLUENT_LABELS = Setting::new(Fluent, Text("NAME,..."), "none",
        "labels of the container that become fields of the record; `*` for all")
        .env("FLUENT_LABELS").option("fluent.labels");
    FLUENT_ENV = Setting::new(Fluent, Text("NAME,..."), "none",
        "ditto, variables of the container's environment")
        .env("FLUENT_ENV").option("fluent.env");
    FLUENT_GZIP = Setting::new(Fluent, Switch, "false",
        "compress the records").env("FLUENT_GZIP").option("fluent.gzip");
    FLUENT_ACK = Setting::new(Fluent, Switch, "true",
        "have each message acknowledged; false: what the peer's host has counts as delivered")
        .env("FLUENT_ACK").option("fluent.ack");
    FLUENT_ACK_TIMEOUT = Setting::new(Fluent, Text("DURATION"), "90s",
        "a server that acknowledges nothing for so long is connected to anew")
        .env("FLUENT_ACK_TIMEOUT").option("fluent.ack_timeout");
    FLUENT_SHARED_KEY = Setting::new(Fluent, Text("KEY"), "none",
        "the key that the server asks for; never shown")
        .env("FLUENT_SHARED_KEY").option("fluent.shared_key").file(Dropped).secret();
    FLUENT_USERNAME = Setting::new(Fluent, Text("NAME"), "none",
        "the user, if the server asks for one as well")
        .env("FLUENT_USERNAME").option("fluent.username");
    FLUENT_PASSWORD = Setting::new(Fluent, Text("PASSWORD"), "none",
        "the user's password; never shown")
        .env("FLUENT_PASSWORD").option("fluent.password").file(Dropped).secret();
    FLUENT_SELF_HOSTNAME = Setting::new(Fluent, Text("NAME"), "of /etc/host_hostname, or logchute",
        "what logchute calls itself to a server with a shared key; not the server's own name")
        .env("FLUENT_SELF_HOSTNAME").option("fluent.self_hostname");

    LOGENTRIES_TOKEN = Setting::new(Logentries, Text("TOKEN"), "none",
        "the log of the account that records go to; never shown")
        .env("LOGENTRIES_TOKEN").option("logentries.token").file(Dropped).secret();
    LOGENTRIES_LOGSTOKEN = Setting::new(Logentries, Text("TOKEN"), "LOGENTRIES_TOKEN",
        "the same, of lines alone").env("LOGENTRIES_LOGSTOKEN")
        .option("logentries.logstoken").file(Dropped).secret();
    LOGENTRIES_STATSTOKEN = Setting::new(Logentries, Text("TOKEN"), "LOGENTRIES_TOKEN",
        "the same, of stats alone").env("LOGENTRIES_STATSTOKEN")
        .option("logentries.statstoken").file(Dropped).secret();
    LOGENTRIES_EVENTSTOKEN = Setting::new(Logentries, Text("TOKEN"), "LOGENTRIES_TOKEN",
        "the same, of events alone").env("LOGENTRIES_EVENTSTOKEN")
        .option("logentries.eventstoken").file(Dropped).secret();
    LOGENTRIES_JSON = Setting::new(Logentries, Switch, "false",
        "a line that is JSON is no text in its record, but that JSON")
        .env("LOGENTRIES_JSON").option("logentries.json");
    LOGENTRIES_ADD = Setting::new(Logentries, Text("NAME=VALUE,..."), "host=HOSTNAME",
        "further members of each record; `\\,` for a comma in one")
        .env("LOGENTRIES_ADD").option("logentries.add");
    LOGENTRIES_REGION = Setting::new(Logentries, Text("REGION"), "none",
        "where the account is: eu, us, ...; of routes that name no host")
        .env("LOGENTRIES_REGION").option("logentries.region");

    LOGSTASH_TAGS = Setting::new(Logstash, Text("TAG,..."), "none",
        "tags of each record; a container's variable of the same name wins")
        .env("LOGSTASH_TAGS").option("logstash.tags");
    LOGSTASH_FIELDS = Setting::new(Logstash, Text("NAME=VALUE,..."), "none",
        "further members of each record; a container's variable of the same name wins")
        .env("LOGSTASH_FIELDS").option("logstash.fields");
    DOCKER_LABELS = Setting::new(Logstash, Text("ANY"), "not set",
        "any value but a no: the container's labels too, in docker.labels, `_` for each dot")
        .env("DOCKER_LABELS").option("logstash.labels");
    DECODE_JSON_LOGS = Setting::new(Logstash, Switch, "true",
        "the members of a line that is a JSON object become the record's")
        .env("DECODE_JSON_LOGS").option("logstash.json");

    MULTILINE_PRESET = Setting::new(Multiline, Text("LANGUAGE"), "none",
        "join stack traces of java, python, go, dotnet, ruby or node; instead of a pattern")
        .env("MULTILINE_PRESET").option("multiline.preset");
    MULTILINE_PATTERN = Setting::new(Multiline, Text("REGEX"), r"^\s",
        "the lines that MULTILINE_MATCH speaks of")
        .env("MULTILINE_PATTERN").option("multiline.pattern");
    MULTILINE_MATCH = Setting::new(Multiline, Text("WHICH"), "nonfirst",
        "they are the first or last of a group, or all but these: first, last, nonfirst, nonlast")
        .env("MULTILINE_MATCH").option("multiline.match");
    MULTILINE_SEPARATOR = Setting::new(Multiline, Text("TEXT"), "a newline",
        "what stands between joined lines")
        .env("MULTILINE_SEPARATOR").option("multiline.separator");
    MULTILINE_FLUSH_AFTER = Setting::new(Multiline, Text("MS"), "500",
        "a group goes out so long after its first line: milliseconds, or 2s; min 1")
        .env("MULTILINE_FLUSH_AFTER").option("multiline.flush_after");
    MULTILINE_ENABLE_DEFAULT = Setting::new(Multiline, Switch, "true",
        "also for containers without a variable LOGSPOUT_MULTILINE that says true or false")
        .env("MULTILINE_ENABLE_DEFAULT").option("multiline.enable_default");
    MULTILINE_MAX_BYTES = Setting::new(Multiline, Text("SIZE"), "256KiB",
        "a longer group goes out in parts; 1KiB to 64MiB")
        .env("MULTILINE_MAX_BYTES").option("multiline.max_bytes");
    MULTILINE_MAX_LINES = Setting::new(Multiline, Text("COUNT"), "5000",
        "the same, for a group of more lines; 1 to 1000000")
        .env("MULTILINE_MAX_LINES").option("multiline.max_lines");

    TLS_DISABLE_SYSTEM_ROOTS = Setting::new(Tls, Switch, "false",
        "trust only LOGSPOUT_TLS_CA_CERTS").env("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS");
    TLS_CA_CERTS = Setting::new(Tls, Text("FILE,..."), "none",
        "PEM files with further authorities").env("LOGSPOUT_TLS_CA_CERTS");
    TLS_CLIENT_CERT = Setting::new(Tls, Text("FILE"), "none",
        "PEM file with the client certificate; needs the key too")
        .env("LOGSPOUT_TLS_CLIENT_CERT");
    TLS_CLIENT_KEY = Setting::new(Tls, Text("FILE"), "none",
        "PEM file with the client's private key").env("LOGSPOUT_TLS_CLIENT_KEY");
    TLS_HARDENING = Setting::new(Tls, Switch, "false",
        "only strong suites and curves").env("LOGSPOUT_TLS_HARDENING");

    HTTP = Setting::new(Operation, Text("ADDR:PORT"), "127.0.0.1:8080",
        "where the HTTP side listens, or `off`").flag("http");
    HTTP_BIND_ADDRESS = Setting::new(Operation, Text("ADDR"), "0.0.0.0 if a port is set",
        "the address to listen on, or `off`").env("HTTP_BIND_ADDRESS");
    PORT = Setting::new(Operation, Text("PORT"), "8080", "the port to listen on").env("PORT");
    HTTP_PORT = Setting::new(Operation, Text("PORT"), "8080",
        "as PORT, read where that is not set").env("HTTP_PORT");
    HTTP_TOKEN = Setting::new(Operation, Text("TOKEN"), "none",
        "what clients must show (`Authorization: Bearer TOKEN`) for /routes and /logs")
        .env("HTTP_TOKEN").file(Dropped).secret();
    ROUTES_API = Setting::new(Operation, Text("MODE"),
        "open on loopback or with HTTP_TOKEN, else read",
        "open, read or off: clients of /routes may change routes, only see them, or neither")
        .env("ROUTES_API");
    ROUTESPATH = Setting::new(Operation, Text("DIR"), "/mnt/routes",
        "where routes made over HTTP are kept, if there is such a directory").env("ROUTESPATH");
    LOG = Setting::new(Operation, Text("FILTER"), "info",
        "own log, on stderr: off, error, warn, info, debug, or more finely")
        .env("LOGCHUTE_LOG").flag("log");
    DEBUG = Setting::new(Operation, Text("ANY"), "not set",
        "any value: as LOGCHUTE_LOG=debug, read where that is not set").env("DEBUG");
    NO_COLOR = Setting::new(Operation, Text("ANY"), "not set",
        "any value: no colours, on a terminal either").env("NO_COLOR");
}

/// What holds for every variable with [`FILE_SUFFIX`].
const FILES: &str = "NAME_FILE is the path of a file with the value of NAME, such as a secret of \
    Docker; it is read at start, and one line break at its end is left out (not of \
    RAW_FORMAT_FILE).\n";

/// The settings of one group.
pub fn of_group(group: Group) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.group == group)
}

/// The table as text for a terminal: a line of names and default, and one of meaning.
pub fn text() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let _ = writeln!(out, "{}:", group.title());
        for setting in of_group(group) {
            let _ = writeln!(out, "  {}{}", names(setting).join(", "), default_note(setting));
            let _ = writeln!(out, "      {}", setting.meaning);
        }
        out.push('\n');
    }
    out.push_str("A flag wins over its variable; an empty variable counts as not set.\n");
    out.push_str(FILES);
    out
}

/// The table as Markdown, one table a group: the section between the README's markers.
pub fn markdown() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let _ = writeln!(out, "### {}\n", group.title());
        out.push_str("| variable | flag | URI option | value | default | meaning |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for setting in of_group(group) {
            out.push_str(&markdown_row(setting));
        }
        out.push('\n');
    }
    out.push_str(&FILES.replace("NAME_FILE", "`NAME_FILE`").replace("of NAME,", "of `NAME`,"));
    out
}

fn markdown_row(setting: &Setting) -> String {
    let code = |name: Option<&str>, dashes: &str| match name {
        Some(name) => format!("`{dashes}{name}`"),
        None => String::new(),
    };
    let mut env = code(setting.env, "");
    if setting.file.is_some() {
        env.push_str(&format!(" (`{FILE_SUFFIX}`)"));
    }
    format!(
        "| {env} | {} | {} | `{}` | {} | {} |\n",
        code(setting.flag, "--"),
        code(setting.option, ""),
        setting.value.placeholder(),
        setting.default,
        setting.meaning
    )
}

/// Each name of a setting, with its placeholder, as one would write it.
fn names(setting: &Setting) -> Vec<String> {
    let value = setting.value.placeholder();
    let forms = [
        setting.env.map(|name| format!("{name}={value}")),
        file_variable(setting).map(|name| format!("{name}=PATH")),
        setting.flag.map(|name| format!("--{name}={value}")),
        setting.option.map(|name| format!("?{name}={value}")),
    ];
    forms.into_iter().flatten().collect()
}

/// The variable that names a file with the value.
pub(super) fn file_variable(setting: &Setting) -> Option<String> {
    setting.file?;
    Some(format!("{}{FILE_SUFFIX}", setting.env?))
}

/// Whether a variable holds a secret of ours, or says where one is: in any case, for those of
/// proxies are read in lower case too.
pub(super) fn is_secret(variable: &str) -> bool {
    SETTINGS.iter().filter(|setting| setting.secret).any(|setting| {
        let names = [setting.env.map(str::to_owned), file_variable(setting)];
        names.iter().flatten().any(|name| name.eq_ignore_ascii_case(variable))
    })
}

fn default_note(setting: &Setting) -> String {
    if setting.default.is_empty() { String::new() } else { format!(" [{}]", setting.default) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const BEGIN: &str = "<!-- settings:begin -->\n";
    const END: &str = "<!-- settings:end -->";

    #[test]
    fn names_are_unique_and_every_row_has_one() {
        let mut seen = HashSet::new();
        for setting in SETTINGS {
            let names = [
                setting.env.map(str::to_string),
                setting.flag.map(|f| format!("--{f}")),
                setting.option.map(|o| format!("?{o}")),
            ];
            assert!(names.iter().any(Option::is_some), "{setting:?}");
            for name in names.into_iter().flatten() {
                assert!(seen.insert(name.clone()), "{name} is there twice");
            }
        }
    }

    #[test]
    fn cells_hold_nothing_that_breaks_a_table() {
        for setting in SETTINGS {
            for cell in [setting.default, setting.meaning, setting.value.placeholder()] {
                assert!(!cell.contains(['|', '\n', '<']), "{setting:?}");
            }
            assert!(!setting.meaning.is_empty() && setting.meaning.len() <= 90, "{setting:?}");
        }
    }

    #[test]
    fn every_group_has_rows_and_is_shown() {
        let (text, markdown) = (text(), markdown());
        for group in Group::ALL {
            assert!(of_group(group).count() > 0, "{group:?}");
            assert!(text.contains(group.title()) && markdown.contains(group.title()));
        }
        for setting in SETTINGS {
            for name in [setting.env, setting.flag, setting.option].into_iter().flatten() {
                assert!(text.contains(name) && markdown.contains(name), "{name}");
            }
        }
    }

    /// `UPDATE_EXPECT=1 cargo test` writes the section anew.
    #[test]
    fn readme_shows_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let begin = readme.find(BEGIN).expect("README.md has the begin marker") + BEGIN.len();
        let end = readme.find(END).expect("README.md has the end marker");
        let expected = format!("\n{}\n", markdown());
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let text = format!("{}{expected}{}", &readme[..begin], &readme[end..]);
            std::fs::write(path, text).unwrap();
            return;
        }
        assert!(
            readme[begin..end] == expected,
            "README.md's settings are not those of the table: run UPDATE_EXPECT=1 cargo test"
        );
    }
}
