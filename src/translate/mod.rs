//! A change becomes the records that leave for it. Pure: no network, no disk, no clock.

pub mod json;
