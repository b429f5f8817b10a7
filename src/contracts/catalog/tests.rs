//! The contents of the page, its links, and the escaping of every text of a rule.

use std::collections::BTreeSet;

use serde_json::Value;

use super::build::{data_schema, page};
use super::html;
use crate::config::Automatic;
use crate::contracts::check::to_lock;
use crate::contracts::lock::{Lock, Locked};
use crate::contracts::model::Model;
use crate::contracts::model::tests::{model, plates};

const RULES: &str = r#"
[[event]]
type = "lab.plate_filled.v2"
about = "A plate is full."
owner = "lab-automation"
consumers = ["billing", "archive"]
from = "lab.plates"
on = "insert"
when = "volume > 10"
key = "barcode"
subject = "plate_id"
time = "full_at"
data = """
  plate_id,             -- its number
  barcode as plate,
  volume * 2 as twice,
  hmac(operator) as who -- who filled it
"""

[[event]]
type = "lab.plate_filled.v1"
from_event = "lab.plate_filled.v2"
data = "plate_id as id, plate, plate_id + 1 as gone, twice::text as twice"
deprecated = { since = "2026-11-01", sunset = "2027-05-01", use = "lab.plate_filled.v2" }
"#;

fn lab(rules: &str) -> Model {
    model(rules, Automatic::Unmapped, &plates())
}

/// Locks everything that a model's rules publish, in addition to what is locked.
fn locked(model: &Model, mut lock: Lock) -> Lock {
    let new: Vec<Locked> = to_lock(model, &lock, false, false)
        .into_iter()
        .map(|(event, minor, schema)| Locked {
            event_type: event.event_type.clone(),
            stem: event.stem.clone(),
            major: event.major,
            versions: vec![(minor, schema)],
            meaning: None,
        })
        .collect();
    for one in new {
        match lock.locked.iter_mut().find(|known| known.event_type == one.event_type) {
            Some(known) => known.versions.extend(one.versions),
            None => lock.locked.push(one),
        }
    }
    lock
}

fn written(model: &Model, lock: &Lock) -> String {
    html(&page("lab", "lab-events", model, lock)).unwrap()
}

/// The text between a tag that begins with `start` and the next `end`, without tags and surplus whitespace.
fn text(html: &str, start: &str, end: &str) -> String {
    let (_, rest) = html.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    let part = rest.split_once(end).unwrap_or_else(|| panic!("no {end} behind {start}")).0;
    let mut said = String::new();
    let mut inside = start.starts_with('<') && !start.ends_with('>');
    for letter in part.chars() {
        match letter {
            '<' => {
                inside = true;
                said.push(' ');
            }
            '>' if inside => inside = false,
            _ if inside => {}
            other => said.push(other),
        }
    }
    let said =
        said.replace("&#x2f;", "/").replace("&#x27;", "'").replace("&quot;", "\"").replace("&gt;", ">");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn article(html: &str, event_type: &str) -> String {
    text(html, &format!("<article id=\"{event_type}\""), "</article>")
}

/// All values of an attribute.
fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    html.split(&format!(" {attribute}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn event_is_shown_with_fields_key_origin_and_versions() {
    let first = lab(RULES);
    let lock = locked(&first, Lock::default());
    let more = RULES.replace("  volume * 2", "  full_at,  -- since when\n  volume * 2");
    let second = lab(&more);
    let html = written(&second, &locked(&second, lock));
    let new = article(&html, "lab.plate_filled.v2");
    for said in [
        "A plate is full.",
        "Owner lab-automation Consumers billing, archive Contract locked as 2.1 For readers JSON Schema , history of changes",
        "plate_id integer bigint its number 64 bits 2.0",
        "plate text text what the label says from barcode 2.0",
        "full_at date and time, UTC or null timestamp with time zone since when 2.1",
        "twice decimal number or null numeric from volume 2.0",
        "who text or null text who filled it from operator pseudonym 2.0",
        "Events with the same barcode are in commit order: it is the partition key; the subject is plate_id.",
        "Table lab.plates On insert When volume > 10 Time full_at Id one for each change Columns plate_id, barcode,",
        "2.1 added full_at date and time, UTC or null 2.0 added",
        "2.0 added plate_id integer added who text or null changed twice text or null → decimal number or null \
         removed gone integer removed id integer",
        "v1 older, deprecated",
        "{ \"specversion\": \"1.0\", \"id\": ",
        "\"data\": { \"plate_id\": 42, \"plate\": ",
    ] {
        assert!(new.contains(said), "{said:?} is not in\n{new}");
    }
    let old = article(&html, "lab.plate_filled.v1");
    for said in [
        "Deprecated since 2026-11-01 . It is published at least until 2027-05-01 . Use lab.plate_filled.v2 instead.",
        "Made from lab.plate_filled.v2 , so both have the same values.",
        "Owner not named Consumers none named Contract locked as 1.0",
        "v2 newer",
    ] {
        assert!(old.contains(said), "{said:?} is not in\n{old}");
    }
    assert!(html.contains("<time datetime=\"2027-05-01\" data-sunset>"));
    let automatic = article(&html, "lab.plates.updated.v1");
    assert!(automatic.contains("Contract best effort: follows its table"), "{automatic}");
    assert!(!automatic.contains("operator"), "personal data stays out: {automatic}");
    assert_eq!(
        text(&html, "<p class=\"lead\">", "</p>"),
        page("lab", "s", &second, &Lock::default()).summary
    );
}

/// The text of a condition over personal data can name a person.
#[test]
fn condition_on_personal_data_is_not_printed() {
    let model = lab(&RULES.replace("\"volume > 10\"", "\"volume > 10 and operator = 'ada@example.org'\""));
    let html = written(&model, &Lock::default());
    assert!(!html.contains("ada@"), "{html}");
    let said = article(&html, "lab.plate_filled.v2");
    assert!(said.contains("When a condition on operator, which is personal data"), "{said}");
}

#[test]
fn unlocked_event_is_marked() {
    let first = lab(RULES);
    let html = written(&first, &Lock::default());
    assert!(article(&html, "lab.plate_filled.v2").contains("Contract not locked yet"));
    let second = lab(&RULES.replace("  volume * 2", "  full_at,\n  volume * 2"));
    let html = written(&second, &locked(&first, Lock::default()));
    let new = article(&html, "lab.plate_filled.v2");
    assert!(new.contains("Contract 2.0 is locked, changed since"), "{new}");
    assert!(new.contains("2.1 not locked yet added full_at date and time, UTC or null"), "{new}");
}

#[test]
fn links_resolve_and_nothing_is_loaded() {
    let model = lab(RULES);
    let html = written(&model, &locked(&model, Lock::default()));
    let ids = values(&html, "id");
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "an id twice: {ids:?}");
    for event in &model.events {
        assert!(ids.contains(&event.event_type.as_str()), "no anchor for {}", event.event_type);
    }
    let links = values(&html, "href");
    assert!(links.len() > model.events.len());
    let files = |link: &&str| !link.starts_with("schemas&") && *link != "asyncapi.json";
    for link in links.into_iter().filter(files) {
        let to = link.strip_prefix('#').unwrap_or_else(|| panic!("{link} leads away"));
        assert!(ids.contains(&to), "{link} leads nowhere");
    }
    for label in values(&html, "aria-labelledby").into_iter().chain(values(&html, "for")) {
        assert!(ids.contains(&label), "no label {label}");
    }
    for loads in ["src=", "@import", "url(", "<link", "http://", "https://", "fetch(", "style=\""] {
        assert!(!html.contains(loads), "the page has {loads}");
    }
    assert!(html.len() < 80_000, "{} bytes for {} events", html.len(), model.events.len());
}

#[test]
fn hostile_text_is_escaped() {
    const HOSTILE: &str =
        "<script>alert(1)</script>\"'><img src=x onerror=alert(2)></style><!--{{ 7 }}{% if %}";
    let plain = lab(RULES);
    let calm = written(&plain, &Lock::default());
    let rules = RULES
        .replace("\"A plate is full.\"", &format!("'''{HOSTILE}'''"))
        .replace("\"lab-automation\"", &format!("'''{HOSTILE}'''"))
        .replace("[\"billing\", \"archive\"]", &format!("['''{HOSTILE}''']"))
        .replace("its number", HOSTILE)
        .replace("\"volume > 10\"", "\"volume > 10 and barcode <> '</code><script>alert(3)</script>'\"");
    let mut table = plates();
    table.comments[1] = Some(HOSTILE.to_owned());
    table.relation.schema = "lab".to_owned();
    table.comment = Some(HOSTILE.to_owned());
    let model = model(&rules, Automatic::Unmapped, &table);
    let html = html(&page(HOSTILE, HOSTILE, &model, &Lock::default())).unwrap();
    for tag in ["<script", "</script", "<style", "</style", "<img", "<!--", "<article", "<table"] {
        assert_eq!(html.matches(tag).count(), calm.matches(tag).count(), "{tag}");
    }
    let unquoted = |html: &str| html.matches('"').count() % 2;
    assert_eq!(unquoted(&html), unquoted(&calm));
    assert!(html.matches("{{ 7 }}").count() > 5, "the texts are not on the page");
}

#[test]
fn table_with_unusual_name_has_anchor() {
    let mut table = plates();
    table.relation.table = "my \"plates\" <1>".to_owned();
    let model = model("", Automatic::Unmapped, &table);
    let html = written(&model, &Lock::default());
    let ids = values(&html, "id");
    let anchor = "lab.%22my%20%22%22plates%22%22%20%3C1%3E%22.inserted.v1";
    assert!(ids.contains(&anchor), "{ids:?}");
    assert!(values(&html, "href").contains(&format!("#{anchor}").as_str()));
}

#[test]
fn empty_catalogue_is_a_page() {
    let model = model("", Automatic::Off, &plates());
    let html = written(&model, &Lock::default());
    assert!(html.contains("Nothing is published"));
    assert!(html.contains("0 event types."));
}

#[test]
fn page_policy_names_exactly_its_style_and_script() {
    let html = written(&lab(RULES), &Lock::default());
    for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
        let body =
            html.split(&format!("<{tag}>")).nth(1).unwrap().split(&format!("</{tag}>")).next().unwrap();
        let policy = html.replace("&#x2f;", "/");
        assert!(policy.contains(&format!("{directive} '{}'", super::hash(body))), "{tag}");
    }
}

#[test]
fn consumer_schema_is_open_and_later_fields_are_optional() {
    let first = lab(RULES);
    let lock = locked(&first, Lock::default());
    let second = lab(&RULES.replace("  volume * 2", "  full_at,\n  volume * 2"));
    let event = second.event("lab.plate_filled.v2").unwrap();
    let newest = lock.of(&event.event_type).map(Locked::newest);
    let schema = data_schema(event, newest);
    let required: Vec<&str> =
        schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(required, ["plate_id", "plate", "twice", "who"]);
    assert_eq!(schema.get("additionalProperties"), None);
    assert!(schema["properties"].get("full_at").is_some());
}

#[test]
fn application_events_and_their_outbox_are_on_page() {
    let schemas = tempfile::tempdir().unwrap();
    let schema = |text: &str| std::fs::write(schemas.path().join("lab.said.v1.json"), text).unwrap();
    schema(
        r##"{"title": "It was said <b>", "properties": {"how": {"enum": ["loud", "low"]}, "n": {"type": "integer", "maximum": 50},
             "to": {"type": "array", "items": {"$ref": "#/definitions/p"}}},
            "definitions": {"p": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 2, "description": "who hears it"}}}},
            "required": ["n"], "additionalProperties": false}"##,
    );
    let path = schemas.path().display();
    let rules = format!(
        "[[event]]\nmessages = \"m:\"\nschemas = \"{path}\"\nowner = \"</code>\"\n[[event]]\nmessages = \"<i>\"\ntype = \"lab.{{type}}\"\n"
    );
    let first = model(&rules, Automatic::Off, &plates());
    let lock = locked(&first, Lock::default());
    let html = written(&first, &lock);
    let said = article(&html, "lab.said.v1");
    for expected in [
        "It was said &lt;b>",
        "Contract locked as 1.0",
        "how text or absent one of loud , low 1.0",
        "n integer at most 50 1.0",
        "to array or absent 1.0",
        "to[].name text who hears it at least 2 characters 1.0",
        "Messages with the same key",
        "Outbox messages m: Time commit time Id one for each message",
        "\"how\": \"loud\"",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    let source = article(&html, "outbox:messages%20m%3A");
    assert!(
        source.contains("These types have a schema") && source.contains("lab.said.v1 . For other types"),
        "{source}"
    );
    let other = article(&html, "outbox:messages%20%3Ci%3E");
    assert!(other.contains("in the form lab.{type} . No type has a schema"), "{other}");
    let ids = values(&html, "id");
    for link in values(&html, "href").into_iter().filter(|link| link.starts_with('#')) {
        assert!(ids.contains(&link.strip_prefix('#').unwrap()), "{link} leads nowhere: {ids:?}");
    }
    assert!(!html.contains("<b>") && !html.contains("<i>"), "a text has left its place");
    // Older events lack a new field even if it is required from now on.
    schema(
        r##"{"title": "x", "properties": {"how": {"enum": ["low"]}, "n": {"type": "integer", "maximum": 50}, "m": {},
                "to": {"type": "array", "items": {"$ref": "#/definitions/p"}}},
            "definitions": {"p": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 2, "description": "who hears it"}}}},
               "required": ["n", "m"], "additionalProperties": false}"##,
    );
    let second = model(&rules, Automatic::Off, &plates());
    let said = article(&written(&second, &lock), "lab.said.v1");
    assert!(said.contains("Contract 1.0 is locked, changed since"), "{said}");
    assert!(said.contains("1.1 not locked yet added m any JSON 1.0"), "{said}");
    let said = article(&written(&second, &locked(&second, lock)), "lab.said.v1");
    assert!(said.contains("Contract locked as 1.1"), "{said}");
}
