//! Functions over texts, bytes and arrays.

use std::collections::HashMap;

use super::super::fault::{CELL, Computed, TOO_MUCH};
use super::super::text::{LENGTH_MAX, length};
use super::super::tree::Datum;
use super::super::{array, hex};
use super::Slot::{AnyArray, Bool, Bpchar, Bytea, Int4, Int8, Text, TextArray};
use super::{CallValues, Def, Nulls, def, made};

pub(super) const TABLE: &[Def] = &[
    def("repeat", &[Text, Int4], Text, repeat),
    def("lpad", &[Text, Int4, Text], Text, lpad).least(2),
    def("rpad", &[Text, Int4, Text], Text, rpad).least(2),
    def("reverse", &[Text], Text, |given| made(given.text(0)?.chars().rev().collect())),
    def("translate", &[Text, Text, Text], Text, translate),
    def("strpos", &[Text, Text], Int4, position),
    def("position", &[Text, Text], Int4, position),
    def("starts_with", &[Text, Text], Bool, |given| {
        Ok(Datum::Bool(given.text(0)?.starts_with(given.text(1)?)))
    }),
    def("octet_length", &[Text], Int4, |given| count(given.text(0)?.len())),
    def("octet_length", &[Bpchar], Int4, |given| count(given.text(0)?.len())),
    def("octet_length", &[Bytea], Int4, |given| count((given.text(0)?.len() / 2).saturating_sub(1))),
    def("to_hex", &[Int4], Text, |given| {
        made(format!(
            "{:x}",
            u32::from_be_bytes(i32::try_from(given.int(0)?).map_err(|_| CELL)?.to_be_bytes())
        ))
    }),
    def("to_hex", &[Int8], Text, |given| made(format!("{:x}", given.int(0)?))),
    def("sha224", &[Bytea], Bytea, digest::<sha2::Sha224>),
    def("sha256", &[Bytea], Bytea, digest::<sha2::Sha256>),
    def("sha384", &[Bytea], Bytea, digest::<sha2::Sha384>),
    def("sha512", &[Bytea], Bytea, digest::<sha2::Sha512>),
    def("array_to_string", &[AnyArray, Text, Text], Text, array_to_string).least(2).nulls(Nulls::Seen),
    def("string_to_array", &[Text, Text, Text], TextArray, string_to_array).least(2).nulls(Nulls::Seen),
];

fn within(length: usize) -> Computed<()> {
    if length > LENGTH_MAX { Err(TOO_MUCH) } else { Ok(()) }
}

fn count(length: usize) -> Computed<Datum<'static>> {
    Ok(Datum::Int(i64::try_from(length).map_err(|_| CELL)?))
}

fn repeat(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (text, times) = (given.text(0)?, usize::try_from(given.int(1)?).unwrap_or_default());
    within(text.len().saturating_mul(times))?;
    made(if text.is_empty() { String::new() } else { text.repeat(times) })
}

/// A text that is truncated to the length, and the padding for it.
fn padded(given: CallValues<'_>) -> Computed<(&str, String)> {
    let (text, wanted) = (given.text(0)?, given.int(1)?.max(0));
    let fill = given.optional(2).unwrap_or(" ");
    let missing = wanted - length(text);
    if missing <= 0 {
        return Ok((super::super::text::left(text, wanted), String::new()));
    }
    let missing = usize::try_from(missing).map_err(|_| TOO_MUCH)?;
    if fill.is_empty() {
        return Ok((text, String::new()));
    }
    within(text.len().saturating_add(missing))?;
    Ok((text, fill.chars().cycle().take(missing).collect()))
}

fn lpad(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (text, fill) = padded(given)?;
    made(fill + text)
}

fn rpad(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (text, fill) = padded(given)?;
    made(text.to_owned() + &fill)
}

/// If `from` contains a character twice, the first position counts. A character without a counterpart is
/// removed.
fn translate(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (text, from, to) = (given.text(0)?, given.text(1)?, given.text(2)?);
    let mut others = HashMap::new();
    let mut to = to.chars();
    for letter in from.chars() {
        let other = to.next();
        others.entry(letter).or_insert(other);
    }
    made(text.chars().filter_map(|letter| others.get(&letter).copied().unwrap_or(Some(letter))).collect())
}

/// The position of the second text in the first, counted from 1; 0 if it does not occur.
fn position(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (text, part) = (given.text(0)?, given.text(1)?);
    let before = text.find(part).and_then(|at| text.get(..at));
    Ok(Datum::Int(before.map_or(0, |before| length(before) + 1)))
}

fn digest<D: sha2::Digest>(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let bytes = hex::bytes_of(given.text(0)?)?;
    made(format!("\\x{}", hex::hex(&D::digest(bytes))))
}

fn array_to_string(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (Some(list), Some(separator)) = (given.optional(0), given.optional(1)) else {
        return Ok(Datum::Null);
    };
    let null = given.optional(2);
    let (mut out, mut first, mut fits) = (String::new(), true, true);
    array::walk(list, |item| {
        if let Some(item) = item.or(null) {
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(item);
        }
        fits = out.len() <= LENGTH_MAX;
        fits
    })?;
    made(out)
}

fn string_to_array(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let Some(text) = given.optional(0) else { return Ok(Datum::Null) };
    let null = given.optional(2);
    let mut out = String::from("{");
    let mut add = |part: &str| {
        if out.len() > 1 {
            out.push(',');
        }
        array::write_element(&mut out, Some(part).filter(|part| Some(*part) != null));
        within(out.len())
    };
    let mut letter = [0_u8; 4];
    match given.optional(1) {
        _ if text.is_empty() => {}
        None => text.chars().try_for_each(|single| add(single.encode_utf8(&mut letter)))?,
        Some("") => add(text)?,
        Some(separator) => text.split(separator).try_for_each(add)?,
    }
    out.push('}');
    made(out)
}
