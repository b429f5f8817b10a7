//! A confirm of the last connection that reaches the server while the next one is being made.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::fixture::Fixture;
use crate::support::postgres::Version;
use crate::support::{SOON, eventually};

/// A line to the server. On demand it keeps what the first stream's client says; when the second stream is asked for, the
/// server gets that first, and the request after the first walsender has gone.
#[derive(Default)]
struct State {
    /// The first stream: the daemon's end, the server's end.
    first: Option<(TcpStream, TcpStream)>,
    holding: bool,
    held: Vec<u8>,
}

struct Line {
    state: Arc<Mutex<State>>,
    port: u16,
}

type Released = Arc<dyn Fn() + Send + Sync>;

impl Line {
    /// `released` returns when the server has taken in what was held and its walsender has gone.
    fn start(target: u16, released: Released) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
                let (back, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || copy(back, to));
                let (state, released) = (Arc::clone(&shared), Arc::clone(&released));
                std::thread::spawn(move || up(client, server, &state, &*released));
            }
        });
        Self { state, port }
    }

    fn hold(&self) {
        self.state.lock().unwrap().holding = true;
    }

    fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// The daemon's end of the first stream breaks; the server does not know.
    fn break_first(&self) {
        let state = self.state.lock().unwrap();
        state.first.as_ref().unwrap().0.shutdown(Shutdown::Both).unwrap();
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // Its end is the end of the connection, however it comes.
    drop(std::io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Both));
}

fn up(mut client: TcpStream, mut server: TcpStream, state: &Mutex<State>, released: &dyn Fn()) {
    let mut buffer = vec![0; 64 << 10];
    let mut is_first = false;
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..read];
        if bytes.windows(17).any(|window| window == b"START_REPLICATION") {
            let mut state = state.lock().unwrap();
            if state.first.is_none() {
                state.first = Some((client.try_clone().unwrap(), server.try_clone().unwrap()));
                is_first = true;
            } else if state.holding {
                state.holding = false;
                let held = std::mem::take(&mut state.held);
                let first = &mut state.first.as_mut().unwrap().1;
                first.write_all(&held).unwrap();
                first.shutdown(Shutdown::Write).unwrap();
                released();
            }
        }
        let mut state = state.lock().unwrap();
        if is_first && state.holding {
            state.held.extend_from_slice(bytes);
            continue;
        }
        drop(state);
        if server.write_all(bytes).is_err() {
            return;
        }
    }
    if !is_first {
        drop(server.shutdown(Shutdown::Write));
    }
}

/// The look at the slot sees the old position, the stream begins at the new one: the same history all the same.
#[test]
fn late_confirm_is_no_other_history() {
    let mut fixture = Fixture::prepare(Version::usual());
    let address = fixture.postgres.address();
    let released: Released = Arc::new(move || {
        let mut session = crate::support::session::Session::connect(&address).unwrap();
        eventually("the confirm has arrived and its walsender has gone", SOON, || {
            let rows = session.query("select 1 from pg_replication_slots where not active");
            (!rows.is_empty()).then_some(())
        });
    });
    let line = Line::start(fixture.postgres.port(), released);
    let direct = format!(":{}/", fixture.postgres.port());
    let url = fixture.daemon.settings().url.replace(&direct, &format!(":{}/", line.port));
    fixture.daemon.settings().url = url;
    fixture.go_on();
    fixture.plates(0..1);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
    line.hold();
    fixture.plates(1..2);
    fixture.wait_until_published().assert_clean();
    let before = fixture.confirmed();
    eventually("a confirm is under way", SOON, || {
        (fixture.daemon.metric("forebay_source_confirmed_lsn_bytes")? > bytes(&before) && line.held() > 0)
            .then_some(())
    });
    let mark = fixture.daemon.mark();
    line.break_first();
    fixture.plates(2..3);
    fixture.daemon.wait_for_event_since(mark, "receiving");
    assert_ne!(fixture.confirmed(), before, "the late confirm has moved the slot");
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
}

fn bytes(lsn: &str) -> f64 {
    let (high, low) = lsn.split_once('/').unwrap();
    let half = |text: &str| f64::from(u32::from_str_radix(text, 16).unwrap());
    half(high) * 4_294_967_296.0 + half(low)
}
