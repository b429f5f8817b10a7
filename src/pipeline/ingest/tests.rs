//! State after an attempt over a scripted source.

use std::time::Instant;

use std::future::{pending, ready};

use super::*;
use crate::buffer::checkpoint::{Checkpoint, Phase as Made};
use crate::buffer::ledger::Ledger;
use crate::change::{ChangePlace, Unreadable};
use crate::config::{ConfirmAfter, Tables};
use crate::identity::tests::identity;
use crate::pipeline::ingest::append::tests::appender;
use crate::position::{CommitSeq, FrameNo, Transaction};

/// Delivers one unreadable change, then fails.
struct Broken(u32);

impl Source for Broken {
    fn receive(&mut self) -> impl Future<Output = Result<(), Failure>> {
        pending()
    }

    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure> {
        self.0 += 1;
        let transaction = Transaction { commit: CommitSeq::new(500), xid: 7, time: 1 };
        let place = ChangePlace { transaction, index: 0, record: CommitSeq::new(400), nth: 0 };
        match self.0 {
            1 => Ok(Some(Delivery::Begin(transaction))),
            2 => Ok(Some(Delivery::Unreadable(Unreadable {
                place,
                relation: None,
                table: None,
                reason: "x",
                size: 1,
                raw: b"x",
            }))),
            _ => Err(Failure::retry("the connection broke")),
        }
    }

    fn last_received(&self) -> Instant {
        Instant::now()
    }

    fn confirm(&mut self, _: &Settled) -> impl Future<Output = Result<(), Failure>> {
        ready(Ok(()))
    }

    fn keep_alive(&mut self) -> impl Future<Output = Result<(), Failure>> {
        pending()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Failure>> {
        ready(Ok(()))
    }
}

#[tokio::test]
async fn changes_of_broken_connection_reach_publisher() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut appender) = appender(directory.path(), Tables::default());
    let checkpoint = Checkpoint::fresh(identity(), Made::Running, 0, CommitSeq::ZERO);
    let ledger = SharedLedger::new(Ledger::new(checkpoint, ConfirmAfter::Never));
    let (_settled, settled) = watch::channel(None);
    let (_phase, phase) = watch::channel(Phase::Running);
    let ingest = Ingest {
        source: Broken(0),
        proof: None,
        skips: false,
        appender: &mut appender,
        ledger: ledger.clone(),
        settled,
        phase,
        status: Status::new("lab"),
        connection: 1,
    };
    assert!(matches!(ingest.run().await, Err(Failure::Retry(_))));
    assert_eq!((log.tail().frame, ledger.lock().tail().mark.frame), (FrameNo(1), FrameNo(1)));
}
