//! Progress of long work, on a terminal only. On a pipe or in a file nothing appears: output stays plain.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is shorter than this shows nothing.
const TICK: Duration = Duration::from_millis(120);

/// A line on standard error that shows how far the work is.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length: what it waits for.
    pub(super) fn waiting(what: &str) -> Self {
        Self::styled(0, "{spinner} {msg} ({elapsed})").about(what)
    }

    /// Reads so many bytes.
    pub(super) fn of_bytes(what: &str, total: u64) -> Self {
        Self::styled(total, "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {eta}").about(what)
    }

    /// So many things.
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

    /// What it does or waits for now.
    pub(super) fn say(&self, what: &str) {
        self.0.set_message(crate::visible::visible(what).into_owned());
    }

    /// What it waits for now. Where no terminal shows it, it is a plain line on standard error if a person must act.
    pub(super) fn show(&self, waits: &str) {
        self.say(waits);
        if self.0.is_hidden() && waits.contains(" waits for ") {
            super::complain(waits);
        }
    }

    /// So much more is done.
    pub(super) fn add(&self, done: u64) {
        self.0.inc(done);
    }

    /// There is so much to do, and nothing is done yet.
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
