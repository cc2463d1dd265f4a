//! A chunked body, arbitrary or well-formed, cut anywhere, is read as a naive decoder reads it.
//!
//! Input: how the rest is used (even: it is the body; odd: it is what chunks are made of), a
//! count, so many sizes of pieces (one byte each), and the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::frame::naive::cut;
use logchute::docker::http1::Body;
use logchute_fuzz::http::{dechunk, decode};

fuzz_target!(|data: &[u8]| {
    let [how, count, rest @ ..] = data else { return };
    let (sizes, rest) = rest.split_at(rest.len().min(usize::from(*count)));
    if how % 2 == 1 {
        let (body, bytes) = written(rest, sizes);
        let outcome = decode(Body::Chunked, cut(&body, sizes));
        assert_eq!(outcome.end, Ok(true));
        assert_eq!((outcome.bytes, outcome.consumed), (bytes, body.len()));
        return;
    }
    let outcome = decode(Body::Chunked, [rest]);
    assert_eq!(decode(Body::Chunked, cut(rest, sizes)), outcome);
    if outcome.end == Ok(true) {
        assert_eq!(dechunk(rest), Some((outcome.bytes, outcome.consumed)));
    }
});

/// A body as RFC 9112, 7.1 wants it, its chunks as long as `sizes` say, and the bytes in it.
fn written(bytes: &[u8], sizes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut body = Vec::new();
    for (chunk, index) in cut(bytes, sizes).into_iter().zip(0..) {
        if chunk.is_empty() {
            continue;
        }
        let extension = ["", ";a", " ; a=\"0;\r0\"", "\t"][index % 4];
        body.extend_from_slice(format!("{:0>1$X}", chunk.len(), index % 5).as_bytes());
        body.extend_from_slice(extension.as_bytes());
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    let trailer = if sizes.len() % 2 == 1 { "Digest: x\r\n" } else { "" };
    body.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
    (body, bytes.to_vec())
}
