//! A simulated receiver of newline-ended records, or of RELP ([`super::relp`]): it reads when it
//! likes, stands still, is killed with what it has not read, or closes in an orderly way.

use std::collections::BTreeMap;

use super::net::{End, Peer};
use super::relp::Session;
use super::world::{MS, World};

/// A receiver, and what it does at the moment.
#[derive(Default)]
pub(super) struct Receiver {
    /// Whether it listens.
    pub(super) up: bool,
    /// It reads nothing before this time.
    pub(super) frozen_until: u64,
    /// It reads at most so many bytes a millisecond before this time.
    pub(super) slow: (u64, usize),
    /// No packet reaches it before this time.
    pub(super) cut_until: u64,
    /// Over RELP it refuses some records before this time.
    pub(super) refuses_until: u64,
    /// It speaks RELP: these are its sessions.
    relp: bool,
    pub(super) sessions: BTreeMap<usize, Session>,
    /// What it has read of each connection's last record.
    conns: BTreeMap<usize, Vec<u8>>,
    reading: bool,
}

impl Receiver {
    /// One that listens.
    pub(super) fn new(relp: bool) -> Receiver {
        Receiver { up: true, relp, ..Receiver::default() }
    }

    /// A connection has come.
    pub(super) fn accept(&mut self, number: usize) {
        self.conns.insert(number, Vec::new());
    }

    /// Its connections.
    pub(super) fn connections(&self) -> Vec<usize> {
        self.conns.keys().copied().collect()
    }
}

impl World {
    /// There is something for a receiver to read: it does so some time.
    pub(super) fn readable(&mut self, receiver: usize) {
        if std::mem::replace(&mut self.receivers[receiver].reading, true) {
            return;
        }
        let delay = self.chance.below(2 * MS);
        let at = (self.now + delay).max(self.receivers[receiver].frozen_until);
        self.at(at, move |world| world.read_some(receiver));
    }

    fn read_some(&mut self, receiver: usize) {
        let now = self.now;
        let this = &mut self.receivers[receiver];
        this.reading = false;
        if this.frozen_until > now {
            return self.readable(receiver);
        }
        let (slow_until, rate) = this.slow;
        let mut most = if slow_until > now { rate } else { usize::MAX };
        for number in this.connections() {
            let n = self.conns[number].inbox.len().min(most);
            most -= n;
            self.take(receiver, number, n);
            self.carry(number);
        }
        let waits = |number: usize| !self.conns[number].inbox.is_empty();
        if self.receivers[receiver].connections().into_iter().any(waits) {
            self.readable(receiver);
        }
    }

    /// Reads `n` bytes of a connection.
    fn take(&mut self, receiver: usize, number: usize, n: usize) {
        let Some(mut record) = self.receivers[receiver].conns.remove(&number) else { return };
        let run = self.conns[number].run;
        let bytes: Vec<u8> = self.conns[number].inbox.drain(..n).collect();
        if self.receivers[receiver].relp {
            record.extend_from_slice(&bytes);
            record = self.relp_read(receiver, number, record);
            self.receivers[receiver].conns.insert(number, record);
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            record.extend_from_slice(piece);
            if record.pop_if(|byte| *byte == b'\n').is_some() {
                self.ledger.received(receiver, run, &record, self.now);
                record.clear();
            }
        }
        self.receivers[receiver].conns.insert(number, record);
    }

    /// A connection is over: what has arrived is read. One that is `hurt` was not closed.
    pub(super) fn read_rest(&mut self, receiver: usize, number: usize, hurt: bool) {
        let n = self.conns[number].inbox.len();
        self.take(receiver, number, n);
        self.relp_end(receiver, number, hurt);
        self.receivers[receiver].conns.remove(&number);
        self.close_by_peer(number, End::Fin);
    }

    /// A receiver ends in an orderly way: it reads what there is.
    pub(super) fn close_receiver(&mut self, receiver: usize) {
        self.receivers[receiver].up = false;
        for number in self.receivers[receiver].connections() {
            let n = self.conns[number].inbox.len();
            self.take(receiver, number, n);
            self.relp_goodbye(receiver, number);
            self.read_rest(receiver, number, false);
        }
    }

    /// A receiver is killed: what it has not read is gone.
    pub(super) fn kill_receiver(&mut self, receiver: usize) {
        let this = &mut self.receivers[receiver];
        this.up = false;
        this.sessions.clear();
        for (number, begun) in std::mem::take(&mut this.conns) {
            let conn = &mut self.conns[number];
            debug_assert_eq!(conn.peer, Peer::Receiver(receiver));
            let mut end = conn.arrived - conn.inbox.len() as u64 - begun.len() as u64;
            if self.receivers[receiver].relp {
                conn.inbox.clear();
                self.close_by_peer(number, End::Reset);
                continue;
            }
            let whole = [&begun[..], conn.inbox.make_contiguous()].concat();
            for record in whole.split_inclusive(|byte| *byte == b'\n') {
                end += record.len() as u64;
                if let Some(record) = record.strip_suffix(b"\n") {
                    conn.unread.push((end, record.to_vec()));
                }
            }
            conn.inbox.clear();
            self.close_by_peer(number, End::Reset);
        }
    }
}
