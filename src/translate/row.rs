//! The identity of a polled row: its primary key, and the transaction that wrote this version of it.

use crate::change::{Change, Operation, Value};
use crate::json;

use super::error::TranslateError;
use super::id::Ids;

/// Sets the identity of a change's row. Its version replaces the position in a log. Does nothing for a change
/// without a row.
///
/// # Errors
/// A key value cannot be written, or was not sent.
pub(super) fn identify(change: &Change<'_>, ids: &mut Ids) -> Result<(), TranslateError> {
    let (Operation::Insert { new } | Operation::Update { new, .. }) = change.operation else { return Ok(()) };
    let relation = change.relation;
    let write = |out: &mut Vec<u8>| {
        out.push(b'{');
        for (nth, &at) in relation.primary_key.iter().enumerate() {
            let Some(column) = relation.columns.get(at) else { continue };
            if nth > 0 {
                out.push(b',');
            }
            json::write_string(out, &column.name);
            out.push(b':');
            let Value::Text(text) = new.get(at) else {
                return Err(TranslateError::KeyUnavailable { column: column.name.clone() });
            };
            json::write_value(out, &column.kind, text).map_err(|error| TranslateError::Value {
                column: column.name.clone(),
                reason: error.to_string(),
            })?;
        }
        out.push(b'}');
        Ok(())
    };
    ids.set_row(&relation.name(), change.place.record.get(), write)
}
