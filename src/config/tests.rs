//! Errors in configurations and their messages.

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

/// Values with surrounding whitespace, as a shell or a secret store may add it, are refused. An empty
/// variable does not clear a list.
#[test]
fn values_with_invisible_parts_are_refused() {
    let text = format!("{LEAST}[pii]\ncolumns = [\"lab.users.email\"]\n");
    for (variable, value, about) in [
        ("FOREBAY_PII__COLUMNS", "", "pii.columns: is empty (FOREBAY_PII__COLUMNS)"),
        ("FOREBAY_TABLES__DROP", " ", "tables.drop: is empty"),
        ("FOREBAY_EVENTS__LOCK", "events.lock ", "events.lock: is not a valid path"),
        ("FOREBAY_EVENTS__LOCK", "   ", "events.lock: is not a valid path"),
        ("FOREBAY_EVENTS__RULES", "events/*.toml\n", "events.rules: is not a valid path"),
        ("FOREBAY_SOURCE__PASSWORD", "sekret\n", "source.password: ends with a line break"),
        (
            "FOREBAY_PII__HMAC_KEY",
            "0123456789abcdef0123456789abcdef\n",
            "pii.hmac_key: the key (not shown) begins or ends",
        ),
        ("FOREBAY_BUFFER__CONFIRM_AFTER", "100000d", "buffer.confirm_after: \"100000d\" is longer than 1d"),
        ("FOREBAY___STREAM", "x", "environment variable FOREBAY___STREAM names no key"),
        ("FOREBAY_KINESIS__", "x", "environment variable FOREBAY_KINESIS__ names no key"),
        ("forebay_kinesis__stream", "x", "Write two underscores after the section: FOREBAY_KINESIS__STREAM"),
        ("FOREBAY__NAME", "x", "Write FOREBAY_NAME"),
    ] {
        let error = read(&text, &[(variable, value)]).unwrap_err().to_string();
        assert!(error.contains(about) && !error.contains("sekret"), "{variable}={value:?}: {error}");
    }
}

#[test]
fn variable_that_is_not_utf_8_is_named() {
    use std::os::unix::ffi::OsStringExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), LEAST).unwrap();
    let value = OsString::from_vec(b"sekret\xff".to_vec());
    let environment = [("FOREBAY_SOURCE__PASSWORD".into(), value.clone()), ("OTHER".into(), value)];
    let errors =
        Config::read_checked(file.path(), |_| Ok(()), environment.into_iter()).unwrap_err().to_string();
    assert!(errors.contains("source.password: environment variable FOREBAY_SOURCE__PASSWORD is not UTF-8"));
    assert!(!errors.contains("sekret") && errors.contains("1 error:"), "{errors}");
}

#[test]
fn section_in_another_form_is_named() {
    for (text, about) in [
        ("[kinsis]\n", "kinsis: unknown section\n    hint: Did you mean [kinesis]?"),
        ("[[tables]]\ndrop = []\n", "tables: is a section, not a key\n    hint: Write [tables]"),
        ("[tables.drop]\n", "tables.drop: expected an array"),
        ("[http]\nlisten = 2020-01-01\n", "http.listen: expected a string in quotes, found a date"),
        ("[log]\nfilter = 12345\n", "log.filter: expected a string in quotes, found a number"),
    ] {
        let error = read(&format!("{LEAST}{text}"), &[]).unwrap_err().to_string();
        assert!(error.contains(about) && !error.contains("12345"), "{text}: {error}");
    }
    read(&format!("{LEAST}[tables]\n[pii]\n[source.cursors]\n"), &[]).unwrap();
}

#[test]
fn list_in_a_variable_is_json_or_has_commas() {
    for (value, expected) in [
        ("lab.a, lab.b,", &["lab.a", "lab.b"][..]),
        ("lab.\"a,b\"", &["lab.\"a,b\""]),
        (r#"["lab.a", "lab.\"a,b\""]"#, &["lab.a", "lab.\"a,b\""]),
    ] {
        assert_eq!(read(LEAST, &[("FOREBAY_TABLES__INCLUDE", value)]).unwrap().tables.include, expected);
    }
}

#[test]
fn invisible_characters_are_printed_as_toml() {
    let text = format!("{LEAST}[pii]\nhmac_key_file = \"/a\\u202eb\"\n");
    let printed = read(&text, &[]).unwrap().to_string();
    assert!(printed.contains("hmac_key_file = \"/a\\U0000202Eb\""), "{printed}");
    assert_eq!(read(&printed, &[]).unwrap().to_string(), printed);
}

#[test]
fn file_without_an_end_or_in_another_encoding_is_refused() {
    let read = |path: &Path| Config::read(path, std::iter::empty()).map_err(|errors| errors.to_string());
    assert!(read(Path::new("/dev/zero")).unwrap_err().contains("the limit is 1048576 bytes"));
    assert!(read(Path::new("/nowhere")).unwrap_err().contains("--config"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), LEAST.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
    assert!(read(file.path()).unwrap_err().contains("not valid TOML"), "UTF-16 without a mark has NUL bytes");
    std::fs::write(
        file.path(),
        LEAST.replace("lab", "l\u{e4}b").chars().map(|c| c as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    assert!(read(file.path()).unwrap_err().contains("is not UTF-8: line 2"));
}

#[test]
fn lag_and_heartbeat_have_bounds_and_can_be_off() {
    let parsed = |key: &str, value: &str| read(LEAST, &[(key, value)]);
    let config = read(LEAST, &[]).unwrap();
    assert_eq!((config.max_lag, config.source.heartbeat), (Some(Duration::from_mins(5)), None));
    assert_eq!(parsed("FOREBAY_MAX_LAG", "off").unwrap().max_lag, None);
    let beats = parsed("FOREBAY_SOURCE__HEARTBEAT", "10s").unwrap();
    assert_eq!(beats.source.heartbeat, Some(Duration::from_secs(10)));
    for (key, value, expected) in [
        ("FOREBAY_MAX_LAG", "500ms", "outside the range 1s to 30d"),
        ("FOREBAY_MAX_LAG", "never", "neither a duration nor \"off\""),
        ("FOREBAY_SOURCE__HEARTBEAT", "2h", "outside the range 1s to 1h"),
    ] {
        let error = parsed(key, value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = read(LEAST, &[("FOREBAY_MAX_LAG", "off"), ("FOREBAY_EVENTS__LAG", "true")]).unwrap_err();
    assert!(error.to_string().contains("events.lag"), "{error}");
}
