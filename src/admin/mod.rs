//! The HTTP side: `/health`, `/ready` and `/metrics`, for people and their monitoring; `/routes`
//! to change where lines go; `/logs` for those who want to see the lines themselves.
//!
//! Runs on the control thread; sees the rest of the program through [`View`] alone, and never
//! waits for it. [`server`] has the connections, [`router`] the paths, [`access`] says who may do
//! what. Clients are not trusted: headers, bodies, connections and times are limited, and a client
//! that dawdles holds up nobody else.

use std::future::Future;
use std::pin::Pin;

pub mod access;
mod answer;
pub mod logs;
pub mod metrics;
mod path;
pub mod probe;
pub mod ready;
mod router;
mod routes;
mod server;

pub use server::serve;

use crate::route::json::Definition;
use access::Access;
use logs::request::Wish;
use logs::{Look, Refusal};
use ready::Readiness;

/// What takes a while: a disk may be waited for, or an expression compiled.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why a route was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It makes no sense; one line that says what to write.
    Bad(String),
    /// It could not be written to `ROUTESPATH`, and is not there.
    NotKept(String),
}

/// What the HTTP side may see of the program. All calls must return at once: they run on the
/// control thread.
pub trait View: Send + Sync {
    /// Who may do what.
    fn access(&self) -> &Access;

    /// Whether logchute does its work; if not, why, in one line without secrets.
    fn health(&self) -> Result<(), String>;

    /// Whether lines come in and can go out.
    fn ready(&self) -> Readiness;

    /// Appends all metrics, as [`metrics::render`] writes them.
    fn metrics(&self, out: &mut String);

    /// All routes, by name; `counted`: with what became of their lines.
    fn routes(&self, counted: bool) -> Vec<Definition>;

    /// Makes a route, or replaces the one of that id; gives it with the id it got. Goes on also
    /// where the client goes away.
    fn create_route(&self, route: Definition) -> Later<Result<Definition, Refused>>;

    /// Ends a route; `false` if there is none of that id. Goes on also where the client goes away.
    fn remove_route(&self, id: String) -> Later<bool>;

    /// Shows a client the lines that it asks for, from now on.
    ///
    /// # Errors
    /// Why it is shown none.
    fn look_on(&self, wish: Wish) -> Later<Result<Look, Refusal>>;
}

#[cfg(test)]
mod tests;
