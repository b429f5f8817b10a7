//! Lag events. The last one in the checkpoint is compared with the present state, so that a restart neither
//! forgets nor repeats one.

use super::Ledger;
use crate::buffer::checkpoint::{Checkpoint, Injection, LagFacts, LagNotice, LagRecord};

impl Ledger {
    /// Notes the last change of state. It becomes an event unless the last event has the same state.
    pub fn lag_changed(&mut self, facts: LagFacts) {
        self.lag = Some(facts);
    }

    /// Adds an event if the state differs from that of the last event. At most one event is unpublished; a
    /// state that ends in the meantime has no event.
    pub(super) fn note_lag(&self, next: &mut Checkpoint) {
        let Some(facts) = self.lag else { return };
        let is_known = facts.recovered == next.lag.exceeded_at.is_none();
        if is_known || next.injections.iter().any(|injection| matches!(injection, Injection::Lag(_))) {
            return;
        }
        let number = next.lag.number.saturating_add(1);
        next.lag = LagRecord { number, exceeded_at: (!facts.recovered).then_some(facts.exceeded_at) };
        let commit = self.written.ever_confirmed.seq();
        next.injections.push(Injection::Lag(LagNotice { epoch: next.epoch, commit, number, facts }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{AFTER, checkpoint, reached, tick, watermark};
    use super::*;
    use crate::position::{CommitSeq, FrameNo};

    /// The lag exceeds its limit and recovers before the first event is published. Then a restart finds it
    /// exceeded.
    #[test]
    fn stream_is_told_of_each_lag_once() {
        let facts = |recovered, at| LagFacts {
            recovered,
            at,
            exceeded_at: 7,
            lag_seconds: 9,
            highest_seconds: 9,
            max_seconds: 5,
        };
        let mut ledger = Ledger::new(checkpoint(), AFTER);
        ledger.lag_changed(facts(true, 1));
        assert_eq!(ledger.prepare(), None, "nothing was announced");
        ledger.lag_changed(facts(false, 7));
        tick(&mut ledger);
        let told = ledger.to_inject();
        let [Injection::Lag(first)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((first.number, first.commit, first.facts.at), (1, CommitSeq::new(100), 7));
        ledger.received(reached(1));
        ledger.injected(FrameNo(1), told[0].clone());
        ledger.lag_changed(facts(true, 8));
        assert_eq!(ledger.prepare(), None, "one at a time");
        // After a crash, the injection is not in the log. It is injected again unchanged.
        let mut restarted = Ledger::new(ledger.checkpoint().clone(), AFTER);
        assert_eq!(restarted.to_inject(), told);
        restarted.lag_changed(facts(false, 9));
        assert_eq!(restarted.prepare(), None, "it was announced before");
        ledger.publish(watermark(1));
        tick(&mut ledger);
        tick(&mut ledger);
        let told = ledger.to_inject();
        let [Injection::Lag(second)] = told.as_slice() else { panic!("{told:?}") };
        assert!((second.commit, second.number) > (first.commit, first.number) && second.facts.recovered);
        assert_eq!(ledger.checkpoint().lag.exceeded_at, None);
    }
}
