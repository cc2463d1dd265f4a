//! Bodies of HTTP answers: what the program's decoder makes of one, and the plain way.

use logchute::docker::http1::{Body, BodyDecoder, HttpError};

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Bytes of the input that belong to the body, framing included; 0 after an error.
    pub consumed: usize,
    /// Whether the body has ended.
    pub end: Result<bool, HttpError>,
}

/// Feeds `inputs` to the program's decoder, one after the other.
pub fn decode<'a>(body: Body, inputs: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
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
pub fn dechunk(body: &[u8]) -> Option<(Vec<u8>, usize)> {
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
