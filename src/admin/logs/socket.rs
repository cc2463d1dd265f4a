//! The answer over a websocket (RFC 6455): one text message a line, each an object.
//!
//! What the client says is read and thrown away, but for its questions whether we are there and
//! its goodbye.

use std::future::poll_fn;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::HeaderMap;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::patience::STALL_MAX;
use super::{Look, Lot};

/// The longest message of a client: it has nothing to say.
const MESSAGE_MAX: usize = 16 * 1024;
/// How long the client's own goodbye is waited for.
const FAREWELL: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request wants a websocket.
pub(in crate::admin) fn is_wanted(headers: &HeaderMap) -> bool {
    let wanted = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    headers.get(UPGRADE).is_some_and(wanted)
}

/// The value of `Sec-WebSocket-Accept` for a request that wants a websocket; `None` if it is not
/// as it has to be (RFC 6455, 4.2.1).
pub(in crate::admin) fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let version = headers.get(SEC_WEBSOCKET_VERSION)?;
    let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
    // 16 bytes in base64.
    if version != "13" || key.len() != 24 {
        return None;
    }
    HeaderValue::from_str(&derive_accept_key(key)).ok()
}

/// Shows lines to a client until either has enough.
pub(in crate::admin) async fn serve(upgrade: OnUpgrade, mut look: Look) {
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let stream = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    loop {
        let lot = tokio::select! {
            said = socket.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
            lot = poll_fn(|cx| look.poll_next(cx)) => lot,
        };
        let Some(lot) = lot else { break };
        // What goes wrong is the client's affair.
        if !matches!(timeout(STALL_MAX, send(&mut socket, lot)).await, Ok(Ok(()))) {
            return;
        }
    }
    drop(look);
    let _ = timeout(FAREWELL, part(socket)).await;
}

async fn send(socket: &mut Socket, lot: Lot) -> Result<(), tungstenite::Error> {
    for record in lot.records() {
        // JSON is UTF-8, whatever was in the line.
        socket.feed(Message::Text(Utf8Bytes::try_from(record)?)).await?;
    }
    socket.flush().await
}

/// Says goodbye, or answers it, and waits until the client has heard.
async fn part(mut socket: Socket) {
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|&(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_a_whole_handshake_is_accepted() {
        const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        const VERSION: (&str, &str) = ("sec-websocket-version", "13");
        let accepted = accept(&headers(&[KEY, VERSION])).unwrap();
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for bad in [
            &[KEY][..],
            &[VERSION],
            &[KEY, ("sec-websocket-version", "8")],
            &[VERSION, ("sec-websocket-key", "short")],
        ] {
            assert_eq!(accept(&headers(bad)), None, "{bad:?}");
        }
        assert!(is_wanted(&headers(&[("upgrade", "WebSocket")])));
        assert!(!is_wanted(&headers(&[("upgrade", "h2c")])));
        assert!(!is_wanted(&headers(&[])));
    }
}
