//! Slots and publications: looked at, created.
