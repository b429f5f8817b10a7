//! Identity of a buffer directory: one source and one stream.
//!
//! [`SourceIdentity`] has a variant for each kind of source. Only the source itself reads what a variant
//! contains; everything else compares, stores and prints it.

use serde::{Deserialize, Serialize};

/// The source and the stream of a directory. A start with another identity is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredIdentity")]
pub struct Identity {
    /// The source of the changes.
    pub source: SourceIdentity,
    /// CloudEvents source, `urn:forebay:<name>`.
    pub name: String,
    /// The stream. `None` until it was described for the first time.
    pub stream: Option<StreamIdentity>,
    /// How keys are assigned to lanes. Lane progress is valid only with the same assignment.
    pub lane_hash: String,
}

/// Identifies a source, tagged with its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SourceIdentity {
    /// PostgreSQL's logical replication.
    Replication(ReplicationIdentity),
    /// PostgreSQL, polled by queries.
    Polling(PollingIdentity),
}

impl SourceIdentity {
    /// The branch of the source's history: PostgreSQL's timeline.
    pub const fn timeline(&self) -> u32 {
        match self {
            Self::Replication(source) => source.timeline,
            Self::Polling(source) => source.timeline,
        }
    }

    /// The database cluster: PostgreSQL's `system_identifier`.
    pub fn system_id(&self) -> &str {
        match self {
            Self::Replication(source) => &source.system_id,
            Self::Polling(source) => &source.system_id,
        }
    }

    /// Sets the branch of the source's history.
    pub const fn set_timeline(&mut self, timeline: u32) {
        match self {
            Self::Replication(source) => source.timeline = timeline,
            Self::Polling(source) => source.timeline = timeline,
        }
    }

    /// The kind of the source, as `source.mode` names it.
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Replication(_) => "replication",
            Self::Polling(_) => "polling",
        }
    }
}

/// A replication slot, and the database and publication it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationIdentity {
    /// `system_identifier` of the database cluster. It is text, because many JSON readers lose precision
    /// beyond 2^53.
    pub system_id: String,
    /// Timeline of the write-ahead log.
    pub timeline: u32,
    /// Database name.
    pub database: String,
    /// Replication slot.
    pub slot: String,
    /// Publication.
    pub publication: String,
}

/// A polled database. The server may be any server of its cluster on the same timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollingIdentity {
    /// `system_identifier` of the database cluster; text, as in [`ReplicationIdentity`].
    pub system_id: String,
    /// Timeline of the write-ahead log.
    pub timeline: u32,
    /// Database name.
    pub database: String,
}

/// Identifies a stream. The creation time distinguishes a recreated stream from its predecessor of the same
/// name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamIdentity {
    /// Full name, such as an ARN.
    #[serde(rename = "arn")]
    pub name: String,
    /// Creation time, milliseconds since the Unix epoch.
    pub created: i64,
}

/// The form in checkpoints. Version 1 has no tag: its only source was replication.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredIdentity {
    Tagged {
        source: SourceIdentity,
        name: String,
        stream: Option<StreamIdentity>,
        lane_hash: String,
    },
    Version1 {
        #[serde(flatten)]
        replication: ReplicationIdentity,
        source: String,
        stream: Option<StreamIdentity>,
        lane_hash: String,
    },
}

impl From<StoredIdentity> for Identity {
    fn from(stored: StoredIdentity) -> Self {
        match stored {
            StoredIdentity::Tagged { source, name, stream, lane_hash } => {
                Self { source, name, stream, lane_hash }
            }
            StoredIdentity::Version1 { replication, source: name, stream, lane_hash } => {
                Self { source: SourceIdentity::Replication(replication), name, stream, lane_hash }
            }
        }
    }
}

#[cfg(test)]
/// An identity for the tests of any module.
pub mod tests {
    use super::{Identity, ReplicationIdentity, SourceIdentity};

    /// The identity of a directory that has no stream yet.
    pub fn identity() -> Identity {
        Identity {
            source: SourceIdentity::Replication(ReplicationIdentity {
                system_id: "7".into(),
                timeline: 1,
                database: "lab".into(),
                slot: "s".into(),
                publication: "p".into(),
            }),
            name: "urn:forebay:lab".into(),
            stream: None,
            lane_hash: "md5".into(),
        }
    }
}
