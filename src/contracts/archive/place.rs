//! Where the archive is, and what the statements are to be like.

/// Where the archive is, and what the statements are to be like.
#[derive(Clone, Copy, Debug)]
pub struct ArchivePlace<'a> {
    /// The directory or `s3://bucket` above `events/`, without a slash at its end.
    pub location: &'a str,
    /// The Glue database.
    pub database: &'a str,
    /// The first day that has events, as `YYYY-MM-DD`: where Athena's partition projection begins.
    pub since: &'a str,
    /// Whether repeats are looked for only within a day, so that a condition on `day` prunes partitions.
    pub daily: bool,
}
