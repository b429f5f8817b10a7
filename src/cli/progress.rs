//! Shows the progress of long work, on a terminal only. In a pipe or a file nothing is printed, so that
//! output stays plain.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Delay before the first display. Shorter work shows nothing.
const TICK: Duration = Duration::from_millis(120);

/// A line on standard error that shows the progress of work.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length. `what`: what it waits for.
    pub(super) fn waiting(what: &str) -> Self {
        Self::styled(0, "{spinner} {msg} ({elapsed})").about(what)
    }

    /// Work that reads this many bytes.
    pub(super) fn of_bytes(what: &str, total: u64) -> Self {
        Self::styled(total, "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {eta}").about(what)
    }

    /// Work of this many items.
    pub(super) fn of_things(what: &str, total: u64) -> Self {
        Self::styled(total, "{spinner} {msg} {wide_bar} {pos}/{len} {eta}").about(what)
    }

    fn styled(total: u64, template: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template(template);
        debug_assert!(style.is_ok(), "{template} is a template");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    fn about(self, what: &str) -> Self {
        self.say(what);
        self
    }

    /// Sets the text of the line.
    pub(super) fn say(&self, what: &str) {
        self.0.set_message(crate::visible::visible(what).into_owned());
    }

    /// Sets the text to what is being waited for. Without a terminal, a wait that needs a person's action is
    /// printed as a line on standard error.
    pub(super) fn show(&self, waits: &str) {
        self.say(waits);
        if self.0.is_hidden() && waits.contains(" waits for ") {
            super::complain(waits);
        }
    }

    /// Advances the bar.
    pub(super) fn add(&self, done: u64) {
        self.0.inc(done);
    }

    /// Starts the bar from zero with a new total.
    pub(super) fn begin(&self, total: u64) {
        self.0.set_position(0);
        self.0.set_length(total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
