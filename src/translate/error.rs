//! Why a change cannot become events.

use crate::failure::{Explain, Problem};

/// Largest record of any stream, in bytes. A stream may have a lower limit, which the sink checks.
pub(super) const LINE_MAX: usize = 10 << 20;

/// Why a change cannot become events. Messages never contain row values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// A value is not valid for its type.
    #[error("column {column}: {reason}")]
    Value {
        /// Column name.
        column: String,
        /// The reason.
        reason: String,
    },
    /// The event exceeds the limit of every stream.
    #[error("the event exceeds {} MiB, the largest record that any Kinesis stream accepts", LINE_MAX >> 20)]
    TooLarge,
    /// The events of the change exceed what the log accepts for one change.
    #[error("the change makes too many events, or too large ones")]
    TooMuch,
    /// The rules do not fit the table's new definition.
    #[error("the rules do not fit the table's new definition: {0}")]
    Drift(String),
    /// The row would break the locked contract.
    #[error("{}", .0.primary())]
    Contract(Problem),
    /// The outbox row or message is not a valid event.
    #[error("{}", .0.primary())]
    Outbox(Problem),
    /// The event's subject would reveal personal data.
    #[error("key column {column} holds personal data, so its table makes no automatic events")]
    KeyTagged {
        /// Column name.
        column: String,
    },
    /// A personal-data column has another name now.
    #[error("column {column} was {origin}, which holds personal data")]
    TaggedRenamed {
        /// Column name.
        column: String,
        /// The column's name in `[pii]`.
        origin: String,
    },
    /// A personal-data column may have been renamed, and would be published under its new name.
    #[error("the table no longer has the personal-data column {column}")]
    TaggedGone {
        /// Column name.
        column: String,
    },
    /// The table was altered or dropped before the source could read its definition.
    #[error("{0}")]
    PastUnknown(String),
    /// A key column was not sent.
    #[error("the server did not send key column {column}")]
    KeyUnavailable {
        /// Column name.
        column: String,
    },
}

impl Explain for TranslateError {
    fn detail(&self) -> Option<String> {
        match self {
            Self::TooMuch => {
                Some("A change makes at most 65535 events, of 32 MiB or buffer.max_size together.".to_owned())
            }
            Self::Contract(problem) | Self::Outbox(problem) => problem.detail().map(str::to_owned),
            Self::Value { .. }
            | Self::TooLarge
            | Self::Drift(_)
            | Self::KeyTagged { .. }
            | Self::TaggedRenamed { .. }
            | Self::TaggedGone { .. }
            | Self::PastUnknown(_)
            | Self::KeyUnavailable { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Value { .. } => Some("Leave the column out with tables.drop, or correct the row.".to_owned()),
            Self::Drift(_) => {
                Some("Correct the rules, restart Forebay and run `forebay dlq retry`.".to_owned())
            }
            Self::Contract(problem) | Self::Outbox(problem) => problem.hint().map(str::to_owned),
            Self::KeyTagged { column } => Some(format!(
                "Write rules with key = \"hmac({column})\", restart Forebay and run `forebay dlq retry`."
            )),
            Self::TaggedRenamed { column, .. } => Some(format!(
                "Add {column} to pii.columns under its new name, or with a leading ! if it holds no personal data. Restart \
                 Forebay and run `forebay dlq retry`."
            )),
            Self::TaggedGone { column } => Some(format!(
                "If it was renamed, add the new name to pii.columns and keep \"?*.*.{column}\" for earlier rows. Restart \
                 Forebay and run `forebay dlq retry`."
            )),
            Self::PastUnknown(_) => Some(
                "Run `forebay dlq retry` to publish it as the table is described today, or `forebay dlq discard`."
                    .to_owned(),
            ),
            Self::KeyUnavailable { .. } => {
                Some("Set REPLICA IDENTITY FULL on the table: it applies to later rows.".to_owned())
            }
            Self::TooLarge | Self::TooMuch => None,
        }
    }
}
