//! Configuration mistakes and their messages.

use super::*;

const LEAST: &str = r#"
name = "lab"
[source]
url = "postgres://forebay:secret@db.example/lab"
[kinesis]
stream = "lab-events"
[buffer]
dir = "/var/lib/forebay"
"#;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::read(file.path(), environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
}

#[test]
fn minimal_configuration_is_enough() {
    let config = read(LEAST, &[]).unwrap();
    assert_eq!(config.source.slot, "forebay_lab");
    assert_eq!(config.source.publication, "forebay_lab");
    assert_eq!(config.buffer.confirm_after(false), ConfirmAfter::Waited(Duration::from_secs(5)));
    assert_eq!(config.buffer.confirm_after(true), ConfirmAfter::Never);
    assert_eq!(config.source_urn(), "urn:forebay:lab");
}

#[test]
fn environment_overrides_file_and_types_are_not_guessed() {
    let config = read(
        LEAST,
        &[
            ("FOREBAY_SOURCE__PASSWORD", "007"),
            ("FOREBAY_KINESIS__STREAM", "other"),
            ("FOREBAY_CACHE", "/x"),
            ("HOME", "/"),
        ],
    )
    .unwrap();
    assert_eq!(config.source.password.unwrap().expose(), "007");
    assert_eq!(config.kinesis.stream, "other");
}

#[test]
fn first_epoch_leaves_room_for_adoptions() {
    for (epoch, accepted) in [("0", true), ("65000", true), ("65001", false), ("65535", false), ("-1", false)]
    {
        let read = read(LEAST, &[("FOREBAY_SOURCE__EPOCH", epoch)]);
        assert_eq!(read.is_ok(), accepted, "{epoch}");
        assert!(read.err().is_none_or(|errors| errors.to_string().contains("source.epoch")), "{epoch}");
    }
}

#[test]
fn all_errors_are_reported_with_their_keys() {
    let text = "nam = \"x\"\n[source]\nslot = \"Bad Slot\"\ntables = [\"plates\"]\n[kinesis]\nendpoint = \"127.0.0.1\"\nstreem = 1\npack = \"kpl\"\n[buffer]\nmax_size = \"1 MiB\"\nconfirm_after = \"5\"\n[http]\nlisten = \"9187\"\n";
    let error = read(text, &[("FOREBAY_BUFFER__DRI", "/x")]).unwrap_err();
    for key in [
        "nam",
        "name",
        "source.url",
        "source.slot",
        "source.tables",
        "kinesis.endpoint",
        "kinesis.streem",
        "kinesis.pack",
        "kinesis.stream",
        "buffer.dir",
        "buffer.dri",
        "buffer.max_size",
        "buffer.confirm_after",
        "http.listen",
    ] {
        assert!(
            error.0.iter().any(|error| error.primary().starts_with(&format!("{key}: "))),
            "{key} is not in {error}"
        );
    }
}

#[test]
fn printed_configuration_round_trips_without_secrets() {
    let config = read(LEAST, &[("FOREBAY_SOURCE__PASSWORD", "hunter2")]).unwrap();
    let printed = config.to_string();
    assert!(!printed.contains("secret") && !printed.contains("hunter2"), "{printed}");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(read(&printed, &[]).unwrap().to_string(), printed);
}

#[test]
fn volatile_directory_defaults_on_poison_to_stop() {
    assert_eq!(read(LEAST, &[]).unwrap().on_poison, OnPoison::Quarantine);
    let never = [("FOREBAY_BUFFER__CONFIRM_AFTER", "never")];
    assert_eq!(read(LEAST, &never).unwrap().on_poison, OnPoison::Stop);
    let both = [never[0], ("FOREBAY_ON_POISON", "quarantine")];
    assert_eq!(read(LEAST, &both).unwrap().on_poison, OnPoison::Quarantine);
}

#[test]
fn packing_is_off_by_default() {
    assert_eq!(read(LEAST, &[]).unwrap().kinesis.pack, Pack::Off);
    for (word, pack) in [("off", Pack::Off), ("lines", Pack::Lines)] {
        let config = read(LEAST, &[("FOREBAY_KINESIS__PACK", word)]).unwrap();
        assert_eq!(config.kinesis.pack, pack);
        assert_eq!(read(&config.to_string(), &[]).unwrap().kinesis.pack, pack, "as printed");
    }
}

#[test]
fn errors_never_quote_secrets() {
    let broken = "[source]\nurl = \"postgres://u:hunter2@h/d\nslot = 3\n";
    let number = LEAST.replace("[kinesis]", "password = 40961234\n[kinesis]");
    for (text, named) in [(broken, "line 2"), (number.as_str(), "source.password")] {
        let error = read(text, &[]).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("40961234"), "{error}");
    }
}
