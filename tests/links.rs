//! Deliveries against receivers that misbehave, over real sockets on loopback and both drivers.
//!
//! Each test appends numbered records to a queue while its delivery runs, ends it as a shard does,
//! and then the account has to be even: appended = delivered + dropped + refused + left at the end.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use logchute::buffer::{Budget, Outbox};
use logchute::config::TlsSettings;
use logchute::io::pool::Pool;
use logchute::io::{self as lio, Driver};
use logchute::metrics::RouteCounters;
use logchute::transport::conn::Conn;
use logchute::transport::queue::Queue;
use logchute::transport::tls::client_config;
use logchute::transport::{DatagramTarget, Delivery, DeliveryTask, HostPort, Shore, StreamTarget};

mod support;

use support::engine::{Engine, Stream, inspect};
use support::logchute::Setup;
use support::pki::Pki;
use support::receivers::{StreamSink, free_port};
use support::shard::with_drivers;
use support::{drivers, say};

/// Bytes of a record, its newline included.
const RECORD: usize = 100;
const LIMIT: Duration = Duration::from_secs(20);

/// Held by each test; by the one that counts descriptors alone.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner)
}

fn on_each_driver(mut test: impl FnMut(Driver)) {
    let _beside_others = beside_others();
    with_drivers(|_, driver| test(driver));
}

fn record(number: u64) -> Vec<u8> {
    let mut record = format!("{number:010} ").into_bytes();
    record.resize(RECORD - 1, b'a' + (number % 26) as u8);
    record.push(b'\n');
    record
}

/// The numbers of the records in `bytes`, each of which has to be as it was; what is behind the
/// last one must be the beginning of one.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let records = bytes.chunks_exact(RECORD);
    let rest = records.remainder();
    let numbers: Vec<u64> = records
        .map(|bytes| {
            let number = std::str::from_utf8(&bytes[..10]).unwrap().parse().unwrap();
            assert_eq!(bytes, record(number));
            number
        })
        .collect();
    if let (Some(last), false) = (numbers.last(), rest.is_empty()) {
        assert!(record(last + 1).starts_with(rest), "{}", rest.escape_ascii());
    }
    numbers
}

/// Whether these are consecutive.
fn consecutive(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

/// The way of one route, and who fills it.
struct Way {
    queue: Rc<Queue>,
    next: std::cell::Cell<u64>,
}

impl Way {
    fn append(&self, count: u64) {
        for _ in 0..count {
            let number = self.next.replace(self.next.get() + 1);
            let record = record(number);
            self.queue.append(|outbox| {
                outbox.begin(record.len()).extend_from_slice(&record);
                outbox.finish();
            });
        }
    }

    /// Appends `count` records a little at a time, as a shard does between which links run.
    async fn append_slowly(&self, count: u64) {
        for _ in 0..count / 100 {
            self.append(100);
            pause(1).await;
        }
        self.append(count % 100);
    }

    fn delivered(&self) -> u64 {
        self.queue.counters.delivered_lines.get()
    }

    async fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + LIMIT;
        while !done() {
            assert!(
                Instant::now() < end,
                "not within {LIMIT:?}: {what}; {:?}",
                self.queue.counters
            );
            pause(5).await;
        }
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// What became of the records.
#[derive(Debug)]
struct Account {
    appended: u64,
    delivered: u64,
    dropped: u64,
    refused: u64,
    left: u64,
    reconnects: u64,
    /// Sent again.
    resent: u64,
    /// How long the end took.
    ending: Duration,
}

/// Runs a delivery with so much memory while `script` goes on, then ends it as a shard does:
/// what is not delivered within `patience` is left.
fn deliver(
    driver: Driver,
    delivery: &Delivery,
    buffer: usize,
    patience: Duration,
    script: impl AsyncFnOnce(&Way),
) -> Account {
    let outbox = Outbox::new(Arc::new(Budget::new(buffer, 1)), delivery.record_max());
    deliver_from(outbox, driver, delivery, patience, script)
}

fn deliver_from(
    outbox: Outbox,
    driver: Driver,
    delivery: &Delivery,
    patience: Duration,
    script: impl AsyncFnOnce(&Way),
) -> Account {
    let counters = Arc::new(RouteCounters::default());
    let queue = Rc::new(Queue::new("test".into(), outbox, Arc::clone(&counters)));
    let way = Way { queue: Rc::clone(&queue), next: 0.into() };
    let task = DeliveryTask { delivery: delivery.clone(), queue: Rc::clone(&queue) };
    let (left, ending) = lio::block_on(driver, async {
        let shore = Shore { driver, pool: Pool::new(), seed: 7, eager: true };
        let mut task = tokio::task::spawn_local(task.run(shore));
        script(&way).await;
        let since = Instant::now();
        queue.close();
        if tokio::time::timeout(patience, &mut task).await.is_err() {
            queue.give_up();
            let _ = tokio::time::timeout(Duration::from_millis(500), &mut task).await;
        }
        (queue.abandon(), since.elapsed())
    })
    .unwrap();
    let account = Account {
        appended: way.next.get(),
        delivered: counters.delivered_lines.get(),
        dropped: counters.dropped_buffer_full.get(),
        refused: counters.dropped_refused.get(),
        left,
        reconnects: counters.reconnects.get(),
        resent: counters.resent_lines.get(),
        ending,
    };
    let known = account.delivered + account.dropped + account.refused + account.left;
    assert_eq!(account.appended, known, "{account:?}");
    assert_eq!(counters.dropped_at_exit.get(), left);
    account
}

fn local(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".into(), port }
}

fn tcp(address: SocketAddr) -> Delivery {
    Delivery::Stream(StreamTarget::Tcp(local(address.port())))
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads to the end: what came, and whether it was a good end.
fn read_all(mut socket: TcpStream) -> (Vec<u8>, io::Result<()>) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = Vec::new();
    let result = socket.read_to_end(&mut bytes).map(drop);
    (bytes, result)
}

/// Ends the connection with a reset.
fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_receiver_that_resets_in_the_middle_gets_whole_records_on() {
    on_each_driver(|driver| {
        let (listener, address) = listen();
        let receiver: JoinHandle<_> = std::thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            let mut some = vec![0; 150 * RECORD + 37];
            first.read_exact(&mut some).unwrap();
            reset(first);
            let (second, _) = listener.accept().unwrap();
            (some, read_all(second))
        });
        let account = deliver(driver, &tcp(address), 64 << 20, LIMIT, async |way| {
            way.append(300_000);
        });
        let (first, (second, end)) = receiver.join().unwrap();
        end.unwrap();
        let (first, second) = (numbers(&first), numbers(&second));
        assert!(consecutive(&first) && first[0] == 0);
        assert!(consecutive(&second) && *second.last().unwrap() == 299_999, "{account:?}");
        // What the first connection's kernel had taken is gone with it; nothing else is.
        assert_eq!((account.delivered, account.reconnects), (300_000, 1), "{account:?}");
        let again = 150_u64.saturating_sub(second[0]);
        let lost = second[0].saturating_sub(150);
        assert!(again < 2 && lost < 200_000, "{again} again, {lost} lost");
    });
}

#[test]
fn what_the_kernel_never_took_is_never_lost() {
    on_each_driver(|driver| {
        // Nothing is unread when the connection ends: so nothing may be missing, though the record
        // in the middle of which it ended may come twice.
        let (listener, address) = listen();
        let receiver = std::thread::spawn(move || {
            let mut parts = Vec::new();
            for _ in 0..5 {
                let (mut socket, _) = listener.accept().unwrap();
                let mut part = Vec::new();
                while part.len() < 40_000 {
                    let mut some = vec![0; 1 << 20];
                    let n = socket.read(&mut some).unwrap();
                    part.extend_from_slice(&some[..n]);
                }
                parts.push(part);
            }
            let (last, _) = listener.accept().unwrap();
            parts.push(read_all(last).0);
            parts
        });
        let account = deliver(driver, &tcp(address), 64 << 20, LIMIT, async |way| {
            for _ in 0..5 {
                let before = way.delivered();
                way.append(400);
                way.until("delivered", || way.delivered() == before + 400).await;
                // The end of the connection is there when the next records are.
                pause(100).await;
            }
            way.append(1000);
        });
        let parts = receiver.join().unwrap();
        let all: Vec<u64> = parts.iter().flat_map(|part| numbers(part)).collect();
        assert_eq!(all, (0..3000).collect::<Vec<_>>(), "{account:?}");
        assert_eq!(account.delivered, 3000);
    });
}

#[test]
fn a_peer_that_closed_while_idle_costs_nothing() {
    on_each_driver(|driver| {
        let (listener, address) = listen();
        let receiver = std::thread::spawn(move || {
            let (first, _) = listener.accept().unwrap();
            let mut reader = &first;
            let mut one = [0; RECORD];
            reader.read_exact(&mut one).unwrap();
            // Half closed: the peer still reads, but says that it will not answer.
            first.shutdown(Shutdown::Write).unwrap();
            let (second, _) = listener.accept().unwrap();
            (one, read_all(first).0, read_all(second).0)
        });
        deliver(driver, &tcp(address), 1 << 20, LIMIT, async |way| {
            way.append(1);
            way.until("delivered", || way.delivered() == 1).await;
            pause(50).await;
            way.append(1);
        });
        let (one, first, second) = receiver.join().unwrap();
        assert_eq!((numbers(&one), numbers(&first), numbers(&second)), (vec![0], vec![], vec![1]));
    });
}

#[test]
fn a_receiver_that_never_reads_is_dropped_for_and_counted() {
    on_each_driver(|driver| {
        let sink = StreamSink::never_reads();
        let patience = Duration::from_millis(300);
        let account = deliver(driver, &tcp(sink.address()), 256 << 10, patience, async |way| {
            // Until the kernel takes no more, and then much more than the buffer holds.
            let mut stalled = 0;
            while stalled < 50 {
                let before = way.delivered();
                way.append(1000);
                pause(2).await;
                stalled = if way.delivered() == before { stalled + 1 } else { 0 };
            }
        });
        assert!(account.dropped > 30_000, "{account:?}");
        // What is left is what fits the buffer, and the chunk in hand.
        assert!((1..=3000).contains(&account.left), "{account:?}");
        assert!(account.ending < patience + Duration::from_millis(400), "{account:?}");
    });
}

#[test]
fn a_receiver_that_comes_later_gets_everything() {
    on_each_driver(|driver| {
        let port = free_port();
        let receiver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            read_all(listener.accept().unwrap().0)
        });
        let target = Delivery::Stream(StreamTarget::Tcp(local(port)));
        let account = deliver(driver, &target, 16 << 20, LIMIT, async |way| {
            way.append_slowly(10_000).await;
        });
        let (bytes, end) = receiver.join().unwrap();
        end.unwrap();
        assert_eq!(numbers(&bytes), (0..10_000).collect::<Vec<_>>());
        assert_eq!((account.delivered, account.reconnects), (10_000, 0));
    });
}

#[test]
fn the_end_of_the_program_does_not_sit_out_a_pause() {
    on_each_driver(|driver| {
        let port = free_port();
        let target = Delivery::Stream(StreamTarget::Tcp(local(port)));
        let mut receiver = None;
        let account = deliver(driver, &target, 1 << 20, LIMIT, async |way| {
            way.append(10);
            // By now it waits for some seconds between attempts.
            pause(4500).await;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            receiver = Some(std::thread::spawn(move || read_all(listener.accept().unwrap().0)));
        });
        assert!(account.ending < Duration::from_millis(400), "{account:?}");
        let (bytes, _) = receiver.unwrap().join().unwrap();
        assert_eq!(numbers(&bytes), (0..10).collect::<Vec<_>>());
    });
}

fn tls(pki: &Pki, address: SocketAddr) -> Delivery {
    let settings = TlsSettings {
        disable_system_roots: true,
        ca_certs: vec![pki.ca()],
        ..TlsSettings::default()
    };
    Delivery::Stream(StreamTarget::Tls(local(address.port()), client_config(&settings).unwrap()))
}

#[test]
fn a_tls_receiver_that_goes_away_gets_whole_records_on() {
    let pki = Pki::new();
    on_each_driver(|driver| {
        let sink = StreamSink::tls(&pki, false);
        let account = deliver(driver, &tls(&pki, sink.address()), 64 << 20, LIMIT, async |way| {
            for _ in 0..3 {
                way.append_slowly(20_000).await;
                sink.close_connections();
                pause(20).await;
            }
            way.append_slowly(20_000).await;
        });
        let received: Vec<Vec<u64>> = sink.received().iter().map(|part| numbers(part)).collect();
        assert!(received.len() > 3 && account.delivered == 80_000, "{account:?}");
        assert!(received.iter().all(|part| consecutive(part)));
        let all = received.concat();
        let seen: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(seen.last(), Some(&79_999));
        assert!(all.len() - seen.len() <= account.resent as usize, "{account:?}");
        // Of each connection, what was under way when it ended.
        assert!(80_000 - seen.len() < 3 * 40_000, "{} of 80000", seen.len());
    });
}

/// A receiver that has said something that nobody read, and is slow: a careless close would reset
/// the connection, and throw away what our kernel had not sent.
#[test]
fn the_end_waits_until_the_receiver_has_everything() {
    on_each_driver(|driver| {
        let (listener, address) = listen();
        let receiver = std::thread::spawn(move || {
            socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
            let (mut socket, _) = listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            socket.write_all(b"220 some greeting\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(300));
            read_all(socket)
        });
        let account = deliver(driver, &tcp(address), 16 << 20, LIMIT, async |way| {
            way.append(10_000);
            // So that our kernel has them.
            pause(50).await;
        });
        let (bytes, end) = receiver.join().unwrap();
        assert!(end.is_ok(), "{end:?}, {account:?}");
        assert_eq!(numbers(&bytes).len(), 10_000, "{account:?}");
    });
}

/// How a receiver ends a connection while it is sent to.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// With a reset.
    Reset,
    /// With unread bytes, which makes a reset of it too, in its kernel's own time.
    Unread,
    /// It says that it sends no more, and reads what comes.
    HalfClosed,
}

/// Bytes that the kernel of [`cutting_receiver`] holds unread, at most.
const UNREAD_MAX: usize = 64 << 10;

/// Ends so many connections, each in another way after some time, and keeps the next one to its
/// end. What each brought is returned.
fn cutting_receiver(listener: TcpListener, cuts: u64) -> JoinHandle<Vec<Vec<u8>>> {
    socket2::SockRef::from(&listener).set_recv_buffer_size(UNREAD_MAX / 2).unwrap();
    std::thread::spawn(move || {
        let mut parts = Vec::new();
        for number in 0..cuts {
            let (mut socket, _) = listener.accept().unwrap();
            // Anywhere in a record, and after less than a socket holds or much more.
            let mut part = vec![0; (number as usize + 1).pow(3) * 40_961 % 500_009];
            socket.read_exact(&mut part).unwrap();
            match [Cut::Reset, Cut::Unread, Cut::HalfClosed][number as usize % 3] {
                Cut::Reset => reset(socket),
                Cut::Unread => drop(socket),
                Cut::HalfClosed => {
                    socket.shutdown(Shutdown::Write).unwrap();
                    part.extend(read_all(socket).0);
                }
            }
            parts.push(part);
        }
        parts.push(read_all(listener.accept().unwrap().0).0);
        parts
    })
}

#[test]
fn what_the_peer_has_not_acknowledged_is_sent_again() {
    const CUTS: u64 = 5;
    const COUNT: u64 = 60_000;
    on_each_driver(|driver| {
        let (listener, address) = listen();
        let receiver = cutting_receiver(listener, CUTS);
        let account = deliver(driver, &tcp(address), 64 << 20, LIMIT, async |way| {
            way.append_slowly(COUNT).await;
        });
        let parts: Vec<Vec<u64>> =
            receiver.join().unwrap().iter().map(|part| numbers(part)).collect();
        assert!(parts.iter().all(|part| consecutive(part)), "{account:?}");
        // After each cut it goes on behind what was acknowledged: with what the peer's kernel had
        // and the peer did not read missing, or with what was not known to have come, again.
        let (mut lost, mut twice, mut end) = (0, 0, 0);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            lost += part[0].saturating_sub(end);
            twice += end.saturating_sub(part[0]);
            end = part[part.len() - 1] + 1;
        }
        say(&format!("{CUTS} cuts ({driver:?}): {lost} lost, {twice} twice, {account:?}"));
        assert_eq!((end, account.delivered), (COUNT, COUNT), "{account:?}");
        assert!(lost <= CUTS * (UNREAD_MAX / RECORD) as u64, "{lost} lost");
        assert!(twice <= account.resent, "{twice} twice, {account:?}");
        assert_eq!(account.reconnects, CUTS);
    });
}

/// Receives datagrams until there are `enough`, or none comes for a while.
fn datagrams(socket: &UdpSocket, enough: usize, quiet: Duration) -> Vec<u64> {
    socket.set_read_timeout(Some(quiet)).unwrap();
    let mut datagram = [0; 1 << 16];
    let mut received = Vec::new();
    while received.len() < enough
        && let Ok(n) = socket.recv(&mut datagram)
    {
        received.extend(numbers(&datagram[..n]));
    }
    received
}

#[test]
fn a_udp_receiver_that_comes_later_gets_everything() {
    on_each_driver(|driver| {
        let port = free_port();
        let target = Delivery::Datagram(DatagramTarget::Udp(local(port)));
        let receiver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(800));
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            datagrams(&socket, 150, Duration::from_secs(5))
        });
        let account = deliver(driver, &target, 16 << 20, LIMIT, async |way| {
            way.append(150);
            pause(600).await;
            assert_eq!(way.delivered(), 0, "nobody listens yet");
            assert_eq!(way.queue.counters.connected.get(), 0);
            way.until("delivered", || way.delivered() == 150).await;
        });
        assert_eq!(receiver.join().unwrap(), (0..150).collect::<Vec<_>>(), "{account:?}");
    });
}

#[test]
fn a_udp_receiver_that_goes_away_is_noticed_in_the_middle_of_a_batch() {
    on_each_driver(|driver| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let target = Delivery::Datagram(DatagramTarget::Udp(local(port)));
        let mut before = Vec::new();
        let patience = Duration::from_millis(100);
        let account = deliver(driver, &target, 16 << 20, patience, async |way| {
            way.append(200);
            way.until("delivered", || way.delivered() == 200).await;
            before = datagrams(&socket, 200, Duration::from_secs(5));
            drop(socket);
            way.append(1000);
            way.until("noticed", || way.queue.counters.connected.get() == 0).await;
        });
        assert_eq!(before, (0..200).collect::<Vec<_>>());
        // A datagram or two went before the answer came; the others are held.
        assert!(account.delivered <= 202 && account.left >= 998, "{account:?}");
    });
}

#[test]
fn a_record_that_no_datagram_holds_is_counted_and_passed_over() {
    on_each_driver(|driver| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let delivery = Delivery::Datagram(DatagramTarget::Unix(path));
        // More than the send buffer of the socket will ever take.
        let longest = 8 << 20;
        let outbox = Outbox::new(Arc::new(Budget::new(64 << 20, 1)), longest);
        let account = deliver_from(outbox, driver, &delivery, LIMIT, async |way| {
            way.append(1);
            way.queue.append(|outbox| {
                let record = outbox.begin(longest);
                record.resize(record.len() + longest, b'x');
                outbox.finish();
            });
            way.next.set(way.next.get() + 1);
            way.append(1);
        });
        let mut received = Vec::new();
        let mut datagram = [0; 1 << 16];
        socket.set_nonblocking(true).unwrap();
        while let Ok(n) = socket.recv(&mut datagram) {
            received.extend(numbers(&datagram[..n]));
        }
        assert_eq!(received, [0, 2], "{account:?}");
        assert_eq!((account.delivered, account.refused), (2, 1), "{account:?}");
    });
}

/// A template may make one, for Logspout too.
#[test]
fn datagrams_without_bytes_are_sent_and_counted_like_others() {
    on_each_driver(|driver| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let delivery =
            Delivery::Datagram(DatagramTarget::Udp(local(socket.local_addr().unwrap().port())));
        let outbox = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), 1 << 16);
        let account = deliver_from(outbox, driver, &delivery, LIMIT, async |way| {
            way.queue.append(|outbox| {
                for text in ["one", "", "", "four", ""] {
                    outbox.begin(text.len()).extend_from_slice(text.as_bytes());
                    outbox.finish();
                }
            });
            way.next.set(5);
        });
        let mut datagram = [0; 16];
        let received = std::iter::from_fn(|| socket.recv(&mut datagram).ok());
        assert_eq!(received.collect::<Vec<_>>(), [3, 0, 0, 4, 0], "{account:?}");
        assert_eq!(account.delivered, 5, "{account:?}");
    });
}

#[test]
fn a_datagram_socket_that_nobody_reads_does_not_hold_up_the_end() {
    on_each_driver(|driver| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let delivery = Delivery::Datagram(DatagramTarget::Unix(path));
        let patience = Duration::from_millis(100);
        let account = deliver(driver, &delivery, 1 << 20, patience, async |way| {
            way.append(2000);
            pause(100).await;
        });
        assert!(account.delivered > 0 && account.left > 0, "{account:?}");
        assert!(account.ending < Duration::from_millis(400), "{account:?}");
        drop(socket);
    });
}

#[test]
fn a_datagram_socket_that_is_a_stream_is_used_as_one() {
    on_each_driver(|driver| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let listener = UnixListener::bind(&path).unwrap();
        let receiver = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let delivery = Delivery::Datagram(DatagramTarget::Unix(path));
        deliver(driver, &delivery, 1 << 20, LIMIT, async |way| way.append(100));
        assert_eq!(numbers(&receiver.join().unwrap()), (0..100).collect::<Vec<_>>());
    });
}

/// Descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir(Path::new("/proc/self/fd")).unwrap().count()
}

#[test]
fn connections_leave_no_descriptor_behind() {
    let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
    with_drivers(|_, driver| {
        let (listener, address) = listen();
        let receiver = std::thread::spawn(move || {
            (0..60).for_each(|_| drop(listener.accept().unwrap()));
            (0..60).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>()
        });
        let target = StreamTarget::Tcp(local(address.port()));
        let pool = Pool::new();
        let (before, after) = lio::block_on(driver, async {
            let mut before = 0;
            for number in 0..120 {
                let conn = Conn::open(driver, &target, &pool).await.unwrap();
                let closer = conn.closer();
                // A read that is under way when the connection is ended, by the peer or by us.
                let read = tokio::task::spawn_local(async move {
                    let _ = conn.read().await;
                });
                pause(2).await;
                closer.close();
                read.await.unwrap();
                if number == 20 {
                    before = descriptors();
                }
            }
            pause(20).await;
            (before, descriptors())
        })
        .unwrap();
        // The peer's ends of the second half are in this process too.
        let peers = receiver.join().unwrap();
        assert!(after < before + peers.len() + 10, "{before} then {after}");
    });
}

const ID: &str = "c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ffee000000c0ff";

/// Starts the program with a console whose output is a pipe, and a container that writes.
fn with_console(io: &str, then: impl FnOnce(support::logchute::Logchute, io::PipeReader, &Engine)) {
    let _beside_others = beside_others();
    let engine = Engine::new();
    engine.add(inspect(ID, "talker"), true);
    let (reader, writer) = io::pipe().unwrap();
    let setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1");
    let setup = setup.env("DRAIN_TIMEOUT", "300ms").env("BUFFER", "256KiB").arg("console://");
    let program = setup.start_with(Stdio::from(writer));
    // The command that held the other copy of the pipe's end is gone with `setup`.
    drop(setup);
    assert!(engine.wait_followed(&[ID], LIMIT));
    then(program, reader, &engine);
}

fn write_lines(engine: &Engine, count: usize) {
    let lines = "a line of the talker that is about as long as lines are\n".repeat(100);
    for _ in 0..count / 100 {
        engine.write(ID, Stream::Out, lines.as_bytes());
    }
}

/// Of the account of the only route at the end: received, delivered, dropped.
fn totals(stderr: &str) -> [u64; 3] {
    let line = stderr.lines().rfind(|line| line.contains("lines received")).unwrap_or_default();
    ["received", "delivered", "dropped"].map(|what| {
        let before = line.split(what).next().unwrap_or_default();
        let number = before.rsplit([' ', ',']).find(|word| word.parse::<u64>().is_ok());
        number.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{what}: {stderr}"))
    })
}

#[test]
fn a_console_that_nobody_reads_does_not_hold_up_the_end() {
    for io in drivers() {
        with_console(io, |mut program, reader, engine| {
            write_lines(engine, 20_000);
            let waits = || program.metric("logchute_containers_behind") == 1.0;
            assert!(support::wait_until(LIMIT, waits), "{}", program.stderr());
            let since = Instant::now();
            let ended = program.stop();
            assert!(since.elapsed() < Duration::from_secs(2), "{}", ended.stderr);
            let [received, delivered, dropped] = totals(&ended.stderr);
            assert!(received > 0 && delivered + dropped == received, "{}", ended.stderr);
            assert!(ended.stderr.contains("with STATE_DIR it would go on"), "{}", ended.stderr);
            drop(reader);
        });
    }
}

#[test]
fn a_console_that_is_closed_ends_the_program() {
    for io in drivers() {
        with_console(io, |mut program, reader, engine| {
            drop(reader);
            write_lines(engine, 1000);
            let ended = program.wait(LIMIT).expect("it ends by itself");
            let [received, delivered, dropped] = totals(&ended.stderr);
            assert_eq!((delivered, dropped), (0, received), "{}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        });
    }
}
