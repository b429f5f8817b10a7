//! Whatever stands in the dead-letter file: a letter or an error, never a panic, and no content outside its line.

#![no_main]

use forebay::dead_letter::entry::{Content, Head, Lines, content, holds_event, position_of_line};
use forebay::dead_letter::index::folded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lines = data.split_inclusive(|byte| *byte == b'\n');
    for line in lines.clone() {
        drop(Head::read(line));
        position_of_line(line);
        let found = content(line);
        if let Some(Content::Event(bytes) | Content::Change(bytes)) = found {
            assert!(bytes.is_empty() || line.as_ptr_range().contains(&bytes.as_ptr()));
            holds_event(line, bytes);
        }
        if let Some(Content::Change(change)) = found {
            for raw in [None, Some(data.to_vec())] {
                drop(Lines { letter: line.to_vec(), raw }.kept(change));
            }
        }
    }
    let mut offset = 0;
    folded(lines.map(|line| {
        offset += line.len() as u64;
        (offset, line)
    }));
});
