//! Sessions, heard by another decoder of MessagePack.

use super::naive::{audit, record};
use super::*;
use proptest::prelude::*;
use rmpv::Value;
use std::io::Read as _;
use std::time::Duration;

const RANDOM_BYTES: [u8; RANDOM] = *b"0123456789abcdefABCDEFGH";

fn login() -> Login {
    let [shared_key, username, password, hostname] =
        ["key", "user", "pass", "us"].map(str::to_owned);
    Login { shared_key, username, password, hostname }
}

fn session(login: Option<Login>, acks: bool, gzip: bool) -> Session {
    let terms = Terms { login, acks, gzip, ack_timeout: Duration::from_secs(1) };
    Session::new(Arc::new(terms), RANDOM_BYTES)
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

fn values(mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(rmpv::decode::read_value(&mut bytes).unwrap());
    }
    values
}

/// A message as a server reads it.
#[derive(Debug, PartialEq)]
struct Heard {
    tag: String,
    entries: Vec<u8>,
    size: u64,
    chunk: Option<String>,
}

fn heard(message: &Value) -> Heard {
    let [tag, Value::Binary(body), options] = &message.as_array().unwrap()[..] else {
        panic!("{message}")
    };
    let said = |name: &str| {
        let pairs = options.as_map().unwrap().iter();
        pairs.filter(|pair| pair.0.as_str() == Some(name)).map(|pair| pair.1.clone()).next()
    };
    let mut entries = body.clone();
    if let Some(kind) = said("compressed") {
        assert_eq!(text(&kind), "gzip");
        entries.clear();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut entries).unwrap();
    }
    let size = said("size").unwrap().as_u64().unwrap();
    Heard { tag: text(tag), entries, size, chunk: said("chunk").as_ref().map(text) }
}

/// What is sent of the records that were taken.
fn packed(session: &mut Session) -> Vec<Heard> {
    let mut out = Vec::new();
    let mut slices = 0;
    while session.pack(&mut out) {
        slices += 1;
        assert!(slices < 1000);
    }
    audit(session);
    values(&out).iter().map(heard).collect()
}

fn ack(chunk: &str) -> Vec<u8> {
    bytes(&Value::Map(vec![(Value::from("ack"), Value::from(chunk))]))
}

#[test]
fn consecutive_records_of_a_tag_are_one_message() {
    for gzip in [false, true] {
        let mut session = session(None, true, gzip);
        for (tag, entry) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("ab", "5")] {
            assert!(session.has_room());
            session.send(&record(tag, entry.as_bytes()), &mut Vec::new());
        }
        let sent = packed(&mut session);
        let shown: Vec<_> =
            sent.iter().map(|heard| (&*heard.tag, &heard.entries[..], heard.size)).collect();
        let expected =
            [("a", &b"12"[..], 2), ("b", &b"3"[..], 1), ("a", &b"4"[..], 1), ("ab", &b"5"[..], 1)];
        assert_eq!(shown, expected);
        let chunk = |index: usize| sent[index].chunk.clone().unwrap();
        use base64::Engine as _;
        let name = base64::engine::general_purpose::STANDARD.decode(chunk(1)).unwrap();
        assert_eq!(name, b"ABCDEFGH\0\0\0\0\0\0\0\x01");
        session.receive(&ack(&chunk(1))).unwrap();
        assert_eq!(session.take_acknowledged(), 0, "an older one is not acknowledged");
        session.receive(&[ack(&chunk(3)), ack(&chunk(0))].concat()).unwrap();
        assert_eq!((session.take_acknowledged(), session.is_waiting()), (3, true));
        for byte in ack(&chunk(2)) {
            session.receive(&[byte]).unwrap();
        }
        assert_eq!((session.take_acknowledged(), session.is_waiting()), (2, false));
        audit(&session);
    }
}

#[test]
fn messages_and_the_window_are_bounded() {
    let mut session = session(None, true, false);
    let mut chunks = Vec::new();
    while session.has_room() {
        while session.has_room() {
            session.send(&record("a", &[b'x'; 1000]), &mut Vec::new());
        }
        let sent = packed(&mut session);
        assert!(sent.iter().all(|heard| heard.entries.len() <= MESSAGE_MAX));
        chunks.extend(sent.into_iter().map(|heard| heard.chunk.unwrap()));
        assert!(chunks.len() < 100, "{chunks:?}");
    }
    session.receive(&ack(&chunks[0])).unwrap();
    assert!(session.has_room());
    session.send(&record("a", &vec![b'x'; WINDOW_BYTES]), &mut Vec::new());
    let sent = packed(&mut session);
    assert!(sent.len() == 1 && !session.has_room());
    let mut session = super::tests::session(None, true, false);
    for number in 0..WINDOW {
        assert!(session.has_room());
        session.send(&record(&number.to_string(), b"x"), &mut Vec::new());
    }
    assert!(packed(&mut session).len() == WINDOW && !session.has_room());
}

#[test]
fn without_acknowledgements_it_counts_what_has_arrived() {
    let mut session = session(None, false, false);
    let mut out = Vec::new();
    session.send(&record("a", b"1"), &mut Vec::new());
    session.pack(&mut out);
    let first = out.len() as u64;
    session.send(&record("a", b"2"), &mut Vec::new());
    session.pack(&mut out);
    assert!(values(&out).iter().all(|message| heard(message).chunk.is_none()));
    session.arrived(first - 1);
    assert_eq!(session.take_acknowledged(), 0);
    session.arrived(out.len() as u64 - 1);
    assert_eq!(session.take_acknowledged(), 1);
    session.arrived(out.len() as u64);
    assert_eq!((session.take_acknowledged(), session.is_waiting()), (1, false));
}

fn hello(auth: &str) -> Vec<u8> {
    let pair = |name: &str, value: Value| (Value::from(name), value);
    bytes(&Value::Array(vec![
        Value::from("HELO"),
        Value::Map(vec![
            pair("nonce", Value::Binary(b"nonce".to_vec())),
            pair("auth", Value::from(auth)),
            pair("keepalive", Value::Boolean(true)),
        ]),
    ]))
}

fn pong(welcome: bool, reason: &str, digest: &str) -> Vec<u8> {
    bytes(&Value::Array(vec![
        Value::from("PONG"),
        Value::Boolean(welcome),
        Value::from(reason),
        Value::from("them"),
        Value::from(digest),
    ]))
}

fn digest(parts: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, parts.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The salt of [`RANDOM_BYTES`].
const SALT_SENT: &str = "30313233343536373839616263646566";

#[test]
fn both_sides_show_that_they_know_the_key() {
    let mut session = session(Some(login()), false, false);
    assert!(!session.is_open() && !session.has_room());
    session.receive(&hello("auth")).unwrap();
    let mut ping = Vec::new();
    session.reply(&mut ping);
    let sent: Vec<String> = values(&ping)[0].as_array().unwrap().iter().map(text).collect();
    let key = digest(&format!("{SALT_SENT}usnoncekey"));
    assert_eq!(sent, ["PING", "us", SALT_SENT, &key, "user", &digest("authuserpass")]);
    session.receive(&pong(true, "", &digest(&format!("{SALT_SENT}themnoncekey")))).unwrap();
    assert!(session.is_open() && session.has_room());
    // What was said before counts among the bytes of the session.
    session.send(&record("a", b"1"), &mut Vec::new());
    let mut out = Vec::new();
    session.pack(&mut out);
    session.arrived(out.len() as u64);
    assert_eq!(session.take_acknowledged(), 0);
    session.arrived((ping.len() + out.len()) as u64);
    assert_eq!(session.take_acknowledged(), 1);
}

#[test]
fn what_is_out_of_the_ordinary_ends_the_session() {
    let checked = |pong: &[u8]| {
        let mut session = session(Some(login()), true, false);
        session.receive(&hello("")).unwrap();
        session.receive(pong).expect_err("a failure")
    };
    let refused = checked(&pong(false, "shared_key\nmismatch", ""));
    assert_eq!(refused, Failure::Refused("shared_key mismatch".into()));
    let wrong = digest(&format!("{SALT_SENT}themnonceother"));
    assert_eq!(checked(&pong(true, "", &wrong)), Failure::Impostor);
    assert_eq!(checked(&hello("")), Failure::NotForward);
    let said = |login, bytes: &[u8]| {
        let mut session = session(login, true, false);
        session.send(&record("a", b"1"), &mut Vec::new());
        packed(&mut session);
        session.receive(bytes).expect_err("a failure")
    };
    assert_eq!(said(None, &hello("")), Failure::KeyAsked);
    let nobody = Login { username: String::new(), ..login() };
    assert_eq!(said(Some(nobody), &hello("auth")), Failure::UserAsked);
    assert_eq!(said(None, &ack("nobody's")), Failure::Unknown("nobody's".into()));
    let number = |pair| bytes(&Value::Map(vec![(Value::from("ack"), pair)]));
    for nonsense in [
        b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
        b"220 mail.example.org ESMTP\r\n".to_vec(),
        vec![0xc1],
        vec![0x80],
        number(Value::from(1)),
        [vec![0xdd, 0, 0, 0xff, 0xff], vec![0xc0; 65 * 1024 - 1]].concat(),
        // A TLS alert.
        vec![0x15, 3, 3, 0, 2, 2, 40],
    ] {
        assert_eq!(
            said(None, &nonsense),
            Failure::NotForward,
            "{:?}",
            &nonsense[..5.min(nonsense.len())]
        );
    }
    let mut twice = session(None, true, false);
    twice.send(&record("a", b"1"), &mut Vec::new());
    twice.pack(&mut Vec::new());
    twice.send(&record("b", b"2"), &mut Vec::new());
    let second = packed(&mut twice)[0].chunk.clone().unwrap();
    twice.receive(&ack(&second)).unwrap();
    assert_eq!(twice.receive(&ack(&second)), Err(Failure::Unknown(second)));
}

proptest! {
    /// Whatever is sent and in whatever order it is acknowledged: each record goes out once, in its
    /// turn, under its tag, and what is acknowledged is told once all before it is.
    #[test]
    fn records_go_out_once_and_in_their_turn(
        steps in prop::collection::vec((0_u8..4, any::<u16>()), 1..200),
        gzip in any::<bool>(),
    ) {
        let mut session = session(None, true, gzip);
        let (mut sent, mut heard) = (Vec::new(), Vec::new());
        let (mut open, mut acked, mut told) = (Vec::<(String, u64, bool)>::new(), 0, 0);
        for (step, operand) in steps {
            match step {
                0 | 1 if session.has_room() => {
                    let tag = ["a", "b", ""][usize::from(operand) % 3];
                    let entry = vec![operand as u8; usize::from(operand)];
                    session.send(&record(tag, &entry), &mut Vec::new());
                    sent.push((tag, entry));
                    continue;
                }
                2 if !open.is_empty() => {
                    let index = usize::from(operand) % open.len();
                    let due = !open[index].2;
                    let answer = session.receive(&ack(&open[index].0));
                    prop_assert_eq!(answer.is_ok(), due);
                    if !due {
                        return Ok(());
                    }
                    open[index].2 = true;
                    while open.first().is_some_and(|first| first.2) {
                        acked += open.remove(0).1;
                    }
                }
                _ => {
                    for message in packed(&mut session) {
                        open.push((message.chunk.unwrap(), message.size, false));
                        heard.push((message.tag, message.entries));
                    }
                }
            }
            told += session.take_acknowledged() as u64;
            prop_assert_eq!(told, acked);
            audit(&session);
        }
        heard.extend(packed(&mut session).into_iter().map(|m| (m.tag, m.entries)));
        let join = |pairs: Vec<(String, Vec<u8>)>| {
            let mut joined: Vec<(String, Vec<u8>)> = Vec::new();
            for (tag, bytes) in pairs {
                match joined.last_mut().filter(|last| last.0 == tag) {
                    Some(last) => last.1.extend(bytes),
                    None => joined.push((tag, bytes)),
                }
            }
            joined
        };
        let sent = sent.into_iter().map(|(tag, entry)| (tag.to_owned(), entry)).collect();
        prop_assert!(join(sent) == join(heard));
    }
}
