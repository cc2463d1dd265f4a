//! Why the program has to end, said from any thread. Touches nothing else.

use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use tokio::sync::Notify;

static FAILURE: OnceLock<String> = OnceLock::new();
static FAILED: Notify = Notify::const_new();

/// Has the program end in an orderly way; the first reason is the one that counts.
pub(super) fn fail(reason: String) {
    let _ = FAILURE.set(reason);
    FAILED.notify_one();
}

/// Why it has to end, if it has.
pub(super) fn failure() -> Option<&'static str> {
    FAILURE.get().map(String::as_str)
}

/// Waits until it has to end. One caller at a time is told.
pub(super) async fn failed() {
    FAILED.notified().await;
}

/// A panic on any thread ends the program; that of a local task would otherwise end in silence.
pub(super) fn catch_panics() {
    std::panic::set_hook(Box::new(|info| fail(panic_message(info))));
}

fn panic_message(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    format!("{} died, which is a bug: {info}", thread.name().unwrap_or("a thread"))
}
