//! `forebay events codegen`: each language's compiler takes the types, and they read an event as it was published, and one of the next
//! minor version.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::flow::Flow;
use crate::support::python::{Environment, output, printed, write};
use crate::support::random::seed;
use crate::support::{SOON, cache, eventually, missing, repository};

/// Exactly what the command prints for Rust, so that the compiler of the tests judges it.
#[rustfmt::skip]
#[allow(dead_code, clippy::allow_attributes, clippy::struct_field_names, reason = "types that no test reads are compiled only")]
mod generated;

/// Names that no language takes as they are, and values that a double cannot hold.
const TABLE: &str = r#"
    create table lab.odd (
      id bigint primary key, "type" text not null, "Größe" text, "we""ird\" text, amount numeric not null, ratio double precision,
      flag boolean not null, doc jsonb, list int[], small smallint, "toString" text, at timestamptz);
    comment on column lab.odd.amount is 'microlitres */ "left" \u0041';
    create publication forebay_lab for table lab.odd;
"#;

const ROW: &str = r#"
    insert into lab.odd values
      (9007199254740993, 'a "b"', 'x', 'y', 12345678901234567890.123456789, 'NaN', true, '{"a": 1}', '{1,2}', 7, null, 'epoch')
"#;

/// What each language prints of the two events.
const READ: &str = "lab.odd.inserted.v1 9007199254740993 a \"b\" 12345678901234567890.123456789 NaN true 7";

struct Contracts {
    flow: Flow,
    /// The event, and the same with a field and an attribute more.
    lines: String,
}

impl Contracts {
    fn new() -> Self {
        let mut flow = Flow::prepare(seed(), |settings| {
            settings.tables = Vec::new();
            settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
        });
        flow.postgres.execute(TABLE);
        write(&flow.daemon.home().join("events/none.toml"), b"");
        let locked = flow.daemon.run(&["events", "lock"]);
        assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
        flow.start();
        flow.postgres.execute(ROW);
        eventually("the event", SOON, || (flow.stub.records().len() == 1).then_some(()));
        assert!(flow.daemon.terminate().success());
        let line = String::from_utf8(flow.records()[0].data.clone()).unwrap();
        let next = line.replace("\"data\":{", "\"later\":{\"x\":[1]},\"data\":{\"later_field\":[null],");
        assert_ne!(line, next);
        Self { flow, lines: line + &next }
    }

    /// Writes the types of a language.
    fn types(&self, language: &str, file: &Path) {
        let arguments = ["events", "codegen", "--lang", language, "--out", file.to_str().unwrap()];
        let made = self.flow.daemon.run(&arguments);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    #[track_caller]
    fn assert_read(&self, command: &mut Command) {
        assert_eq!(printed(command, &self.lines).lines().collect::<Vec<_>>(), [READ, READ]);
    }
}

#[test]
fn generated_types_read_events_in_every_language() {
    let contracts = Contracts::new();
    let home = contracts.flow.daemon.home().join("consumers");
    std::fs::create_dir_all(&home).unwrap();
    rust(&contracts, &home);
    python(&contracts, &home);
    typescript(&contracts, &home);
    go(&contracts, &home);
    java(&contracts, &home);
}

fn rust(contracts: &Contracts, home: &Path) {
    let file = home.join("generated.rs");
    contracts.types("rust", &file);
    let (made, kept) =
        (std::fs::read_to_string(file).unwrap(), repository().join("tests/it/codegen/generated.rs"));
    if made != std::fs::read_to_string(&kept).unwrap_or_default() {
        std::fs::write(&kept, &made).unwrap();
        panic!(
            "{} was not what the command prints now; it was written again: look at the difference",
            kept.display()
        );
    }
    for line in contracts.lines.lines() {
        let event: generated::Event<generated::LabOddInsertedV1> = serde_json::from_str(line).unwrap();
        let data = event.data;
        assert_eq!(event.event_type, generated::LabOddInsertedV1::TYPE);
        let (ratio, small) = (data.ratio.unwrap().0, data.small.unwrap());
        let read = [
            event.event_type,
            data.id.to_string(),
            data.type_.unwrap(),
            data.amount.unwrap().0,
            ratio,
            data.flag.to_string(),
            small.to_string(),
        ];
        assert_eq!(read.join(" "), READ);
    }
}

fn python(contracts: &Contracts, home: &Path) {
    contracts.types("python", &home.join("lab_events.py"));
    let program = "import sys, typing, lab_events\n\
        for kind in (lab_events.LabOddInsertedV1, lab_events.LabOddInsertedV1Data):\n    typing.get_type_hints(kind)\n\
        assert typing.get_type_hints(lab_events.LabOddInsertedV1Data)['id'] is int\n\
        for line in sys.stdin:\n    event: lab_events.LabOddInsertedV1 = lab_events.loads(line)\n    data = event['data']\n    \
        print(event['type'], data['id'], data['type'], data['amount'], data['ratio'], str(data['flag']).lower(), data['small'])\n";
    let file = home.join("read.py");
    write(&file, program.as_bytes());
    contracts.assert_read(Command::new("/usr/bin/python3").arg(file).env("PYTHONDONTWRITEBYTECODE", "1"));
}

/// The compiler has no types of Node, and needs none.
fn typescript(contracts: &Contracts, home: &Path) {
    let compiler = cache().join("readers/npm/node_modules/typescript/bin/tsc");
    if !compiler.exists() || !Environment::Client.is_here() {
        missing("TypeScript");
        return;
    }
    contracts.types("typescript", &home.join("events.ts"));
    let program = "import type { KnownEvent } from './events';\n\
        export function read(line: string): string {\n  const event: KnownEvent = JSON.parse(line);\n  \
        if (event.type !== 'lab.odd.inserted.v1') return '';\n  const amount: number | string | null | undefined = event.data['amount'];\n  \
        // @ts-expect-error: this field may be null or absent\n  const ratio: number | string = event.data['ratio'];\n  \
        // @ts-expect-error: no such field\n  event.data['none'];\n  \
        return `${event.type} ${event.data['type']} ${event.data['flag']} ${event.data['small']} ${typeof amount} ${ratio}`;\n}\n";
    write(&home.join("read.ts"), program.as_bytes());
    let mut compile = Command::new("node");
    compile
        .arg(compiler)
        .args(["--strict", "--target", "es2022", "--module", "commonjs"])
        .arg(home.join("read.ts"));
    printed(&mut compile, "");
    let run = "const { read } = require('./read.js'); \
        for (const line of require('fs').readFileSync(0, 'utf8').trim().split('\\n')) console.log(read(line))";
    write(&home.join("run.js"), run.as_bytes());
    let read = printed(Command::new("node").arg(home.join("run.js")), &contracts.lines);
    assert_eq!(read, "lab.odd.inserted.v1 a \"b\" true 7 number NaN\n".repeat(2));
}

fn go(contracts: &Contracts, home: &Path) {
    if Command::new("go").arg("version").output().is_err() {
        missing("Go");
        return;
    }
    contracts.types("go", &home.join("go/events/events.go"));
    let program = "package main\n\nimport (\n\t\"bufio\"\n\t\"encoding/json\"\n\t\"fmt\"\n\t\"lab/events\"\n\t\"os\"\n)\n\n\
        func main() {\n\tlines := bufio.NewScanner(os.Stdin)\n\tfor lines.Scan() {\n\t\tvar event events.Event[events.LabOddInsertedV1]\n\t\t\
        if err := json.Unmarshal(lines.Bytes(), &event); err != nil {\n\t\t\tpanic(err)\n\t\t}\n\t\tdata := event.Data\n\t\t\
        fmt.Println(event.Type, data.Id, *data.Type, *data.Amount, *data.Ratio, data.Flag, *data.Small)\n\t}\n}\n";
    write(&home.join("go/main.go"), program.as_bytes());
    write(&home.join("go/go.mod"), b"module lab\n\ngo 1.18\n");
    let mut command = Command::new("go");
    command.args(["run", "."]).current_dir(home.join("go")).env("GOCACHE", cache().join("go-build"));
    contracts
        .assert_read(command.env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "local").env("GOPROXY", "off"));
}

/// Jackson comes with LocalStack's reader of Kinesis.
fn java(contracts: &Contracts, home: &Path) {
    let jars = jars();
    if Command::new("javac").arg("-version").output().is_err() || jars.len() != 3 {
        missing("javac, or Jackson in LocalStack");
        return;
    }
    let folder = home.join("java/events");
    contracts.types("java", &folder.join("ForebayEvents.java"));
    let program = "package events;\n\nimport com.fasterxml.jackson.core.type.TypeReference;\n\
        import com.fasterxml.jackson.databind.ObjectMapper;\nimport java.util.Scanner;\n\npublic final class Read {\n  \
        public static void main(String[] arguments) throws Exception {\n    var mapper = new ObjectMapper();\n    \
        var lines = new Scanner(System.in, \"UTF-8\");\n    while (lines.hasNextLine()) {\n      \
        var event = mapper.readValue(lines.nextLine(), new TypeReference<ForebayEvents.Event<ForebayEvents.LabOddInsertedV1>>() {});\n      \
        var data = event.data();\n      System.out.println(String.join(\" \", event.type(), data.id().toString(), data.type_(), \
        data.amount().text(), data.ratio().text(), data.flag().toString(), data.small().toString()));\n      \
        data.amount().value();\n    }\n  }\n}\n";
    write(&folder.join("Read.java"), program.as_bytes());
    let path = std::env::join_paths(jars.iter().chain([&home.join("java")])).unwrap();
    let mut compile = Command::new("javac");
    compile.args(["-encoding", "UTF-8", "-cp"]).arg(&path).arg(folder.join("ForebayEvents.java"));
    let compiled = output(compile.arg(folder.join("Read.java")), "");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    contracts.assert_read(
        Command::new("java")
            .args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(path)
            .arg("events.Read"),
    );
}

fn jars() -> Vec<PathBuf> {
    let venv = cache().join("localstack/venv/lib");
    let pythons = std::fs::read_dir(venv).into_iter().flatten().flatten();
    let folders = pythons.map(|python| python.path().join("site-packages/amazon_kclpy/jars"));
    let all = folders
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()));
    let is_jackson = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ["jackson-annotations-", "jackson-core-", "jackson-databind-"]
            .iter()
            .any(|begin| name.starts_with(begin))
    };
    all.filter(is_jackson).collect()
}
