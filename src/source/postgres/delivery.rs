//! The slot as a [`Source`] of changes.

use tokio::time::{Instant, sleep_until, timeout};

use super::transaction::{Received, Step};
use super::{CLOSE_TIMEOUT, Found, PostgresSource};
use crate::buffer::Settled;
use crate::change::Delivery;
use crate::failure::Failure;
use crate::position::ResumePoint;
use crate::source::Source;

impl Source for PostgresSource {
    async fn receive(&mut self) -> Result<(), Failure> {
        loop {
            self.send_status_if_due().await?;
            if self.must_look().is_some() {
                // Status messages continue while the catalogue is read. Without them, the server would close
                // the connection.
                let due = self.heartbeat.due();
                tokio::select! {
                    biased;
                    looked_up = self.look_up() => looked_up?,
                    () = sleep_until(due) => continue,
                }
            }
            if self.pending.is_some() || self.truncating.is_some() || self.connection.is_ready() {
                return Ok(());
            }
            let tables = self.announcements.tables();
            let (assembler, forgetting) = (&self.assembler, &self.forgetting);
            let described = || forgetting.must_ask(assembler.described()).then(|| assembler.tables());
            self.inquiry.survey_if_due(|survey| survey.with_known(tables), described);
            let (asking, survey_due) = (self.inquiry.is_asking(), self.inquiry.survey_due());
            tokio::select! {
                biased;
                answer = self.inquiry.answer(), if asking => self.surveyed(answer),
                filled = self.connection.fill() => {
                    filled?;
                    self.heartbeat.note_received(Instant::now());
                }
                () = sleep_until(survey_due), if !asking => {}
                () = sleep_until(self.heartbeat.due()) => {
                    if let Some(after) = self.heartbeat.silence(Instant::now()) {
                        self.silence.wait_if_busy(&mut self.heartbeat, after, self.delivered).await?;
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure> {
        loop {
            let Some((found, place)) = self.advance()? else { return Ok(None) };
            match found {
                Found::Progress(wal_end) => {
                    // Within a transaction, or before the expected one, nothing may be confirmed.
                    if self.history.progress(wal_end)? {
                        return Ok(Some(Delivery::Progress { resume: ResumePoint::at(wal_end) }));
                    }
                }
                Found::Step(Step::Commit(end), ..) => {
                    let resume = self.history.commit().then(|| ResumePoint::at(end));
                    return Ok(Some(Delivery::Commit { resume }));
                }
                Found::Step(step, lsn, size) => {
                    if let Step::Begin(transaction) = &step {
                        self.history.begin(*transaction)?;
                    }
                    let received = Received { lsn, bytes: self.message(&place), size };
                    return Ok(self.assembler.view(&step, received));
                }
            }
        }
    }

    fn last_received(&self) -> std::time::Instant {
        self.heartbeat.received_at().into_std()
    }

    async fn confirm(&mut self, settled: &Settled) -> Result<(), Failure> {
        Ok(self.confirm_lsn(settled.resume().seq()).await?)
    }

    /// Waits until a status is due, and sends it. Call it again for the next one. Cancel-safe.
    async fn keep_alive(&mut self) -> Result<(), Failure> {
        self.connection.send().await?;
        sleep_until(self.heartbeat.due()).await;
        self.send_status(false).await?;
        // The loop did not read in the meantime, so unread messages do not count as silence of the server.
        self.heartbeat.note_received(Instant::now());
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Failure> {
        let ending = async {
            self.send_status(false).await?;
            self.connection.finish().await
        };
        let ended = timeout(CLOSE_TIMEOUT, ending).await;
        // After the last status, because the disk may hang.
        self.announcements.tables().save();
        // The last status was sent, even if the server did not respond.
        Ok(ended.unwrap_or(Ok(()))?)
    }
}
