//! What the log and the terminal show of texts that others wrote: no row values, no forged lines, no terminal commands.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use crate::support::daemon::{Daemon, Settings};
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Characters that a terminal obeys, that begin lines, or that turn the direction of reading.
fn is_harmful(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202e}')
}

/// Fault A7: a row filter of the publication fails at a row, and the server's message quotes the value.
#[test]
fn failing_row_filter_keeps_row_values_out_of_the_log() {
    let mut flow = Flow::prepare(seed(), |settings| settings.tables = vec!["lab.times".to_owned()]);
    flow.postgres.execute(
        "create table lab.times (id int primary key, at timestamptz, zone text); \
         alter table lab.times replica identity full, owner to lab",
    );
    flow.start();
    flow.postgres.execute(
        "alter publication forebay_lab set table lab.times where ((at at time zone zone) > '2000-01-01')",
    );
    flow.postgres.execute("insert into lab.times values (1, now(), 'alice@example.org 4111 1111')");
    assert_eq!(flow.daemon.wait().code(), Some(1));
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("22023") && log.contains("row filter"), "{log}");
    assert!(!log.contains("alice") && !log.contains("4111"), "{log}");
}

/// Fault A8: a server's message had a line of the log in it.
#[test]
fn text_of_a_server_forges_no_line() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let text = "hello\n2026-11-22T00:00:00.000000Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{2028}ERROR forged\u{202e}";
            let body = format!("SFATAL\0VFATAL\0C57P03\0M{text}\0D{text}\0H{text}\0\0");
            let mut request = [0; 1024];
            // The first message asks for TLS; a client that has left need not receive the rest.
            drop(stream.read(&mut request).and_then(|_| stream.write_all(b"N")));
            drop(stream.read(&mut request));
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            drop(stream.write_all(&[b"E", &length[..], body.as_bytes()].concat()));
        }
    });
    for format in ["human", "json"] {
        let url = format!("postgres://forebay:x@127.0.0.1:{port}/lab");
        let mut settings = Settings::new(url, "http://127.0.0.1:1".to_owned());
        settings.more.push(("log".to_owned(), format!("format = {format:?}")));
        let mut daemon = Daemon::start(settings);
        daemon.wait_for_event_with(0, "start_retried", "hello");
        daemon.terminate();
        for line in daemon.log() {
            let begins =
                line.starts_with('{') || line.starts_with("20") && !line.contains("Z ERROR forged\r");
            assert!(begins && !line.starts_with("2026-11-22T00:00:00"), "{line:?}");
            assert!(format == "json" || !line.contains(is_harmful), "{line:?}");
        }
    }
}

/// The name of a table is part of the event type, which lists show.
#[test]
fn table_name_commands_no_terminal() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    let name = "lab.\"x\nforged\u{1b}[2J\u{9b}31m\u{202e}\"";
    flow.postgres.execute(&format!(
        "create table {name} (id int primary key, big text); alter publication forebay_lab add table {name}"
    ));
    flow.postgres.execute(&format!("insert into {name} values (1, repeat('b', 1500000))"));
    let list = || {
        let output = flow.daemon.run(&["dlq", "list"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("forged").then_some(text)
    };
    let text = eventually("it is a dead letter", SOON, list);
    assert_eq!(text.lines().count(), 2, "{text:?}");
    assert!(!text.lines().any(|line| line.contains(is_harmful)), "{text:?}");
    let id = text.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let shown = flow.daemon.run(&["dlq", "show", &id]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("forged") && !shown.lines().any(|line| line.contains(is_harmful)), "{shown:?}");
    let names_it = || flow.daemon.log().iter().any(|line| line.contains("forged")).then_some(());
    eventually("the log names it", SOON, names_it);
    let log = flow.daemon.log();
    assert!(!log.iter().any(|line| line.contains(is_harmful) || line.starts_with("forged")), "{log:?}");
}
