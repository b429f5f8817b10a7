//! A control: a published record that is sent once more, to find out whether the stream accepts records other
//! than the failing one.
//!
//! A record is rejected only if others are accepted in the meantime
//! ([`Suspects`](crate::sink::lanes::suspects::Suspects)). Without other records to send, that would never be
//! known. This can last, because the failing record keeps the log from being reclaimed, and a log that is
//! full of published records after it receives nothing new.
//!
//! The control is one of the small records that were accepted last; after a restart, one that was published
//! before. It may follow newer events of its key, as any repeat may, and consumers discard it like any
//! repeat. It is not counted. If no record of the log was ever published, there is no control: then the
//! stream may be at fault as well.

use tokio::time::Instant;

use super::Dispatch;
use crate::sink::lanes::readers::Readers;
use crate::sink::lanes::ticket::{Request, RequestContent, Ticket};
use crate::sink::lanes::types::{Cause, Settlement};
use crate::sink::throttle::Pass;
use crate::sink::{Outgoing, PutError, RecordResult};

impl Dispatch {
    /// The record to send as a control; `None` if no control is needed.
    fn control_record<'a>(&self, readers: &'a Readers) -> Option<&'a Outgoing> {
        let is_idle =
            || self.flight.requests <= self.suspects.in_flight() && self.waiting(readers).records == 0;
        readers.last_published().filter(|_| self.suspects.wants_control() && is_idle())
    }

    /// When a control may be sent; `None` if none is needed.
    pub(super) fn control_at(&self, readers: &Readers, now: Instant) -> Option<Instant> {
        self.control_record(readers).and_then(|_| self.control.next(now))
    }

    /// A request with a control, if one should be sent now.
    pub(super) fn fill_with_control(
        &mut self,
        readers: &Readers,
        pass: Pass,
        now: Instant,
    ) -> Option<Request> {
        let record = self.control_record(readers)?.clone();
        if pass == Pass::Shut || self.control.next(now) != Some(now) {
            return None;
        }
        self.control.sent(now);
        let bytes = record.key.len() + record.data.len();
        Some(self.send(Vec::new(), vec![record], bytes, (pass, RequestContent::Control), now))
    }

    /// Handles the result of a control.
    pub(super) fn settle_control(
        &mut self,
        ticket: &Ticket,
        result: Result<Vec<RecordResult>, PutError>,
        now: Instant,
    ) -> Settlement {
        self.control.over();
        match result {
            Ok(answers) => {
                self.gate.acknowledged();
                if let [RecordResult::Accepted { .. }] = answers.as_slice() {
                    self.suspects.acknowledged(now);
                    self.suspects.note_other(true);
                } else {
                    self.suspects.control_failed();
                }
                Settlement::default()
            }
            Err(error) => {
                // The failing record has its turn before another control, because the control itself may be
                // what fails.
                self.suspects.control_failed();
                self.suspects.note_other(false);
                // An error about the content concerns only the control, unless it is the probe of a stream
                // that accepts nothing.
                let is_streams = ticket.probe || !matches!(error, PutError::Invalid(_));
                let pause =
                    if is_streams { self.gate.failed(ticket.probe, now, &mut self.jitter) } else { None };
                let cause = if is_streams { Cause::Stream } else { Cause::Unknown };
                Settlement { pause, cause, error: Some(error), ..Settlement::default() }
            }
        }
    }
}
