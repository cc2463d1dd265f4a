//! Answers of the daemon as HTTP/1.1 (RFC 9112) writes them: the head, how long the body is, and
//! the body's bytes without their chunk framing.
//!
//! Pure and incremental: it may touch the bytes it is given and nothing else. The body is never
//! copied: [`BodyDecoder::decode`] returns views of its input, cut wherever the input was cut.

use std::fmt;
use std::str;

use crate::docker::time::imf_fixdate;

/// Longest head in bytes, interim answers (1xx) before it included.
pub const HEAD_MAX: usize = 64 * 1024;

/// Most header fields in a head.
const FIELDS_MAX: usize = 100;

/// Longest chunk extension, and longest trailer section, in bytes.
const CHUNK_OVERHEAD_MAX: usize = 64 * 1024;

/// Longest message of [`error_message`], in characters.
const MESSAGE_MAX: usize = 500;

/// The head of an answer: what logchute reads of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code, 101 or 200..=999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: String,
    /// `Api-Version`: the newest API version that the daemon speaks, as it wrote it.
    pub api_version: Option<String>,
    /// `Date`: the daemon's clock, in seconds since 1970.
    pub date: Option<u64>,
    /// `Content-Type`. Not to be trusted for framing: see [`crate::docker`].
    pub content_type: Option<String>,
    /// How the body is delimited.
    pub body: Body,
}

/// How a body is delimited, RFC 9112 section 6.3 (answers to requests other than `HEAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks, the last one empty.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
    /// 101: the connection now belongs to the protocol asked for.
    Upgraded,
}

/// Why bytes are no HTTP answer that logchute understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The head is longer than [`HEAD_MAX`].
    HeadTooLong,
    /// The head is not HTTP/1.
    Head(httparse::Error),
    /// `Content-Length` is not one number.
    ContentLength,
    /// `Transfer-Encoding` is something else than `chunked`.
    TransferEncoding(String),
    /// A chunk does not begin with its size in hexadecimal, or the size exceeds 64 bits.
    ChunkSize,
    /// A chunk is longer than its size says.
    ChunkEnd,
    /// A chunk extension or the trailer section is longer than 64 KiB.
    ChunkOverhead,
    /// The connection ended before the body did.
    Truncated,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::HeadTooLong => {
                write!(f, "the answer's head is longer than {HEAD_MAX} bytes")
            }
            HttpError::Head(error) => write!(f, "the answer is not HTTP/1: {error}"),
            HttpError::ContentLength => f.write_str("the answer's Content-Length is not a number"),
            HttpError::TransferEncoding(coding) => {
                write!(f, "the answer's Transfer-Encoding {coding:?} is not supported")
            }
            HttpError::ChunkSize => f.write_str("a chunk of the answer has no valid size"),
            HttpError::ChunkEnd => f.write_str("a chunk of the answer is longer than its size"),
            HttpError::ChunkOverhead => {
                f.write_str("a chunk extension or trailer of the answer is longer than 64 KiB")
            }
            HttpError::Truncated => f.write_str("the connection ended in the middle of an answer"),
        }
    }
}

impl std::error::Error for HttpError {}

/// Parses the head at the beginning of `input`; interim answers (1xx other than 101) before it
/// are skipped. `None`: incomplete, call again with more. Else the head and its length in bytes.
///
/// # Errors
/// If `input` cannot become a head of at most [`HEAD_MAX`] bytes, or the body's framing is not
/// one of [`Body`].
pub fn parse_head(input: &[u8]) -> Result<Option<(Head, usize)>, HttpError> {
    let bounded = input.get(..HEAD_MAX).unwrap_or(input);
    let mut start = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let rest = bounded.get(start..).unwrap_or_default();
        match response.parse(rest).map_err(HttpError::Head)? {
            httparse::Status::Partial if bounded.len() == HEAD_MAX => {
                return Err(HttpError::HeadTooLong);
            }
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete(length) => start += length,
        }
        let status = response.code.unwrap_or_default();
        if status == 101 || status >= 200 {
            return Ok(Some((head(status, &response)?, start)));
        }
    }
}

fn head(status: u16, response: &httparse::Response<'_, '_>) -> Result<Head, HttpError> {
    let find = |name: &str| response.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name));
    let text = |name: &str| find(name).map(|f| String::from_utf8_lossy(f.value).into_owned());
    Ok(Head {
        status,
        reason: response.reason.unwrap_or_default().to_owned(),
        api_version: text("Api-Version"),
        date: find("Date").and_then(|f| imf_fixdate(f.value)),
        content_type: text("Content-Type"),
        body: framing(status, response.headers)?,
    })
}

/// RFC 9112 section 6.3, points 1 and 3 to 8 as they concern an answer to a request that is
/// neither `HEAD` nor `CONNECT`.
fn framing(status: u16, fields: &[httparse::Header<'_>]) -> Result<Body, HttpError> {
    match status {
        101 => return Ok(Body::Upgraded),
        100..=199 | 204 | 304 => return Ok(Body::None),
        _ => {}
    }
    if let Some(coding) = list(fields, "Transfer-Encoding").next() {
        let chunked = list(fields, "Transfer-Encoding").count() == 1
            && coding.eq_ignore_ascii_case(b"chunked");
        let refused = || String::from_utf8_lossy(coding).into_owned();
        return chunked
            .then_some(Body::Chunked)
            .ok_or_else(|| HttpError::TransferEncoding(refused()));
    }
    let mut lengths = list(fields, "Content-Length");
    let Some(first) = lengths.next() else { return Ok(Body::UntilClose) };
    if !first.iter().all(u8::is_ascii_digit) || lengths.any(|other| other != first) {
        return Err(HttpError::ContentLength);
    }
    let length = str::from_utf8(first).ok().and_then(|digits| digits.parse().ok());
    length.map(Body::Length).ok_or(HttpError::ContentLength)
}

/// The elements of every field `name`, each a comma-separated list (RFC 9110 section 5.6.1).
fn list<'a>(fields: &'a [httparse::Header<'_>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .flat_map(|field| field.value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// What one call of [`BodyDecoder::decode`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes of the input that are used up. At least 1 unless the input was empty or the body
    /// had ended.
    pub consumed: usize,
    /// The next bytes of the body; may be empty.
    pub piece: &'a [u8],
    /// The body has ended; what follows in the input does not belong to it.
    pub done: bool,
}

/// Takes the framing off a body.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: Decoding,
}

#[derive(Clone, Copy, Debug)]
enum Decoding {
    UntilClose,
    Length(u64),
    Chunk(Chunk),
    Done,
}

/// Where in a chunked body (RFC 9112 section 7.1) the next byte is. A bare LF is taken for the
/// end of a line, as section 2.2 allows.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    /// In the size, of which `digits` were seen.
    Size { size: u64, digits: u32 },
    /// In the extension, of which `seen` bytes were seen.
    Extension { size: u64, seen: usize },
    /// Behind the CR of the size's line.
    SizeLf { size: u64 },
    /// In the data, with `left` bytes to come; never 0.
    Data { left: u64 },
    /// Behind the data.
    DataEnd,
    /// Behind the CR behind the data.
    DataLf,
    /// In the trailer section, of which `seen` bytes were seen; its current line is `blank` yet.
    Trailer { seen: usize, blank: bool },
}

impl Chunk {
    const NEXT: Chunk = Chunk::Size { size: 0, digits: 0 };

    /// Takes one byte of the framing; `None` at the end of the body. Not to be called in `Data`.
    #[inline]
    fn step(self, byte: u8) -> Result<Option<Chunk>, HttpError> {
        let next = match (self, byte) {
            (Chunk::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == u64::BITS / 4 {
                    return Err(HttpError::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunk::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Chunk::Size { digits: 0, .. }, _) => return Err(HttpError::ChunkSize),
            (Chunk::Size { size, .. }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Size { size, .. }, b';' | b' ' | b'\t') => Chunk::Extension { size, seen: 1 },
            (
                Chunk::Size { size, .. } | Chunk::SizeLf { size } | Chunk::Extension { size, .. },
                b'\n',
            ) => Chunk::after_size(size),
            (Chunk::Size { .. } | Chunk::SizeLf { .. }, _) => return Err(HttpError::ChunkSize),
            (Chunk::Extension { size, seen }, _) if seen < CHUNK_OVERHEAD_MAX => {
                Chunk::Extension { size, seen: seen + 1 }
            }
            (Chunk::DataEnd, b'\r') => Chunk::DataLf,
            (Chunk::DataEnd | Chunk::DataLf, b'\n') => Chunk::NEXT,
            (Chunk::DataEnd | Chunk::DataLf | Chunk::Data { .. }, _) => {
                return Err(HttpError::ChunkEnd);
            }
            (Chunk::Trailer { blank: true, .. }, b'\n') => return Ok(None),
            (Chunk::Trailer { seen, blank }, _) if seen < CHUNK_OVERHEAD_MAX => {
                let blank = byte == b'\n' || blank && byte == b'\r';
                Chunk::Trailer { seen: seen + 1, blank }
            }
            (Chunk::Extension { .. } | Chunk::Trailer { .. }, _) => {
                return Err(HttpError::ChunkOverhead);
            }
        };
        Ok(Some(next))
    }

    /// The last chunk is the empty one; the trailer section follows it.
    fn after_size(size: u64) -> Chunk {
        if size == 0 { Chunk::Trailer { seen: 0, blank: true } } else { Chunk::Data { left: size } }
    }
}

impl BodyDecoder {
    /// A decoder for the body that a head announced.
    pub fn new(body: Body) -> BodyDecoder {
        let state = match body {
            Body::None | Body::Length(0) => Decoding::Done,
            Body::Length(length) => Decoding::Length(length),
            Body::Chunked => Decoding::Chunk(Chunk::NEXT),
            Body::UntilClose | Body::Upgraded => Decoding::UntilClose,
        };
        BodyDecoder { state }
    }

    /// Decodes from the beginning of `input` to the end of the next piece of the body. Call it
    /// again with what it did not consume, until nothing is left or the body is done.
    ///
    /// # Errors
    /// If `input` breaks the framing of a chunked body. The decoder is of no use afterwards.
    #[inline]
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, HttpError> {
        match &mut self.state {
            Decoding::UntilClose => {
                Ok(Decoded { consumed: input.len(), piece: input, done: false })
            }
            Decoding::Length(left) => {
                let piece = take(input, left);
                let done = *left == 0;
                if done {
                    self.state = Decoding::Done;
                }
                Ok(Decoded { consumed: piece.len(), piece, done })
            }
            Decoding::Chunk(_) => self.decode_chunk(input),
            Decoding::Done => Ok(Decoded { consumed: 0, piece: &[], done: true }),
        }
    }

    #[inline]
    fn decode_chunk<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, HttpError> {
        let mut consumed = 0;
        while let (Decoding::Chunk(chunk), Some(rest @ [byte, ..])) =
            (&mut self.state, input.get(consumed..))
        {
            if let Chunk::Data { left } = chunk {
                let piece = take(rest, left);
                if *left == 0 {
                    *chunk = Chunk::DataEnd;
                }
                return Ok(Decoded { consumed: consumed + piece.len(), piece, done: false });
            }
            consumed += 1;
            self.state = chunk.step(*byte)?.map_or(Decoding::Done, Decoding::Chunk);
        }
        let done = matches!(self.state, Decoding::Done);
        Ok(Decoded { consumed, piece: &[], done })
    }

    /// Whether the body may end here, because the connection has.
    ///
    /// # Errors
    /// [`HttpError::Truncated`] if more was announced.
    pub fn finish(&self) -> Result<(), HttpError> {
        match self.state {
            Decoding::UntilClose | Decoding::Done => Ok(()),
            Decoding::Length(_) | Decoding::Chunk(_) => Err(HttpError::Truncated),
        }
    }
}

/// As much of `input` as `left` allows; takes it off `left`.
fn take<'a>(input: &'a [u8], left: &mut u64) -> &'a [u8] {
    let fits = usize::try_from(*left).unwrap_or(usize::MAX);
    let piece = input.get(..fits).unwrap_or(input);
    *left -= piece.len() as u64;
    piece
}

/// What the daemon says about its refusal: the `message` of a JSON body, or the text itself
/// (`attach` answers with text). One line of at most 500 characters, control characters escaped;
/// never empty.
pub fn error_message(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.trim();
    if text.is_empty() {
        return format!("HTTP status {status}, without a message");
    }
    let mut message = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == MESSAGE_MAX {
            message.push('\u{2026}');
            break;
        }
        if char.is_control() {
            message.extend(char.escape_default());
        } else {
            message.push(char);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PING: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24\r\n\
        Date: Sat, 21 Nov 2026 20:46:55 GMT\r\nContent-Length: 2\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\n";

    fn parsed(text: &str) -> Result<Option<(Head, usize)>, HttpError> {
        parse_head(text.as_bytes())
    }

    fn framing_of(status: u16, fields: &str) -> Result<Body, HttpError> {
        let (head, _) = parsed(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"))?.unwrap();
        Ok(head.body)
    }

    #[test]
    fn a_ping() {
        let (head, length) = parsed(&format!("{PING}OK")).unwrap().unwrap();
        assert_eq!(length, PING.len());
        let expect = Head {
            status: 200,
            reason: "OK".into(),
            api_version: Some("1.41".into()),
            date: Some(1_795_294_015),
            content_type: Some("text/plain; charset=utf-8".into()),
            body: Body::Length(2),
        };
        assert_eq!(head, expect);
    }

    #[test]
    fn names_of_fields_have_no_case() {
        let lower =
            PING.to_lowercase().replace("http/", "HTTP/").replace("sat, 21 nov", "Sat, 21 Nov");
        let lower = lower.replace("gmt", "GMT");
        let (head, _) = parsed(&lower).unwrap().unwrap();
        assert_eq!(head.api_version.as_deref(), Some("1.41"));
        assert_eq!((head.date, head.body), (Some(1_795_294_015), Body::Length(2)));
    }

    #[test]
    fn both_answers_to_attach() {
        let upgraded = "HTTP/1.1 101 UPGRADED\r\n\
            Content-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n\
            Upgrade: tcp\r\n\r\n";
        let (head, length) = parsed(&format!("{upgraded}\u{1}")).unwrap().unwrap();
        assert_eq!((head.status, head.body, length), (101, Body::Upgraded, upgraded.len()));
        assert_eq!(framing_of(200, "Content-Type: x\r\n"), Ok(Body::UntilClose));
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let whole =
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n{PING}");
        for cut in 0..whole.len() {
            assert_eq!(parsed(&whole[..cut]), Ok(None), "{cut}");
        }
        let (head, length) = parsed(&whole).unwrap().unwrap();
        assert_eq!((head.status, length), (200, whole.len()));
    }

    #[test]
    fn framings() {
        let length = Err(HttpError::ContentLength);
        let coding = |text: &str| Err(HttpError::TransferEncoding(text.into()));
        for (status, fields, expect) in [
            (200, "", Ok(Body::UntilClose)),
            (200, "Content-Length: 0\r\n", Ok(Body::Length(0))),
            (200, "Content-Length: 7, 7\r\ncontent-length: 7\r\n", Ok(Body::Length(7))),
            (200, "Content-Length: 18446744073709551615\r\n", Ok(Body::Length(u64::MAX))),
            (200, "Content-Length: 18446744073709551616\r\n", length.clone()),
            (200, "Content-Length: 7\r\nContent-Length: 8\r\n", length.clone()),
            (200, "Content-Length: +7\r\n", length.clone()),
            (200, "Content-Length: \r\n", length),
            (200, "Transfer-Encoding: Chunked\r\n", Ok(Body::Chunked)),
            (200, "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", Ok(Body::Chunked)),
            (200, "Transfer-Encoding: gzip, chunked\r\n", coding("gzip")),
            (200, "Transfer-Encoding: identity\r\n", coding("identity")),
            (204, "Content-Length: 7\r\n", Ok(Body::None)),
            (304, "Transfer-Encoding: chunked\r\n", Ok(Body::None)),
            (404, "Content-Length: 7\r\n", Ok(Body::Length(7))),
        ] {
            assert_eq!(framing_of(status, fields), expect, "{status} {fields}");
        }
    }

    #[test]
    fn what_is_no_http() {
        for text in
            ["SSH-2.0-OpenSSH_9.2\r\n", "\x15\x03\x01\x00\x02\x02\x16", "HTTP/2 200\r\n\r\n"]
        {
            assert!(matches!(parsed(text), Err(HttpError::Head(_))), "{text:?}");
        }
        let fields = "A: b\r\n".repeat(FIELDS_MAX + 1);
        let error = parsed(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        assert_eq!(error, Err(HttpError::Head(httparse::Error::TooManyHeaders)));
    }

    #[test]
    fn a_head_is_bounded() {
        let padded = |length: usize| {
            let around = "HTTP/1.1 200 OK\r\nA: \r\n\r\n".len();
            format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\nbody", "x".repeat(length - around))
        };
        assert_eq!(parsed(&padded(HEAD_MAX)).unwrap().unwrap().1, HEAD_MAX);
        assert_eq!(parsed(&padded(HEAD_MAX + 1)), Err(HttpError::HeadTooLong));
        assert_eq!(parsed(&padded(HEAD_MAX + 1)[..HEAD_MAX - 1]), Ok(None));
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD_MAX / 25 + 1);
        assert_eq!(parsed(&interim), Err(HttpError::HeadTooLong));
    }

    /// The body, how much was consumed, and whether it may end there.
    type Outcome = (Vec<u8>, usize, Result<(), HttpError>);

    /// Feeds `input` in pieces that end at `cuts`.
    fn decode(body: Body, input: &[u8], cuts: &[usize]) -> Result<Outcome, HttpError> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        ends.push(input.len());
        ends.sort_unstable();
        let (mut decoder, mut out, mut at) = (BodyDecoder::new(body), Vec::new(), 0);
        for end in ends {
            loop {
                let decoded = decoder.decode(&input[at..end])?;
                assert!(decoded.consumed > 0 || decoded.done || at == end, "no progress");
                at += decoded.consumed;
                out.extend_from_slice(decoded.piece);
                if decoded.done {
                    assert!(decoder.decode(&input[at..])?.done);
                    return Ok((out, at, decoder.finish()));
                }
                if at == end {
                    break;
                }
            }
        }
        Ok((out, at, decoder.finish()))
    }

    #[test]
    fn lengths() {
        let whole = |body| decode(body, b"abcdef", &[]).unwrap();
        assert_eq!(whole(Body::None), (vec![], 0, Ok(())));
        assert_eq!(whole(Body::Length(0)), (vec![], 0, Ok(())));
        assert_eq!(whole(Body::Length(4)), (b"abcd".to_vec(), 4, Ok(())));
        assert_eq!(whole(Body::Length(7)), (b"abcdef".to_vec(), 6, Err(HttpError::Truncated)));
        assert_eq!(whole(Body::UntilClose), (b"abcdef".to_vec(), 6, Ok(())));
        assert_eq!(whole(Body::Upgraded), (b"abcdef".to_vec(), 6, Ok(())));
    }

    #[test]
    fn chunks_as_they_come() {
        for (input, body) in [
            ("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789"),
            ("0003;name=\"v;\"\r\nabc\r\n0 ; x\r\n\r\n", "abc"),
            ("3\nabc\n00\n\n", "abc"),
            ("1\r\n\n\r\n1\r\n\r\r\n0\r\nT: x\r\nU:\r\n\r\n", "\n\r"),
        ] {
            let surplus = format!("{input}HTTP/1.1");
            let expect = (body.as_bytes().to_vec(), input.len(), Ok(()));
            assert_eq!(decode(Body::Chunked, surplus.as_bytes(), &[]), Ok(expect), "{input:?}");
        }
    }

    #[test]
    fn broken_chunks() {
        for (input, error) in [
            ("\r\n", HttpError::ChunkSize),
            ("-1\r\n", HttpError::ChunkSize),
            ("x\r\n", HttpError::ChunkSize),
            ("3x\r\n", HttpError::ChunkSize),
            ("3\rx", HttpError::ChunkSize),
            ("10000000000000000\r\n", HttpError::ChunkSize),
            ("3\r\nabcd", HttpError::ChunkEnd),
            ("3\r\nabc\rx", HttpError::ChunkEnd),
            (&format!("3;{}", "x".repeat(CHUNK_OVERHEAD_MAX)), HttpError::ChunkOverhead),
            (&format!("0\r\n{}", "x".repeat(CHUNK_OVERHEAD_MAX + 1)), HttpError::ChunkOverhead),
            (&format!("0\r\n{}", "x\r\n".repeat(CHUNK_OVERHEAD_MAX)), HttpError::ChunkOverhead),
        ] {
            assert_eq!(decode(Body::Chunked, input.as_bytes(), &[]), Err(error), "{input:.20}");
        }
        let cut = decode(Body::Chunked, b"ffffffffffffffff\r\nabc", &[]).unwrap();
        assert_eq!(cut, (b"abc".to_vec(), 21, Err(HttpError::Truncated)));
        let unfinished = decode(Body::Chunked, b"1\r\na\r\n0\r\n", &[]).unwrap();
        assert_eq!(unfinished.2, Err(HttpError::Truncated));
    }

    /// The naive decoder: the whole message at hand, one `find` after the other.
    fn naive(mut input: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = input.iter().position(|&b| b == b'\n').unwrap();
            let text = str::from_utf8(&input[..line]).unwrap();
            let size = text.split([';', '\r', ' ']).next().unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&input[line + 1..line + 1 + size]);
            input = &input[line + 1 + size..];
            input = &input[input.iter().position(|&b| b == b'\n').unwrap() + 1..];
        }
    }

    prop_compose! {
        fn message()(
            chunks in prop::collection::vec(
                (
                    prop::collection::vec(prop::sample::select(b"\r\n0;ab".to_vec()), 1..40),
                    prop::sample::select(vec!["\r\n", "\n", ";x=1\r\n", " ;y=\"\r0\"\n"]),
                    prop::sample::select(vec!["\r\n", "\n"]),
                ),
                0..6,
            ),
            end in prop::sample::select(vec!["0\r\n\r\n", "00\n\n", "0;z\r\nT: 0\r\n\r\n"]),
        ) -> Vec<u8> {
            let mut message = Vec::new();
            for (data, size_end, data_end) in chunks {
                message.extend_from_slice(format!("{:X}{size_end}", data.len()).as_bytes());
                message.extend_from_slice(&data);
                message.extend_from_slice(data_end.as_bytes());
            }
            message.extend_from_slice(end.as_bytes());
            message
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            message in message(),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let expect = (naive(&message), message.len(), Ok(()));
            prop_assert_eq!(decode(Body::Chunked, &message, &cuts), Ok(expect.clone()));
            let everywhere: Vec<usize> = (0..message.len()).collect();
            prop_assert_eq!(decode(Body::Chunked, &message, &everywhere), Ok(expect));
        }

        /// Also where it is wrong, the result does not depend on the cuts.
        #[test]
        fn cuts_do_not_matter_in_garbage(
            message in message(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let mut message = message;
            let at = at.index(message.len());
            message[at] = byte;
            let whole = decode(Body::Chunked, &message, &[]);
            prop_assert_eq!(decode(Body::Chunked, &message, &cuts), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_head(&input);
            let _ = decode(Body::Chunked, &input, &[]);
            prop_assert!(!error_message(500, &input).is_empty());
        }
    }

    #[test]
    fn refusals_in_the_daemons_own_words() {
        let said = |body: &[u8]| error_message(409, body);
        assert_eq!(said(br#"{"message":"No such container: zzz"}"#), "No such container: zzz");
        assert_eq!(said(br#"{"cause":"c","message":"m","response":409}"#), "m");
        assert_eq!(said(b"container x is paused\r\n"), "container x is paused");
        assert_eq!(said(br#"{"error":"e"}"#), r#"{"error":"e"}"#);
        assert_eq!(said(b"a\x1b[31m\nb\xff"), "a\\u{1b}[31m\\nb\u{fffd}");
        assert_eq!(said(b" \n"), "HTTP status 409, without a message");
        assert_eq!(said(br#"{"message":""}"#), "HTTP status 409, without a message");
        let long = said("\u{e4}".repeat(501).as_bytes());
        assert_eq!(long, format!("{}\u{2026}", "\u{e4}".repeat(500)));
        assert_eq!(said("x".repeat(500).as_bytes()), "x".repeat(500));
    }
}
