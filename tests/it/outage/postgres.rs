//! Postgres restarts under load, and the line to it breaks in every way: Forebay reconnects by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::proxy::{Direction, Proxy, Target};
use crate::support::random::{Random, seed};
use crate::support::workload::Running;
use crate::support::{SOON, eventually};

#[test]
fn postgres_restart_under_load_loses_nothing() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    let load = Running::start(&flow.postgres, 3, 20, seed);
    for how in [Some(Stop::Fast), Some(Stop::Immediate), None, Some(Stop::Immediate), Some(Stop::Fast)] {
        flow.wait_until_it_moves("before the restart");
        let busy = load.committed() + 100;
        eventually("work is done", SOON, || (load.committed() >= busy).then_some(()));
        match how {
            Some(how) => flow.postgres.stop(how),
            None => flow.postgres.kill9(),
        }
        flow.postgres.start_again();
        let back = Instant::now();
        flow.wait_until_it_moves(&format!("after {how:?}"));
        println!("{how:?}: events again after {:?}", back.elapsed());
    }
    load.stop();
    finish(flow);
}

/// What it is called, and how it is done; some need a number of bytes.
type Break<'a> = (&'a str, &'a dyn Fn(&Flow, u64));

#[test]
fn broken_postgres_connection_loses_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let builder = Postgres::builder(Version::usual()).without_fsync();
    let mut postgres = builder.setting("wal_sender_timeout='2s'").start();
    postgres.create_lab();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres.port()));
    let proxy = Proxy::start(Target::Tcp(target)).unwrap();
    let through = format!("postgres://forebay@{}/lab", proxy.address());
    let mut flow = Flow::over(postgres, seed, |settings| settings.url = through);
    flow.start();
    let load = Running::start(&flow.postgres, 2, 20, seed);
    let breaks: [Break<'_>; 5] = [
        ("cut", &|_, _| proxy.cut()),
        ("cut in the middle of a frame", &|_, bytes| {
            proxy.truncate_after(bytes);
            eventually("so many bytes have passed", SOON, || (proxy.connections() == 0).then_some(()));
        }),
        ("stalled", &|flow, _| {
            proxy.stall();
            // The server has lost patience; the daemon cannot know yet.
            flow.wait_until_slot_is_free();
            proxy.resume();
        }),
        ("what we say is lost", &|flow, _| {
            proxy.half_open(Some(Direction::ToTarget));
            flow.wait_until_slot_is_free();
            proxy.half_open(None);
            // Nobody can go on in the middle of a conversation of which parts are missing.
            proxy.cut();
        }),
        ("what the server says is lost", &|flow, _| {
            proxy.half_open(Some(Direction::ToClient));
            flow.mark();
            let end = flow.wal_end();
            eventually("the server has sent what does not arrive", SOON, || {
                let sent = flow.postgres.value("select max(sent_lsn) from pg_stat_replication");
                (sent.parse().is_ok_and(|sent: forebay::position::CommitSeq| sent >= end)).then_some(())
            });
            proxy.cut();
            proxy.half_open(None);
        }),
    ];
    let mut order: Vec<usize> = (0..breaks.len()).chain([1, 1]).collect();
    order.sort_by_cached_key(|_| random.bits());
    for index in order {
        let (name, act) = breaks[index];
        let began = Instant::now();
        let connections = proxy.accepted();
        act(&flow, 1 + random.below(100_000) as u64);
        let broken = began.elapsed();
        eventually("it connects again", SOON, || (proxy.accepted() > connections).then_some(()));
        flow.wait_until_it_moves(name);
        println!(
            "{name}: broken for {broken:?}, events again {:?} later",
            began.elapsed().saturating_sub(broken)
        );
    }
    load.stop();
    finish(flow);
}

fn finish(mut flow: Flow) {
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    // The sessions of the watchdog and of the catalogue break as well.
    flow.daemon.assert_quiet(&["source_disconnected", "watchdog_blind", "catalogue_unreadable"]);
    assert!(flow.daemon.terminate().success());
}
