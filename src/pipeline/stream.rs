//! What the publish loop knows of its stream beside the records: whether it still is the one, whether it can be described,
//! whether it takes anything; and says so, in the log, in the gauges and on `/health/ready`.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::health::{self, End};
use crate::pipeline::meters;
use crate::sink::standing::Standing;
use crate::sink::{PutError, StreamFacts};

/// How often a stream that cannot be described is mentioned at most.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct StreamWatch {
    facts: StreamFacts,
    standing: Standing,
    /// Why the last request failed as a whole, if it did.
    refused: Option<String>,
    /// Why the stream could not be described, if so.
    undescribed: Option<String>,
    /// When that was last said.
    said: Option<Instant>,
}

impl StreamWatch {
    /// The stream has just been described like this, and is ours.
    pub(super) fn new(facts: StreamFacts) -> Self {
        let watch = Self {
            facts,
            standing: Standing::new(Instant::now()),
            refused: None,
            undescribed: None,
            said: None,
        };
        meters::described(true);
        watch.say_whether_available();
        watch
    }

    /// ARN of the stream.
    pub(super) fn arn(&self) -> &str {
        &self.facts.arn
    }

    /// Whether records may be sent.
    pub(super) const fn may_send(&self) -> bool {
        self.standing.may_send()
    }

    /// When the stream is to be described.
    pub(super) const fn due(&self) -> Instant {
        self.standing.due()
    }

    /// A look begins.
    pub(super) fn asks(&mut self) {
        self.standing.asks(Instant::now());
    }

    /// A person wants it to be looked at now.
    pub(super) fn ask(&mut self) {
        self.standing.ask(Instant::now());
    }

    /// A request was answered, or failed as a whole.
    pub(super) fn settled(&mut self, error: Option<&PutError>) {
        if let Some(error) = error {
            self.standing.failed(error, Instant::now());
        }
        self.refused = error.map(ToString::to_string);
        self.say_whether_available();
    }

    /// The stream was described, and is ours; or could not be.
    pub(super) fn described(&mut self, result: Result<StreamFacts, PutError>) {
        self.standing.described(&result, Instant::now());
        meters::described(result.is_ok());
        self.undescribed = match result {
            Ok(facts) => {
                let closed = closed(&facts);
                self.say_what_changed(&facts);
                self.facts = facts;
                closed
            }
            Err(error) => Some(error.to_string()),
        };
        self.say_whether_described();
        self.say_whether_available();
    }

    fn say_what_changed(&self, now: &StreamFacts) {
        let before = &self.facts;
        if (before.max_record_size, before.shards, &before.mode)
            != (now.max_record_size, now.shards, &now.mode)
        {
            tracing::info!(
                stream = now.arn,
                shards = now.shards,
                mode = now.mode,
                max_record_size = now.max_record_size,
                "the stream's settings have changed"
            );
        }
    }

    fn say_whether_described(&mut self) {
        let Some(error) = &self.undescribed else {
            if self.said.take().is_some() {
                tracing::info!(stream = self.facts.arn, "the stream is described again, and is the same one");
            }
            return;
        };
        // An outage of everything is said by the records that wait.
        if self.may_send() && self.refused.is_some() {
            return;
        }
        let now = Instant::now();
        if self.said.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            return;
        }
        self.said = Some(now);
        if self.may_send() {
            tracing::warn!(
                stream = self.facts.arn,
                error,
                "the stream cannot be described: publishing goes on, but a stream that was recreated or ignores partition keys \
                 would not be noticed"
            );
        } else {
            tracing::warn!(
                stream = self.facts.arn,
                error,
                "nothing is sent before the stream has been described again: it may be another one"
            );
        }
    }

    fn say_whether_available(&self) {
        let doubt = self.undescribed.as_ref().filter(|_| !self.may_send());
        if let Some(reason) = doubt.or(self.refused.as_ref()) {
            unavailable(reason);
        } else {
            meters::service(true);
            health::well(End::Kinesis);
        }
    }
}

/// Why nothing should be put into it now, if so.
pub(super) fn closed(facts: &StreamFacts) -> Option<String> {
    facts.closed.map(|why| format!("the stream {} is {why}", facts.arn))
}

/// Notes that the stream takes nothing.
pub(super) fn unavailable(reason: &impl ToString) {
    meters::service(false);
    health::trouble(End::Kinesis, reason);
}
