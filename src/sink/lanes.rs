//! At most one unanswered record per key.
