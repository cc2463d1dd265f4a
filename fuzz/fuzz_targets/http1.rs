//! An answer of the daemon, arbitrary bytes cut anywhere, is read as if it came whole; a chunked
//! body as a naive decoder reads it.
//!
//! Input: a count, so many sizes of pieces (one byte each), and what the daemon sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::frame::naive::cut;
use logchute::docker::http1::{Body, Head, HttpError, error_message, parse_head};
use logchute_fuzz::http::{dechunk, decode};

fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else { return };
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(count)));
    let whole = parse_head(stream);
    head_cut_anywhere(stream, sizes, &whole);
    let Ok(Some((head, len))) = whole else { return };
    let body = &stream[len..];
    let outcome = decode(head.body, [body]);
    assert_eq!(decode(head.body, cut(body, sizes)), outcome);
    if head.body == Body::Chunked && outcome.end == Ok(true) {
        assert_eq!(dechunk(body), Some((outcome.bytes.clone(), outcome.consumed)));
    }
    assert!(!error_message(head.status, &outcome.bytes).chars().any(char::is_control));
});

/// The first answer to a growing input other than "more" is the answer to all of it.
fn head_cut_anywhere(
    stream: &[u8],
    sizes: &[u8],
    whole: &Result<Option<(Head, usize)>, HttpError>,
) {
    let mut len = 0;
    for piece in cut(stream, sizes) {
        len += piece.len();
        let got = parse_head(&stream[..len]);
        if got != Ok(None) {
            assert_eq!(got, *whole);
            return;
        }
    }
}
