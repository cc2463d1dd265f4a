//! Demultiplexer and splitter together, for several containers at once, with a terminal and
//! without: every line of every source is as the naive ones have it.
//!
//! Input: the longest line (0 stands for one that none reaches), which containers have a terminal
//! (one bit each), and then pieces: what it is and whose (see `Piece`), its length, its bytes.

#![no_main]

use std::array::from_fn;

use libfuzzer_sys::fuzz_target;
use logchute::docker::Source;
use logchute::docker::frame::{Demux, Piece, naive::frames};
use logchute::lines::split::{Splitter, naive::Lines};

const CONTAINERS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let [max_line, tty, rest @ ..] = data else { return };
    let max_line = if *max_line == 0 { 1 << 20 } else { usize::from(*max_line) };
    let mut followed: [Followed; CONTAINERS] =
        from_fn(|n| Followed::new(tty >> n & 1 == 1, max_line));
    let mut rest = rest;
    while let [what, len, after @ ..] = rest {
        let (bytes, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        followed[usize::from(what & 3) % CONTAINERS].write(*what, bytes);
    }
    followed.into_iter().for_each(Followed::check);
});

/// A container, as it is read.
struct Followed {
    max_line: usize,
    tty: bool,
    demux: Demux,
    splitters: [Splitter; 2],
    /// What came out, by source.
    lines: [Vec<u8>; 2],
    system_error: Vec<u8>,
    broken: bool,
    /// The stream, and how much of it was read.
    stream: Vec<u8>,
    read: usize,
}

impl Followed {
    fn new(tty: bool, max_line: usize) -> Followed {
        Followed {
            max_line,
            tty,
            demux: if tty { Demux::tty() } else { Demux::framed() },
            splitters: from_fn(|_| Splitter::new(max_line)),
            lines: Default::default(),
            system_error: Vec::new(),
            broken: false,
            stream: Vec::new(),
            read: 0,
        }
    }

    /// Bits 2 to 4 of `what` say what is written: a frame of type 0 to 3 that holds `bytes`, one
    /// that claims to be far longer, or the bytes alone. Unless bit 5 is set it is then read.
    fn write(&mut self, what: u8, bytes: &[u8]) {
        let kind = what >> 2 & 7;
        let claim = [bytes.len(), u32::MAX as usize][usize::from(kind == 4)];
        if kind <= 4 && !self.tty {
            self.stream.extend_from_slice(&[kind % 4, 0, 0, 0]);
            self.stream.extend_from_slice(&(claim as u32).to_be_bytes());
        }
        self.stream.extend_from_slice(bytes);
        if what & 0x20 == 0 {
            self.read();
        }
    }

    fn read(&mut self) {
        let Followed { demux, splitters, lines, system_error, .. } = self;
        if self.broken {
            return;
        }
        let input = &self.stream[self.read..];
        self.read = self.stream.len();
        let result = demux.push(input, |piece| match piece {
            Piece::Output { source, bytes, .. } => {
                let lines = &mut lines[source as usize];
                splitters[source as usize]
                    .push(bytes, &mut |block: &[u8]| lines.extend_from_slice(block));
            }
            Piece::SystemError { bytes, .. } => system_error.extend_from_slice(bytes),
        });
        self.broken = result.is_err();
    }

    fn check(mut self) {
        self.read();
        let mut expected: [Lines; 2] = Default::default();
        let mut system_error = Vec::new();
        let (frames, outcome) = frames(&self.stream);
        let each = |lines: &mut Lines, bytes: &[u8]| {
            bytes.iter().for_each(|&byte| lines.push(byte, self.max_line));
        };
        if self.tty {
            each(&mut expected[0], &self.stream);
        } else {
            assert_eq!(self.broken, outcome.is_err());
            for frame in frames {
                match frame.channel {
                    "stdout" => each(&mut expected[Source::Stdout as usize], &frame.payload),
                    "stderr" => each(&mut expected[Source::Stderr as usize], &frame.payload),
                    _ => system_error.extend(frame.payload),
                }
            }
        }
        assert_eq!(self.system_error, system_error);
        for source in Source::OUTPUTS {
            let (splitter, lines) =
                (&mut self.splitters[source as usize], &mut self.lines[source as usize]);
            let expected = &mut expected[source as usize];
            assert_eq!(splitter.pending(), expected.line.len());
            splitter.finish(&mut |block: &[u8]| lines.extend_from_slice(block));
            if !expected.line.is_empty() {
                expected.push(b'\n', self.max_line);
            }
            assert_eq!(*lines, expected.out);
            assert_eq!(splitter.take_cut_lines(), expected.cut_lines);
        }
    }
}
