//! (raw)
use super::{Built, SinkSpec};
use crate::config::Settings;
use crate::route::RouteSpec;

/// (raw)
pub const SPEC: SinkSpec = SinkSpec { scheme: "raw", build };

fn build(_spec: &RouteSpec, _settings: &Settings) -> Result<Built, String> {
    Err(String::new())
}
