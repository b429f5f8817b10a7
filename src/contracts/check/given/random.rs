//! Random schemas with random changes: a change that is accepted breaks no payload.

use serde_json::{Map, Value, json};

use super::{compare, next};

/// Xorshift: the same seed gives the same schemas.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "title"];

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth > 2 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(random.below(4)),
        3 => json!(0.5),
        4 => json!(random.of(&["", "x", "xx"])),
        5 => (0..random.below(3)).map(|_| value(random, depth + 1)).collect(),
        _ => {
            let names = (0..random.below(4)).map(|_| random.of(&NAMES)).collect::<Vec<_>>();
            Value::Object(names.into_iter().map(|name| (name.to_owned(), value(random, depth + 1))).collect())
        }
    }
}

fn keyword(random: &mut Random, depth: usize) -> (&'static str, Value) {
    let types = ["null", "boolean", "integer", "number", "string", "array", "object"];
    match random.below(if depth > 2 { 9 } else { 18 }) {
        0 => ("type", json!(random.of(&types))),
        1 => ("type", json!([random.of(&types[..3]), random.of(&types[3..])])),
        2 => ("enum", (0..=random.below(2)).map(|_| value(random, 2)).collect()),
        3 => ("const", value(random, 2)),
        4 => (
            random.of(&["minimum", "exclusiveMaximum", "maxLength", "minItems", "maxProperties"]),
            json!(random.below(3)),
        ),
        5 => ("required", json!([random.of(&NAMES)])),
        6 => ("additionalProperties", json!(random.below(2) == 0)),
        7 => ("$ref", json!(random.of(&["#", "#/definitions/d", "#/definitions/e"]))),
        8 => ("pattern", json!(random.of(&["^x$", "x"]))),
        9 => ("items", schema(random, depth + 1)),
        10 => ("items", json!([schema(random, depth + 1)])),
        11 => ("additionalProperties", schema(random, depth + 1)),
        12 => (random.of(&["not", "if", "then", "contains"]), schema(random, depth + 1)),
        13 => (random.of(&["oneOf", "anyOf"]), json!([schema(random, depth + 1), schema(random, depth + 1)])),
        _ => {
            let names = (0..=random.below(3)).map(|_| random.of(&NAMES)).collect::<Vec<_>>();
            let named = names.into_iter().map(|name| (name.to_owned(), schema(random, depth + 1)));
            ("properties", Value::Object(named.collect()))
        }
    }
}

fn schema(random: &mut Random, depth: usize) -> Value {
    let keywords = (0..random.below(4)).map(|_| keyword(random, depth)).collect::<Vec<_>>();
    let mut members: Map<String, Value> =
        keywords.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if depth == 0 {
        members.insert("definitions".to_owned(), json!({"d": schema(random, 2), "e": schema(random, 2)}));
    }
    members.into()
}

/// Makes one random change.
fn changed(random: &mut Random, schema: &Value, depth: usize) -> Value {
    let Some(members) = schema.as_object() else { return self::schema(random, depth) };
    let mut members = members.clone();
    let inner = ["properties", "definitions"].into_iter().find(|name| members.contains_key(*name));
    if let (Some(inner), true) = (inner, random.below(2) == 0) {
        let named = members[inner].as_object_mut().unwrap();
        let names: Vec<String> = named.keys().cloned().collect();
        if random.below(3) == 0 || names.is_empty() {
            named.insert(random.of(&["a", "b", "new"]).to_owned(), self::schema(random, depth + 1));
        } else {
            let name = random.of(&names);
            let part = changed(random, &named[&name], depth + 1);
            named.insert(name, part);
        }
        return members.into();
    }
    if random.below(3) == 0 && !members.is_empty() {
        let names: Vec<String> = members.keys().filter(|name| *name != "definitions").cloned().collect();
        names.first().map(|name| members.remove(name));
    } else {
        let (name, value) = keyword(random, depth);
        members.insert(name.to_owned(), value);
    }
    members.into()
}

fn validator(schema: &Value) -> Option<jsonschema::Validator> {
    jsonschema::draft7::new(schema).ok()
}

#[test]
fn compatible_schema_accepts_every_old_payload() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5EED);
    println!("SEED={seed}");
    let mut random = Random(seed);
    let (mut same, mut wider, mut fits) = (0, 0, 0);
    for _ in 0..6_000 {
        let was = schema(&mut random, 0);
        let mut now = changed(&mut random, &was, 0);
        if random.below(2) == 0 {
            now = changed(&mut random, &now, 0);
        }
        let compared = compare(&was, now.as_object().unwrap());
        if !compared.differences.is_empty() {
            continue;
        }
        let next = next(&was, &now);
        let (Some(old), Some(new), Some(both)) = (validator(&was), validator(&now), validator(&next)) else {
            continue;
        };
        if compared.added.is_empty() {
            same += 1;
        } else {
            wider += 1;
        }
        for _ in 0..40 {
            let payload = value(&mut random, 0);
            if !new.is_valid(&payload) {
                continue;
            }
            fits += 1;
            assert!(
                both.is_valid(&payload),
                "seed {seed}: {payload} fits {now}, but not {next}; it was {was}"
            );
            if compared.added.is_empty() {
                assert!(old.is_valid(&payload), "seed {seed}: {payload} fits {now}, but not {was}");
            }
        }
    }
    assert!(same > 100 && wider > 100 && fits > 2_000, "{same} {wider} {fits}");
}
