//! (console)
use super::{Built, SinkSpec};
use crate::config::Settings;
use crate::route::RouteSpec;

/// (console)
pub const SPEC: SinkSpec = SinkSpec { scheme: "console", build };

fn build(_spec: &RouteSpec, _settings: &Settings) -> Result<Built, String> {
    Err(String::new())
}
