//! Whatever stands in a segment: a whole frame, a beginning of one, or damage; never a panic, never a length that is not there.

#![no_main]

use forebay::buffer::frame::{Decoded, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match decode(data) {
    Decoded::Whole { length, .. } => assert!(length <= data.len()),
    Decoded::Incomplete { needed } => assert!(needed > data.len()),
    Decoded::Damaged(_) => {}
});
