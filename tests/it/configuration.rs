//! The configuration of the built binary: the example file is correct, all errors are reported at once, secrets are
//! hidden.

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

/// The output and error output of `forebay config`; the exit code must be 0 or 1.
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

/// The error of a key, with its detail and hint.
fn error_of(said: &str, key: &str) -> String {
    let begins = format!("  {key}: ");
    let mut lines = said.lines().skip_while(|line| !line.starts_with(&begins));
    let first = lines.next().unwrap_or_default();
    lines.take_while(|line| line.starts_with("    ")).fold(first.to_owned(), |text, line| text + "\n" + line)
}

/// The settings for events in the example.
const EVENTS: &str =
    "[events]\nrules = \"events/*.toml\"\n[pii]\ncolumns = [\"lab.plates.operator_email\"]\n";

/// Whether a line has the form `key = value`.
fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// The example with the settings after `mark` uncommented.
fn uncommented(mark: &str) -> String {
    let line = |line: &str| match line.strip_prefix(mark) {
        Some(rest) if is_setting(rest) && !rest.ends_with('…') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    example().lines().map(line).collect()
}

#[test]
fn example_equals_minimal_configuration() {
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
fn example_lists_every_key_and_no_other() {
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
fn all_errors_are_reported_and_unknown_keys_refused() {
    let text = "name = \"Lab\"\nnonsense = 1\n[source]\nslot = \"A\"\ntables = [\"plates\"]\nmax_row_size = \"1 GiB\"\n\
        failover = \"perhaps\"\n[kinesis]\nstreem = \"x\"\nendpoint = \"localhost\"\n[buffer]\nmax_size = \"10\"\n\
        confirm_after = \"soon\"\n[http]\nlisten = \"9187\"\n[log]\nformat = \"xml\"\nfilter = \"a=b=c\"\n";
    let said = config(text, &[("FOREBAY_SOURCE__USER", "x"), ("FOREBAY_ON_POISON", "drop")]).unwrap_err();
    for (key, about) in [
        ("name", "Lab"),
        ("nonsense", "unknown key"),
        ("source.url", "is missing"),
        ("source.slot", "not a valid slot name"),
        ("source.tables", "schema.table"),
        ("source.max_row_size", "outside the range"),
        ("source.failover", "true or false"),
        ("source.user", "unknown key"),
        ("kinesis.stream", "is missing"),
        ("kinesis.streem", "unknown key"),
        ("kinesis.endpoint", "http://"),
        ("buffer.dir", "is missing"),
        ("buffer.max_size", "unit"),
        ("buffer.confirm_after", "never"),
        ("http.listen", "127.0.0.1:9187"),
        ("log.format", "human"),
        ("log.filter", "not a log filter"),
        ("on_poison", "quarantine"),
    ] {
        assert!(error_of(&said, key).contains(about), "{key}: no {about:?} in\n{said}");
    }
    assert!(said.contains("18 errors"), "{said}");
}

#[test]
fn missing_or_invalid_file_is_named() {
    let nowhere = Path::new("/nowhere/forebay.toml");
    let output = forebay(&["run"], nowhere, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nowhere/forebay.toml"), "{said}");
    let said = config("name = lab\n", &[]).unwrap_err();
    assert!(said.contains("not valid TOML"), "{said}");
}

#[test]
fn mistyped_command_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(["rnu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(["adopt"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "--reason is missing");
}

#[test]
fn secrets_are_hidden_from_every_source() {
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
    // Also not when something else in it is wrong.
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

/// Each value alone in the minimal file, with the expected error.
#[test]
fn value_that_cannot_work_is_refused_with_its_key() {
    let long = "x".repeat(64);
    for (key, value, about) in [
        ("name", "", "is empty"),
        ("kinesis.stream", "", "is empty"),
        ("kinesis.stream", "my stream", "not a stream name"),
        (
            "kinesis.stream",
            "arn:aws:firehose:eu-central-1:123456789012:deliverystream/x",
            "service \"firehose\"",
        ),
        ("kinesis.region", "", "is empty"),
        ("kinesis.region", "EU Central 1", "Did you mean \"eu-central-1\"?"),
        ("kinesis.region", "eu-central-1b", "availability zone"),
        ("kinesis.endpoint", "http://u:sekret@127.0.0.1:1", "user name or password"),
        ("kinesis.endpoint", "https://127.0.0.1:1/?token=sekret", "query"),
        ("buffer.dir", "", "is empty"),
        ("buffer.dir", "/var/lib/forebay\r", "control characters"),
        ("source.url", "x", "postgres://"),
        ("source.url", "host=h password=sekret", "postgres://"),
        ("source.publication", &long, "63 bytes"),
        ("source.tables", "lab.*", "not a single table"),
        ("source.tables", "a.b.c", "double quotes"),
        ("tables.include", "lab", "1 of 2 parts"),
        ("tables.exclude", "lab.pla*", "whole name"),
        ("tables.drop", "lab. users.password", "blanks"),
        ("pii.columns", "lab.email", "2 of 3 parts"),
        ("pii.hmac_key", "sekret", "6 bytes"),
        ("pii.hmac_key", "sekretsekretsekretsekret", "guessed"),
        ("pii.hmac_key", "0000000000000000000000000000000000000000", "guessed"),
        ("pii.hmac_key_previous", "sekret", "6 bytes"),
        ("pii.hmac_key_id", "sekret sekret", "lower-case letters"),
        ("events.schemas", "https://u:sekret@schemas.example", "not shown"),
        ("log.filter", "verbose", "Did you mean \"debug\"?"),
        ("log.filter", "warning", "Did you mean \"warn\"?"),
    ] {
        let variable = format!("FOREBAY_{}", key.to_ascii_uppercase().replace('.', "__"));
        let said = config(MINIMAL, &[(&variable, value)]).unwrap_err();
        assert!(error_of(&said, key).contains(about), "{key} = {value:?}: no {about:?} in\n{said}");
        assert!(!said.contains("sekret"), "{said}");
    }
}

/// An unknown key and an environment variable without effect are reported with a suggestion.
#[test]
fn mistyped_key_is_refused_with_the_one_that_is_meant() {
    let said = config(&MINIMAL.replace("stream =", "streem ="), &[]).unwrap_err();
    assert!(said.contains("kinesis.streem: unknown key\n    hint: Did you mean kinesis.stream?"), "{said}");
    let said = config(&MINIMAL.replace("stream =", "dir ="), &[("FOREBAY_KINESIS_STREAM", "x")]).unwrap_err();
    assert!(said.contains("kinesis.dir: unknown key\n    hint: Did you mean buffer.dir?"), "{said}");
    assert!(
        said.contains("kinesis.stream: environment variable FOREBAY_KINESIS_STREAM has no effect"),
        "{said}"
    );
    assert!(said.contains("FOREBAY_KINESIS__STREAM"), "{said}");
    let said = config(MINIMAL, &[("FOREBAY_SOURCE__PASSWROD", "sekret")]).unwrap_err();
    assert!(said.contains("source.passwrod: unknown key (FOREBAY_SOURCE__PASSWROD)"), "{said}");
    assert!(said.contains("Did you mean source.password?") && !said.contains("sekret"), "{said}");
    // Variables that Kubernetes sets for a service of our name are ignored.
    let cluster = [("FOREBAY_PORT_9187_TCP_ADDR", "10.0.0.1"), ("FOREBAY_SERVICE_HOST", "10.0.0.1")];
    config(MINIMAL, &cluster).unwrap();
}
