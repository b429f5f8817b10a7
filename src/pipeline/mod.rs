//! The two loops, recovery, start and stop.
