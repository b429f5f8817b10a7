//! Replaces references by their definitions, so that renaming or inlining a definition is no change.

use serde_json::{Map, Value};

use crate::rules::inside_mut;

/// Most schemas in the result. Nested definitions that use each other twice would double it at every level.
const SCHEMAS_MAX: usize = 10_000;

/// The schema without references and definitions. `None`: it refers to itself, or becomes too large.
pub(super) fn inlined(schema: &Value) -> Option<Value> {
    let definitions = schema.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut whole = schema.clone();
    let mut inliner = Inliner { definitions, open: Vec::new(), schemas: 0 };
    if let Some(members) = whole.as_object_mut() {
        members.remove("definitions");
    }
    inliner.schema(&mut whole)?;
    Some(whole)
}

struct Inliner {
    definitions: Map<String, Value>,
    /// Definitions that are being inserted, to find a definition that refers to itself.
    open: Vec<String>,
    schemas: usize,
}

impl Inliner {
    fn schema(&mut self, schema: &mut Value) -> Option<()> {
        self.schemas += 1;
        if self.schemas > SCHEMAS_MAX {
            return None;
        }
        let Some(members) = schema.as_object_mut() else { return Some(()) };
        let Some(to) = members.get("$ref").and_then(Value::as_str) else {
            return inside_mut(members).into_iter().try_for_each(|part| self.schema(part));
        };
        let name = to.strip_prefix("#/definitions/")?.replace("~1", "/").replace("~0", "~");
        if self.open.contains(&name) {
            return None;
        }
        let mut target = self.definitions.get(&name)?.clone();
        self.open.push(name);
        self.schema(&mut target)?;
        self.open.pop();
        *schema = target;
        Some(())
    }
}
