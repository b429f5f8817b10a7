//! The required fields of locked contracts, which translation must not omit.

use crate::failure::Problem;
use crate::translate::{Contracts, Promise};
use crate::types::{Base, Kind};

use super::check::{is_of_form, properties, required};
use super::lock::Lock;
use super::shape;

/// The hint for a field without a value.
const PROVIDE: &str =
    "Write a rule that gives the field a value, restart Forebay and run `forebay dlq retry`.";

impl Contracts for Lock {
    fn has(&self, event_type: &str) -> bool {
        self.of(event_type).is_some()
    }

    fn promises(&self, event_type: &str, fields: &[(&str, &Kind, &Base)]) -> Result<Vec<Promise>, Problem> {
        let Some(locked) = self.of(event_type) else { return Ok(Vec::new()) };
        let (properties, required) = (properties(locked.newest()), required(locked.newest()));
        if let Some(missing) = required.iter().find(|name| !fields.iter().any(|(known, ..)| known == name)) {
            let problem = Problem::new(format!(
                "{missing}: rows of this form have no value, but the locked contract promises one"
            ));
            return Err(problem.with_hint(PROVIDE));
        }
        let is_new = |(name, ..): &&(&str, &Kind, &Base)| !properties.contains_key(*name);
        let new: Vec<&str> = fields.iter().filter(is_new).map(|(name, ..)| *name).collect();
        if !new.is_empty() {
            tracing::warn!(
                event = "unlocked_fields",
                event_type,
                fields = new.join(", "),
                hint = "Run `forebay events lock` and restart.",
                "new fields are not in the locked contract; they are left out"
            );
        }
        let promise = |(name, kind, base): &(&str, &Kind, &Base)| {
            let Some(was) = properties.get(*name).and_then(serde_json::Value::as_object) else {
                return Ok(Promise { unknown: true, ..Promise::default() });
            };
            if !is_of_form(was, &shape::schema(kind, base)) {
                let problem =
                    Problem::new(format!("{name}: values of this row do not match the locked contract"));
                return Err(
                    problem.with_hint("Run `forebay events check --database`: it prints the rule to write.")
                );
            }
            Ok(Promise {
                never_null: !shape::allows_null(was),
                always: required.iter().any(|always| always == name),
                unknown: false,
            })
        };
        fields.iter().map(promise).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contracts::lock::Locked;

    #[test]
    fn older_row_is_checked_against_locked_schema() {
        let schema = json!({
            "properties": {
                "id": {"type": "integer", "format": "int64", "x-type": "bigint"},
                "name": {"type": ["string", "null"], "description": "who"},
                "either": {"anyOf": [{"type": "boolean"}, {"type": "string"}]}
            },
            "required": ["id", "name"]
        });
        let lock = Lock {
            locked: vec![Locked {
                event_type: "a.b.v1".into(),
                stem: "a.b".into(),
                major: 1,
                versions: vec![(0, schema)],
                meaning: None,
            }],
        };
        let (id, name) = (("id", &Kind::Number, &Base::Int8), ("name", &Kind::Text, &Base::Text));
        let flag = ("either", &Kind::Bool, &Base::Bool);
        let promise = |never_null, always| Promise { never_null, always, unknown: false };
        assert_eq!(
            lock.promises("a.b.v1", &[id, name, flag]),
            Ok(vec![promise(true, true), promise(false, true), promise(true, false)])
        );
        let more = lock.promises("a.b.v1", &[id, name, ("more", &Kind::Text, &Base::Text)]).unwrap();
        assert_eq!(more[2], Promise { unknown: true, ..Promise::default() }, "nobody was promised it");
        assert_eq!(lock.promises("a.c.v1", &[id]), Ok(vec![]), "nothing is promised");
        assert!(lock.has("a.b.v1") && !lock.has("a.c.v1"));
        for (fields, why) in [
            (&[id][..], "name: rows of this form have no value"),
            (&[("id", &Kind::Number, &Base::Int4), name], "id: values of this row do not match"),
            (&[("id", &Kind::Text, &Base::Text), name], "id: values of this row do not match"),
        ] {
            let problem = lock.promises("a.b.v1", fields).unwrap_err();
            assert!(problem.primary().starts_with(why) && problem.hint().is_some(), "{problem:?}");
        }
    }
}
