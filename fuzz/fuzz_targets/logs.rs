//! The `logs` door: a terminal's log cut anywhere gives the same messages, loses no byte, and a
//! message is split into time and content as a plain reader does.
//!
//! Input: a count, so many sizes of pieces (one byte each), and the log, in which the bytes from
//! 0x80 on stand for what a log has: times, and content up to the length at which Docker cuts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::frame::naive::cut;
use logchute::docker::logs::{PART_LEN, TtyLogs, TtyPiece, parse_message};
use logchute::docker::time::{RFC3339_MAX, rfc3339};

fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else { return };
    let (sizes, rest) = rest.split_at(rest.len().min(usize::from(count)));
    let mut log = Vec::new();
    let mut parts = 0;
    for &byte in rest.iter().take(200) {
        match byte {
            0x80..0xA0 => log.extend_from_slice(b"2024-05-06T07:08:09.123456789Z "),
            0xA0..0xB0 => log.extend_from_slice(b"2024-05-06T09:08:09.1+02:00 "),
            0xB0..0xC0 if parts < 3 => {
                let length = PART_LEN - 8 + usize::from(byte & 15);
                log.extend(std::iter::repeat_n(b'x', length));
                parts += 1;
            }
            _ => log.push(byte),
        }
    }
    let messages = messages(cut(&log, sizes));
    assert_eq!(messages, self::messages(vec![&log]));
    no_byte_is_lost(&log, &messages);
    for message in log.split_inclusive(|&byte| byte == b'\n') {
        assert_eq!(parse_message(message), plain(message));
    }
});

/// A message's time, and its content.
type Message = (Option<u64>, Vec<u8>);

fn messages(pieces: Vec<&[u8]>) -> Vec<Message> {
    let (mut logs, mut messages) = (TtyLogs::default(), Vec::<Message>::new());
    let mut each = |TtyPiece { nanos, first, content }: TtyPiece<'_>| {
        if first {
            messages.push((nanos, Vec::new()));
        }
        let (time, bytes) = messages.last_mut().expect("a stream begins with a message");
        assert_eq!(*time, nanos);
        assert!(!bytes.ends_with(b"\n"), "a message goes on behind its newline");
        bytes.extend_from_slice(content);
    };
    pieces.into_iter().for_each(|piece| logs.push(piece, &mut each));
    logs.finish(each);
    messages
}

/// The log is the messages in their order, with a time that says what it says before each.
fn no_byte_is_lost(mut log: &[u8], messages: &[Message]) {
    for (nanos, content) in messages {
        if nanos.is_some() {
            let (time, rest) = plain(log).expect("a time stands here");
            assert_eq!(*nanos, Some(time));
            log = rest;
        }
        log = log.strip_prefix(&content[..]).expect("the content follows");
    }
    // A time alone at the end begins a message of which nothing was written.
    assert!(log.is_empty() || plain(log).is_some_and(|(_, rest)| rest.is_empty()), "{log:?}");
}

/// What stands before the first space is a time.
fn plain(message: &[u8]) -> Option<(u64, &[u8])> {
    let space = message.iter().position(|&byte| byte == b' ')?;
    let (time, rest) = message.split_at(space);
    if space > RFC3339_MAX {
        return None;
    }
    Some((rfc3339(time)?, &rest[1..]))
}
