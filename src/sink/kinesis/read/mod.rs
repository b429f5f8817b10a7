//! Reads what was published: the stream, and the objects of an archive. Only commands use it; the daemon
//! never reads.

pub mod bucket;
pub mod stream;

/// Largest response in bytes. `GetRecords` returns up to 10 MB of data, and base64 adds a third.
const RESPONSE_MAX: usize = 24 << 20;
