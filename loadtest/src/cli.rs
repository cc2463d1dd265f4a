//! The command line: which scenarios are played, how often, against which programs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures logchute, and any other forwarder, against a bare relay.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it, scenarios are played.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to play.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the harness can do beside playing scenarios.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A small show: talking containers, logchute, and what arrives at local receivers
    Demo(DemoArgs),
    /// Becomes a program that ends when the harness does, however that ends
    #[command(hide = true)]
    Child {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// The floor: reads every container and writes the bytes out as they are
    #[command(hide = true)]
    Relay {
        /// Path of the engine's socket
        #[arg(long)]
        docker: PathBuf,
        /// Where the bytes go, ADDR:PORT
        #[arg(long)]
        tcp: std::net::SocketAddr,
    },
    /// Reads containers of a real engine: attach streams, written on to TCP, or logs
    #[command(hide = true)]
    RealClient {
        /// Path of the engine's socket
        #[arg(long)]
        docker: PathBuf,
        /// Where the bytes go, ADDR:PORT; without it logs are read
        #[arg(long)]
        tcp: Option<std::net::SocketAddr>,
        /// Ids of the containers
        containers: Vec<String>,
    },
}

/// How the demo is played.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// End after so long, rather than with Ctrl-C
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// The logchute to show, instead of one that is built now
    #[arg(long, value_name = "FILE")]
    pub logchute: Option<PathBuf>,
}

/// Which scenarios are played, and how.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The scenarios that matter most, in less than a minute
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// The whole matrix
    #[arg(long)]
    pub full: bool,
    /// Runs of each scenario; medians are shown [default: 3, with --full 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: Option<u32>,
    /// Which engine the containers are on
    #[arg(long, value_enum, default_value_t = Engine::Fake)]
    pub engine: Engine,
    /// A further program for the same runs, as `CMD {docker} {tcp}`: {docker} is the engine's
    /// URL (also in DOCKER_HOST), {tcp} the receiver's ADDR:PORT, NAME=VALUE words before the
    /// command are its environment; its process alone is measured, not its children; may be given
    /// several times
    #[arg(long, value_name = "CMD")]
    pub forwarder: Vec<String>,
    /// With --engine real, lines of a run, all containers together [default: 1000000, with
    /// --quick 200000, with --full 2000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=20_000_000))]
    pub lines: Option<u64>,
    /// With --engine real, a setting of logchute to measure beside its defaults, as NAME=VALUE;
    /// may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub setting: Vec<String>,
    /// Only scenarios whose name matches: `*` and `?`; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub scenario: Vec<String>,
    /// Where report.json, report.md and the charts go
    #[arg(long, value_name = "DIR", default_value = "target/loadtest")]
    pub out: PathBuf,
    /// Play each scenario with both I/O drivers of logchute, ring and poll
    #[arg(long)]
    pub drivers: bool,
    /// The logchute to measure, instead of one that is built now
    #[arg(long, value_name = "FILE")]
    pub logchute: Option<PathBuf>,
    /// List the scenarios and end
    #[arg(long)]
    pub list: bool,
}

/// Where the containers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Pre-rendered streams of this program
    Fake,
    /// The Docker Engine of this machine, with containers that are started and removed
    Real,
}
