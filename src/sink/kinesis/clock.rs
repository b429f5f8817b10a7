//! The time for signatures. The service accepts requests signed up to five minutes before or after its own
//! time. If this machine's clock differs more, the time in the service's responses corrects it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::TimeSource;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

/// A smaller difference in seconds is not the cause of a rejection.
const CORRECTED_FROM: u64 = 60;

/// A clock that puts and control calls share.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceClock(Arc<AtomicI64>);

impl ServiceClock {
    /// Handles a rejection because of the request's time: `date` is the header of the response.
    pub(super) fn rejected(&self, date: Option<&str>) {
        self.correct(date, SystemTime::now());
    }

    fn correct(&self, date: Option<&str>, clock: SystemTime) {
        let Some(theirs) = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok()) else {
            return;
        };
        let ours = clock.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let Ok(ours) = i64::try_from(ours) else { return };
        let Some(ahead) = theirs.secs().checked_sub(ours) else { return };
        let before = self.0.load(Ordering::Relaxed);
        if ahead.abs_diff(before) < CORRECTED_FROM {
            return;
        }
        self.0.store(ahead, Ordering::Relaxed);
        tracing::warn!(
            event = "clock_corrected",
            service_ahead_seconds = ahead,
            hint = "Set this machine's clock.",
            "the clock differs from that of Kinesis; requests are signed with the time of Kinesis"
        );
    }

    fn at(&self, clock: SystemTime) -> SystemTime {
        let ahead = self.0.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let corrected = if ahead < 0 { clock.checked_sub(by) } else { clock.checked_add(by) };
        corrected.unwrap_or(clock)
    }
}

impl TimeSource for ServiceClock {
    fn now(&self) -> SystemTime {
        self.at(SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_time_is_corrected_by_the_services() {
        let clock = ServiceClock::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(784_111_777);
        for (date, ours, expected) in [
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), now, now),
            (Some("Sun, 06 Nov 1994 08:50:00 GMT"), now, now),
            (Some("Sun, 06 Nov 1994 09:49:37 GMT"), now, at(784_111_777 + 3600)),
            (Some("Sun, 06 Nov 1994 09:50:10 GMT"), now, at(784_111_777 + 3600)),
            (None, now, at(784_111_777 + 3600)),
            (Some("now"), now, at(784_111_777 + 3600)),
            (Some("Sun, 06 Nov 1994 07:49:37 GMT"), now, at(784_111_777 - 3600)),
            // The machine's clock was set in the meantime.
            (Some("Sun, 06 Nov 1994 07:49:37 GMT"), at(784_111_777 - 3600), at(784_111_777 - 3600)),
        ] {
            clock.correct(date, ours);
            assert_eq!(clock.at(ours), expected, "{date:?}");
        }
    }
}
