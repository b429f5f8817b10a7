//! Reads what was published: the stream, and the objects of an archive. For commands; the daemon never reads.

pub mod bucket;
pub mod stream;

/// Most bytes of one response: `GetRecords` gives 10 MB of data, which base64 makes a third longer.
const RESPONSE_MAX: usize = 24 << 20;
