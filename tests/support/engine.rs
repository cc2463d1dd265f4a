//! A scripted Docker Engine on a unix socket: the test says what happens, clients see it.
//!
//! It answers as Engine 20.10 does (API 1.41) what logchute asks: ping, list, inspect, events,
//! attach, stats, logs without `follow`. Every request is recorded. On request it fails: statuses,
//! garbage, half answers, silence, corrupt frames. Std threads and blocking sockets only.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logchute::stamp::Stamp;
use serde_json::{Value, json};

use super::http::Request;
use super::wait_until;

/// Standard output or standard error, as a frame header numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    /// Standard output; all that a TTY container writes.
    Out = 1,
    /// Standard error.
    Err = 2,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// `/_ping`
    Ping,
    /// `/containers/json`
    List,
    /// `/containers/{id}/json`
    Inspect,
    /// `/events`
    Events,
    /// `/containers/{id}/attach`
    Attach,
    /// `/containers/{id}/logs`
    Logs,
    /// `/containers/{id}/stats`
    Stats,
    /// Anything else.
    Other,
}

/// A bad answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status with this `message`.
    Status(u16, &'static str),
    /// Bytes that are no HTTP, then the end.
    Garbage,
    /// A good status line, `Content-Length: 100`, ten bytes, then the end.
    Half,
    /// Status 200 and a body that is no JSON.
    NotJson,
    /// Nothing, for as long as the client waits.
    Hang,
    /// The end of the connection, without a byte.
    Close,
    /// Of an answer of the `logs` door so many bytes, of its end nothing, and then silence. What is
    /// asked for one line (`tail=1`) is answered well.
    Stall(usize),
}

/// A message of the daemon's log, as its json-file driver keeps it.
struct Message {
    nanos: u128,
    stream: Stream,
    bytes: Vec<u8>,
}

struct Attached {
    socket: UnixStream,
    wants: [bool; 2],
}

struct Container {
    inspect: Value,
    listed: bool,
    log: Vec<Message>,
    /// What the daemon has read of each stream since the last whole message.
    unfinished: HashMap<Stream, Vec<u8>>,
    attached: HashMap<u64, Attached>,
    attaches: usize,
    /// Who reads its stats.
    samplers: HashMap<u64, UnixStream>,
}

impl Container {
    fn id(&self) -> &str {
        self.inspect["Id"].as_str().unwrap_or_default()
    }

    fn tty(&self) -> bool {
        self.inspect["Config"]["Tty"].as_bool().unwrap_or(false)
    }

    fn running(&self) -> bool {
        self.inspect["State"]["Running"].as_bool().unwrap_or(false)
    }

    /// Copies `data` into the log as the daemon does: whole lines, and pieces of 16 KiB of lines
    /// that are longer.
    fn keep(&mut self, stream: Stream, data: &[u8], nanos: &mut u128) {
        const PIECE: usize = 16 * 1024;
        let unfinished = self.unfinished.entry(stream).or_default();
        unfinished.extend_from_slice(data);
        loop {
            let line = memchr::memchr(b'\n', unfinished).map(|at| at + 1);
            let Some(end) = line.or((unfinished.len() >= PIECE).then_some(PIECE)) else { break };
            // The pieces of one line share its time.
            let same_line = self.log.iter().rev().find(|m| m.stream == stream);
            let nanos = match same_line.filter(|m| !m.bytes.ends_with(b"\n")) {
                Some(piece) => piece.nanos,
                None => {
                    *nanos += 1000;
                    *nanos
                }
            };
            let bytes: Vec<u8> = unfinished.drain(..end.min(PIECE)).collect();
            self.log.push(Message { nanos, stream, bytes });
        }
    }

    /// The unfinished lines go into the log as they are: their stream has ended.
    fn keep_rest(&mut self, nanos: &mut u128) {
        for (stream, bytes) in self.unfinished.drain().filter(|(_, b)| !b.is_empty()) {
            *nanos += 1000;
            self.log.push(Message { nanos: *nanos, stream, bytes });
        }
    }

    fn send_sample(&mut self, sample: &Value) {
        let line = chunk(format!("{sample}\n").as_bytes());
        self.samplers.retain(|_, sampler| sampler.write_all(&line).is_ok());
    }

    /// Writes `bytes` to everyone attached who wants `stream`; who cannot take them is let go.
    fn send(&mut self, stream: Stream, bytes: &[u8]) {
        self.attached.retain(|_, attached| {
            let taken =
                !attached.wants[stream as usize - 1] || attached.socket.write_all(bytes).is_ok();
            if !taken {
                let _ = attached.socket.shutdown(Shutdown::Both);
            }
            taken
        });
    }
}

#[derive(Default)]
struct State {
    containers: Vec<Container>,
    listeners: HashMap<u64, UnixStream>,
    /// All events so far, with their times.
    events: Vec<(u128, String)>,
    connections: HashMap<u64, UnixStream>,
    next: u64,
    requests: Vec<Request>,
    faults: HashMap<Ask, Fault>,
    nanos: u128,
    /// How far its clock is ahead of ours, in nanoseconds.
    ahead: i64,
}

impl State {
    fn find(&mut self, id: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|c| {
            let name = c.inspect["Name"].as_str().unwrap_or_default();
            id.len() >= 12 && c.id().starts_with(id) || name.strip_prefix('/') == Some(id)
        })
    }

    fn must_find(&mut self, id: &str) -> &mut Container {
        self.find(id).unwrap_or_else(|| panic!("the scripted engine has no container {id}"))
    }

    fn tell(&mut self, nanos: u128, event: &Value) {
        self.events.push((nanos, format!("{event}\n")));
        let line = chunk(format!("{event}\n").as_bytes());
        self.listeners.retain(|_, listener| listener.write_all(&line).is_ok());
    }

    /// A time later than all before it, and not before what the clock shows.
    fn tick(&mut self) -> u128 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = now.saturating_add_signed(self.ahead.into());
        self.nanos = now.max(self.nanos + 1000);
        self.nanos
    }
}

/// The engine.
pub(crate) struct Engine {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    down: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Engine {
    /// An engine without containers.
    pub(crate) fn new() -> Engine {
        let folder = tempfile::Builder::new().prefix("lct-engine-").tempdir().unwrap();
        let (state, down) = (Arc::default(), Arc::default());
        let mut engine = Engine { folder, state, down, accepting: None };
        engine.up();
        engine
    }

    /// From now on its clock is so many nanoseconds ahead of ours.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.state().ahead = ahead;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The `DOCKER_HOST` of a client.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The daemon goes away: every connection ends, the socket is gone. Containers stay.
    pub(crate) fn go_down(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let _ = std::fs::remove_file(self.socket());
        let mut state = self.state();
        for (_, connection) in state.connections.drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        state.listeners.clear();
        for container in &mut state.containers {
            container.attached.clear();
            container.samplers.clear();
        }
    }

    /// The daemon comes (back).
    pub(crate) fn up(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.down.store(false, Ordering::SeqCst);
        let (state, down) = (Arc::clone(&self.state), Arc::clone(&self.down));
        self.accepting = Some(std::thread::spawn(move || {
            while !down.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((socket, _)) => accept(&state, socket),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        }));
    }

    /// Adds a container by its inspect answer. `listed` says whether the list knows it already;
    /// one that is not listed appears with its first `start` event.
    pub(crate) fn add(&self, inspect: Value, listed: bool) {
        self.state().containers.push(Container {
            inspect,
            listed,
            log: Vec::new(),
            unfinished: HashMap::new(),
            attached: HashMap::new(),
            attaches: 0,
            samplers: HashMap::new(),
        });
    }

    /// The container writes `data`: into its log, and as one frame (unframed from a TTY) to
    /// whoever is attached.
    pub(crate) fn write(&self, id: &str, stream: Stream, data: &[u8]) {
        let mut state = self.state();
        let mut nanos = state.tick();
        let container = state.must_find(id);
        container.keep(stream, data, &mut nanos);
        let bytes = if container.tty() { data.to_vec() } else { frame(stream, data) };
        container.send(stream, &bytes);
        state.nanos = nanos;
    }

    /// The container's log is rotated: only the newest `kept` messages are left.
    pub(crate) fn rotate(&self, id: &str, kept: usize) {
        let mut state = self.state();
        let log = &mut state.must_find(id).log;
        log.drain(..log.len().saturating_sub(kept));
    }

    /// The container writes `data`, and only the log gets it: whoever is attached is attached to an
    /// earlier run.
    pub(crate) fn log(&self, id: &str, stream: Stream, data: &[u8]) {
        let mut state = self.state();
        let mut nanos = state.tick();
        state.must_find(id).keep(stream, data, &mut nanos);
        state.nanos = nanos;
    }

    /// Sends `bytes` as they are to whoever is attached: what a broken daemon would.
    pub(crate) fn send_raw(&self, id: &str, bytes: &[u8]) {
        self.state().must_find(id).send(Stream::Out, bytes);
    }

    /// Who is attached to the container, to be written to past the engine: frames, as fast as they
    /// are taken.
    pub(crate) fn attached_sockets(&self, id: &str) -> Vec<UnixStream> {
        let mut state = self.state();
        let attached = state.must_find(id).attached.values();
        attached.map(|attached| attached.socket.try_clone().unwrap()).collect()
    }

    /// Ends the attach streams of a container that runs on.
    pub(crate) fn detach(&self, id: &str) {
        let mut state = self.state();
        for (_, attached) in state.must_find(id).attached.drain() {
            let _ = attached.socket.shutdown(Shutdown::Both);
        }
    }

    /// The container starts: it is listed, runs as process `pid`, and an event says so.
    pub(crate) fn start(&self, id: &str, pid: Option<i64>) {
        {
            let mut state = self.state();
            let at = rfc3339(state.tick());
            let container = state.must_find(id);
            container.listed = true;
            let running = &mut container.inspect["State"];
            running["Running"] = json!(true);
            running["Status"] = json!("running");
            running["StartedAt"] = json!(at);
            if let Some(pid) = pid {
                running["Pid"] = json!(pid);
            }
        }
        self.event(id, "start", &[]);
    }

    /// The container ends: its streams end, then an event says so.
    pub(crate) fn die(&self, id: &str) {
        self.end(id);
        self.detach(id);
        self.tell_of_death(id);
    }

    /// An event says that the container has ended.
    pub(crate) fn tell_of_death(&self, id: &str) {
        self.event(id, "die", &[("exitCode", "0")]);
    }

    /// The container ends, and nobody gets to hear of it yet.
    pub(crate) fn end(&self, id: &str) {
        {
            let mut state = self.state();
            let mut nanos = state.tick();
            let container = state.must_find(id);
            container.keep_rest(&mut nanos);
            let ended = &mut container.inspect["State"];
            ended["Running"] = json!(false);
            ended["Status"] = json!("exited");
            ended["Pid"] = json!(0);
            ended["FinishedAt"] = json!(rfc3339(nanos));
            state.nanos = nanos;
        }
    }

    /// The container is renamed; `name` begins with a slash.
    pub(crate) fn rename(&self, id: &str, name: &str) {
        let old = {
            let mut state = self.state();
            let container = state.must_find(id);
            std::mem::replace(&mut container.inspect["Name"], json!(name))
        };
        self.event(id, "rename", &[("oldName", old.as_str().unwrap_or_default())]);
    }

    /// The container is removed.
    pub(crate) fn destroy(&self, id: &str) {
        self.event(id, "destroy", &[]);
        self.detach(id);
        let mut state = self.state();
        state.containers.retain(|c| c.id() != id);
    }

    /// The container ends and is removed before any event says so.
    pub(crate) fn vanish(&self, id: &str) {
        self.end(id);
        let mut state = self.state();
        let attached = std::mem::take(&mut state.must_find(id).attached);
        state.containers.retain(|c| c.id() != id);
        for (_, attached) in attached {
            let _ = attached.socket.shutdown(Shutdown::Both);
        }
    }

    /// Whoever listens to events now hears of none any more, nor of an end.
    pub(crate) fn hush(&self) {
        self.state().listeners.clear();
    }

    /// Sends an event to whoever listens, with the container's name, image and labels.
    pub(crate) fn event(&self, id: &str, action: &str, attributes: &[(&str, &str)]) {
        let mut state = self.state();
        let nanos = state.tick();
        let container = state.must_find(id);
        let config = &container.inspect["Config"];
        let name = container.inspect["Name"].as_str().unwrap_or_default();
        let mut of_actor = config["Labels"].as_object().cloned().unwrap_or_default();
        of_actor.insert("image".into(), config["Image"].clone());
        of_actor.insert("name".into(), json!(name.trim_start_matches('/')));
        of_actor.extend(attributes.iter().map(|(k, v)| ((*k).to_owned(), json!(v))));
        let id = container.id().to_owned();
        let event = json!({
            "status": action, "id": id, "from": config["Image"], "Type": "container",
            "Action": action, "Actor": {"ID": id, "Attributes": of_actor}, "scope": "local",
            "time": (nanos / 1_000_000_000) as u64, "timeNano": nanos as u64,
        });
        state.tell(nanos, &event);
    }

    /// Tells whoever listens of an event that is not a container's, as the daemon would write it.
    pub(crate) fn tell(&self, mut event: Value) {
        let mut state = self.state();
        let nanos = state.tick();
        event["timeNano"] = json!(nanos as u64);
        state.tell(nanos, &event);
    }

    /// The events so far are forgotten, as by a daemon that is started again.
    pub(crate) fn forget_events(&self) {
        self.state().events.clear();
    }

    /// Sends a sample to whoever reads the container's stats, taken now; `sample` has the rest of
    /// its members.
    pub(crate) fn sample(&self, id: &str, mut sample: Value) {
        let mut state = self.state();
        sample["read"] = json!(rfc3339(state.tick()));
        state.must_find(id).send_sample(&sample);
    }

    /// Sends what the daemon goes on to send of a container that has stopped.
    pub(crate) fn sample_of_stopped(&self, id: &str) {
        let sample = json!({"read": "0001-01-01T00:00:00Z", "pids_stats": {}, "cpu_stats": {}});
        self.state().must_find(id).send_sample(&sample);
    }

    /// How many read the container's stats now.
    pub(crate) fn samplers(&self, id: &str) -> usize {
        self.state().must_find(id).samplers.len()
    }

    /// From now on answers `ask` with `fault`; with `None`, well again.
    pub(crate) fn fault(&self, ask: Ask, fault: Option<Fault>) {
        let mut state = self.state();
        match fault {
            Some(fault) => state.faults.insert(ask, fault),
            None => state.faults.remove(&ask),
        };
    }

    /// Every request so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Requests so far that asked for `ask`.
    pub(crate) fn asked(&self, ask: Ask) -> usize {
        self.state().requests.iter().filter(|r| kind_of(r).0 == ask).count()
    }

    /// Whether there is a container of this id.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.state().find(id).is_some()
    }

    /// How many are attached to the container now.
    pub(crate) fn attached(&self, id: &str) -> usize {
        self.state().must_find(id).attached.len()
    }

    /// How many attach requests the container has had.
    pub(crate) fn attaches(&self, id: &str) -> usize {
        self.state().must_find(id).attaches
    }

    /// How many listen to events now.
    pub(crate) fn listeners(&self) -> usize {
        self.state().listeners.len()
    }

    /// Waits until someone listens to events and is attached to each of `ids`.
    pub(crate) fn wait_followed(&self, ids: &[&str], limit: Duration) -> bool {
        wait_until(limit, || self.listeners() > 0 && ids.iter().all(|id| self.attached(id) > 0))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// A frame of the multiplexed stream.
pub(crate) fn frame(stream: Stream, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![stream as u8, 0, 0, 0];
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A running container's inspect answer, with what logchute reads of it.
pub(crate) fn inspect(id: &str, name: &str) -> Value {
    json!({
        "Id": id, "Created": "2024-05-06T07:08:09.123456789Z", "Path": "/run", "Args": [],
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "",
            "StartedAt": "2024-05-06T07:08:10.5Z", "FinishedAt": "0001-01-01T00:00:00Z"},
        "Image": "sha256:0", "Name": format!("/{name}"), "RestartCount": 0,
        "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {}}},
        "Config": {"Hostname": id.get(..12), "Tty": false, "Env": [], "Cmd": [],
            "Image": "test:1", "Labels": {}},
    })
}

fn accept(state: &Arc<Mutex<State>>, socket: UnixStream) {
    let _ = socket.set_nonblocking(false);
    // A client that takes nothing for so long is let go rather than waited for.
    let _ = socket.set_write_timeout(Some(Duration::from_secs(20)));
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let lock = |state: &Arc<Mutex<State>>, f: &mut dyn FnMut(&mut State)| {
            f(&mut state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        };
        let mut number = 0;
        lock(&state, &mut |s| {
            s.next += 1;
            number = s.next;
            s.connections.extend(socket.try_clone().ok().map(|socket| (number, socket)));
        });
        let _ = serve(&state, number, socket);
        lock(&state, &mut |s| {
            s.connections.remove(&number);
            s.listeners.remove(&number);
            for container in &mut s.containers {
                container.attached.remove(&number);
                container.samplers.remove(&number);
            }
        });
    });
}

/// What a request asks for, and of which container.
fn kind_of(request: &Request) -> (Ask, &str) {
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), &parts[..]) {
        ("GET" | "HEAD", ["_ping"]) => (Ask::Ping, ""),
        ("GET", ["containers", "json"]) => (Ask::List, ""),
        ("GET", ["events"]) => (Ask::Events, ""),
        ("GET", ["containers", id, "json"]) => (Ask::Inspect, id),
        ("POST", ["containers", id, "attach"]) => (Ask::Attach, id),
        ("GET", ["containers", id, "logs"]) => (Ask::Logs, id),
        ("GET", ["containers", id, "stats"]) => (Ask::Stats, id),
        _ => (Ask::Other, ""),
    }
}

fn serve(state: &Mutex<State>, number: u64, mut socket: UnixStream) -> io::Result<()> {
    while let Some(request) = Request::read(&mut socket)? {
        let mut locked = state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        locked.requests.push(request.clone());
        let (ask, id) = kind_of(&request);
        let mut stall = None;
        match locked.faults.get(&ask).cloned() {
            Some(Fault::Stall(bytes)) => stall = (request.param("tail") != "1").then_some(bytes),
            Some(fault) => {
                drop(locked);
                if !misbehave(&fault, &mut socket)? {
                    return Ok(());
                }
                continue;
            }
            None => {}
        }
        let answer = match ask {
            Ask::Ping => plain(200, "text/plain; charset=utf-8", b"OK", request.method == "HEAD"),
            Ask::List => list(&locked, request.flag("all")),
            Ask::Inspect => match locked.find(id) {
                Some(container) => json_answer(200, &container.inspect),
                None => no_such(id),
            },
            Ask::Logs => logs(&mut locked, id, &request),
            Ask::Other => json_answer(404, &json!({"message": "page not found"})),
            Ask::Events if !request.param("until").is_empty() => {
                let events = past_events(&locked, &request);
                plain(200, "application/json", events.as_bytes(), false)
            }
            Ask::Events => {
                socket.write_all(STREAM_HEAD)?;
                let past = past_events(&locked, &request);
                if !request.param("since").is_empty() && !past.is_empty() {
                    socket.write_all(&chunk(past.as_bytes()))?;
                }
                locked.listeners.insert(number, socket.try_clone()?);
                drop(locked);
                return until_closed(&mut socket);
            }
            Ask::Stats if locked.find(id).is_some() => {
                socket.write_all(STREAM_HEAD)?;
                let reader = socket.try_clone()?;
                locked.must_find(id).samplers.insert(number, reader);
                drop(locked);
                return until_closed(&mut socket);
            }
            Ask::Stats => no_such(id),
            Ask::Attach => match attach(&mut locked, number, id, &request, &mut socket)? {
                Some(refusal) => refusal,
                None => {
                    drop(locked);
                    return until_closed(&mut socket);
                }
            },
        };
        drop(locked);
        if let Some(bytes) = stall {
            let most = answer.len().saturating_sub(LOGS_END.len());
            socket.write_all(&answer[..bytes.min(most)])?;
            return until_closed(&mut socket);
        }
        socket.write_all(&answer)?;
    }
    Ok(())
}

/// Answers badly; whether the connection goes on.
fn misbehave(fault: &Fault, socket: &mut UnixStream) -> io::Result<bool> {
    match fault {
        Fault::Status(status, message) => {
            socket.write_all(&json_answer(*status, &json!({"message": message})))?;
            return Ok(true);
        }
        Fault::Garbage => socket.write_all(b"\x16\x03\x01\x02\x00nonsense\r\n\r\n\xff\xff")?,
        Fault::Half => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{\"Id\":\"12")?;
        }
        Fault::NotJson => {
            socket.write_all(&plain(200, "application/json", b"<html>oops</html>", false))?;
            return Ok(true);
        }
        Fault::Hang => until_closed(socket)?,
        // The latter has been dealt with.
        Fault::Close | Fault::Stall(_) => {}
    }
    Ok(false)
}

fn until_closed(socket: &mut UnixStream) -> io::Result<()> {
    let mut sink = [0; 1024];
    while socket.read(&mut sink)? > 0 {}
    Ok(())
}

fn attach(
    state: &mut State,
    number: u64,
    id: &str,
    request: &Request,
    socket: &mut UnixStream,
) -> io::Result<Option<Vec<u8>>> {
    let Some(container) = state.find(id) else { return Ok(Some(no_such(id))) };
    let head: &[u8] = if request.head.contains("\r\nupgrade:") {
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
          Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    };
    socket.write_all(head)?;
    let wants = [request.flag("stdout"), request.flag("stderr")];
    container.attaches += 1;
    if request.flag("stream") {
        container.attached.insert(number, Attached { socket: socket.try_clone()?, wants });
    } else {
        let _ = socket.shutdown(Shutdown::Write);
    }
    Ok(None)
}

/// What happened in the time that is asked for, of what it remembers.
fn past_events(state: &State, request: &Request) -> String {
    let bounds = (limit(request.param("since"), 0), limit(request.param("until"), u128::MAX));
    let (Some(since), Some(until)) = bounds else { return String::new() };
    let remembered = &state.events[state.events.len().saturating_sub(RING)..];
    let events = remembered.iter().filter(|(at, _)| (since..=until).contains(at));
    events.map(|(_, event)| &**event).collect()
}

fn list(state: &State, all: bool) -> Vec<u8> {
    let listed = state.containers.iter().filter(|c| c.listed && (all || c.running()));
    let entries: Vec<Value> = listed
        .map(|c| {
            json!({"Id": c.id(), "Names": [c.inspect["Name"]], "Image": c.inspect["Config"]["Image"],
                "Labels": c.inspect["Config"]["Labels"], "State": c.inspect["State"]["Status"],
                "Status": "", "Created": 1_714_979_289})
        })
        .collect();
    json_answer(200, &Value::from(entries))
}

/// So many events the daemon remembers.
const RING: usize = 256;
/// How an answer begins that goes on.
const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n\
      Transfer-Encoding: chunked\r\n\r\n";

/// How an answer of the `logs` door begins.
pub(crate) const LOGS_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n";
/// And how it ends.
const LOGS_END: &[u8] = b"0\r\n\r\n";

/// The log so far. `follow` is not served: the answer ends, as that of a stopped container.
fn logs(state: &mut State, id: &str, request: &Request) -> Vec<u8> {
    let Some(container) = state.find(id) else { return no_such(id) };
    let wants = [request.flag("stdout"), request.flag("stderr")];
    if wants == [false, false] {
        let message = "Bad parameters: you must choose at least one stream";
        return json_answer(400, &json!({"message": message}));
    }
    let bounds = (limit(request.param("since"), 0), limit(request.param("until"), u128::MAX));
    let (Some(since), Some(until)) = bounds else {
        return json_answer(500, &json!({"message": "since or until is no UNIX time"}));
    };
    let in_time: Vec<_> =
        container.log.iter().filter(|m| (since..=until).contains(&m.nanos)).collect();
    // `tail` counts both streams, before one of them is left out.
    let tail = request.param("tail").parse().unwrap_or(usize::MAX);
    let last = &in_time[in_time.len().saturating_sub(tail)..];
    let mut body = Vec::new();
    for message in last.iter().filter(|m| wants[m.stream as usize - 1]) {
        let mut bytes = Vec::new();
        if request.flag("timestamps") {
            bytes.extend_from_slice(rfc3339(message.nanos).as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&message.bytes);
        let whole = if container.tty() { bytes } else { frame(message.stream, &bytes) };
        body.extend_from_slice(&chunk(&whole));
    }
    [LOGS_HEAD, &body, LOGS_END].concat()
}

/// A `since` or `until`: seconds with up to nine digits after a point, or nothing.
fn limit(text: &str, without: u128) -> Option<u128> {
    if text.is_empty() {
        return Some(without);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos: u128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(seconds.parse::<u128>().ok()? * 1_000_000_000 + nanos)
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn no_such(id: &str) -> Vec<u8> {
    json_answer(404, &json!({"message": format!("No such container: {id}")}))
}

fn json_answer(status: u16, body: &Value) -> Vec<u8> {
    plain(status, "application/json", format!("{body}\n").as_bytes(), false)
}

fn plain(status: u16, content_type: &str, body: &[u8], head_only: bool) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status} Scripted\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if !head_only {
        answer.extend_from_slice(body);
    }
    answer
}

/// A time in nanoseconds since 1970 as RFC 3339 with nine digits, UTC.
fn rfc3339(nanos: u128) -> String {
    let at = UNIX_EPOCH + Duration::from_nanos(nanos as u64);
    let seconds = Stamp::new(at).rfc3339().to_owned();
    let whole = String::from_utf8_lossy(&seconds).trim_end_matches('Z').to_owned();
    format!("{whole}.{:09}Z", nanos % 1_000_000_000)
}
