//! Appends frames to the log.
