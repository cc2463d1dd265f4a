//! (syslog)
use super::{Built, SinkSpec};
use crate::config::Settings;
use crate::route::RouteSpec;

/// (syslog)
pub const SPEC: SinkSpec = SinkSpec { scheme: "syslog", build };

fn build(_spec: &RouteSpec, _settings: &Settings) -> Result<Built, String> {
    Err(String::new())
}
