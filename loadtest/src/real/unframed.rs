//! What a relay writes on, without the headers of its frames.

use std::io::{self, BufReader, Read};

/// Bytes of a header: the source, three zeros, and the length of the frame, big-endian.
const HEADER: usize = 8;

/// The payload of a framed stream (Docker API, "Stream format" of attach).
pub(super) struct Unframed<R> {
    from: BufReader<R>,
    /// Bytes of the current frame that are still to come.
    left: usize,
}

impl<R: Read> Unframed<R> {
    /// Reads at most `buffer` bytes at once.
    pub(super) fn new(from: R, buffer: usize) -> Unframed<R> {
        Unframed { from: BufReader::with_capacity(buffer, from), left: 0 }
    }
}

impl<R: Read> Read for Unframed<R> {
    /// The end of the stream within a frame is an end too: the lines that miss are counted.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut header = [0; HEADER];
            let mut filled = 0;
            while filled < HEADER {
                match self.from.read(&mut header[filled..])? {
                    0 => return Ok(0),
                    count => filled += count,
                }
            }
            let [_, _, _, _, length @ ..] = header;
            self.left = u32::from_be_bytes(length) as usize;
        }
        let most = out.len().min(self.left);
        let count = self.from.read(&mut out[..most])?;
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a byte stream in pieces.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(out.len());
            self.0.read(&mut out[..most])
        }
    }

    #[test]
    fn headers_are_left_out_however_the_stream_is_cut() {
        let frame = |payload: &[u8]| {
            let mut frame = vec![1, 0, 0, 0, 0, 0, 0, payload.len() as u8];
            frame.extend_from_slice(payload);
            frame
        };
        let stream = [frame(b"one "), frame(b""), frame(&[b'x'; 200]), frame(b"three")].concat();
        let payload = [&b"one "[..], &[b'x'; 200], b"three"].concat();
        for piece in 1..30 {
            let mut text = Vec::new();
            Unframed::new(Pieces(&stream, piece), 16).read_to_end(&mut text).unwrap();
            assert_eq!(text, payload, "pieces of {piece}");
        }
        let mut text = Vec::new();
        Unframed::new(&stream[..20], 16).read_to_end(&mut text).unwrap();
        assert_eq!(text, b"one ");
    }
}
