//! How far readers may read, and how much the waiting reader waits for.
//!
//! The writer wakes that reader only once there is enough: a wake-up costs more than a frame.

use tokio::sync::watch;

use crate::position::FrameNo;

/// How much a reader waits for. It is woken when either limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Unread frames; at least one.
    pub frames: u64,
    /// Bytes appended since the wait began.
    pub bytes: u64,
}

impl Demand {
    /// Any frame at all.
    pub const ANY: Self = Self { frames: 1, bytes: u64::MAX };
}

/// What the log offers to readers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supply {
    /// The last frame that readers may read.
    pub(super) frame: FrameNo,
    /// Bytes appended since the log was opened.
    pub(super) appended: u64,
}

#[derive(Debug)]
struct Balance {
    supply: Supply,
    /// The last frame that the waiting reader has read.
    read: FrameNo,
    /// The reader is woken at this frame; or at this number of appended bytes, if there is any unread frame.
    wanted: Supply,
}

impl Balance {
    fn is_met(&self) -> bool {
        let Self { supply, read, wanted } = self;
        supply.frame > *read && (supply.frame >= wanted.frame || supply.appended >= wanted.appended)
    }
}

/// Wakes the waiting reader. At most one reader waits.
#[derive(Debug)]
pub(super) struct DemandWatch(watch::Sender<Balance>);

impl DemandWatch {
    /// For a log that ends with this frame.
    pub(super) fn new(frame: FrameNo) -> Self {
        let supply = Supply { frame, appended: 0 };
        Self(watch::Sender::new(Balance { supply, read: frame, wanted: supply }))
    }

    /// Notes the current supply, and wakes the reader if it is enough. The closure is called under the lock,
    /// so an older supply never replaces a newer one.
    pub(super) fn supply(&self, supply: impl FnOnce() -> Supply) {
        self.0.send_if_modified(|balance| {
            balance.supply = supply();
            balance.is_met()
        });
    }

    /// Waits until the demand after frame `read` is met. Cancel-safe.
    pub(super) async fn met(&self, read: FrameNo, demand: Demand) {
        let mut balance = self.0.subscribe();
        self.0.send_if_modified(|balance| {
            balance.read = read;
            balance.wanted = Supply {
                frame: FrameNo(read.0.saturating_add(demand.frames)),
                appended: balance.supply.appended.saturating_add(demand.bytes),
            };
            false
        });
        let closed = balance.wait_for(Balance::is_met).await.is_err();
        debug_assert!(!closed, "the log outlives its readers");
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct WakeUps(AtomicUsize);

    impl Wake for WakeUps {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits after frame 10, appends frames of 100 bytes, and returns the number of wake-ups and whether the
    /// wait has ended.
    fn waits(demand: Demand, frames: std::ops::RangeInclusive<u64>) -> (usize, bool) {
        let watch = DemandWatch::new(FrameNo(10));
        let wake_ups = Arc::new(WakeUps::default());
        let task = Arc::clone(&wake_ups).into();
        let mut context = Context::from_waker(&task);
        let mut met = pin!(watch.met(FrameNo(10), demand));
        assert!(met.as_mut().poll(&mut context).is_pending());
        for frame in frames {
            watch.supply(|| Supply { frame: FrameNo(frame), appended: (frame - 10) * 100 });
        }
        let woken = wake_ups.0.load(Ordering::Relaxed);
        (woken, met.as_mut().poll(&mut context).is_ready())
    }

    #[test]
    fn reader_is_woken_once_there_is_enough() {
        let much = |frames, bytes| Demand { frames, bytes };
        for (demand, until, woken) in [
            (Demand::ANY, 10, false),
            (Demand::ANY, 11, true),
            (much(5, u64::MAX), 14, false),
            (much(5, u64::MAX), 15, true),
            (much(u64::MAX, 1000), 19, false),
            (much(u64::MAX, 1000), 20, true),
            (much(5, 300), 12, false),
            (much(5, 300), 13, true),
        ] {
            assert_eq!(waits(demand, 11..=until), (usize::from(woken), woken), "{demand:?}, {until}");
        }
    }

    #[test]
    fn withheld_bytes_wake_nobody() {
        let watch = DemandWatch::new(FrameNo(10));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut met = pin!(watch.met(FrameNo(10), Demand { frames: 5, bytes: 300 }));
        assert!(met.as_mut().poll(&mut context).is_pending());
        let mut appended = |frame, appended| {
            watch.supply(|| Supply { frame: FrameNo(frame), appended });
            met.as_mut().poll(&mut context).is_ready()
        };
        assert!(!appended(10, 9_000), "no frame is readable");
        assert!(appended(11, 9_000));
    }

    /// Frames that were appended between the last read and the wait count.
    #[test]
    fn demand_that_is_met_already_is_not_waited_for() {
        let watch = DemandWatch::new(FrameNo(10));
        let mut context = Context::from_waker(std::task::Waker::noop());
        watch.supply(|| Supply { frame: FrameNo(12), appended: 200 });
        assert!(pin!(watch.met(FrameNo(11), Demand::ANY)).poll(&mut context).is_ready());
        assert!(pin!(watch.met(FrameNo(12), Demand::ANY)).poll(&mut context).is_pending());
    }
}
