//! The process's limits: sets them once, at start; touches nothing else.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Each container takes a descriptor, and a moment's question another; a shell's limit of 1,024
/// is soon reached. What the system allows is taken.
pub fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_system_allows() {
        raise_descriptors();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
    }
}
