//! Whatever a database in another encoding sends: its message in UTF-8 is within the limit, and has the form that it had.

#![no_main]

use std::sync::OnceLock;

use forebay::source::postgres::encoding::Encoding;
use forebay::source::postgres::pgoutput::{Cells, decode};
use forebay::source::postgres::transcode::{Transcoded, Transcoder};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 12] = [
    "UTF8", "SQL_ASCII", "EUC_JP", "EUC_JIS_2004", "EUC_CN", "EUC_KR", "EUC_TW", "LATIN1", "WIN1252", "KOI8R", "WIN874", "LATIN9",
];
const LIMIT: usize = 4096;

fn encodings() -> &'static [Encoding] {
    static MADE: OnceLock<Vec<Encoding>> = OnceLock::new();
    MADE.get_or_init(|| NAMES.iter().map(|name| Encoding::named(name).unwrap()).collect())
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let encoding = &encodings()[usize::from(kind) % NAMES.len()];
    let mut converted = Vec::new();
    encoding.convert(data, &mut converted, usize::MAX);
    let name = encoding.name(data);
    assert!(data.is_empty() == name.is_empty());
    let mut transcoder = Transcoder::new(encoding.clone(), LIMIT);
    if transcoder.transcode(data) == Transcoded::Changed {
        let message = transcoder.message();
        assert!(message.len() <= LIMIT);
        // Nothing but text has changed: what could be decoded still can.
        let (mut before, mut after) = (Cells::default(), Cells::default());
        if decode(data, &mut before).is_ok() {
            assert!(decode(message, &mut after).is_ok());
            assert_eq!((before.new.len(), before.old.len()), (after.new.len(), after.old.len()));
        }
    }
});
