//! One frame: all records of one change, whole or not at all. Pure.
