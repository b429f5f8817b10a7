//! Files of the log.
