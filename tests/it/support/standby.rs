//! A streaming standby of a test's cluster, without `pg_basebackup` (the npm packages hold only the server).

use std::process::Command;

use super::postgres::{Postgres, append, home};
use super::{SOON, eventually, port};

impl Postgres {
    /// Makes a hot standby that streams from this cluster by a physical slot. The primary should be quiet meanwhile.
    pub fn standby(&self) -> Self {
        let slot = format!("standby_{}", port::free());
        let home = home();
        let standby = Self {
            version: self.version,
            programs: self.programs.clone(),
            data: home.path().join("data"),
            home,
            user: self.user,
            port: port::free(),
            tls: None,
            database: self.database.clone(),
            process: None,
        };
        self.backup_into(&standby, &slot);
        let newer = if self.version.0 >= 17 { "sync_replication_slots=on\n" } else { "" };
        append(
            &standby.data.join("postgresql.conf"),
            &format!(
                "port={}\nunix_socket_directories='{}'\nssl=off\nhot_standby=on\nhot_standby_feedback=on\n\
                 primary_conninfo='host={} port={} user=postgres dbname=postgres'\n\
                 primary_slot_name='{slot}'\n{newer}",
                standby.port,
                standby.home.path().display(),
                self.socket_directory().display(),
                self.port,
            ),
        );
        std::fs::write(standby.data.join("standby.signal"), "").unwrap();
        standby.user.own(standby.home.path());
        let mut standby = standby;
        standby.start_again();
        self.wait_for(&standby);
        standby
    }

    /// Waits until the standby has replayed all that this primary wrote so far.
    pub fn wait_for(&self, standby: &Self) {
        let target = self.value("select pg_current_wal_flush_lsn()");
        let sql = format!("select coalesce(pg_last_wal_replay_lsn() >= '{target}'::pg_lsn, false)");
        eventually("the standby has caught up", SOON, || (standby.value(&sql) == "t").then_some(()));
    }

    /// Cuts a standby off from its primary, so that it lags from here on.
    pub fn cut_off(&self) {
        self.execute("alter system set primary_conninfo = ''");
        self.execute("select pg_reload_conf()");
        eventually("the standby no longer receives", SOON, || {
            (self.value("select count(*) from pg_stat_wal_receiver") == "0").then_some(())
        });
    }

    /// Makes a standby a primary with a timeline of its own.
    pub fn promote(&self) {
        assert_eq!(self.value("select pg_promote(true, 60)"), "t");
    }

    /// An online backup. The WAL is not copied: the physical slot keeps it, and the standby streams it.
    fn backup_into(&self, standby: &Self, slot: &str) {
        let (start, stop) = if self.version.0 >= 15 {
            ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
        } else {
            ("pg_start_backup('standby', true, false)", "pg_stop_backup(false)")
        };
        let mut session = self.try_session("postgres", "postgres").unwrap();
        session.query(&format!("select pg_create_physical_replication_slot('{slot}', true)"));
        session.query(&format!("select {start}"));
        std::fs::create_dir(&standby.data).unwrap();
        // 1 means that a file changed while it was read: that is what the backup label is for.
        let script = "set -o pipefail; cd \"$0\" && tar cf - --exclude='./pg_wal/0*' --exclude=./postmaster.pid \
            --exclude=./postmaster.opts --exclude='./pg_replslot/*' --exclude='./pg_dynshmem/*' . | tar xpf - -C \"$1\"";
        let mut copy = Command::new("bash");
        let status = copy.args(["-c", script]).arg(&self.data).arg(&standby.data).status().unwrap();
        assert!(status.code().is_some_and(|code| code <= 1), "tar: {status}");
        let label = session.query(&format!("select labelfile from {stop}")).remove(0).remove(0).unwrap();
        std::fs::write(standby.data.join("backup_label"), label).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&standby.data, private).unwrap();
    }
}
