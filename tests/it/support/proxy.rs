//! A TCP proxy on a free loopback port that breaks the connections through it on demand.
//!
//! Threads, no runtime: it can be controlled from any test, blocking or async. Every thread ends when its connection or the proxy
//! does. It never looks into the bytes.

use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where the bytes go.
#[derive(Clone, Debug)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket, e.g. `/tmp/pg/.s.PGSQL.5432`.
    Unix(PathBuf),
}

/// One direction of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the program under test to the target.
    ToTarget,
    /// From the target to the program under test.
    ToClient,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn open(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Target::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn close(&self, how: Shutdown) {
        // It may be closed already; then there is nothing to do.
        drop(match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        });
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

#[derive(Default)]
struct State {
    /// Both ends of every connection, by number.
    open: Vec<(u64, Socket, Socket)>,
    accepted: u64,
    ended: bool,
    refusing: bool,
    stalled: bool,
    deaf: Option<Direction>,
    bytes_per_second: Option<u64>,
    /// Bytes that may still pass, both directions together, before everything is cut.
    left: Option<u64>,
}

impl State {
    fn cut(&mut self) {
        for (_, client, target) in self.open.drain(..) {
            client.close(Shutdown::Both);
            target.close(Shutdown::Both);
        }
    }

    fn has(&self, number: u64) -> bool {
        self.open.iter().any(|(open, ..)| *open == number)
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy. Dropping it cuts everything and closes the port.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one in front of the target, which need not be there yet.
    pub fn start(target: Target) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || accept(&listener, &target, &theirs))?;
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open through it.
    pub fn connections(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// How many connections it has forwarded since it started.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    fn update(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }

    /// Cuts every connection at once. New ones are forwarded, unless refused.
    pub fn cut(&self) {
        self.update(State::cut);
    }

    /// Closes new connections as soon as they are made, or forwards them again.
    pub fn refuse(&self, refusing: bool) {
        self.update(|state| state.refusing = refusing);
    }

    /// Accepts and keeps connections, forwards nothing in any direction.
    pub fn stall(&self) {
        self.update(|state| state.stalled = true);
    }

    /// Forwards again, first what was kept.
    pub fn resume(&self) {
        self.update(|state| state.stalled = false);
    }

    /// Throws away what goes in one direction (a half-open connection); `None` ends that, what was thrown away is lost.
    pub fn half_open(&self, direction: Option<Direction>) {
        self.update(|state| state.deaf = direction);
    }

    /// At most so many bytes a second in each direction of each connection; `None` is as fast as it can.
    pub fn slow(&self, bytes_per_second: Option<u64>) {
        self.update(|state| state.bytes_per_second = bytes_per_second);
    }

    /// Lets exactly so many more bytes pass, both directions together, then cuts everything: in the middle of a frame.
    pub fn truncate_after(&self, bytes: u64) {
        self.update(|state| state.left = Some(bytes));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.update(|state| {
            state.ended = true;
            state.cut();
        });
        // Wakes the accepting thread; if that fails, there is none.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, target: &Target, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let (ended, refusing) = {
            let state = shared.lock();
            (state.ended, state.refusing)
        };
        if ended {
            return;
        }
        if let (Ok(client), false) = (client, refusing) {
            // A target that is not there closes the client's connection: that is what the client sees in life, too.
            drop(join(client, target, shared));
        }
    }
}

fn join(client: TcpStream, target: &Target, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (client, server) = (Socket::Tcp(client), Socket::open(target)?);
    let number = {
        let mut state = shared.lock();
        if state.ended || state.refusing {
            return Ok(());
        }
        state.accepted += 1;
        let number = state.accepted;
        state.open.push((number, client.try_clone()?, server.try_clone()?));
        number
    };
    let ways = [
        (client.try_clone()?, server.try_clone()?, Direction::ToTarget),
        (server, client, Direction::ToClient),
    ];
    for (from, to, direction) in ways {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pump(from, to, direction, number, &shared));
    }
    Ok(())
}

/// Forwards one direction until it ends.
fn pump(mut from: Socket, mut to: Socket, direction: Direction, number: u64, shared: &Shared) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let Some(step) = next_step(rest.len(), direction, number, shared) else { return };
            let (now, later) = rest.split_at(step.take);
            if !step.drop && to.write_all(now).is_err() {
                shared.lock().open.retain(|(open, ..)| *open != number);
                from.close(Shutdown::Both);
                return;
            }
            if step.cut {
                shared.lock().cut();
                return;
            }
            rest = later;
        }
    }
    // The end of one direction is passed on; the other may still have something to say.
    to.close(Shutdown::Write);
    if direction == Direction::ToClient {
        shared.lock().open.retain(|(open, ..)| *open != number);
    }
}

struct Step {
    take: usize,
    drop: bool,
    cut: bool,
}

/// Waits for leave to forward up to `want` bytes; `None` when the connection was cut.
fn next_step(want: usize, direction: Direction, number: u64, shared: &Shared) -> Option<Step> {
    let mut state = shared.lock();
    // At a rate, one piece leaves every 20 ms: fine enough to look steady, coarse enough to cost nothing.
    let piece = |rate: u64| usize::try_from((rate / 50).max(1)).unwrap_or(usize::MAX);
    let started = Instant::now();
    loop {
        if !state.has(number) {
            return None;
        }
        let rate = state.bytes_per_second;
        let take = rate.map_or(want, |rate| want.min(piece(rate)));
        let due = rate.map_or(Duration::ZERO, |rate| {
            Duration::from_micros((take as u64).saturating_mul(1_000_000) / rate.max(1))
        });
        let left = due.saturating_sub(started.elapsed());
        if state.stalled {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        } else if !left.is_zero() {
            (state, _) = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        } else {
            let Some(budget) = state.left else {
                return Some(Step { take, drop: state.deaf == Some(direction), cut: false });
            };
            let take = take.min(usize::try_from(budget).unwrap_or(usize::MAX));
            let rest = budget.saturating_sub(take as u64);
            state.left = (rest > 0).then_some(rest);
            return Some(Step { take, drop: state.deaf == Some(direction), cut: rest == 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> Target {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut { stream }));
            }
        });
        Target::Tcp(address)
    }

    fn client(proxy: &Proxy, patience_ms: u64) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(patience_ms))).unwrap();
        stream
    }

    fn say(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut received = vec![0; text.len()];
        stream.read_exact(&mut received).map(|()| received)
    }

    #[test]
    fn cut_proxy_closes_connections_and_accepts_new_ones() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut one = client(&proxy, 60_000);
        assert_eq!(say(&mut one, b"hello").unwrap(), b"hello");
        assert_eq!(proxy.connections(), 1);
        proxy.cut();
        assert!(say(&mut one, b"hello").is_err());
        assert_eq!(say(&mut client(&proxy, 60_000), b"again").unwrap(), b"again");
        proxy.refuse(true);
        assert!(say(&mut client(&proxy, 60_000), b"refused").is_err());
        assert_eq!(proxy.accepted(), 2);
    }

    #[test]
    fn stalled_proxy_keeps_bytes_until_resumed() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = client(&proxy, 100);
        proxy.stall();
        let error = say(&mut stream, b"hello").unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        proxy.resume();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut received = [0; 5];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
    }

    #[test]
    fn half_open_connection_takes_bytes_and_returns_none() {
        for direction in [Direction::ToTarget, Direction::ToClient] {
            let proxy = Proxy::start(echo()).unwrap();
            // The first echo waits until the connection stands: on a busy machine that alone may outlast the patience below.
            let mut stream = client(&proxy, 60_000);
            say(&mut stream, b"hello").unwrap();
            proxy.half_open(Some(direction));
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let error = say(&mut stream, b"hello").unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
            assert_eq!(proxy.connections(), 1);
        }
    }

    #[test]
    fn cut_after_n_bytes_passes_exactly_n() {
        let proxy = Proxy::start(echo()).unwrap();
        // Twelve bytes go there, seven come back.
        proxy.truncate_after(19);
        let mut stream = client(&proxy, 60_000);
        stream.write_all(b"hello, world").unwrap();
        let mut received = Vec::new();
        // The cut may be seen as an end or as a reset; what came before it counts.
        drop(stream.read_to_end(&mut received));
        assert_eq!(received, b"hello, ");
        assert_eq!(proxy.connections(), 0);
    }

    #[test]
    fn slow_connection_keeps_its_rate() {
        let proxy = Proxy::start(echo()).unwrap();
        proxy.slow(Some(10_000));
        let mut stream = client(&proxy, 60_000);
        let start = Instant::now();
        say(&mut stream, &[7; 2_000]).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    }

    #[test]
    fn unix_socket_can_be_a_target() {
        let path = std::env::temp_dir().join(format!("forebay-proxy-{}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            io::copy(&mut stream.try_clone().unwrap(), &mut { stream })
        });
        let proxy = Proxy::start(Target::Unix(path.clone())).unwrap();
        let received = say(&mut client(&proxy, 60_000), b"hello");
        std::fs::remove_file(path).unwrap();
        assert_eq!(received.unwrap(), b"hello");
    }

    #[test]
    fn dropped_proxy_closes_its_port() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = client(&proxy, 60_000);
        say(&mut stream, b"hello").unwrap();
        drop(proxy);
        assert!(say(&mut stream, b"hello").is_err());
    }
}
