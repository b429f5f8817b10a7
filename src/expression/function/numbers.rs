//! Functions and operators over numbers.

use super::super::fault::{Computed, Fault};
use super::super::tree::Datum;
use super::Slot::{Float8, Int2, Int4, Int8, Numeric};
use super::{CallValues, Def, def};

const NEGATIVE_ROOT: Fault = Fault(&("2201F", "cannot take square root of a negative number"));

pub(super) const TABLE: &[Def] = &[
    def("div", &[Numeric, Numeric], Numeric, |given| {
        given.numeric(0)?.quotient(given.numeric(1)?).map(Datum::Numeric)
    }),
    def("sqrt", &[Numeric], Numeric, |given| {
        given.numeric(0)?.root()?.map(Datum::Numeric).ok_or(NEGATIVE_ROOT)
    }),
    def("sqrt", &[Float8], Float8, |given| {
        let number = given.float(0)?;
        if number < 0.0 { Err(NEGATIVE_ROOT) } else { Ok(Datum::Float(number.sqrt())) }
    }),
    def("&", &[Int2, Int2], Int2, and),
    def("&", &[Int4, Int4], Int4, and),
    def("&", &[Int8, Int8], Int8, and),
    def("|", &[Int2, Int2], Int2, or),
    def("|", &[Int4, Int4], Int4, or),
    def("|", &[Int8, Int8], Int8, or),
    def("#", &[Int2, Int2], Int2, xor),
    def("#", &[Int4, Int4], Int4, xor),
    def("#", &[Int8, Int8], Int8, xor),
    def("~", &[Int2], Int2, |given| Ok(Datum::Int(!given.int(0)?))),
    def("~", &[Int4], Int4, |given| Ok(Datum::Int(!given.int(0)?))),
    def("~", &[Int8], Int8, |given| Ok(Datum::Int(!given.int(0)?))),
    def("<<", &[Int2, Int4], Int2, |given| Ok(Datum::Int(cut(given.int(0)? << (given.int(1)? & 31), 16)))),
    def("<<", &[Int4, Int4], Int4, |given| Ok(Datum::Int(cut(given.int(0)? << (given.int(1)? & 31), 32)))),
    def("<<", &[Int8, Int4], Int8, |given| Ok(Datum::Int(given.int(0)? << (given.int(1)? & 63)))),
    def(">>", &[Int2, Int4], Int2, narrow_right),
    def(">>", &[Int4, Int4], Int4, narrow_right),
    def(">>", &[Int8, Int4], Int8, |given| Ok(Datum::Int(given.int(0)? >> (given.int(1)? & 63)))),
];

fn and(given: CallValues<'_>) -> Computed<Datum<'static>> {
    Ok(Datum::Int(given.int(0)? & given.int(1)?))
}

fn or(given: CallValues<'_>) -> Computed<Datum<'static>> {
    Ok(Datum::Int(given.int(0)? | given.int(1)?))
}

fn xor(given: CallValues<'_>) -> Computed<Datum<'static>> {
    Ok(Datum::Int(given.int(0)? ^ given.int(1)?))
}

/// The lowest bits, with the highest of them as the sign. A count of bits is taken modulo the size, as
/// processors do.
const fn cut(number: i64, bits: u32) -> i64 {
    number << (64 - bits) >> (64 - bits)
}

fn narrow_right(given: CallValues<'_>) -> Computed<Datum<'static>> {
    Ok(Datum::Int(given.int(0)? >> (given.int(1)? & 31)))
}
