//! Whatever the address and the password file: settings or an error that does not show the password.

#![no_main]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use forebay::source::postgres::conninfo::Settings;
use forebay::source::postgres::passfile;
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "hunter-2-hunter-2";

fn file() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/forebay-fuzz-passfile-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    })
}

fuzz_target!(|input: (u8, &str, &str, &[u8])| {
    let (kind, before, after, passfile) = input;
    let url = match kind % 4 {
        0 => before.to_owned(),
        1 => format!("postgres://{before}:{PASSWORD}@{after}"),
        2 => format!("postgres://{before}?password={PASSWORD}&{after}"),
        _ => format!("postgres://u:{PASSWORD}{before}@h/{after}"),
    };
    let shown = match Settings::from_url(&url) {
        Ok(settings) => {
            std::fs::write(file(), passfile).unwrap();
            drop(passfile::find(&settings, file()));
            format!("{settings:?} {}", settings.target())
        }
        Err(error) => format!("{error} {error:?}"),
    };
    // Where the fuzzer has written it anywhere else, it is not a password.
    if !before.contains(PASSWORD) && !after.contains(PASSWORD) {
        assert!(!shown.contains(PASSWORD), "{url}: {shown}");
    }
});
