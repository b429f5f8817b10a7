//! Names and other texts of the catalogue, for any encoding of the database.
//!
//! If a server cannot convert a name, it reports an error instead of a result. So names are read as bytes by
//! [`raw_name!`], with the encoding before them, and parsed as a [`CatalogText`].

use std::error::Error;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::config::TableName;

use super::encoding::Encoding;

/// SQL for a catalogue text as bytes, to be read as a [`CatalogText`]. The parameter is an SQL expression.
/// NULL stays NULL.
macro_rules! raw_name {
    ($expression:literal) => {
        concat!(
            "pg_catalog.convert_to(pg_catalog.getdatabaseencoding()::text || ':' || (",
            $expression,
            ")::text, pg_catalog.getdatabaseencoding())"
        )
    };
}
pub(super) use raw_name;

/// A catalogue text in UTF-8. Bytes without a character are escaped, as in [`Encoding::name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogText(pub(super) String);

impl CatalogText {
    fn read(raw: &[u8]) -> Option<String> {
        let colon = raw.iter().position(|byte| *byte == b':')?;
        let (encoding, name) = (str::from_utf8(raw.get(..colon)?).ok()?, raw.get(colon + 1..)?);
        if let Ok(plain) = str::from_utf8(name)
            && (encoding == "UTF8" || (plain.is_ascii() && !plain.contains('\\')))
        {
            return Some(plain.to_owned());
        }
        Some(Encoding::named(encoding).unwrap_or(Encoding::Bytes).name(name))
    }
}

impl FromSql<'_> for CatalogText {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Self::read(raw).ok_or("a name without its encoding")?))
    }

    fn accepts(data_type: &Type) -> bool {
        *data_type == Type::BYTEA
    }
}

/// The table whose schema and name are in two columns of a row, beginning at `at`.
pub(super) fn table_name(row: &Row, at: usize) -> Result<TableName, super::error::Error> {
    let (CatalogText(schema), CatalogText(table)) = (row.try_get(at)?, row.try_get(at + 1)?);
    Ok(TableName { schema, table })
}

/// JSON with catalogue texts, in UTF-8. Bytes without a character are escaped as in a [`CatalogText`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogJson(pub(super) String);

impl CatalogJson {
    fn read(raw: &[u8]) -> Option<String> {
        let colon = raw.iter().position(|byte| *byte == b':')?;
        let (encoding, json) = (str::from_utf8(raw.get(..colon)?).ok()?, raw.get(colon + 1..)?);
        if let (Ok(json), "UTF8") = (str::from_utf8(json), encoding) {
            return Some(json.to_owned());
        }
        let encoding = Encoding::named(encoding).unwrap_or(Encoding::Bytes);
        let mut out = String::with_capacity(json.len());
        // In every server encoding, a byte below 0x80 is ASCII. A JSON escape has at least two characters.
        let mut rest = json;
        while !rest.is_empty() {
            let text = rest.split(|byte| *byte == b'\\').next().unwrap_or_default();
            out.push_str(&encoding.name(text).replace('\\', "\\\\"));
            rest = rest.get(text.len()..).unwrap_or_default();
            if let Some((escape, behind)) = rest.split_at_checked(2) {
                out.push_str(str::from_utf8(escape).ok()?);
                if escape == b"\\\\" && Encoding::looks_escaped(b"\\", behind) {
                    out.push_str("x5c");
                }
                rest = behind;
            }
        }
        Some(out)
    }
}

impl FromSql<'_> for CatalogJson {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Self::read(raw).ok_or("a text without its encoding")?))
    }

    fn accepts(data_type: &Type) -> bool {
        *data_type == Type::BYTEA
    }
}

/// The texts of several names.
pub(super) fn texts(names: Vec<CatalogText>) -> Vec<String> {
    names.into_iter().map(|CatalogText(text)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_read_in_the_encoding_of_its_database() {
        for (raw, expected) in [
            (&b"UTF8:st\xc3\xbcck\\xfc"[..], "stück\\xfc"),
            (b"LATIN1:st\xfcck", "stück"),
            (b"SQL_ASCII:st\xfcck:", "st\\xfcck:"),
            (b"SQL_ASCII:\\xfc", "\\x5cxfc"),
            (b"MULE_INTERNAL:a\x81\xe9", "a\\x81\\xe9"),
        ] {
            assert_eq!(CatalogText::read(raw).as_deref(), Some(expected));
        }
        assert_eq!(CatalogText::read(b"no colon"), None);
    }

    #[test]
    fn names_in_json_are_escaped_as_others() {
        let names: [&[u8]; 5] = [b"st\xfcck", b"a\\x81", b"\\\x81\"", b"\\\\x81", b"plain"];
        for name in names {
            let mut json = b"SQL_ASCII:[\"".to_vec();
            for byte in name {
                json.extend(matches!(byte, b'\\' | b'"').then_some(b'\\').into_iter().chain([*byte]));
            }
            json.extend(b"\"]");
            let read: [String; 1] = serde_json::from_str(&CatalogJson::read(&json).unwrap()).unwrap();
            assert_eq!(read[0], CatalogText::read(&[b"SQL_ASCII:", name].concat()).unwrap());
        }
        assert_eq!(CatalogJson::read(b"LATIN1:\"\xe9\\u0001\"").as_deref(), Some("\"é\\u0001\""));
    }
}
