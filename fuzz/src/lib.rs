//! What several fuzz targets share: ways to take an input apart, and plain decoders.

pub mod http;

use logchute::buffer::Outbox;

/// What stands in an input for something that must never be shown.
pub const SECRET: &str = "hunter2";

/// The parts of an input between zero bytes, each as text; what is not UTF-8 counts as empty.
pub fn texts(input: &[u8]) -> impl Iterator<Item = &str> {
    input.split(|&byte| byte == 0).map(|part| str::from_utf8(part).unwrap_or_default())
}

/// An error or a warning is one line, says something, and does not show [`SECRET`].
pub fn check_message(message: &str) {
    assert!(!message.trim().is_empty());
    assert!(!message.contains(char::is_control), "not one line: {message:?}");
    assert!(!message.contains(SECRET), "a secret is shown: {message:?}");
}

/// Takes all records of an outbox.
pub fn drain(out: &mut Outbox) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(chunk) = out.take() {
        records.extend(chunk.pending_records().map(<[u8]>::to_vec));
        out.recycle(chunk);
    }
    records
}

/// What a receiver of octet-counted records (RFC 6587, 3.4.1) makes of `stream`, byte by byte;
/// panics where it would lose its way.
pub fn octet_counted(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !stream.is_empty() {
        let mut count = 0;
        loop {
            let (&byte, rest) = stream.split_first().expect("a count ends with a space");
            stream = rest;
            match byte {
                b' ' => break,
                b'0' => assert_ne!(count, 0, "MSG-LEN begins with another digit than 0"),
                b'1'..=b'9' => {}
                _ => panic!("{byte:#x} in a count"),
            }
            count = count * 10 + usize::from(byte - b'0');
        }
        assert!(count <= stream.len(), "the stream ends within a record");
        let (record, rest) = stream.split_at(count);
        records.push(record.to_vec());
        stream = rest;
    }
    records
}
