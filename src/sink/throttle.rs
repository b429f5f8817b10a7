//! Backoff, and one probe at a time while the service is away.
