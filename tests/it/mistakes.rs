//! Mistakes that a person makes before anything runs, and the message that each one gets, word for word: `mistakes/messages.txt`.
//! Those that need a server are in `connections`, `refusals` and `history`.
//!
//! After a message was changed on purpose: `FOREBAY_WRITE_MESSAGES=1 scripts/test mistakes`, and read the difference.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::repository;

const CONFIG: &str = "name = \"lab\"\n\n[source]\nurl = \"postgres://forebay@127.0.0.1:1/lab\"\n\n[kinesis]\nstream = \"lab-events\"\n\n\
                      [buffer]\ndir = \"buffer\"\n";

/// One mistake.
#[derive(Default)]
struct Mistake {
    title: &'static str,
    arguments: &'static [&'static str],
    /// Replaces a line of the configuration, or is added behind it.
    line: Option<(&'static str, &'static str)>,
    environment: &'static [(&'static str, &'static str)],
    files: &'static [(&'static str, &'static str)],
}

/// A line of the configuration is another one.
const fn key(title: &'static str, line: &'static str, other: &'static str) -> Mistake {
    Mistake { title, arguments: &["config"], line: Some((line, other)), environment: &[], files: &[] }
}

/// The program is called like this.
const fn call(title: &'static str, arguments: &'static [&'static str]) -> Mistake {
    Mistake { title, arguments, line: None, environment: &[], files: &[] }
}

/// A file of rules has this content.
const fn rules(title: &'static str, files: &'static [(&'static str, &'static str)]) -> Mistake {
    let line = Some(("[buffer]", "[events]\nrules = \"events/*.toml\"\n\n[buffer]"));
    Mistake { title, arguments: &["events", "lock"], line, environment: &[], files }
}

/// A variable is set.
const fn variable(title: &'static str, environment: &'static [(&'static str, &'static str)]) -> Mistake {
    Mistake { title, arguments: &["config"], line: None, environment, files: &[] }
}

const NAME: &str = "name = \"lab\"";
const URL: &str = "url = \"postgres://forebay@127.0.0.1:1/lab\"";
const STREAM: &str = "stream = \"lab-events\"";
const DIR: &str = "dir = \"buffer\"";

const MISTAKES: &[Mistake] = &[
    call("no configuration file", &["config", "--config", "absent.toml"]),
    call("a folder instead of a file", &["config", "--config", "."]),
    key("a quote that is not closed", NAME, "name = \"lab"),
    key("a key that is misspelt", STREAM, "streem = \"lab-events\""),
    key("a key in the wrong section", DIR, "dir = \"buffer\"\nstream = \"lab-events\""),
    key("an unknown section", NAME, "name = \"lab\"\n[sink]\nkind = \"kafka\""),
    key("a name with capital letters", NAME, "name = \"Lab\""),
    key("a number without a unit", DIR, "dir = \"buffer\"\nmax_size = \"10\""),
    key("a number that is no text", DIR, "dir = \"buffer\"\nmax_size = 10"),
    key("a buffer that is too small", DIR, "dir = \"buffer\"\nmax_size = \"1 MiB\""),
    key("a delay that is too long", DIR, "dir = \"buffer\"\nconfirm_after = \"7d\""),
    key("a directory that is empty text", DIR, "dir = \"\""),
    key("another database's URL", URL, "url = \"mysql://forebay@127.0.0.1/lab\""),
    key("a JDBC URL", URL, "url = \"jdbc:postgresql://127.0.0.1/lab\""),
    key("a password with an @ that is not escaped", URL, "url = \"postgres://forebay:p@ss@127.0.0.1/lab\""),
    key("a port that is none", URL, "url = \"postgres://forebay@127.0.0.1:99999/lab\""),
    key(
        "verify-ca without a certificate",
        URL,
        "url = \"postgres://forebay@127.0.0.1/lab?sslmode=verify-ca\"",
    ),
    key("an sslmode that does not exist", URL, "url = \"postgres://forebay@127.0.0.1/lab?sslmode=on\""),
    key("an unknown parameter of the URL", URL, "url = \"postgres://forebay@127.0.0.1/lab?pool_size=5\""),
    key("a slot with a hyphen", URL, "url = \"postgres://forebay@127.0.0.1/lab\"\nslot = \"forebay-lab\""),
    key(
        "a table without its schema",
        URL,
        "url = \"postgres://forebay@127.0.0.1/lab\"\ntables = [\"plates\"]",
    ),
    key("a mode that does not exist", URL, "url = \"postgres://forebay@127.0.0.1/lab\"\nmode = \"trigger\""),
    key("a stream's name with a blank", STREAM, "stream = \"lab events\""),
    key("the ARN of a topic", STREAM, "stream = \"arn:aws:sns:eu-central-1:123456789012:lab\""),
    key(
        "an ARN of another region",
        STREAM,
        "stream = \"arn:aws:kinesis:eu-west-1:123456789012:stream/lab\"\nregion = \"eu-central-1\"",
    ),
    key("an endpoint without http://", STREAM, "stream = \"lab-events\"\nendpoint = \"localhost:4566\""),
    key("a port instead of an address", DIR, "dir = \"buffer\"\n[http]\nlisten = \"9187\""),
    key("on_poison that does not exist", NAME, "name = \"lab\"\non_poison = \"halt\""),
    key(
        "a heartbeat that is too frequent",
        URL,
        "url = \"postgres://forebay@127.0.0.1/lab\"\nheartbeat = \"10ms\"",
    ),
    key("a maximal lag without a unit", NAME, "name = \"lab\"\nmax_lag = \"300\""),
    rules("rules that are missing", &[]),
    rules("a rule that is no TOML", &[("events/a.toml", "[[event]\n")]),
    rules(
        "a rule with an unknown key",
        &[(
            "events/a.toml",
            "[[event]]\ntype = \"a.b.v1\"\nabout = \"A.\"\nowner = \"o\"\nfrom = \"s.t\"\non = \"insert\"\nkey = \"id\"\ndata = \"id\"\nwhere = \"id > 1\"\n",
        )],
    ),
    rules(
        "a type without a version",
        &[(
            "events/a.toml",
            "[[event]]\ntype = \"lab.ordered\"\nabout = \"A.\"\nowner = \"o\"\nfrom = \"s.t\"\non = \"insert\"\nkey = \"id\"\ndata = \"id\"\n",
        )],
    ),
    variable("a misspelt variable", &[("FOREBAY_KINESIS__STREEM", "x")]),
    variable("a variable with one underscore", &[("FOREBAY_KINESIS_STREAM", "x")]),
    variable("an empty variable", &[("FOREBAY_KINESIS__STREAM", "")]),
    call("a subcommand that does not exist", &["start"]),
    call("an option that does not exist", &["run", "--verbose"]),
    call("a dead letter without an id", &["dlq", "retry"]),
    call("a discard without a reason", &["dlq", "discard", "0123456789ab"]),
    call("dead letters of a directory that is missing", &["dlq", "list"]),
    call("a log of a directory that is missing", &["buffer", "stat"]),
    call("an adoption without a reason", &["adopt"]),
    call("the status of a daemon that does not run", &["status"]),
    call("an unknown shell", &["completions", "cmd"]),
    call("init for another database", &["init", "--source", "mysql://h/d", "--output", "new.toml"]),
    call("init over an existing file", &["init", "--source", "postgres://u@127.0.0.1:1/d"]),
    call("init for one instance", &["init", "--source", "postgres://u@127.0.0.1:1/d", "--instances", "1"]),
];

/// What a person sees, without what differs between machines.
fn message(mistake: &Mistake) -> String {
    let home = tempfile::tempdir().unwrap();
    let text = match mistake.line {
        Some((line, other)) => {
            assert!(CONFIG.contains(line), "{line}");
            CONFIG.replacen(line, other, 1)
        }
        None => CONFIG.to_owned(),
    };
    std::fs::write(home.path().join("forebay.toml"), text).unwrap();
    for (name, content) in mistake.files {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(mistake.arguments).current_dir(home.path()).stdin(Stdio::null()).env_clear();
    command.env("HOME", home.path()).env("NO_COLOR", "1").env("AWS_REGION", "eu-central-1");
    command.env("AWS_EC2_METADATA_DISABLED", "true").envs(mistake.environment.iter().copied());
    let output = command.output().unwrap();
    let mut said = format!("## {}\n", mistake.title);
    for (name, value) in mistake.environment {
        writeln!(said, "{name}={value}").unwrap();
    }
    writeln!(said, "$ forebay {}", mistake.arguments.join(" ")).unwrap();
    said += &String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat());
    writeln!(said, "exit code {}", output.status.code().unwrap()).unwrap();
    let folder = |path: &Path| path.display().to_string();
    said.replace(&folder(home.path()), "/home")
}

/// Each message is what was agreed, with its exit code, and none is a panic.
#[test]
fn every_mistake_has_its_message() {
    let messages: Vec<String> = MISTAKES.iter().map(message).collect();
    let path = repository().join("tests/it/mistakes/messages.txt");
    let all = messages.join("\n");
    if std::env::var_os("FOREBAY_WRITE_MESSAGES").is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let wrong: Vec<&str> = messages
        .iter()
        .map(String::as_str)
        .filter(|text| {
            let fails = text.ends_with("exit code 1\n") || text.ends_with("exit code 64\n");
            text.contains("panicked") || !fails
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, before) in all.split("\n## ").zip(agreed.split("\n## ")) {
        assert_eq!(now, before, "another message than in {}", path.display());
    }
    assert_eq!(all, agreed);
}
