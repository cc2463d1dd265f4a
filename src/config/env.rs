//! Where settings come from besides the command line: environment variables, the files that
//! `NAME_FILE` names, and the one that Logspout's users mount, `/etc/host_hostname`. This alone
//! reads them; tests inject others.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use super::ConfigError;

/// Where Logspout looks for the host's name.
pub const HOST_HOSTNAME: &str = "/etc/host_hostname";
/// A name longer than this is no host name (RFC 5424 allows 255).
const HOST_HOSTNAME_MAX: u64 = 4096;
/// The largest file that holds a setting's value.
const FILE_MAX: u64 = 1 << 20;

/// A source of variables.
pub trait Env {
    /// The value of `name`; an empty one counts as not set.
    /// A value that is not UTF-8 is an error.
    fn get(&self, name: &str) -> Result<Option<String>, ConfigError>;

    /// Every variable whose name and value are UTF-8.
    fn all(&self) -> BTreeMap<String, String>;

    /// The bytes of [`HOST_HOSTNAME`]; `None` where there is no such file.
    fn host_hostname(&self) -> Result<Option<Vec<u8>>, ConfigError>;

    /// The bytes of a file that the user names, or why they are not to be had.
    fn file(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// The environment and files of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Result<Option<String>, ConfigError> {
        // The OS allows no such names, and `var_os` is free to panic on them.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Ok(None);
        }
        let Some(value) = std::env::var_os(name) else { return Ok(None) };
        let Ok(value) = value.into_string() else {
            return Err(ConfigError::new(format!("{name}: is not UTF-8; write it in UTF-8")));
        };
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    fn all(&self) -> BTreeMap<String, String> {
        let texts = std::env::vars_os()
            .map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        texts.flatten().collect()
    }

    fn host_hostname(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let failed = |error: std::io::Error| {
            ConfigError::new(format!(
                "{HOST_HOSTNAME}: cannot be read ({error}); mount the host's /etc/hostname there, \
                 or nothing"
            ))
        };
        let file = match std::fs::File::open(HOST_HOSTNAME) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(HOST_HOSTNAME_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
        // Reading a pipe might never end.
        if !about.is_file() || about.len() > FILE_MAX {
            return Err(format!("it is not a file of at most {} MiB", FILE_MAX >> 20));
        }
        std::fs::read(path).map_err(|error| error.to_string())
    }
}

/// Variables from a list: for tests, and for whoever embeds the library.
#[derive(Clone, Debug, Default)]
pub struct MapEnv {
    variables: BTreeMap<String, String>,
    host_hostname: Option<Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl MapEnv {
    /// An environment that holds these variables and no file.
    pub fn new(variables: &[(&str, &str)]) -> MapEnv {
        let owned = |&(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        MapEnv { variables: variables.iter().map(owned).collect(), ..MapEnv::default() }
    }

    /// The same, with these bytes in the file at `path`.
    pub fn with_file(mut self, path: &str, bytes: &[u8]) -> MapEnv {
        self.files.insert(path.to_string(), bytes.to_vec());
        self
    }

    /// The same, with these bytes in [`HOST_HOSTNAME`].
    pub fn with_host_hostname(mut self, bytes: &[u8]) -> MapEnv {
        self.host_hostname = Some(bytes.to_vec());
        self
    }
}

impl Env for MapEnv {
    fn get(&self, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.variables.get(name).filter(|value| !value.is_empty()).cloned())
    }

    fn all(&self) -> BTreeMap<String, String> {
        self.variables.clone()
    }

    fn host_hostname(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        Ok(self.host_hostname.clone())
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| "there is no such file".to_string())
    }
}
