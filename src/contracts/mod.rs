//! Contracts: what the rules promise, tried and checked offline; never on the hot path.

pub mod trial;
