//! The types of a container as Logspout's templates see them: go-dockerclient's names for the
//! members of the answer to `GET /containers/{id}/json`.
//!
//! Pure data. A name that is missing here cannot be used in a template, and one that the daemon
//! leaves out has its type's zero value, both as in Go.

/// A Go type.
#[derive(Debug)]
pub(super) enum Type {
    /// `interface {}`
    Any,
    Bool,
    /// `string`
    Text,
    /// A signed integer of this name.
    Int(&'static str),
    /// `time.Time`
    Time,
    /// A slice.
    List(&'static Type),
    /// An array of that length.
    Array(&'static Type, usize),
    /// The name of its keys' type (`string`, or one that cannot be used as a field), and what its
    /// values are.
    Map(&'static str, &'static Type),
    Struct(&'static Struct),
    Pointer(&'static Type),
}

/// A Go struct.
#[derive(Debug)]
pub(super) struct Struct {
    /// With its package: `docker.Config`.
    pub name: &'static str,
    /// In their order.
    pub fields: &'static [Field],
}

/// A field of a Go struct.
#[derive(Debug)]
pub(super) struct Field {
    /// As a template names it.
    pub name: &'static str,
    /// As it is in JSON.
    pub json: &'static str,
    /// Whether JSON leaves it out where it is empty.
    pub omit_empty: bool,
    pub ty: &'static Type,
}

impl Type {
    /// Its name, as Go writes it.
    pub(super) fn name(&self) -> String {
        match self {
            Type::Any => "interface {}".to_owned(),
            Type::Bool => "bool".to_owned(),
            Type::Text => "string".to_owned(),
            Type::Int(name) => (*name).to_owned(),
            Type::Time => "time.Time".to_owned(),
            Type::List(element) => format!("[]{}", element.name()),
            Type::Array(element, len) => format!("[{len}]{}", element.name()),
            Type::Map(key, value) => format!("map[{key}]{}", value.name()),
            Type::Struct(fields) => fields.name.to_owned(),
            Type::Pointer(to) => format!("*{}", to.name()),
        }
    }
}

impl Struct {
    /// Whether Go's `==` takes it: nothing in it is a list or a map.
    pub(super) fn is_comparable(&self) -> bool {
        self.fields.iter().all(|field| match field.ty {
            Type::List(_) | Type::Map(..) => false,
            Type::Struct(inner) => inner.is_comparable(),
            _ => true,
        })
    }
}

/// The type of the keys of `ExposedPorts` and `Ports`.
pub(super) const PORT: &str = "docker.Port";

const fn field(name: &'static str, ty: &'static Type) -> Field {
    Field { name, json: name, omit_empty: true, ty }
}

const fn always(name: &'static str, ty: &'static Type) -> Field {
    Field { name, json: name, omit_empty: false, ty }
}

const fn named(name: &'static str, json: &'static str, ty: &'static Type) -> Field {
    Field { name, json, omit_empty: true, ty }
}

use Type::{Bool, Text, Time};

const INT: Type = Type::Int("int");
const INT64: Type = Type::Int("int64");
const TEXTS: Type = Type::List(&Text);
const TEXT_BY_NAME: Type = Type::Map("string", &Text);
const EMPTY: Type = Type::Struct(&Struct { name: "struct {}", fields: &[] });

/// `*docker.Container`: what a message has.
pub(super) static CONTAINER: Type = Type::Pointer(&INSPECTED);

static INSPECTED: Type = Type::Struct(&Struct {
    name: "docker.Container",
    fields: &[
        Field { name: "ID", json: "Id", omit_empty: false, ty: &Text },
        field("Created", &Time),
        field("Path", &Text),
        field("Args", &TEXTS),
        field("Config", &Type::Pointer(&CONFIG)),
        field("State", &STATE),
        field("Image", &Text),
        field("Node", &Type::Pointer(&SWARM_NODE)),
        field("NetworkSettings", &Type::Pointer(&NETWORK_SETTINGS)),
        field("SysInitPath", &Text),
        field("ResolvConfPath", &Text),
        field("HostnamePath", &Text),
        field("HostsPath", &Text),
        field("LogPath", &Text),
        field("Name", &Text),
        field("Driver", &Text),
        field("Mounts", &Type::List(&MOUNT)),
        field("Volumes", &TEXT_BY_NAME),
        field("VolumesRW", &Type::Map("string", &Bool)),
        field("HostConfig", &Type::Pointer(&HOST_CONFIG)),
        field("ExecIDs", &TEXTS),
        field("GraphDriver", &Type::Pointer(&GRAPH_DRIVER)),
        field("RestartCount", &INT),
        field("AppArmorProfile", &Text),
        field("MountLabel", &Text),
        field("ProcessLabel", &Text),
        field("Platform", &Text),
        field("SizeRw", &INT64),
        field("SizeRootFs", &INT64),
    ],
});

static CONFIG: Type = Type::Struct(&Struct {
    name: "docker.Config",
    fields: &[
        field("Hostname", &Text),
        field("Domainname", &Text),
        field("User", &Text),
        field("Memory", &INT64),
        field("MemorySwap", &INT64),
        field("MemoryReservation", &INT64),
        field("KernelMemory", &INT64),
        named("CPUShares", "CpuShares", &INT64),
        named("CPUSet", "Cpuset", &Text),
        field("PortSpecs", &TEXTS),
        field("ExposedPorts", &Type::Map(PORT, &EMPTY)),
        field("PublishService", &Text),
        field("StopSignal", &Text),
        field("StopTimeout", &INT),
        field("Env", &TEXTS),
        always("Cmd", &TEXTS),
        field("Shell", &TEXTS),
        field("Healthcheck", &Type::Pointer(&HEALTH_CONFIG)),
        named("DNS", "Dns", &TEXTS),
        field("Image", &Text),
        field("Volumes", &Type::Map("string", &EMPTY)),
        field("VolumeDriver", &Text),
        field("WorkingDir", &Text),
        field("MacAddress", &Text),
        always("Entrypoint", &TEXTS),
        field("SecurityOpts", &TEXTS),
        field("OnBuild", &TEXTS),
        field("Mounts", &Type::List(&MOUNT)),
        field("Labels", &TEXT_BY_NAME),
        field("AttachStdin", &Bool),
        field("AttachStdout", &Bool),
        field("AttachStderr", &Bool),
        field("ArgsEscaped", &Bool),
        field("Tty", &Bool),
        field("OpenStdin", &Bool),
        field("StdinOnce", &Bool),
        field("NetworkDisabled", &Bool),
        field("VolumesFrom", &Text),
    ],
});

static HEALTH_CONFIG: Type = Type::Struct(&Struct {
    name: "docker.HealthConfig",
    fields: &[
        field("Test", &TEXTS),
        field("Interval", &Type::Int("time.Duration")),
        field("Timeout", &Type::Int("time.Duration")),
        field("StartPeriod", &Type::Int("time.Duration")),
        field("Retries", &INT),
    ],
});

static STATE: Type = Type::Struct(&STATE_FIELDS);

/// `docker.State`, which has methods.
pub(super) static STATE_FIELDS: Struct = Struct {
    name: "docker.State",
    fields: &[
        field("Status", &Text),
        field("Running", &Bool),
        field("Paused", &Bool),
        field("Restarting", &Bool),
        field("OOMKilled", &Bool),
        field("RemovalInProgress", &Bool),
        field("Dead", &Bool),
        field("Pid", &INT),
        field("ExitCode", &INT),
        field("Error", &Text),
        field("StartedAt", &Time),
        field("FinishedAt", &Time),
        field("Health", &HEALTH),
    ],
};

static HEALTH: Type = Type::Struct(&Struct {
    name: "docker.Health",
    fields: &[
        field("Status", &Text),
        field("FailingStreak", &INT),
        field("Log", &Type::List(&HEALTH_CHECK)),
    ],
});

static HEALTH_CHECK: Type = Type::Struct(&Struct {
    name: "docker.HealthCheck",
    fields: &[
        field("Start", &Time),
        field("End", &Time),
        field("ExitCode", &INT),
        field("Output", &Text),
    ],
});

static SWARM_NODE: Type = Type::Struct(&Struct {
    name: "docker.SwarmNode",
    fields: &[
        field("ID", &Text),
        field("IP", &Text),
        field("Addr", &Text),
        field("Name", &Text),
        field("CPUs", &INT64),
        field("Memory", &INT64),
        field("Labels", &TEXT_BY_NAME),
    ],
});

static NETWORK_SETTINGS: Type = Type::Struct(&Struct {
    name: "docker.NetworkSettings",
    fields: &[
        field("Networks", &Type::Map("string", &CONTAINER_NETWORK)),
        field("IPAddress", &Text),
        field("IPPrefixLen", &INT),
        field("MacAddress", &Text),
        field("Gateway", &Text),
        field("Bridge", &Text),
        field("PortMapping", &Type::Map("string", &TEXT_BY_NAME)),
        field("Ports", &PORTS),
        field("NetworkID", &Text),
        field("EndpointID", &Text),
        field("SandboxKey", &Text),
        field("GlobalIPv6Address", &Text),
        field("GlobalIPv6PrefixLen", &INT),
        field("IPv6Gateway", &Text),
        field("LinkLocalIPv6Address", &Text),
        field("LinkLocalIPv6PrefixLen", &INT),
        field("SecondaryIPAddresses", &TEXTS),
        field("SecondaryIPv6Addresses", &TEXTS),
    ],
});

static CONTAINER_NETWORK: Type = Type::Struct(&Struct {
    name: "docker.ContainerNetwork",
    fields: &[
        field("Aliases", &TEXTS),
        field("MacAddress", &Text),
        field("GlobalIPv6PrefixLen", &INT),
        field("GlobalIPv6Address", &Text),
        field("IPv6Gateway", &Text),
        field("IPPrefixLen", &INT),
        field("IPAddress", &Text),
        field("Gateway", &Text),
        field("EndpointID", &Text),
        field("NetworkID", &Text),
    ],
});

static PORTS: Type = Type::Map(PORT, &Type::List(&PORT_BINDING));

static PORT_BINDING: Type = Type::Struct(&Struct {
    name: "docker.PortBinding",
    fields: &[named("HostIP", "HostIp", &Text), field("HostPort", &Text)],
});

static MOUNT: Type = Type::Struct(&Struct {
    name: "docker.Mount",
    fields: &[
        always("Name", &Text),
        always("Source", &Text),
        always("Destination", &Text),
        always("Driver", &Text),
        always("Mode", &Text),
        always("RW", &Bool),
    ],
});

static GRAPH_DRIVER: Type = Type::Struct(&Struct {
    name: "docker.GraphDriver",
    fields: &[field("Name", &Text), field("Data", &TEXT_BY_NAME)],
});

static LOG_CONFIG: Type = Type::Struct(&Struct {
    name: "docker.LogConfig",
    fields: &[field("Type", &Text), field("Config", &TEXT_BY_NAME)],
});

static RESTART_POLICY: Type = Type::Struct(&Struct {
    name: "docker.RestartPolicy",
    fields: &[field("Name", &Text), field("MaximumRetryCount", &INT)],
});

static KEY_VALUE: Type = Type::Struct(&Struct {
    name: "docker.KeyValuePair",
    fields: &[field("Key", &Text), field("Value", &Text)],
});

static DEVICE: Type = Type::Struct(&Struct {
    name: "docker.Device",
    fields: &[
        field("PathOnHost", &Text),
        field("PathInContainer", &Text),
        field("CgroupPermissions", &Text),
    ],
});

static DEVICE_REQUEST: Type = Type::Struct(&Struct {
    name: "docker.DeviceRequest",
    fields: &[
        field("Driver", &Text),
        field("Count", &INT),
        field("DeviceIDs", &TEXTS),
        field("Capabilities", &Type::List(&TEXTS)),
        field("Options", &TEXT_BY_NAME),
    ],
});

static BLOCK_WEIGHT: Type = Type::Struct(&Struct {
    name: "docker.BlockWeight",
    fields: &[field("Path", &Text), field("Weight", &Text)],
});

static BLOCK_LIMIT: Type = Type::Struct(&Struct {
    name: "docker.BlockLimit",
    fields: &[field("Path", &Text), field("Rate", &INT64)],
});

static ULIMIT: Type = Type::Struct(&Struct {
    name: "docker.ULimit",
    fields: &[field("Name", &Text), field("Soft", &INT64), field("Hard", &INT64)],
});

static HOST_MOUNT: Type = Type::Struct(&Struct {
    name: "docker.HostMount",
    fields: &[
        field("Target", &Text),
        field("Source", &Text),
        field("Type", &Text),
        field("ReadOnly", &Bool),
    ],
});

static HOST_CONFIG: Type = Type::Struct(&Struct {
    name: "docker.HostConfig",
    fields: &[
        field("Binds", &TEXTS),
        field("CapAdd", &TEXTS),
        field("CapDrop", &TEXTS),
        field("Capabilities", &TEXTS),
        field("GroupAdd", &TEXTS),
        field("ContainerIDFile", &Text),
        field("LxcConf", &Type::List(&KEY_VALUE)),
        field("PortBindings", &PORTS),
        field("Links", &TEXTS),
        named("DNS", "Dns", &TEXTS),
        named("DNSOptions", "DnsOptions", &TEXTS),
        named("DNSSearch", "DnsSearch", &TEXTS),
        field("ExtraHosts", &TEXTS),
        field("VolumesFrom", &TEXTS),
        field("UsernsMode", &Text),
        field("NetworkMode", &Text),
        field("IpcMode", &Text),
        field("Isolation", &Text),
        field("ConsoleSize", &Type::Array(&INT, 2)),
        field("PidMode", &Text),
        field("UTSMode", &Text),
        field("RestartPolicy", &RESTART_POLICY),
        field("Devices", &Type::List(&DEVICE)),
        field("DeviceCgroupRules", &TEXTS),
        field("DeviceRequests", &Type::List(&DEVICE_REQUEST)),
        field("LogConfig", &LOG_CONFIG),
        field("SecurityOpt", &TEXTS),
        field("CgroupnsMode", &Text),
        field("Cgroup", &Text),
        field("CgroupParent", &Text),
        field("Memory", &INT64),
        field("MemoryReservation", &INT64),
        field("KernelMemory", &INT64),
        field("MemorySwap", &INT64),
        named("CPUShares", "CpuShares", &INT64),
        named("CPUSet", "Cpuset", &Text),
        named("CPUSetCPUs", "CpusetCpus", &Text),
        named("CPUSetMEMs", "CpusetMems", &Text),
        named("CPUQuota", "CpuQuota", &INT64),
        named("CPUPeriod", "CpuPeriod", &INT64),
        named("CPURealtimePeriod", "CpuRealtimePeriod", &INT64),
        named("CPURealtimeRuntime", "CpuRealtimeRuntime", &INT64),
        named("NanoCPUs", "NanoCpus", &INT64),
        field("BlkioWeight", &INT64),
        field("BlkioWeightDevice", &Type::List(&BLOCK_WEIGHT)),
        field("BlkioDeviceReadBps", &Type::List(&BLOCK_LIMIT)),
        field("BlkioDeviceReadIOps", &Type::List(&BLOCK_LIMIT)),
        field("BlkioDeviceWriteBps", &Type::List(&BLOCK_LIMIT)),
        field("BlkioDeviceWriteIOps", &Type::List(&BLOCK_LIMIT)),
        field("Ulimits", &Type::List(&ULIMIT)),
        field("VolumeDriver", &Text),
        field("OomScoreAdj", &INT),
        field("MemorySwappiness", &Type::Pointer(&INT64)),
        field("PidsLimit", &Type::Pointer(&INT64)),
        named("OOMKillDisable", "OomKillDisable", &Type::Pointer(&Bool)),
        field("ShmSize", &INT64),
        field("Tmpfs", &TEXT_BY_NAME),
        field("StorageOpt", &TEXT_BY_NAME),
        field("Sysctls", &TEXT_BY_NAME),
        named("CPUCount", "CpuCount", &INT64),
        named("CPUPercent", "CpuPercent", &INT64),
        field("IOMaximumBandwidth", &INT64),
        field("IOMaximumIOps", &INT64),
        field("Mounts", &Type::List(&HOST_MOUNT)),
        field("MaskedPaths", &TEXTS),
        field("ReadonlyPaths", &TEXTS),
        field("Runtime", &Text),
        field("Init", &Bool),
        field("Privileged", &Bool),
        field("PublishAllPorts", &Bool),
        field("ReadonlyRootfs", &Bool),
        field("AutoRemove", &Bool),
    ],
});
