//! Names to addresses: what `host:port` means, and where that is right now.
//!
//! Parsing is pure. [`resolve`] asks the system's resolver, anew at each connect, so that a
//! receiver that moved is found; it remembers nothing.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::HostPort;

/// How long the resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Every address of `target`, in the resolver's order (RFC 6724, on most systems): the caller
/// tries one after the other. Never empty. Fails after 10 s; an error names the host.
///
/// Must be called within a Tokio runtime: the resolver runs on its pool of blocking threads.
pub async fn resolve(target: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
    within(RESOLVE_TIMEOUT, &target.host, lookup).await
}

async fn within<A: Iterator<Item = SocketAddr>>(
    limit: Duration,
    host: &str,
    lookup: impl Future<Output = io::Result<A>>,
) -> io::Result<Vec<SocketAddr>> {
    let failed = |kind, why: &dyn fmt::Display| {
        Err(io::Error::new(kind, format!("cannot resolve {host:?}: {why}")))
    };
    match tokio::time::timeout(limit, lookup).await {
        Err(_) => failed(io::ErrorKind::TimedOut, &format!("no answer within {limit:?}")),
        Ok(Err(error)) => failed(error.kind(), &error),
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.collect();
            if addresses.is_empty() {
                return failed(io::ErrorKind::NotFound, &"the name has no address");
            }
            Ok(addresses)
        }
    }
}

impl HostPort {
    /// Parses `host:port` or `[IPv6 address]:port`; the port is a number from 1 to 65535, and an
    /// empty host is this machine (as Go's `net.Dial` has it, and so Logspout). An
    /// error is one line that names the value and the fix (and nothing before an `@`, which
    /// could be a password).
    pub fn parse(text: &str) -> Result<HostPort, String> {
        let shown = text.rsplit('@').next().unwrap_or_default();
        let bad = |fix: &str| Err(format!("bad address {shown:?}: {fix}"));
        if text.contains('@') {
            return bad("nothing may stand before the host; remove it and the @");
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, port)) = rest.split_once("]:") else {
                return bad("write an IPv6 address as [address]:port, such as [::1]:514");
            };
            if !is_ipv6(host) {
                return bad("what stands in brackets must be an IPv6 address");
            }
            (host, port)
        } else {
            let Some((host, port)) = text.rsplit_once(':') else {
                return bad("the port is missing; write host:port, such as localhost:514");
            };
            if host.contains(':') {
                return bad("write an IPv6 address as [address]:port, such as [::1]:514");
            }
            (host, port)
        };
        let host = if host.is_empty() { "localhost" } else { host };
        let foreign = |c: char| c.is_whitespace() || c.is_control() || "/\\?#[]".contains(c);
        if host.contains(foreign) {
            return bad("the host must be a name or an address and nothing else");
        }
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse() {
            Ok(port @ 1..) if digits => Ok(HostPort { host: host.to_owned(), port }),
            _ => bad("the port must be a number from 1 to 65535"),
        }
    }
}

/// Whether `host` is an IPv6 address, with or without a zone (`fe80::1%eth0`, RFC 4007).
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "zone"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty()
}

/// As [`HostPort::parse`] reads it.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn addresses_parse_and_print() {
        for (text, host, port) in [
            ("logs.example.com:514", "logs.example.com", 514),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535),
            ("[fe80::1%eth0]:514", "fe80::1%eth0", 514),
            ("my_host.:6514", "my_host.", 6514),
        ] {
            assert_eq!(HostPort::parse(text), Ok(at(host, port)));
            assert_eq!(at(host, port).to_string(), text);
        }
        assert_eq!(HostPort::parse(":514"), Ok(at("localhost", 514)));
    }

    #[test]
    fn errors_name_the_value_and_the_fix() {
        for (text, fix) in [
            ("logs", "port is missing"),
            ("", "port is missing"),
            ("logs:x:514", "[address]:port"),
            ("logs:", "a number from 1 to 65535"),
            ("logs:syslog", "a number from 1 to 65535"),
            ("logs:+514", "a number from 1 to 65535"),
            ("logs:0", "a number from 1 to 65535"),
            ("logs:65536", "a number from 1 to 65535"),
            ("::1:514", "[address]:port"),
            ("[::1]", "[address]:port"),
            ("[::1]514", "[address]:port"),
            ("[logs]:514", "IPv6 address"),
            ("[::1%]:514", "IPv6 address"),
            ("lo gs:514", "nothing else"),
            ("logs/path:514", "nothing else"),
        ] {
            let error = HostPort::parse(text).unwrap_err();
            assert!(error.contains(fix) && error.contains(&format!("{text:?}")), "{error}");
        }
        let error = HostPort::parse("user:secret@logs:514").unwrap_err();
        assert!(error.contains("logs:514") && !error.contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_itself(text in "[a\\[\\]:%.0-9@ ]{0,12}|\\PC{0,12}") {
            if let Ok(parsed) = HostPort::parse(&text) {
                let again = HostPort::parse(&parsed.to_string());
                prop_assert_eq!(again, Ok(parsed));
            }
        }
    }

    #[test]
    fn addresses_need_no_resolver() {
        let v4 = block_on(resolve(&at("127.0.0.1", 514))).unwrap();
        assert_eq!(v4, ["127.0.0.1:514".parse().unwrap()]);
        let v6 = block_on(resolve(&at("::1", 514))).unwrap();
        assert_eq!(v6, ["[::1]:514".parse().unwrap()]);
    }

    #[test]
    fn localhost_is_here() {
        let found = block_on(resolve(&at("localhost", 514))).unwrap();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback()), "{found:?}");
    }

    #[test]
    fn failures_name_the_host() {
        // A name that the resolver refuses without asking anyone.
        let error = block_on(resolve(&at("bad\0name", 514))).unwrap_err();
        assert!(error.to_string().contains("bad\\0name"), "{error}");

        let never = std::future::pending::<io::Result<std::vec::IntoIter<SocketAddr>>>();
        let error = block_on(within(Duration::from_millis(5), "slow", never)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("slow"), "{error}");

        let nothing = std::future::ready(Ok(std::iter::empty()));
        let error = block_on(within(Duration::from_secs(5), "empty", nothing)).unwrap_err();
        assert!(error.to_string().contains("empty"), "{error}");
    }
}
