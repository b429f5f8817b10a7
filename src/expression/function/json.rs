//! Functions and operators over jsonb, and a few over json.

use super::super::fault::{Computed, Fault};
use super::super::tree::Datum;
use super::super::{array, document, jsonb};
use super::Slot::{Bool, Int4, Json, Jsonb, Text, TextArray};
use super::{CallValues, Def, Nulls, def, made};

const DIMENSIONS: Fault = Fault(&("2202E", "wrong number of array subscripts"));
const NO_KEY: Fault = Fault(&("22023", "the key of a JSON object must not be null"));

pub(super) const TABLE: &[Def] = &[
    def("||", &[Jsonb, Jsonb], Jsonb, |given| made(jsonb::joined(given.text(0)?, given.text(1)?)?)),
    def("-", &[Jsonb, Text], Jsonb, |given| {
        made(jsonb::without_keys(given.text(0)?, &[Some(given.text(1)?.to_owned())])?)
    }),
    def("-", &[Jsonb, TextArray], Jsonb, |given| {
        made(jsonb::without_keys(given.text(0)?, &path(given, 1)?)?)
    }),
    def("-", &[Jsonb, Int4], Jsonb, |given| made(jsonb::without_element(given.text(0)?, given.int(1)?)?)),
    def("#-", &[Jsonb, TextArray], Jsonb, |given| {
        made(jsonb::without_path(given.text(0)?, &path(given, 1)?)?)
    }),
    def("@>", &[Jsonb, Jsonb], Bool, |given| {
        jsonb::contains(given.text(0)?, given.text(1)?).map(Datum::Bool)
    }),
    def("<@", &[Jsonb, Jsonb], Bool, |given| {
        jsonb::contains(given.text(1)?, given.text(0)?).map(Datum::Bool)
    }),
    def("?", &[Jsonb, Text], Bool, |given| Ok(Datum::Bool(document::has(given.text(0)?, given.text(1)?)))),
    def("?|", &[Jsonb, TextArray], Bool, |given| {
        let keys = listed(given, 1)?;
        let document = given.text(0)?;
        Ok(Datum::Bool(keys.iter().flatten().any(|key| document::has(document, key))))
    }),
    def("?&", &[Jsonb, TextArray], Bool, |given| {
        let keys = listed(given, 1)?;
        let document = given.text(0)?;
        Ok(Datum::Bool(keys.iter().flatten().all(|key| document::has(document, key))))
    }),
    def("jsonb_array_length", &[Jsonb], Int4, length),
    def("json_array_length", &[Json], Int4, length),
    def("jsonb_typeof", &[Jsonb], Text, |given| made(jsonb::type_of(given.text(0)?).to_owned())),
    def("json_typeof", &[Json], Text, |given| made(jsonb::type_of(given.text(0)?).to_owned())),
];

/// `jsonb_build_object(…)`: keys are texts, values are jsonb already.
pub(in super::super) static BUILD_OBJECT: Def = def("jsonb_build_object", &[], Jsonb, |given| {
    let mut members = Vec::new();
    for nth in (0..given.0.len()).step_by(2) {
        members.push((given.optional(nth).ok_or(NO_KEY)?, given.optional(nth + 1).unwrap_or("null")));
    }
    made(jsonb::object(&members)?)
})
.nulls(Nulls::Seen);

/// `jsonb_build_array(…)`: values are jsonb already.
pub(in super::super) static BUILD_ARRAY: Def = def("jsonb_build_array", &[], Jsonb, |given| {
    let elements: Vec<_> = (0..given.0.len()).map(|nth| given.optional(nth).unwrap_or("null")).collect();
    made(jsonb::array(&elements)?)
})
.nulls(Nulls::Seen);

fn length(given: CallValues<'_>) -> Computed<Datum<'static>> {
    jsonb::length(given.text(0)?).map(Datum::Int)
}

/// The elements of a list of keys or of a path, which has one dimension.
fn path(given: CallValues<'_>, nth: usize) -> Computed<Vec<Option<String>>> {
    if array::walk(given.text(nth)?, |_| true)?.lengths.len() > 1 {
        return Err(DIMENSIONS);
    }
    listed(given, nth)
}

/// The elements of a `text[]`.
fn listed(given: CallValues<'_>, nth: usize) -> Computed<Vec<Option<String>>> {
    let mut all = Vec::new();
    array::walk(given.text(nth)?, |item| {
        all.push(item.map(str::to_owned));
        true
    })?;
    Ok(all)
}
