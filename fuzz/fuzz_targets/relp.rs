//! A RELP session under arbitrary bytes of the server's and good answers in any order: it never has
//! more than its window without an answer, acknowledges what was answered and in the order it was
//! sent, and its frames are read by a naive server. In whatever pieces bytes come, they mean the
//! same.
//!
//! Input: two bytes for the number that the first record gets, and then steps, each with an operand.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use logchute::transport::dialogue::Dialogue;
use logchute::transport::relp::session::Session;
use logchute::transport::relp::session::naive::{answer, audit, opened_at, read};

fuzz_target!(|data: &[u8]| {
    let Some((first, steps)) = data.split_first_chunk::<2>() else { return };
    // Near the end of the numbers or at their beginning.
    let first = u32::from(u16::from_le_bytes(*first));
    let first = if first % 2 == 0 { 999_999_999 - first / 256 } else { 2 + first };
    let mut client = Client {
        whole: opened_at(first),
        pieces: opened_at(first),
        sent: Vec::new(),
        answered: BTreeSet::new(),
        acknowledged: 0,
    };
    let mut rest = steps;
    while let [step, operand, more @ ..] = rest {
        rest = more;
        match step % 4 {
            0 | 1 => client.send(*operand),
            2 => {
                if !client.answer(usize::from(*operand)) {
                    return;
                }
            }
            _ => {
                // The rest is the server's, whatever it is.
                client.receive(more);
                return;
            }
        }
        client.check();
    }
    client.close();
});

struct Client {
    whole: Session,
    /// The same session, which gets the server's bytes one by one.
    pieces: Session,
    /// The numbers of the records that were sent.
    sent: Vec<u32>,
    answered: BTreeSet<usize>,
    acknowledged: usize,
}

impl Client {
    fn send(&mut self, size: u8) {
        if !self.whole.has_room() {
            return;
        }
        let mut record = vec![b'x'; usize::from(size) * 100];
        record.push(b'\n');
        let (mut out, mut same) = (Vec::new(), Vec::new());
        self.whole.send(&record, &mut out);
        self.pieces.send(&record, &mut same);
        assert_eq!(out, same);
        let frames = read(&out);
        let [(txnr, command, data)] = &frames[..] else { panic!("one frame") };
        assert_eq!((&**command, data.len()), ("syslog", record.len() - 1));
        if let Some(last) = self.sent.last() {
            assert_eq!(*txnr, if *last == 999_999_999 { 1 } else { last + 1 });
        }
        self.sent.push(*txnr);
    }

    /// Answers the record that is so far behind the oldest without an answer; whether the session
    /// goes on after it.
    fn answer(&mut self, behind: usize) -> bool {
        let index = self.acknowledged + behind;
        let due = index < self.sent.len() && !self.answered.contains(&index);
        let txnr = self.sent.get(index).copied().unwrap_or(0);
        let goes_on = self.receive(&answer(txnr, "200 OK"));
        assert_eq!(goes_on, due, "an answer to {txnr}");
        self.answered.insert(index);
        while self.answered.contains(&self.acknowledged) {
            self.acknowledged += 1;
        }
        goes_on
    }

    fn receive(&mut self, bytes: &[u8]) -> bool {
        let whole = self.whole.receive(bytes);
        let pieces = bytes.iter().try_for_each(|byte| self.pieces.receive(&[*byte]));
        assert_eq!(whole, pieces);
        if let Err(failure) = &whole {
            assert!(!failure.to_string().contains(char::is_control));
        } else {
            audit(&self.whole);
        }
        whole.is_ok()
    }

    fn check(&mut self) {
        audit(&self.whole);
        let waiting = self.sent.len() - self.acknowledged;
        assert_eq!(self.whole.is_waiting(), waiting > 0);
    }

    /// All that was answered was acknowledged, and the session ends in order.
    fn close(mut self) {
        assert_eq!(self.whole.take_acknowledged(), self.acknowledged);
        assert_eq!(self.pieces.take_acknowledged(), self.acknowledged);
        let mut last = Vec::new();
        self.whole.close(&mut last);
        self.pieces.close(&mut Vec::new());
        let (txnr, command, _) = read(&last).remove(0);
        assert_eq!(command, "close");
        assert!(self.receive(format!("{txnr} rsp 0\n").as_bytes()));
        assert!(self.whole.is_closed() && self.pieces.is_closed());
    }
}
