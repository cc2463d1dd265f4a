//! The shared key of the forward protocol (Forward-Protocol-Specification-v1, "Handshake"): both
//! sides prove with SHA-512 that they know it, neither says it.
//!
//! Pure. Digests are compared in constant time. Nothing here is shown by `Debug`.

use ring::digest::{Context, SHA512};
use subtle::ConstantTimeEq;

use crate::msgpack::{put_array, put_str};

/// What a client says to a server that asks for a shared key.
pub struct Login {
    /// The key.
    pub shared_key: String,
    /// The user, where the server asks for one as well; or empty.
    pub username: String,
    /// The user's password.
    pub password: String,
    /// What the client calls itself.
    pub hostname: String,
}

impl Login {
    /// Appends PING: that we know the key, and the user's password if `auth`, the server's salt for
    /// it, is not empty.
    pub(super) fn put_ping(&self, salt: &str, nonce: &[u8], auth: &[u8], out: &mut Vec<u8>) {
        let digest = self.digest(salt, self.hostname.as_bytes(), nonce);
        let user = self.username.as_bytes();
        let (username, password) = match auth {
            [] => (&b""[..], String::new()),
            _ => (user, hex(&[auth, user, self.password.as_bytes()])),
        };
        put_array(6, out);
        for text in [
            b"PING",
            self.hostname.as_bytes(),
            salt.as_bytes(),
            digest.as_bytes(),
            username,
            password.as_bytes(),
        ] {
            put_str(text, out);
        }
    }

    /// Whether the server of this name has shown with `digest` that it knows the key.
    pub(super) fn is_known(&self, salt: &str, nonce: &[u8], server: &[u8], digest: &[u8]) -> bool {
        self.digest(salt, server, nonce).as_bytes().ct_eq(digest).into()
    }

    fn digest(&self, salt: &str, hostname: &[u8], nonce: &[u8]) -> String {
        hex(&[salt.as_bytes(), hostname, nonce, self.shared_key.as_bytes()])
    }
}

/// The SHA-512 digest of `parts`, one after the other, in hexadecimal digits.
fn hex(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    digits(context.finish().as_ref())
}

/// `bytes` in hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests that coreutils made: `printf %s salthostnoncekey | sha512sum`.
    #[test]
    fn digests_are_those_of_another_program() {
        let login = Login {
            shared_key: "key".into(),
            username: "user".into(),
            password: "pass".into(),
            hostname: "host".into(),
        };
        let of = |text: &str| {
            let sum = std::process::Command::new("sh")
                .args(["-c", "printf %s \"$1\" | sha512sum", "sh", text])
                .output()
                .unwrap();
            String::from_utf8(sum.stdout).unwrap()[..128].to_owned()
        };
        let mut ping = Vec::new();
        login.put_ping("salt", b"nonce", b"", &mut ping);
        let read = |mut bytes: &[u8]| -> Vec<String> {
            let value = rmpv::decode::read_value(&mut bytes).unwrap();
            let texts = value.as_array().unwrap().iter();
            texts.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let key = of("salthostnoncekey");
        assert_eq!(read(&ping), ["PING", "host", "salt", &key, "", ""]);
        ping.clear();
        login.put_ping("salt", b"nonce", b"auth", &mut ping);
        assert_eq!(read(&ping), ["PING", "host", "salt", &key, "user", &of("authuserpass")]);
        let server = of("saltservernoncekey");
        assert!(login.is_known("salt", b"nonce", b"server", server.as_bytes()));
        assert!(!login.is_known("salt", b"nonce", b"other", server.as_bytes()));
        assert!(!login.is_known("salt", b"nonce", b"server", &server.as_bytes()[..127]));
        assert!(!login.is_known("salt", b"nonce", b"server", b""));
    }
}
