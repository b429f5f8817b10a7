//! Free TCP ports for servers that are stopped and started again on the same one.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

// Below the range from which Linux takes ports for outgoing connections (32768 on), so that nobody takes a server's port
// while it is stopped.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on which nobody listens now, and which this process does not hand out again soon.
pub fn free() -> u16 {
    free_from(|| NEXT.fetch_add(1, Ordering::Relaxed))
}

fn free_from(mut next: impl FnMut() -> u16) -> u16 {
    // Two test processes at a time begin at different places.
    let offset = u16::try_from(u64::from(std::process::id()).wrapping_mul(7919) % u64::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let port = FIRST + u16::try_from((u32::from(offset) + u32::from(next())) % u32::from(COUNT)).unwrap();
        // Not by listening there: a program that another thread starts just now would have a copy of the socket for a moment,
        // and the server that gets the port could not listen.
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

#[test]
fn used_ports_are_not_handed_out() {
    let mut step = 0;
    let port = free_from(|| {
        step = NEXT.fetch_add(1, Ordering::Relaxed);
        step
    });
    let _taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    // The same step again, without taking back those that other tests have had meanwhile.
    let mut again = step..;
    assert_ne!(free_from(|| again.next().unwrap()), port);
}
