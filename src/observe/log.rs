//! The log on standard error: text, or one JSON object per line.
//!
//! Fields may quote servers, table names and other foreign texts. JSON escapes them. In the text form every
//! field is made [`visible`], so that no text fakes a line or controls the terminal.
//!
//! A thread of its own writes the lines ([`LogQueue`]): nothing else waits for the reader of the log.

mod queue;

use std::fmt::Debug;
use std::io::{self, IsTerminal as _};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::queue::LogQueue;
use crate::config::Log;
use crate::visible::visible;

/// Starts the log, once per process. Lines that are queued when the process ends are lost, unless
/// [`LogQueue::flush`] writes them.
///
/// # Errors
/// The operating system provides no file descriptor or thread.
pub fn start(log: &Log) -> io::Result<LogQueue> {
    let queue = LogQueue::to_stderr()?;
    queue.take_panics();
    let filter: Targets = log.filter.parse().unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(queue.clone());
    if log.json {
        registry.with(layer.json().flatten_event(true)).init();
    } else {
        let layer = layer.with_ansi(io::stderr().is_terminal());
        registry.with(layer.fmt_fields(format::debug_fn(field).delimited(" "))).init();
    }
    Ok(queue)
}

/// Writes `name=value`; for the message, only the value.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let text = format!("{value:?}");
    let text = visible(&text);
    match field.name() {
        "message" => writer.write_str(&text),
        name => {
            let name = name.strip_prefix("r#").unwrap_or(name);
            if writer.has_ansi_escapes() {
                write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{text}")
            } else {
                write!(writer, "{name}={text}")
            }
        }
    }
}
