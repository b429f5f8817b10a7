//! What the service does with a request.

use forebay::sink::lanes::Ticket;
use forebay::sink::{Outgoing, PutError, RecordResult};

use super::World;
use crate::lanes::accepted;
use crate::lanes::means::{Id, id_of};

impl World {
    /// What is sent once more was accepted before.
    pub(super) fn control(&mut self, ticket: Ticket, records: &[Outgoing]) {
        let [record] = records else { panic!("{records:?}") };
        for line in record.data.split_inclusive(|byte| *byte == b'\n') {
            let id = id_of(line);
            assert_eq!(line, self.written(id).line.as_bytes());
            assert!(self.finished.contains(&id), "{id:?} is a control, and was not accepted");
        }
        let fails = self.random.percent(self.trouble);
        let result =
            if fails { Err(PutError::NoResponse("by the model".into())) } else { Ok(vec![accepted()]) };
        drop(self.lanes.settle(ticket, result, self.now));
        self.seen_changes.controls += 1;
    }

    /// A request as a whole goes wrong; some of it may have been stored.
    pub(super) fn lost(&mut self, ids: &[Vec<Id>]) -> Result<Vec<RecordResult>, PutError> {
        let stored = self.random.percent(50);
        for id in ids {
            if stored && self.random.percent(80) {
                self.appear_all(id);
            }
        }
        let text = "by the model".to_owned();
        match self.random.below(5) {
            0 if !stored => Err(PutError::Refused(text.into())),
            4 if !stored => Err(PutError::Invalid(text.into())),
            1 if !stored => Err(PutError::Throttled(text.into())),
            2 => Ok(vec![RecordResult::Throttled; ids.len() + 1]),
            _ => Err(PutError::NoResponse(text.into())),
        }
    }

    pub(super) fn each(&mut self, ids: &[Vec<Id>]) -> Vec<RecordResult> {
        let mut answers = Vec::new();
        for id in ids {
            let hash = self.hash(id[0]).0;
            let stuck = self.stuck.is_some_and(|(first, last)| (first..=last).contains(&hash));
            if !stuck && !self.random.percent(self.trouble) {
                self.appear_all(id);
                self.number += 1;
                let (sequence, shard) = (self.number.to_string(), self.shards.id_of(hash));
                answers.push(RecordResult::Accepted { sequence, shard });
            } else if self.random.percent(70) {
                answers.push(RecordResult::Throttled);
            } else {
                answers.push(RecordResult::Failed { reason: "InternalFailure".to_owned() });
            }
        }
        answers
    }
}
