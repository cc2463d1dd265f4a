//! The forward protocol from the whole program to a server that another decoder of MessagePack
//! makes (`rmpv`): each line arrives under its tag and in its turn, whatever the server does wrong,
//! and what it did not acknowledge is sent again.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA512, digest};
use rmpv::Value;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::logchute::{Logchute, Setup, end};
use support::pki::Pki;
use support::{drivers, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const OTHER: &str = "4fdafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417e";
const LONG: Duration = Duration::from_secs(20);
/// Lines that are written in a test, of so many bytes: several messages.
const COUNT: u64 = 1000;
const LINE: usize = 300;
/// Of these, those that a server acknowledges at least before it does wrong.
const GOOD: usize = 300;

trait Socket: Read + Write + Send {}
impl<T: Read + Write + Send> Socket for T {}

/// The server's side of a connection.
struct Peer {
    socket: Box<dyn Socket>,
    /// The same, below TLS.
    tcp: TcpStream,
    bytes: Vec<u8>,
}

/// A message of the program's.
struct Message {
    tag: String,
    /// Seconds, nanoseconds and record of each entry.
    entries: Vec<(u32, u32, Value)>,
    chunk: Option<String>,
    gzip: bool,
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let pairs = map.as_map().unwrap_or_else(|| panic!("{map} is no map"));
    pairs.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

fn text(map: &Value, name: &str) -> String {
    let value = field(map, name).unwrap_or_else(|| panic!("{name} is not in {map}"));
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The number of a test's line.
fn number(record: &Value) -> u64 {
    text(record, "log")[1..6].parse().unwrap()
}

fn line(number: u64) -> Vec<u8> {
    let mut line = format!("@{number:05} ").into_bytes();
    line.resize(LINE - 1, b'x');
    line.push(b'\n');
    line
}

fn hex(parts: &[&str]) -> String {
    let digest = digest(&SHA512, parts.concat().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Peer {
    fn accept(listener: &TcpListener) -> Peer {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Peer { tcp: socket.try_clone().unwrap(), socket: Box::new(socket), bytes: Vec::new() }
    }

    /// Over TLS; `None` where the client does not want it.
    fn accept_secure(listener: &TcpListener, pki: &Pki) -> Option<Peer> {
        let cert = CertificateDer::from_pem_file(pki.server_cert()).unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.server_key()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        let (mut socket, _): (TcpStream, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let mut session = ServerConnection::new(Arc::new(config)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).ok()?;
        }
        let tcp = socket.try_clone().unwrap();
        let socket = Box::new(StreamOwned::new(session, socket));
        Some(Peer { socket, tcp, bytes: Vec::new() })
    }

    /// The next value; `None` at the end of the connection.
    fn value(&mut self) -> Option<Value> {
        loop {
            let mut rest = &self.bytes[..];
            if let Ok(value) = rmpv::decode::read_value(&mut rest) {
                let len = self.bytes.len() - rest.len();
                self.bytes.drain(..len);
                return Some(value);
            }
            let mut some = [0; 65536];
            match self.socket.read(&mut some) {
                Ok(n @ 1..) => self.bytes.extend_from_slice(&some[..n]),
                _ => return None,
            }
        }
    }

    fn message(&mut self) -> Option<Message> {
        let value = self.value()?;
        let [tag, Value::Binary(body), options] = &value.as_array().unwrap()[..] else {
            panic!("{value}")
        };
        let gzip = field(options, "compressed").is_some();
        let mut plain = body.clone();
        if gzip {
            plain.clear();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        }
        let (mut rest, mut entries) = (&plain[..], Vec::new());
        while !rest.is_empty() {
            let entry = rmpv::decode::read_value(&mut rest).unwrap();
            let [Value::Ext(0, time), record] = &entry.as_array().unwrap()[..] else {
                panic!("{entry}")
            };
            let part = |at: usize| u32::from_be_bytes(time[at..at + 4].try_into().unwrap());
            entries.push((part(0), part(4), record.clone()));
        }
        assert_eq!(field(options, "size").unwrap().as_u64(), Some(entries.len() as u64));
        let chunk = field(options, "chunk").map(|chunk| chunk.as_str().unwrap().to_owned());
        Some(Message { tag: tag.as_str().unwrap().to_owned(), entries, chunk, gzip })
    }

    fn say(&mut self, value: &Value) -> io::Result<()> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        self.socket.write_all(&bytes)?;
        self.socket.flush()
    }

    fn ack(&mut self, chunk: &str) -> io::Result<()> {
        self.say(&Value::Map(vec![(Value::from("ack"), Value::from(chunk))]))
    }

    /// Takes messages and acknowledges each, until there are `most` records or no more come.
    fn take(&mut self, most: usize, numbers: &mut Vec<u64>) {
        while numbers.len() < most
            && let Some(message) = self.message()
        {
            numbers.extend(message.entries.iter().map(|(_, _, record)| number(record)));
            self.ack(&message.chunk.unwrap()).unwrap();
        }
    }

    /// Asks for the shared key `key`, and a user; says yes whatever it knows.
    fn ask(&mut self, key: &str, knows: &str) {
        let pair = |name: &str, value: Value| (Value::from(name), value);
        let options = vec![
            pair("nonce", Value::Binary(b"0123456789abcdef".to_vec())),
            pair("auth", Value::from("pepper")),
            pair("keepalive", Value::Boolean(true)),
        ];
        self.say(&Value::Array(vec![Value::from("HELO"), Value::Map(options)])).unwrap();
        let ping = self.value().unwrap();
        let ping: Vec<&str> =
            ping.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let [verb, host, salt, shown, user, password] = ping[..] else { panic!("{ping:?}") };
        assert_eq!((verb, host, user), ("PING", "a-client", "someone"));
        assert_eq!(password, hex(&["pepper", "someone", "opensesame"]));
        let good = shown == hex(&[salt, host, "0123456789abcdef", key]);
        let (reason, proof) = match good {
            true => ("", hex(&[salt, "a-server", "0123456789abcdef", knows])),
            false => ("shared_key mismatch", String::new()),
        };
        let pong = ["PONG", "", reason, if good { "a-server" } else { "" }, &proof];
        let mut pong: Vec<Value> = pong.into_iter().map(Value::from).collect();
        pong[1] = Value::Boolean(good);
        self.say(&Value::Array(pong)).unwrap();
    }
}

/// The program with one shard and a route, and an engine with a container.
fn program(io: &str, engine: &Engine, uri: &str, env: &[(&str, &str)]) -> Logchute {
    let setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1");
    let setup = env.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
    let program = setup.arg(uri).start();
    assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
    program
}

fn engine() -> Engine {
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    engine
}

fn write_lines(engine: &Engine) {
    (1..=COUNT).for_each(|number| engine.write(ID, Stream::Out, &line(number)));
}

fn wait_delivered(program: &Logchute, count: u64) -> bool {
    wait_until(LONG, || program.metric("logchute_lines_delivered") as u64 == count)
}

/// Lines to a server that does `wrong` on its first connection, which says which records it
/// acknowledged, and well on the second. What the program says has to tell why; each line has to
/// come, once if it was acknowledged, and in its turn.
fn through(
    io: &str,
    options: &str,
    why: &str,
    wrong: impl Fn(&mut Peer, &mut Vec<u64>) + Send + Sync,
) {
    let (listener, address) = listen();
    let engine = engine();
    let mut program = program(io, &engine, &format!("fluent://{address}{options}"), &[]);
    let received = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let mut peer = Peer::accept(&listener);
            wrong(&mut peer, &mut first);
            drop(peer);
            Peer::accept(&listener).take(usize::MAX, &mut second);
            [first, second].concat()
        });
        write_lines(&engine);
        let all = wait_delivered(&program, COUNT);
        let resent = program.metric("logchute_lines_resent") as u64;
        let ended = program.stop();
        assert!(all, "{why}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{why}: {}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(resent > 0 && resent <= COUNT, "{why}: {resent} sent again");
        server.join().unwrap()
    });
    assert_eq!(received, (1..=COUNT).collect::<Vec<_>>(), "{why}");
}

/// Runs [`through`] after some messages were acknowledged as they should; the next is not.
fn after_some(io: &str, options: &str, why: &str, wrong: impl Fn(&mut Peer) + Send + Sync) {
    through(io, options, why, |peer, acknowledged| {
        peer.take(GOOD, acknowledged);
        peer.message().unwrap();
        wrong(peer);
    });
}

#[test]
fn what_a_server_does_wrong_is_said_and_nothing_is_lost() {
    for io in drivers() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                through(io, "", "what the server says is not the forward protocol", |peer, _| {
                    peer.message().unwrap();
                    peer.socket.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
                    while peer.message().is_some() {}
                });
            });
            scope.spawn(|| {
                let why = "acknowledged chunk nobody's, which waits for no answer";
                after_some(io, "?fluent.gzip=on", why, |peer| {
                    peer.ack("nobody's").unwrap();
                    while peer.message().is_some() {}
                });
            });
            scope.spawn(|| {
                after_some(io, "", "the server closed the connection", |peer| {
                    // A later one is acknowledged, and this is not: both come again.
                    let later = peer.message().unwrap().chunk.unwrap();
                    peer.ack(&later).unwrap();
                    peer.socket.write_all(&[0x81, 0xa3]).unwrap();
                    peer.tcp.shutdown(Shutdown::Write).unwrap();
                    while peer.message().is_some() {}
                });
            });
            scope.spawn(|| {
                let why = "no acknowledgement within 0.5 s";
                after_some(
                    io,
                    "?fluent.ack_timeout=500ms",
                    why,
                    |peer| {
                        while peer.message().is_some() {}
                    },
                );
            });
        });
    }
}

/// Acknowledgements byte by byte and in any order, of messages of two containers with a tag each.
#[test]
fn containers_have_their_tags_and_acknowledgements_may_come_in_any_order() {
    for io in drivers() {
        let (listener, address) = listen();
        let engine = engine();
        engine.add(inspect(OTHER, "db"), true);
        let env = [("FLUENT_TAG", "docker.{{.ContainerName}}"), ("FLUENT_GZIP", "on")];
        let program = program(io, &engine, &format!("fluent://{address}"), &env);
        assert!(engine.wait_followed(&[OTHER], LONG), "{}", program.stderr());
        let messages = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut peer = Peer::accept(&listener);
                let (mut messages, mut records) = (Vec::new(), 0);
                while records < 2 * COUNT as usize {
                    let message = peer.message().unwrap();
                    records += message.entries.len();
                    messages.push(message);
                    // The window is never full of what waits for its turn.
                    if messages.len() % 3 == 0 || records == 2 * COUNT as usize {
                        let due = messages.iter_mut().rev().filter_map(|m| m.chunk.take());
                        for chunk in due.collect::<Vec<_>>() {
                            peer.ack(&chunk).unwrap();
                        }
                    }
                }
                assert!(peer.message().is_none());
                messages
            });
            for number in 1..=COUNT {
                engine.write(ID, Stream::Out, &line(number));
                engine.write(OTHER, Stream::Err, &line(number));
            }
            assert!(wait_delivered(&program, 2 * COUNT), "{}", program.stderr());
            assert_eq!(program.metric("logchute_lines_resent"), 0.0);
            end(program);
            server.join().unwrap()
        });
        for (id, name, source) in [(ID, "web", "stdout"), (OTHER, "db", "stderr")] {
            let own = messages.iter().filter(|message| message.tag == format!("docker.{name}"));
            let entries: Vec<_> = own.flat_map(|message| &message.entries).collect();
            let numbers: Vec<u64> = entries.iter().map(|(_, _, record)| number(record)).collect();
            assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>(), "{name}");
            for (seconds, nanos, record) in entries {
                assert!(*seconds > 1_700_000_000 && *nanos < 1_000_000_000);
                assert_eq!(text(record, "container_id"), id);
                assert_eq!(text(record, "container_name"), format!("/{name}"));
                assert_eq!(text(record, "source"), source);
                assert_eq!(text(record, "log").len(), LINE - 1);
            }
        }
        assert!(messages.iter().all(|message| message.gzip));
    }
}

/// With the right key all arrives; with the wrong one, or from a server that does not know it,
/// nothing does, and the program says why without saying the key.
#[test]
fn a_server_may_ask_for_a_shared_key() {
    for io in drivers() {
        let (listener, address) = listen();
        let engine = engine();
        let env = [
            ("FLUENT_SHARED_KEY", "hunter2"),
            ("FLUENT_USERNAME", "someone"),
            ("FLUENT_PASSWORD", "opensesame"),
            ("FLUENT_SELF_HOSTNAME", "a-client"),
        ];
        let mut program = program(io, &engine, &format!("fluent://{address}"), &env);
        let numbers = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                for (key, knows) in [("another", ""), ("hunter2", "another")] {
                    let mut peer = Peer::accept(&listener);
                    peer.ask(key, knows);
                    assert!(peer.message().is_none(), "records for a server that is not trusted");
                }
                let (mut peer, mut numbers) = (Peer::accept(&listener), Vec::new());
                peer.ask("hunter2", "hunter2");
                peer.take(usize::MAX, &mut numbers);
                numbers
            });
            write_lines(&engine);
            assert!(wait_delivered(&program, COUNT), "{}", program.stderr());
            let said = program.stop().stderr;
            assert!(said.contains("the server refused us: shared_key mismatch; look at"), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("opensesame"), "{said}");
            server.join().unwrap()
        });
        assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn over_tls_the_certificate_counts() {
    for io in drivers() {
        let pki = Pki::new();
        let run = |authority: &str, numbers: &mut Vec<u64>| {
            let (listener, address) = listen();
            let port = address.rsplit(':').next().unwrap();
            let uri = format!("fluent+tls://localhost:{port}");
            let engine = engine();
            let trust = [
                ("LOGSPOUT_TLS_DISABLE_SYSTEM_ROOTS", "true"),
                ("LOGSPOUT_TLS_CA_CERTS", authority),
                ("DRAIN_TIMEOUT", "300ms"),
            ];
            let mut program = program(io, &engine, &uri, &trust);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    if let Some(mut peer) = Peer::accept_secure(&listener, &pki) {
                        peer.take(COUNT as usize, numbers);
                        assert!(peer.message().is_none());
                    }
                });
                write_lines(&engine);
                let delivered = || program.metric("logchute_lines_delivered") as u64 == COUNT;
                let refused = || program.stderr().contains("LOGSPOUT_TLS_CA_CERTS");
                assert!(wait_until(LONG, || delivered() || refused()), "{}", program.stderr());
                program.stop()
            })
        };
        let mut numbers = Vec::new();
        let ended = run(pki.other_ca().to_str().unwrap(), &mut numbers);
        assert!(ended.stderr.contains("not from a trusted authority"), "{}", ended.stderr);
        assert!(numbers.is_empty());
        let ended = run(pki.ca().to_str().unwrap(), &mut numbers);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    }
}

/// Without acknowledgements: what the server's host has counts, and what it did not have when the
/// connection broke comes again.
#[test]
fn a_server_that_acknowledges_nothing_gets_each_line_too() {
    for io in drivers() {
        let (listener, address) = listen();
        let engine = engine();
        let uri = format!("fluent://{address}?fluent.ack=off");
        let program = program(io, &engine, &uri, &[]);
        let numbers = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut peer, mut numbers) = (Peer::accept(&listener), Vec::new());
                while let Some(message) = peer.message() {
                    assert_eq!(message.chunk, None);
                    numbers.extend(message.entries.iter().map(|(_, _, record)| number(record)));
                }
                numbers
            });
            write_lines(&engine);
            assert!(wait_delivered(&program, COUNT), "{}", program.stderr());
            end(program);
            server.join().unwrap()
        });
        assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    }
}

/// A server that answers nothing: the program ends when its time is up, and says what it held.
#[test]
fn a_server_that_hangs_does_not_hold_up_the_end() {
    for io in drivers() {
        let (listener, address) = listen();
        let engine = engine();
        let env = [("DRAIN_TIMEOUT", "300ms")];
        let mut program = program(io, &engine, &format!("fluent://{address}"), &env);
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = Peer::accept(&listener);
                while peer.message().is_some() {}
            });
            write_lines(&engine);
            let received = || program.metric("logchute_lines_received") as u64 == COUNT;
            assert!(wait_until(LONG, received), "{}", program.stderr());
            assert_eq!(program.metric("logchute_lines_delivered"), 0.0);
            program.stop()
        });
        assert!(ended.stderr.contains(&format!("{COUNT} lines")), "{}", ended.stderr);
    }
}
