//! An answer of the daemon, arbitrary bytes cut anywhere, is read as if it came whole; a chunked
//! body as a naive decoder reads it.
//!
//! Input: a count, so many sizes of pieces (one byte each), and what the daemon sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::frame::naive::cut;
use logchute::docker::http1::{Body, BodyDecoder, Head, HttpError, error_message, parse_head};

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

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    bytes: Vec<u8>,
    /// Bytes of the input that belong to the body, framing included; 0 after an error.
    consumed: usize,
    /// Whether the body has ended.
    end: Result<bool, HttpError>,
}

fn decode<'a>(body: Body, inputs: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = BodyDecoder::new(body);
    let mut outcome = Outcome { bytes: Vec::new(), consumed: 0, end: Ok(false) };
    for mut input in inputs {
        loop {
            let decoded = match decoder.decode(input) {
                Ok(decoded) => decoded,
                Err(error) => return Outcome { consumed: 0, end: Err(error), ..outcome },
            };
            outcome.bytes.extend_from_slice(decoded.piece);
            outcome.consumed += decoded.consumed;
            if decoded.done {
                assert_eq!(decoder.finish(), Ok(()));
                return Outcome { end: Ok(true), ..outcome };
            }
            assert!(input.is_empty() || decoded.consumed > 0, "no progress");
            input = &input[decoded.consumed..];
            if input.is_empty() {
                break;
            }
        }
    }
    outcome
}

/// The bytes of a chunked body and its length with the framing, line by line; `None` if it is cut
/// short or not understood.
fn dechunk(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut bytes = Vec::new();
    let mut rest = body;
    loop {
        let size = line(&mut rest)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&size[..digits]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        bytes.extend_from_slice(rest.get(..size)?);
        rest = &rest[size..];
        if !line(&mut rest)?.is_empty() {
            return None;
        }
    }
    // The decoder takes a line of CRs alone for the blank one. Nothing rests on trailers.
    while line(&mut rest)?.iter().any(|&byte| byte != b'\r') {}
    Some((bytes, body.len() - rest.len()))
}

/// Takes a line off `rest`, and its end off the line.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}
