//! Whatever stands in forebay.toml and in a file of rules: settings or errors, never a panic, and no error without a text.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use forebay::config::Config;
use forebay::rules::Rules;
use libfuzzer_sys::fuzz_target;

const LEAST: &str = "name = \"lab\"\n[source]\nurl = \"postgres://u@h/d\"\n[kinesis]\nstream = \"s\"\nregion = \"eu-central-1\"\n";

fn home() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/forebay-fuzz-config-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    })
}

fuzz_target!(|input: (u8, &str, Vec<(String, String)>)| {
    let (kind, text, environment) = input;
    let home = home();
    if kind % 2 == 0 {
        std::fs::write(home.join("rules.toml"), text).unwrap();
        if let Err(errors) = Rules::load("rules.toml", home) {
            assert!(!errors.to_string().is_empty());
        }
        return;
    }
    let path = home.join("forebay.toml");
    let text = if kind % 4 == 1 { text.to_owned() } else { format!("{LEAST}{text}") };
    std::fs::write(&path, text).unwrap();
    let environment = environment.into_iter().map(|(name, value)| (format!("FOREBAY_{name}"), value));
    if let Err(errors) = Config::read(&path, environment) {
        assert!(!errors.to_string().is_empty());
    }
});
