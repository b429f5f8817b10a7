//! The decoder with generated and with damaged messages.

use super::*;

/// Writes messages in the server's format.
#[derive(Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn tag(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(text.as_bytes()).raw(&[0])
    }

    /// Appends a tuple. `None` is NULL, `Some("?")` an unchanged TOAST value.
    pub(crate) fn tuple(mut self, kind: u8, values: &[Option<&str>]) -> Self {
        self = self.raw(&[kind]).u16(u16::try_from(values.len()).unwrap());
        for value in values {
            self = match value {
                None => self.raw(b"n"),
                Some("?") => self.raw(b"u"),
                Some(text) => self.raw(b"t").u32(u32::try_from(text.len()).unwrap()).raw(text.as_bytes()),
            };
        }
        self
    }
}

pub(crate) fn relation(oid: u32, columns: &[&str]) -> Vec<u8> {
    let mut bytes = Bytes::tag(b'R').u32(oid).text("lab").text("plates").raw(b"d");
    bytes = bytes.u16(u16::try_from(columns.len()).unwrap());
    for (at, column) in columns.iter().enumerate() {
        bytes = bytes.raw(&[u8::from(at == 0)]).text(column).u32(25).u32(u32::MAX);
    }
    bytes.0
}

fn samples() -> Vec<Vec<u8>> {
    let row = [Some("1"), None, Some("?"), Some("text")];
    vec![
        Bytes::tag(b'B').u64(0x100).u64(7).u32(42).0,
        Bytes::tag(b'C').raw(&[0]).u64(0x100).u64(0x130).u64(7).0,
        Bytes::tag(b'O').u64(1).text("elsewhere").0,
        Bytes::tag(b'Y').u32(99).text("lab").text("state").0,
        relation(5, &["id", "name"]),
        Bytes::tag(b'I').u32(5).tuple(b'N', &row).0,
        Bytes::tag(b'U').u32(5).tuple(b'N', &row).0,
        Bytes::tag(b'U').u32(5).tuple(b'K', &row).tuple(b'N', &row).0,
        Bytes::tag(b'U').u32(5).tuple(b'O', &row).tuple(b'N', &row).0,
        Bytes::tag(b'D').u32(5).tuple(b'K', &row).0,
        Bytes::tag(b'D').u32(5).tuple(b'O', &row).0,
        Bytes::tag(b'T').u32(2).raw(&[3]).u32(5).u32(6).0,
        Bytes::tag(b'M').raw(&[1]).u64(0x90).text("prefix").u32(3).raw(b"abc").0,
    ]
}

#[test]
fn messages_are_decoded() {
    let relation = |old| Message::Update { relation: 5, old };
    let expected = [
        Message::Begin { commit: Lsn::new(0x100), time: 7, xid: 42 },
        Message::Commit { commit: Lsn::new(0x100), end: Lsn::new(0x130) },
        Message::Origin,
        Message::Type,
        Message::Relation(Announced {
            oid: 5,
            schema: "lab".to_owned(),
            table: "plates".to_owned(),
            identity: ReplicaIdentity::Default,
            columns: vec![
                AnnouncedColumn { name: "id".to_owned(), type_oid: 25, modifier: -1, in_identity: true },
                AnnouncedColumn { name: "name".to_owned(), type_oid: 25, modifier: -1, in_identity: false },
            ],
        }),
        Message::Insert { relation: 5 },
        relation(Old::Absent),
        relation(Old::Key),
        relation(Old::Full),
        Message::Delete { relation: 5, old: Old::Key },
        Message::Delete { relation: 5, old: Old::Full },
        Message::Truncate { cascade: true, restart_identity: true },
        Message::Logical { transactional: true, lsn: Lsn::new(0x90) },
    ];
    let mut cells = Cells::default();
    for (bytes, expected) in samples().iter().zip(expected) {
        assert_eq!(decode(bytes, &mut cells), Ok(expected), "{}", bytes.escape_ascii());
    }
    assert_eq!(cells.relations, [5, 6]);
}

#[test]
fn cells_point_at_values_and_are_reused() {
    let mut cells = Cells::default();
    for _ in 0..2 {
        let message = Bytes::tag(b'U')
            .u32(5)
            .tuple(b'O', &[Some("old"), None])
            .tuple(b'N', &[Some("?"), Some("now")])
            .0;
        decode(&message, &mut cells).unwrap();
        let text = |cell: &Cell| match *cell {
            Cell::Null => "null".to_owned(),
            Cell::Unchanged => "unchanged".to_owned(),
            Cell::Text { start, length } => {
                String::from_utf8(message[start as usize..(start + length) as usize].to_vec()).unwrap()
            }
        };
        assert_eq!(cells.old.iter().map(text).collect::<Vec<_>>(), ["old", "null"]);
        assert_eq!(cells.new.iter().map(text).collect::<Vec<_>>(), ["unchanged", "now"]);
    }
}

#[test]
fn message_prefix_is_an_error() {
    let mut cells = Cells::default();
    for message in samples().iter().filter(|message| !matches!(message[0], b'O' | b'Y')) {
        for end in 0..message.len() {
            assert!(decode(&message[..end], &mut cells).is_err(), "{} of {}", end, message.escape_ascii());
        }
        let mut longer = message.clone();
        longer.push(0);
        assert!(decode(&longer, &mut cells).is_err(), "longer {}", message.escape_ascii());
    }
}

#[test]
fn flipped_bit_is_an_error_or_keeps_cells_in_bounds() {
    let mut cells = Cells::default();
    for message in samples() {
        for bit in 0..message.len() * 8 {
            let mut damaged = message.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if decode(&damaged, &mut cells).is_ok() {
                for cell in cells.new.iter().chain(&cells.old) {
                    if let Cell::Text { start, length } = *cell {
                        assert!(
                            (start + length) as usize <= damaged.len(),
                            "bit {bit} of {}",
                            message.escape_ascii()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn truncated_row_names_its_table_and_others_break_stream() {
    let mut cells = Cells::default();
    let row = Bytes::tag(b'I').u32(5).raw(b"N").0;
    assert!(matches!(decode(&row, &mut cells), Err(DecodeError::Row { relation: 5, .. })));
    let binary = Bytes::tag(b'I').u32(5).raw(b"N").u16(1).raw(b"b").u32(0).0;
    assert!(matches!(decode(&binary, &mut cells), Err(DecodeError::Row { relation: 5, .. })));
    assert!(matches!(decode(b"B123", &mut cells), Err(DecodeError::Message(_))));
    assert_eq!(decode(b"S", &mut cells), Err(DecodeError::Unknown(b'S')));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), tag in 0..9_usize) {
        let mut message = vec![b"BCORYIUDTM"[tag]];
        message.extend(bytes);
        let mut cells = Cells::default();
        let decoded = decode(&message, &mut cells);
        let inside = cells.new.iter().chain(&cells.old).all(|cell| match *cell {
            Cell::Text { start, length } => (start + length) as usize <= message.len(),
            Cell::Null | Cell::Unchanged => true,
        });
        proptest::prop_assert!(inside, "{decoded:?}");
        if let Some((prefix, content)) = logical_of(&message) {
            proptest::prop_assert!(prefix.len() + content.len() < message.len());
        }
    }
}

#[test]
fn logical_message_has_prefix_and_available_content() {
    let whole = Bytes::tag(b'M').raw(&[1]).u64(0x55).text("event:a").u32(4).raw(b"data").0;
    assert_eq!(logical_of(&whole), Some((&b"event:a"[..], &b"data"[..])));
    assert_eq!(logical_of(&whole[..whole.len() - 2]), Some((&b"event:a"[..], &b"da"[..])));
    for length in 0..whole.len() - 4 {
        assert_eq!(logical_of(&whole[..length]), None, "{length}");
    }
}
