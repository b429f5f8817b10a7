//! What translation has to keep of the locked contracts.

use crate::translate::{Contracts, Promise};
use crate::types::{Base, Kind};

use super::check::{is_of_form, properties, required};
use super::lock::Lock;
use super::shape;

impl Contracts for Lock {
    fn has(&self, event_type: &str) -> bool {
        self.of(event_type).is_some()
    }

    fn promises(&self, event_type: &str, fields: &[(&str, &Kind, &Base)]) -> Result<Vec<Promise>, String> {
        let Some(locked) = self.of(event_type) else { return Ok(Vec::new()) };
        let (properties, required) = (properties(locked.newest()), required(locked.newest()));
        if let Some(missing) = required.iter().find(|name| !fields.iter().any(|(known, ..)| known == name)) {
            return Err(format!(
                "{missing}: rows of this form do not have it, and the locked contract says that it is always there: \
                 say in a rule what it is then, start again, and retry"
            ));
        }
        let is_new = |(name, ..): &&(&str, &Kind, &Base)| !properties.contains_key(*name);
        let new: Vec<&str> = fields.iter().filter(is_new).map(|(name, ..)| *name).collect();
        if !new.is_empty() {
            tracing::warn!(
                event_type,
                fields = new.join(", "),
                "rows have new fields that are not locked: they stay out; run `forebay events lock` before the next start"
            );
        }
        let promise = |(name, kind, base): &(&str, &Kind, &Base)| {
            let Some(was) = properties.get(*name).and_then(serde_json::Value::as_object) else {
                return Ok(Promise { unknown: true, ..Promise::default() });
            };
            if !is_of_form(was, &shape::schema(kind, base)) {
                return Err(format!(
                    "{name}: values of this row are of another form than the locked contract says: `forebay events check \
                     --database` gives the rule to write"
                ));
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
    fn a_row_of_another_time_is_measured_by_what_was_locked() {
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
        assert_eq!(more[2], Promise { unknown: true, ..Promise::default() }, "nobody was told of it");
        assert_eq!(lock.promises("a.c.v1", &[id]), Ok(vec![]), "nothing is promised");
        assert!(lock.has("a.b.v1") && !lock.has("a.c.v1"));
        for (fields, why) in [
            (&[id][..], "name: rows of this form do not have it"),
            (&[("id", &Kind::Number, &Base::Int4), name], "id: values of this row are of another form"),
            (&[("id", &Kind::Text, &Base::Text), name], "id: values of this row are of another form"),
        ] {
            let told = lock.promises("a.b.v1", fields).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
    }
}
