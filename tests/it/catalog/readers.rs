//! `forebay events schema`: the schema for readers takes this version's events and the next minor's, with validators
//! that know no option and with the models that generators make.

use serde_json::json;

use super::*;

const RUNS: &str = r#"
[[event]]
type = "lab.run_finished.v1"
about = "A device has finished a run."
from = "lab.runs"
data = "id, state, volume, ratio, finished, details, place, tags, token"
"#;

/// Two minor versions: a field and an attribute of a composite type were added.
fn locked_runs() -> Daemon {
    let postgres = Postgres::lab(Version::usual());
    for sql in [
        "create type lab.place as (room text, shelf int)",
        "create type lab.state as enum ('ok', 'failed')",
        "create table lab.runs (id bigint primary key, state lab.state, volume numeric(12,3) not null, ratio float8, \
         finished timestamptz not null, details jsonb not null, place lab.place, tags text[] not null, \
         token uuid not null, note text)",
        "create publication forebay_lab for table lab.runs",
    ] {
        postgres.execute(sql);
    }
    let mut settings = Settings::new(postgres.url("forebay"), "http://127.0.0.1:9".to_owned());
    let schemas = "rules = \"events.toml\"\nschemas = \"https://schemas.example/lab\"";
    settings.more.push(("events".to_owned(), schemas.to_owned()));
    let daemon = Daemon::prepare(settings);
    std::fs::write(daemon.home().join("events.toml"), RUNS).unwrap();
    run(&daemon, &["events", "lock"]);
    postgres.execute("alter type lab.place add attribute side text");
    std::fs::write(daemon.home().join("events.toml"), RUNS.replace("token\"", "token, note\"")).unwrap();
    run(&daemon, &["events", "lock"]);
    daemon
}

#[test]
fn open_schema_takes_the_next_minors_events() {
    let daemon = locked_runs();
    let site = daemon.home().join("site");
    run(&daemon, &["events", "schema", "--open", "--out", site.to_str().unwrap()]);
    let text = std::fs::read_to_string(site.join("lab.run_finished/1.0.json")).unwrap();
    let name = "lab.run_finished.v1";
    assert_eq!(run(&daemon, &["events", "schema", name, "--open", "--minor", "0"]), text);
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (open, newest) = (parsed(&text), parsed(&run(&daemon, &["events", "schema", name, "--open"])));
    let closed = parsed(&run(&daemon, &["events", "schema", name, "--minor", "0"]));
    assert_eq!(closed["additionalProperties"], false, "{closed:#}");
    assert_eq!(open["$id"], "https://schemas.example/lab/lab.run_finished/1.0.json", "what dataschema names");
    assert_eq!(
        (&open["title"], &open["description"]),
        (&json!("LabRunFinishedV1"), &json!("A device has finished a run."))
    );
    assert!(newest["properties"].get("note").is_some(), "{newest:#}");

    let first = closed["examples"][0].clone();
    let next = newest["examples"][0].clone();
    assert!(next["place"].get("side").is_some() && first["place"].get("side").is_none(), "{next}");
    let with = |member: &str, value: Value| {
        let mut changed = next.clone();
        changed[member] = value;
        changed
    };
    let mut taken = vec![first, next.clone()];
    for (member, value) in [
        ("volume", json!("NaN")),
        ("volume", json!(-150.125)),
        ("ratio", json!("-Infinity")),
        ("ratio", Value::Null),
        ("state", json!("added later")),
        ("finished", json!("infinity")),
        ("details", json!("a text")),
        ("details", Value::Null),
        ("details", json!([1, {"a": null}])),
        ("place", Value::Null),
        ("tags", json!([["a"], ["b", null]])),
        ("added_in_1_2", json!({"any": 1})),
    ] {
        taken.push(with(member, value));
    }
    let mut refused = vec![
        with("id", json!("seven")),
        with("place", json!({"room": 7, "shelf": 1})),
        with("tags", json!("a")),
    ];
    let mut lacks = next.clone();
    lacks.as_object_mut().unwrap().remove("volume");
    refused.push(lacks);
    let values: Vec<Value> = taken.iter().chain(&refused).cloned().collect();
    let expected: Vec<bool> = values.iter().enumerate().map(|(n, _)| n < taken.len()).collect();
    let given = json!({"schema": open, "values": values});
    let Some((python, node)) = said_by_readers(&given) else { return };
    for (who, accepted) in [
        ("jsonschema", &python),
        ("pydantic", &python),
        ("ajv6", &node),
        ("ajv8", &node),
        ("typescript", &node),
    ] {
        assert_eq!(accepted[who], json!(expected), "{who}: {values:#?}\n{accepted:#}");
    }
    assert_eq!((&node["logged"], &node["broken"]), (&json!([]), &json!(false)), "{node:#}");
    assert_models(&python, &node);

    // What additions would break is refused by the same readers.
    let mut closed = open;
    closed["additionalProperties"] = json!(false);
    let (python, node) = said_by_readers(&json!({"schema": closed, "values": [next]})).unwrap();
    let verdicts =
        [&python["jsonschema"], &python["pydantic"], &node["ajv6"], &node["ajv8"], &node["typescript"]];
    assert!(verdicts.iter().all(|verdict| **verdict == json!([false])), "{verdicts:?}");
}

/// The generated models have good names and types.
fn assert_models(python: &Value, node: &Value) {
    let python = python["model"].as_str().unwrap();
    for line in ["class LabRunFinishedV1(BaseModel)", "details: Any", "float | "] {
        assert!(python.contains(line), "no {line:?} in\n{python}");
    }
    let typescript = node["model"].as_str().unwrap();
    for line in ["interface LabRunFinishedV1Place ", "details: unknown;", "volume: number | string;"] {
        assert!(typescript.contains(line), "no {line:?} in\n{typescript}");
    }
}

#[test]
fn sample_schemas_are_taken_by_strict_validators() {
    for (folder, name) in [
        ("config/lab", "lab.liquid_transferred.v1"),
        ("config/lab", "lab.plate_completed.v2"),
        ("config/shop", "shop.order_placed.v1"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["events", "schema", "--open", name])
            .env("FOREBAY_SOURCE__PASSWORD", "unused")
            .current_dir(repository().join(folder))
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
        let values = schema["examples"].clone();
        let Some((python, node)) = said_by_readers(&json!({"schema": schema, "values": values})) else {
            return;
        };
        let verdicts =
            [&python["jsonschema"], &python["pydantic"], &node["ajv6"], &node["ajv8"], &node["typescript"]];
        assert!(verdicts.iter().all(|verdict| **verdict == json!([true])), "{name}: {python:#} {node:#}");
        assert_eq!(node["logged"], json!([]), "{name}");
    }
}

/// What readers in Python and JavaScript say of a schema and values.
fn said_by_readers(given: &Value) -> Option<(Value, Value)> {
    let folder = cache().join("readers");
    if !folder.join("npm/node_modules/json-schema-to-typescript").is_dir() {
        missing("validators and generators of readers");
        return None;
    }
    let script = |name: &str| repository().join("tests/it/catalog").join(name);
    let mut python = Command::new(folder.join("bin/python"));
    python.arg(script("readers.py"));
    let mut node = Command::new("node");
    node.arg(script("readers.cjs")).env("NODE_PATH", folder.join("npm/node_modules"));
    Some((answer(&mut python, given), answer(&mut node, given)))
}

fn answer(command: &mut Command, given: &Value) -> Value {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
