//! A session of the forward protocol under arbitrary bytes of the server's and good
//! acknowledgements in any order: it never has more than its window without one, what it sends is
//! read by another decoder of MessagePack and has each record once, and what it tells to be
//! acknowledged is, in the order it was sent. In whatever pieces bytes come, they mean the same.
//!
//! Input: a byte that says which session, and then steps, each with an operand.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use logchute::transport::dialogue::Dialogue;
use logchute::transport::forward::session::naive::{audit, record};
use logchute::transport::forward::session::{RANDOM, Session};
use logchute::transport::forward::{Login, Terms};
use rmpv::Value;

fuzz_target!(|data: &[u8]| {
    let Some((kind, steps)) = data.split_first() else { return };
    let mut client = Client::new(*kind);
    let mut rest = steps;
    while let [step, operand, more @ ..] = rest {
        rest = more;
        match step % 4 {
            0 | 1 => client.send(*operand),
            2 => {
                if !client.acknowledge(usize::from(*operand)) {
                    return;
                }
            }
            _ => {
                // The rest is the server's, whatever it is.
                client.receive(more);
                return;
            }
        }
    }
    assert_eq!(client.whole.take_acknowledged(), client.told);
    assert_eq!(client.pieces.take_acknowledged(), client.told);
});

struct Client {
    whole: Session,
    /// The same session, which gets the server's bytes one by one.
    pieces: Session,
    /// Name, records and whether it is acknowledged, of each message.
    sent: Vec<(String, usize, bool)>,
    /// Records that are acknowledged, all before them too.
    told: usize,
    gzip: bool,
}

fn session(kind: u8) -> Session {
    let text = str::to_owned;
    let login = (kind & 1 == 1).then(|| Login {
        shared_key: text("key"),
        username: if kind & 2 == 2 { text("user") } else { String::new() },
        password: text("pass"),
        hostname: text("us"),
    });
    let ack_timeout = Duration::from_secs(1);
    let terms = Terms { login, acks: true, gzip: kind & 4 == 4, ack_timeout };
    Session::new(Arc::new(terms), [7; RANDOM])
}

impl Client {
    fn new(kind: u8) -> Client {
        let (whole, pieces) = (session(kind), session(kind));
        Client { whole, pieces, sent: Vec::new(), told: 0, gzip: kind & 4 == 4 }
    }

    /// Sends a few records, and looks at the messages that come of them.
    fn send(&mut self, operand: u8) {
        let (mut given, mut out, mut same) = (0, Vec::new(), Vec::new());
        for number in 0..operand % 8 {
            if !self.whole.has_room() {
                break;
            }
            let tag = if number % 3 == 0 { "a" } else { "b" };
            let record = record(tag, &vec![number; usize::from(operand) * 50]);
            self.whole.send(&record, &mut Vec::new());
            self.pieces.send(&record, &mut Vec::new());
            given += 1;
        }
        while self.whole.pack(&mut out) {}
        while self.pieces.pack(&mut same) {}
        assert_eq!(out, same);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let message = rmpv::decode::read_value(&mut rest).expect("MessagePack");
            let options = message[2].as_map().expect("options");
            assert_eq!(options.len(), if self.gzip { 3 } else { 2 });
            let size = options[0].1.as_u64().expect("a size") as usize;
            given -= size;
            let name = options[1].1.as_str().expect("a name").to_owned();
            assert!(self.sent.iter().all(|(other, ..)| *other != name));
            self.sent.push((name, size, false));
        }
        assert_eq!(given, 0, "each record is in one message");
        audit(&self.whole);
    }

    /// Acknowledges a message; whether the session goes on after it.
    fn acknowledge(&mut self, index: usize) -> bool {
        let (name, due) = match self.sent.get(index) {
            Some((name, _, acknowledged)) => (name.clone(), !acknowledged),
            None => ("none".to_owned(), false),
        };
        let mut bytes = Vec::new();
        let ack = Value::Map(vec![(Value::from("ack"), Value::from(name))]);
        rmpv::encode::write_value(&mut bytes, &ack).expect("a vector takes all");
        let goes_on = self.receive(&bytes);
        assert_eq!(goes_on, due && self.whole.is_open());
        if goes_on {
            self.sent[index].2 = true;
            let done = self.sent.iter().take_while(|(.., acknowledged)| *acknowledged);
            self.told = done.map(|(_, size, _)| size).sum();
        }
        goes_on
    }

    fn receive(&mut self, bytes: &[u8]) -> bool {
        let whole = self.whole.receive(bytes);
        let pieces = bytes.iter().try_for_each(|byte| self.pieces.receive(&[*byte]));
        assert_eq!(whole, pieces);
        let (mut said, mut same) = (Vec::new(), Vec::new());
        self.whole.reply(&mut said);
        self.pieces.reply(&mut same);
        match &whole {
            Err(failure) => assert!(!failure.to_string().contains(char::is_control)),
            Ok(()) => {
                assert_eq!(said, same);
                audit(&self.whole);
            }
        }
        whole.is_ok()
    }
}
