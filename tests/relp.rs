//! RELP servers that misbehave, over real sockets: what they say wrong is told in plain words, and
//! what they did not acknowledge is sent again. A server that does as it should is rsyslog, in
//! `tests/receivers_syslog.rs`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

mod support;

use support::engine::{Engine, Stream, inspect};
use support::logchute::Setup;
use support::{drivers, wait_until};

const ID: &str = "3edafbdfe8dbd1349ef2c5ae783545a50a2502d1886b231de6aae0f6d4bf417d";
const LONG: Duration = Duration::from_secs(20);
/// Lines that are written in a test.
const COUNT: u64 = 1000;
/// Of these, those that a server acknowledges before it does wrong.
const GOOD: usize = 300;
const YES: &str = "200 OK";
const OFFERS: &str = "200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog";

/// A frame of the program's: number, command, data.
type Frame = (u32, String, Vec<u8>);

/// The server's side of a connection.
struct Peer {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Peer {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Peer { socket, bytes: Vec::new() }
    }

    /// The next frame; `None` at the end of the connection.
    fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = parse(&self.bytes) {
                self.bytes.drain(..len);
                return Some(frame);
            }
            let mut some = [0; 4096];
            match self.socket.read(&mut some) {
                Ok(n @ 1..) => self.bytes.extend_from_slice(&some[..n]),
                _ => return None,
            }
        }
    }

    fn answer(&mut self, txnr: u32, text: &str) -> io::Result<()> {
        self.socket.write_all(&answer(txnr, text))
    }

    /// Accepts the session.
    fn open(&mut self) {
        let (txnr, command, _) = self.frame().unwrap();
        assert_eq!((txnr, &*command), (1, "open"));
        self.answer(txnr, OFFERS).unwrap();
    }

    /// Takes records and says so, `most` of them or all there are, to the session's end.
    fn take(&mut self, most: usize, records: &mut Vec<Vec<u8>>) {
        let before = records.len();
        while records.len() - before < most
            && let Some((txnr, command, data)) = self.frame()
        {
            if command == "close" {
                self.socket
                    .write_all(format!("{txnr} rsp 0\n0 serverclose 0\n").as_bytes())
                    .unwrap();
                return;
            }
            assert_eq!((txnr as usize, &*command), (records.len() - before + 2, "syslog"));
            records.push(data);
            self.answer(txnr, YES).unwrap();
        }
    }
}

fn answer(txnr: u32, text: &str) -> Vec<u8> {
    format!("{txnr} rsp {} {text}\n", text.len()).into_bytes()
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let mut words = bytes.splitn(3, |&b| b == b' ');
    let mut text = || Some(String::from_utf8(words.next()?.to_vec()).unwrap());
    let (txnr, command) = (text()?, text()?);
    let rest = words.next()?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let len: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().ok()?;
    let begin = bytes.len() - rest.len() + digits + usize::from(len > 0);
    let data = bytes.get(begin..begin + len)?.to_vec();
    assert_eq!(bytes.get(begin + len)?, &b'\n');
    Some(((txnr.parse().unwrap(), command, data), begin + len + 1))
}

/// Lines to a server that does `wrong` on its first connection, which may say which records it took,
/// and well on the second. What the program says has to tell why; each line has to come, once if it
/// was acknowledged, and in its turn.
fn through(io: &str, why: &str, wrong: impl Fn(Peer, &mut Vec<Vec<u8>>) + Send + Sync) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let engine = Engine::new();
    engine.add(inspect(ID, "web"), true);
    let setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1");
    let mut program = setup.arg(&format!("relp://{address}")).start();
    let (first, second) = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            wrong(Peer::accept(&listener), &mut first);
            let mut peer = Peer::accept(&listener);
            peer.open();
            peer.take(usize::MAX, &mut second);
            (first, second)
        });
        assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
        for n in 1..=COUNT {
            engine.write(ID, Stream::Out, format!("@{n:05}\n").as_bytes());
        }
        let all = wait_until(LONG, || program.metric("logchute_lines_delivered") as u64 == COUNT);
        let resent = program.metric("logchute_lines_resent") as u64;
        let ended = program.stop();
        assert!(all, "{why}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{why}: {}", ended.stderr);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(resent <= 128, "{why}: {resent} sent again");
        server.join().unwrap()
    });
    let number = |record: &Vec<u8>| {
        let text = String::from_utf8(record.clone()).unwrap();
        text.rsplit('@').next().unwrap().parse::<u64>().unwrap()
    };
    let received: Vec<u64> = first.iter().chain(&second).map(number).collect();
    assert_eq!(received, (1..=COUNT).collect::<Vec<_>>(), "{why}: {} first", first.len());
}

/// Runs [`through`] after the session was opened and some records were taken as they should.
fn after_some(io: &str, why: &str, wrong: impl Fn(&mut Peer, Frame) + Send + Sync) {
    through(io, why, |mut peer, records| {
        peer.open();
        peer.take(GOOD, records);
        let frame = peer.frame().unwrap();
        wrong(&mut peer, frame);
        // Nothing comes any more that is an answer, and it is the program that leaves.
        while peer.frame().is_some() {}
    });
}

#[test]
fn what_a_server_does_wrong_is_said_and_nothing_is_lost() {
    for io in drivers() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                through(io, "what the server says is not RELP", |mut peer, _| {
                    peer.frame();
                    peer.socket.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
                });
            });
            scope.spawn(|| {
                through(io, "refused the RELP session: 500 error 1 on connect", |mut peer, _| {
                    peer.frame();
                    peer.answer(1, "500 error 1 on connect").unwrap();
                });
            });
            scope.spawn(|| {
                after_some(io, "the server refused a record: 500 disk full", |peer, (txnr, ..)| {
                    peer.answer(txnr, "500 disk full").unwrap();
                });
            });
            scope.spawn(|| {
                after_some(io, "answered frame 4711, which waits for no answer", |peer, _| {
                    peer.answer(4711, YES).unwrap();
                });
            });
            scope.spawn(|| {
                after_some(io, "the server closed the RELP session", |peer, _| {
                    peer.socket.write_all(b"0 serverclose 0\n").unwrap();
                });
            });
            scope.spawn(|| {
                after_some(io, "the server closed the connection", |peer, (txnr, ..)| {
                    // The answer to the next one came, and that to this one did not.
                    let (next, ..) = peer.frame().unwrap();
                    assert_eq!(next, txnr + 1);
                    peer.answer(next, YES).unwrap();
                    peer.socket.write_all(&answer(txnr, YES)[..5]).unwrap();
                    peer.socket.shutdown(std::net::Shutdown::Write).unwrap();
                });
            });
        });
    }
}

/// Answers byte by byte, in any order, and a joined line, which keeps its newlines.
#[test]
fn answers_may_come_in_pieces_and_lines_may_be_joined() {
    for io in drivers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::new();
        engine.add(inspect(ID, "web"), true);
        let uri = format!("multiline+relp://{address}?multiline.flush_after=50ms");
        let setup = Setup::new(io).engine(Some(&engine.host())).env("SHARDS", "1");
        let mut program = setup.arg(&uri).start();
        let records = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut peer = Peer::accept(&listener);
                peer.open();
                let (one, two) = (peer.frame().unwrap(), peer.frame().unwrap());
                peer.socket.set_nodelay(true).unwrap();
                for byte in [answer(two.0, YES), answer(one.0, YES)].concat() {
                    peer.socket.write_all(&[byte]).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
                let (txnr, command, _) = peer.frame().unwrap();
                assert_eq!((txnr, &*command), (4, "close"));
                peer.answer(txnr, "").unwrap();
                [one.2, two.2]
            });
            assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
            engine.write(ID, Stream::Out, b"one\n  more\ntwo\n");
            let two = || program.metric("logchute_lines_delivered") as u64 == 2;
            assert!(wait_until(LONG, two), "{}", program.stderr());
            let ended = program.stop();
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            server.join().unwrap()
        });
        assert!(records[0].ends_with(b" - - one\n  more"), "{}", records[0].escape_ascii());
        assert!(records[1].ends_with(b" - - two"), "{}", records[1].escape_ascii());
    }
}

/// A server that answers no record: the program ends when its time is up, and says what it held.
#[test]
fn a_server_that_answers_nothing_does_not_hold_up_the_end() {
    for io in drivers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::new();
        engine.add(inspect(ID, "web"), true);
        let setup = Setup::new(io).engine(Some(&engine.host())).env("DRAIN_TIMEOUT", "300ms");
        let mut program = setup.env("SHARDS", "1").arg(&format!("relp://{address}")).start();
        let ended = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut peer = Peer::accept(&listener);
                peer.open();
                let mut frames = 0;
                while peer.frame().is_some() {
                    frames += 1;
                }
                frames
            });
            assert!(engine.wait_followed(&[ID], LONG), "{}", program.stderr());
            for n in 1..=COUNT {
                engine.write(ID, Stream::Out, format!("@{n:05}\n").as_bytes());
            }
            let received = || program.metric("logchute_lines_received") as u64 == COUNT;
            assert!(wait_until(LONG, received), "{}", program.stderr());
            assert_eq!(program.metric("logchute_lines_delivered"), 0.0);
            let ended = program.stop();
            assert_eq!(server.join().unwrap(), 128, "the window");
            ended
        });
        assert!(ended.stderr.contains(&format!("{COUNT} lines")), "{}", ended.stderr);
    }
}
