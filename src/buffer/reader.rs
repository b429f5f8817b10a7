//! Reads the log after a frame.
