//! Whatever the server sends: a message or an error, never a panic, and no cell outside the message.

#![no_main]

use forebay::change::{Tuple, Value};
use forebay::source::postgres::pgoutput::{Cells, decode, logical_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((prefix, content)) = logical_of(data) {
        assert!(prefix.len() + content.len() < data.len());
    }
    let mut cells = Cells::default();
    if decode(data, &mut cells).is_err() {
        return;
    }
    for cells in [&cells.new, &cells.old] {
        let tuple = Tuple::new(data, cells);
        for at in 0..tuple.len() {
            if let Value::Text(text) = tuple.get(at) {
                assert!(data.as_ptr_range().contains(&text.as_ptr()) || text.is_empty());
            }
        }
    }
});
