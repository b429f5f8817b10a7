//! The location of the archive and the options of its statements.

/// The location of the archive and the options of its statements.
#[derive(Clone, Copy, Debug)]
pub struct ArchivePlace<'a> {
    /// The directory or `s3://bucket` above `events/`, without a slash at its end.
    pub location: &'a str,
    /// The Glue database.
    pub database: &'a str,
    /// The first day that has events, as `YYYY-MM-DD`: where Athena's partition projection begins.
    pub since: &'a str,
    /// Whether repeats are removed only within a day, so that a condition on `day` prunes partitions.
    pub daily: bool,
}
