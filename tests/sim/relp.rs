//! A simulated RELP server, written from what the protocol says and not from our client: it takes
//! records, stores them some time, each whole or not at all, and answers for what it has stored,
//! late and in any order. It refuses records, says goodbye in order, and is killed with what it
//! has not stored. What a client does that it must not is noted.

use std::collections::VecDeque;

use super::world::World;

/// So many frames may wait for an answer: librelp's servers are used to no more.
const WINDOW: usize = 128;
/// The head of a frame has no more bytes.
const HEAD_MAX: usize = 60;
/// What the server says of itself.
const OFFERS: &str = "200 OK\nrelp_version=0\nrelp_software=simulated\ncommands=syslog";

/// A session, as its server sees it.
#[derive(Default)]
pub(super) struct Session {
    stage: Stage,
    /// The number of the client's last frame.
    last: u64,
    /// Records that were taken and are not stored.
    taken: VecDeque<(u64, Vec<u8>)>,
    /// Frames that wait for an answer.
    unanswered: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    New,
    Open,
    /// The server has refused something, or was told goodbye: it takes nothing more.
    Over,
}

/// A client's frame.
struct Frame {
    txnr: u64,
    command: String,
    data: Vec<u8>,
}

impl Frame {
    /// Takes the first frame off `bytes`, if all of it is there.
    fn take(bytes: &mut Vec<u8>) -> Result<Option<Frame>, &'static str> {
        let head = &bytes[..bytes.len().min(HEAD_MAX)];
        let mut words = head.splitn(3, |byte| *byte == b' ');
        let (txnr, command, rest) = (words.next(), words.next(), words.next());
        let digits = rest.and_then(|rest| rest.iter().position(|byte| !byte.is_ascii_digit()));
        let (Some(txnr), Some(command), Some(rest), Some(digits)) = (txnr, command, rest, digits)
        else {
            return if bytes.len() < HEAD_MAX { Ok(None) } else { Err("a head without an end") };
        };
        let number = |text: &[u8]| String::from_utf8_lossy(text).parse::<u64>();
        let (Ok(txnr), Ok(len)) = (number(txnr), number(&rest[..digits])) else {
            return Err("a head without numbers");
        };
        let command = String::from_utf8_lossy(command).into_owned();
        let start = head.len() - rest.len() + digits + usize::from(len > 0);
        let end = start + len as usize;
        match bytes.get(end) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err("a frame that does not end where it says"),
        }
        let data = bytes[start..end].to_vec();
        bytes.drain(..=end);
        Ok(Some(Frame { txnr, command, data }))
    }
}

impl World {
    /// Takes the frames that have come whole over a connection; `begun` is what was read of it.
    /// Returns the rest.
    pub(super) fn relp_read(
        &mut self,
        receiver: usize,
        number: usize,
        mut begun: Vec<u8>,
    ) -> Vec<u8> {
        loop {
            match Frame::take(&mut begun) {
                Ok(None) => return begun,
                Ok(Some(frame)) => self.relp_frame(receiver, number, frame),
                Err(why) => {
                    self.ledger.wrong(receiver, why);
                    return Vec::new();
                }
            }
        }
    }

    fn relp_frame(&mut self, receiver: usize, number: usize, frame: Frame) {
        let session = self.receivers[receiver].sessions.entry(number).or_default();
        session.last += 1;
        if session.last != frame.txnr {
            self.ledger.wrong(receiver, "a frame out of turn");
        }
        match (&*frame.command, session.stage) {
            (_, Stage::Over) => {}
            ("open", Stage::New) => self.relp_open(receiver, number, &frame.data),
            ("syslog", Stage::Open) => {
                session.unanswered += 1;
                if session.unanswered > WINDOW {
                    self.ledger.wrong(receiver, "more records at a time than are allowed");
                }
                session.taken.push_back((frame.txnr, frame.data));
                let delay = self.relp_delay();
                self.after(delay, move |world| world.relp_store(receiver, number));
            }
            ("close", Stage::Open) => {
                session.stage = Stage::Over;
                if session.unanswered > 0 {
                    self.ledger.wrong(receiver, "a goodbye before all was answered");
                }
                let delay = self.relp_delay();
                self.after(delay, move |world| {
                    world.relp_send(receiver, number, format!("{} rsp 0\n", frame.txnr));
                    world.read_rest(receiver, number, false);
                });
            }
            (command, _) => self.ledger.wrong(receiver, &format!("{command} is out of place")),
        }
    }

    fn relp_open(&mut self, receiver: usize, number: usize, offers: &[u8]) {
        let offers = String::from_utf8_lossy(offers).into_owned();
        let has = |offer| offers.split('\n').any(|line| line == offer);
        if !has("relp_version=0") || !has("commands=syslog") {
            self.ledger.wrong(receiver, "offers without version or commands");
        }
        let refuses = self.relp_refuses(receiver);
        let delay = self.relp_delay();
        self.after(delay, move |world| {
            let Some(session) = world.receivers[receiver].sessions.get_mut(&number) else { return };
            session.stage = if refuses { Stage::Over } else { Stage::Open };
            let answer = if refuses { "500 not now" } else { OFFERS };
            world.relp_answer(receiver, number, 1, answer);
        });
    }

    /// How long something takes.
    fn relp_delay(&mut self) -> u64 {
        let most = self.daemon.scenario.answers;
        let most = if self.chance.one_in(8) { most } else { most / 8 };
        self.chance.below(most)
    }

    fn relp_refuses(&mut self, receiver: usize) -> bool {
        self.receivers[receiver].refuses_until > self.now && self.chance.one_in(8)
    }

    /// One more record is stored, or refused; its answer follows some time.
    fn relp_store(&mut self, receiver: usize, number: usize) {
        let frozen_until = self.receivers[receiver].frozen_until;
        if frozen_until > self.now {
            return self.at(frozen_until, move |world| world.relp_store(receiver, number));
        }
        let refuses = self.relp_refuses(receiver);
        let any = self.daemon.scenario.any_order;
        let Some(session) = self.receivers[receiver].sessions.get_mut(&number) else { return };
        let at = if any { self.chance.below(session.taken.len().max(1) as u64) } else { 0 };
        let Some((txnr, record)) = session.taken.remove(at as usize) else { return };
        if refuses {
            // Those behind it are not wanted before it: the client is to begin anew.
            session.stage = Stage::Over;
            session.taken.clear();
            return self.relp_answer(receiver, number, txnr, "500 disk full");
        }
        self.ledger.received(receiver, self.conns[number].run, &record, self.now);
        let delay = self.relp_delay();
        self.after(delay, move |world| world.relp_took(receiver, number, txnr));
    }

    /// The answer for a record that is stored goes out.
    fn relp_took(&mut self, receiver: usize, number: usize, txnr: u64) {
        let this = &mut self.receivers[receiver];
        let frozen_until = this.frozen_until;
        if frozen_until > self.now {
            return self.at(frozen_until, move |world| world.relp_took(receiver, number, txnr));
        }
        let Some(session) = this.sessions.get_mut(&number) else { return };
        session.unanswered -= 1;
        self.ledger.answered(receiver);
        self.relp_answer(receiver, number, txnr, "200 OK");
    }

    fn relp_answer(&mut self, receiver: usize, number: usize, txnr: u64, text: &str) {
        self.relp_send(receiver, number, format!("{txnr} rsp {} {text}\n", text.len()));
    }

    fn relp_send(&mut self, receiver: usize, number: usize, text: String) {
        if self.receivers[receiver].sessions.contains_key(&number) {
            self.send(number, text.into_bytes(), 0);
        }
    }

    /// A connection is over. What the server has taken it stores, unless it was `hurt`; then that
    /// may be gone.
    pub(super) fn relp_end(&mut self, receiver: usize, number: usize, hurt: bool) {
        let Some(session) = self.receivers[receiver].sessions.remove(&number) else { return };
        let gone = hurt && self.chance.one_in(2);
        let run = self.conns[number].run;
        let stored = session.taken.iter().filter(|_| !gone);
        stored.for_each(|(_, record)| self.ledger.received(receiver, run, record, self.now));
    }

    /// The server ends in an orderly way: it stores what it has taken, answers for some of that and
    /// says goodbye.
    pub(super) fn relp_goodbye(&mut self, receiver: usize, number: usize) {
        let Some(session) = self.receivers[receiver].sessions.get_mut(&number) else { return };
        let taken = std::mem::take(&mut session.taken);
        let answers = self.chance.below(taken.len() as u64 + 1) as usize;
        for (place, (txnr, record)) in taken.into_iter().enumerate() {
            self.ledger.received(receiver, self.conns[number].run, &record, self.now);
            if place < answers {
                self.relp_took(receiver, number, txnr);
            }
        }
        self.relp_send(receiver, number, "0 serverclose 0\n".to_owned());
    }
}
