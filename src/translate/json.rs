//! Values of rows as JSON, as `to_jsonb()` prints them.
use crate::types::Kind;
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ValueError;
/// x
pub fn write_value(out: &mut Vec<u8>, _kind: &Kind, text: &[u8]) -> Result<(), ValueError> {
    out.extend_from_slice(text);
    Ok(())
}
/// x
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}
