//! Our own thin replication connection.
