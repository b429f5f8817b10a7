//! Our sessions on the server: what they set, what they wait for, how many there are, and what they see.

mod dba;
mod late_confirm;
mod locks;
pub mod parameters;
mod publication;
mod watchdog;

use crate::support::postgres::Postgres;

/// Ends the replication stream, as a restart of a server does: the daemon reconnects and looks at everything again.
fn end_stream(postgres: &Postgres) {
    postgres.value("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
}
