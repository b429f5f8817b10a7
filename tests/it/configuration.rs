//! The configuration through the built binary: the commented example tells the truth, errors come all at once, secrets stay.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::repository;

const MINIMAL: &str = "name = \"lab\"\n[source]\nurl = \"postgres://forebay@127.0.0.1:5432/lab\"\n[kinesis]\nstream = \
                       \"lab-events\"\n[buffer]\ndir = \"/var/lib/forebay\"\n";

fn example() -> String {
    std::fs::read_to_string(repository().join("config/lab/forebay.toml")).unwrap()
}

fn forebay(arguments: &[&str], file: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).arg("--config").arg(file).env_clear().envs(environment.iter().copied());
    command.output().unwrap()
}

/// What `forebay config` prints of a text, and its error stream; the exit code is 0 or 1.
fn config(text: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let output = forebay(&["config"], file.path(), environment);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.code() {
        Some(0) => Ok(text(output.stdout)),
        Some(1) => Err(text(output.stderr)),
        other => panic!("{other:?}: {}", text(output.stderr)),
    }
}

/// What the example says of events beyond a minimal file.
const EVENTS: &str =
    "[events]\nrules = \"events/*.toml\"\n[pii]\ncolumns = [\"lab.plates.operator_email\"]\n";

/// Whether a line is `key = value`.
fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// The example with the lines behind `mark` uncommented where they are settings.
fn uncommented(mark: &str) -> String {
    let line = |line: &str| match line.strip_prefix(mark) {
        Some(rest) if is_setting(rest) && !rest.ends_with('…') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    example().lines().map(line).collect()
}

#[test]
fn the_example_is_what_a_minimal_file_means() {
    let minimal = config(&format!("{MINIMAL}{EVENTS}"), &[]).unwrap();
    assert_eq!(config(&example(), &[]).unwrap(), minimal);
    assert_eq!(
        config(&uncommented("#"), &[]).unwrap(),
        minimal,
        "a default in the example is not the default"
    );
    assert_ne!(uncommented("#"), example());
}

#[test]
fn every_example_of_the_example_is_a_key_and_every_key_is_in_it() {
    let doubled = "# drop = ";
    let text = uncommented("# ");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("password_file")).collect();
    let text = lines.join(
        "
",
    );
    let printed = config(&text, &[]).unwrap();
    for line in [
        "endpoint = \"http://127.0.0.1:4566\"",
        "confirm_after = \"5s\"",
        "region = \"eu-central-1\"",
        "drop = [\"lab.plates.operator_email\", \"*.*.password\"]",
    ] {
        assert!(printed.contains(line), "{line} is not in {printed}");
    }
    assert!(example().contains(doubled));
    let keys = |text: &str| -> BTreeSet<String> {
        let mut section = String::new();
        let mut keys = BTreeSet::new();
        for line in text.lines() {
            let bare = line.trim_start_matches('#').trim_start();
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if is_setting(bare) && !bare.ends_with('…') {
                keys.insert(format!("{section}.{}", bare.split_once(" = ").unwrap().0));
            } else if let Some((key, _)) =
                bare.split_once(": ").filter(|(key, _)| line.starts_with("# ") && !key.contains(' '))
            {
                keys.insert(format!("{section}.{key}"));
            }
        }
        keys
    };
    let mut known = keys(&printed);
    known.insert("source.password_file".to_owned());
    let missing: Vec<_> = known.difference(&keys(&example())).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "config/lab/forebay.toml does not have these keys");
}

#[test]
fn all_errors_come_at_once_and_unknown_keys_are_errors() {
    let text = "name = \"Lab\"\nnonsense = 1\n[source]\nslot = \"A\"\ntables = [\"plates\"]\nmax_row_size = \"1 GiB\"\n\
        failover = \"perhaps\"\n[kinesis]\nstreem = \"x\"\nendpoint = \"localhost\"\n[buffer]\nmax_size = \"10\"\n\
        confirm_after = \"soon\"\n[http]\nlisten = \"9187\"\n[log]\nformat = \"xml\"\nfilter = \"a=b=c\"\n";
    let said = config(text, &[("FOREBAY_SOURCE__USER", "x"), ("FOREBAY_ON_POISON", "drop")]).unwrap_err();
    for (key, about) in [
        ("name", "Lab"),
        ("nonsense", "no such key"),
        ("source.url", "is missing"),
        ("source.slot", "cannot be a slot"),
        ("source.tables", "schema.table"),
        ("source.max_row_size", "between"),
        ("source.failover", "true or false"),
        ("source.user", "no such key"),
        ("kinesis.stream", "is missing"),
        ("kinesis.streem", "no such key"),
        ("kinesis.endpoint", "http://"),
        ("buffer.dir", "is missing"),
        ("buffer.max_size", "unit"),
        ("buffer.confirm_after", "never"),
        ("http.listen", "127.0.0.1:9187"),
        ("log.format", "human"),
        ("log.filter", "not a log filter"),
        ("on_poison", "quarantine"),
    ] {
        let line = said.lines().find(|line| line.trim_start().starts_with(&format!("{key}: ")));
        assert!(line.is_some_and(|line| line.contains(about)), "{key}: no {about:?} in\n{said}");
    }
    assert!(said.contains("18 errors"), "{said}");
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let nowhere = Path::new("/nowhere/forebay.toml");
    let output = forebay(&["run"], nowhere, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nowhere/forebay.toml"), "{said}");
    let said = config("name = lab\n", &[]).unwrap_err();
    assert!(said.contains("not valid TOML"), "{said}");
}

#[test]
fn a_mistyped_command_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(["rnu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(["adopt"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "--reason is missing");
}

#[test]
fn secrets_are_hidden_wherever_they_are_given() {
    let secrets = ["in-the-url", "in-the-query", "in-the-environment"];
    let url = MINIMAL
        .replace("forebay@", "forebay:in-the-url@")
        .replace("/lab\"\n[kinesis]", "/lab?password=in-the-query&sslmode=require\"\n[kinesis]");
    assert_ne!(url, MINIMAL);
    let printed = config(&url, &[("FOREBAY_SOURCE__PASSWORD", "in-the-environment")]).unwrap();
    for secret in secrets {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("sslmode=require") && printed.contains("(hidden)"), "{printed}");
    // Nor when something else about it is wrong.
    let wrong = url.replace("name = \"lab\"", "name = 7").replace("sslmode=require", "sslmode=nonsense");
    let said = config(&wrong, &[("FOREBAY_SOURCE__PASSWORD", "in-the-environment")]).unwrap_err();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), url.replace("sslmode=require", "sslmode=nonsense")).unwrap();
    let run = forebay(
        &["run"],
        file.path(),
        &[("FOREBAY_HTTP__LISTEN", "127.0.0.1:0"), ("FOREBAY_LOG__FILTER", "trace")],
    );
    assert_eq!(run.status.code(), Some(1));
    let all = [said, String::from_utf8(run.stderr).unwrap(), String::from_utf8(run.stdout).unwrap()].concat();
    assert!(all.contains("nonsense"), "{all}");
    for secret in secrets {
        assert!(!all.contains(secret), "{all}");
    }
}
