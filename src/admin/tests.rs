//! The HTTP side over real TCP: what Logspout was recorded to answer, and clients that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream as Client};
use tokio::time::timeout;

use super::answer::JSON;
use super::server::{BODY_MAX, HEADER_MAX, HEADER_TIMEOUT};
use super::*;

struct Fixed {
    well: AtomicBool,
    metrics: String,
    access: Access,
}

impl View for Fixed {
    fn access(&self) -> &Access {
        &self.access
    }

    fn ready(&self) -> Readiness {
        Readiness::new(self.well.load(Relaxed), Vec::new())
    }

    fn routes(&self, _: bool) -> Vec<Definition> {
        vec![Definition { id: "a b".into(), adapter: "raw".into(), ..Definition::default() }]
    }

    fn create_route(&self, route: Definition) -> Later<Result<Definition, Refused>> {
        Box::pin(async { Ok(route) })
    }

    fn remove_route(&self, id: String) -> Later<bool> {
        Box::pin(async move { id == "a b" })
    }

    fn health(&self) -> Result<(), String> {
        if self.well.load(Relaxed) { Ok(()) } else { Err("the daemon is away".to_string()) }
    }

    fn metrics(&self, out: &mut String) {
        out.push_str(&self.metrics);
    }

    fn look_on(&self, _wish: Wish) -> Later<Result<Look, Refusal>> {
        Box::pin(async { Err(Refusal::TooMany) })
    }
}

/// Runs `test` against a server on a current-thread runtime, as control has it.
fn with_server<F: Future<Output = ()>>(
    metrics: &str,
    test: impl FnOnce(std::net::SocketAddr, Arc<Fixed>) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let view = Arc::new(Fixed {
            well: AtomicBool::new(true),
            metrics: metrics.to_string(),
            access: Access::new(None, true, None),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let seen: Arc<dyn View> = Arc::clone(&view) as Arc<dyn View>;
        let server = tokio::spawn(serve(listener, seen, async {
            let _ = stopped.await;
        }));
        timeout(Duration::from_secs(30), test(address, view)).await.expect("in time");
        drop(stop);
        timeout(Duration::from_secs(5), server).await.expect("stops at once").unwrap();
        Client::connect(address).await.expect_err("the listener is closed");
    });
}

/// Sends `request` and reads until the server closes, which it may also do by a reset.
async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut client = Client::connect(address).await.unwrap();
    let _ = client.write_all(request).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut piece).await {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(answer).unwrap()
}

async fn ask(address: std::net::SocketAddr, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    exchange(address, request.as_bytes()).await
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// The cases `health-get`, `health-head`, `health-below`, `unknown-paths` and
/// `double-slash-redirect`, recorded from Logspout 3.2.14.
#[test]
fn answers_are_those_of_logspout() {
    const PLAIN: Option<&str> = Some("text/plain; charset=utf-8");
    with_server("", |address, _| async move {
        let answer = ask(address, "GET", "/health", "").await;
        assert_eq!((status(&answer), body(&answer)), ("200", "Healthy!\n"));
        assert_eq!(header(&answer, "content-type"), PLAIN);
        let answer = ask(address, "HEAD", "/health", "").await;
        assert_eq!((status(&answer), body(&answer)), ("200", ""));
        assert_eq!(header(&answer, "content-type"), PLAIN);
        for (method, path, sent) in [
            ("GET", "/health/", ""),
            ("GET", "/health/x", ""),
            ("GET", "/", ""),
            ("GET", "/nope", ""),
            ("GET", "/route", ""),
            ("POST", "/nope", "x"),
        ] {
            let answer = ask(address, method, path, sent).await;
            assert_eq!((status(&answer), body(&answer)), ("404", "404 page not found\n"), "{path}");
            assert_eq!(header(&answer, "content-type"), PLAIN);
            assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        }
        let answer = ask(address, "GET", "//health", "").await;
        assert_eq!(status(&answer), "301");
        assert_eq!(body(&answer), "<a href=\"/health\">Moved Permanently</a>.\n\n");
        assert_eq!(header(&answer, "location"), Some("/health"));
        assert_eq!(header(&answer, "content-type"), Some("text/html; charset=utf-8"));
    });
}

#[test]
fn health_takes_any_method_and_says_why_not() {
    with_server("", |address, view| async move {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let answer = ask(address, method, "/health?x=y", "some body").await;
            assert_eq!((status(&answer), body(&answer)), ("200", "Healthy!\n"), "{method}");
        }
        view.well.store(false, Relaxed);
        let answer = ask(address, "GET", "/health", "").await;
        assert_eq!(status(&answer), "503");
        assert_eq!(body(&answer), "Not healthy: the daemon is away\n");
    });
}

#[test]
fn metrics_are_for_reading() {
    with_server("a_total 1\n# EOF\n", |address, _| async move {
        let answer = ask(address, "GET", "/metrics", "").await;
        assert_eq!((status(&answer), body(&answer)), ("200", "a_total 1\n# EOF\n"));
        assert_eq!(header(&answer, "content-type"), Some(metrics::CONTENT_TYPE));
        assert_eq!(body(&ask(address, "HEAD", "/metrics", "").await), "");
        let answer = ask(address, "POST", "/metrics", "x").await;
        assert_eq!((status(&answer), header(&answer, "allow")), ("405", Some("GET, HEAD")));
    });
}

#[test]
fn ready_says_so_by_its_status() {
    with_server("", |address, view| async move {
        let answer = ask(address, "GET", "/ready", "").await;
        assert_eq!((status(&answer), header(&answer, "content-type")), ("200", Some(JSON)));
        let json = "{\n  \"ready\": true,\n  \"docker\": {\n    \"connected\": true\n  },\n  \
                    \"routes\": []\n}\n";
        assert_eq!(body(&answer), json);
        view.well.store(false, Relaxed);
        let answer = ask(address, "GET", "/ready", "").await;
        assert_eq!((status(&answer), body(&answer)), ("503", &*json.replace("true", "false")));
        let answer = ask(address, "DELETE", "/ready", "").await;
        assert_eq!((status(&answer), header(&answer, "allow")), ("405", Some("GET, HEAD")));
    });
}

/// What only the real program does is tested there; this is about the requests.
#[test]
fn requests_for_routes() {
    with_server("", |address, _| async move {
        for (method, path, sent, expected) in [
            ("GET", "/routes/a%20b", "", "200"),
            ("GET", "/routes/a+b", "", "404"),
            ("GET", "/routes/a%2", "", "404"),
            ("GET", "/routes/a%2fb", "", "404"),
            ("GET", "/routes/%ff", "", "404"),
            ("DELETE", "/routes/a%20b", "", "200"),
            ("DELETE", "/routes/%2e%2e%2fa", "", "404"),
            ("DELETE", "/routes/", "", "404"),
            ("POST", "/routes", "{} and more", "201"),
            ("POST", "/routes", "", "400"),
            ("POST", "/routesx", "{}", "404"),
        ] {
            let answer = ask(address, method, path, sent).await;
            assert_eq!(status(&answer), expected, "{method} {path}: {answer}");
        }
        let answer = ask(address, "GET", "/routes/../routes", "").await;
        assert_eq!((status(&answer), header(&answer, "location")), ("301", Some("/routes")));
        let answer = ask(address, "PATCH", "/routes", "").await;
        assert_eq!((status(&answer), header(&answer, "allow")), ("405", Some("GET, POST")));
        let answer = ask(address, "PUT", "/routes/x", "").await;
        assert_eq!((status(&answer), header(&answer, "allow")), ("405", Some("GET, DELETE")));
        let mut client = Client::connect(address).await.unwrap();
        let head = "POST /routes HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b' '; BODY_MAX + 1]).await.unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 413");
    });
}

#[test]
fn one_connection_asks_twice() {
    with_server("", |address, _| async move {
        let twice = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n\
                     GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answers = exchange(address, twice.as_bytes()).await;
        assert_eq!(answers.matches("Healthy!\n").count(), 2);
    });
}

#[test]
fn garbage_and_too_much_are_refused() {
    with_server("", |address, _| async move {
        for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\r\nfoo\r\n\r\n"] {
            let answer = exchange(address, garbage).await;
            assert_eq!(status(&answer), "400", "{answer}");
        }
        let long = format!("GET /health HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(HEADER_MAX));
        let answer = exchange(address, long.as_bytes()).await;
        assert_eq!(status(&answer), "431", "{answer}");
        // A head that fits is answered: the limit is not a smaller one.
        let fits = format!(
            "GET /health HTTP/1.1\r\nConnection: close\r\nA: {}\r\n\r\n",
            "a".repeat(HEADER_MAX - 256)
        );
        assert_eq!(status(&exchange(address, fits.as_bytes()).await), "200");
        // The server stops reading a body that is too long; it still answers.
        let mut client = Client::connect(address).await.unwrap();
        let head = "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; BODY_MAX + 1]).await.unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
    });
}

#[test]
fn idle_and_half_clients_hold_up_nobody() {
    with_server("", |address, _| async move {
        let mut dawdlers = Vec::new();
        for n in 0..100 {
            let mut client = Client::connect(address).await.unwrap();
            if n % 2 == 0 {
                client.write_all(b"GET /health HTT").await.unwrap();
            }
            dawdlers.push(client);
        }
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(status(&ask(address, "GET", "/health", "").await), "200");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        // The oldest were closed, the youngest were not.
        let mut byte = [0];
        let oldest = timeout(Duration::from_secs(2), dawdlers[0].read(&mut byte)).await;
        assert!(matches!(oldest, Ok(Ok(0) | Err(_))), "{oldest:?}");
        let youngest = timeout(Duration::from_millis(50), dawdlers[99].read(&mut byte)).await;
        assert!(youngest.is_err(), "{youngest:?}");
    });
}

#[test]
fn clients_that_do_not_read_hold_up_nobody() {
    let metrics = "x".repeat(8 << 20);
    with_server(&metrics, |address, _| async move {
        let mut deaf = Vec::new();
        for _ in 0..8 {
            let mut client = Client::connect(address).await.unwrap();
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            deaf.push(client);
        }
        let begun = Instant::now();
        assert_eq!(status(&ask(address, "GET", "/health", "").await), "200");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    });
}

#[test]
fn slow_headers_run_out_of_time() {
    with_server("", |address, _| async move {
        let mut client = Client::connect(address).await.unwrap();
        client.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        let waited = begun.elapsed();
        assert!(waited >= HEADER_TIMEOUT - Duration::from_secs(1), "{waited:?}");
        assert!(waited < HEADER_TIMEOUT + Duration::from_secs(5), "{waited:?}");
    });
}
