//! Whatever stands in a locked contract: a contract or an error, never a panic.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use forebay::contracts::lock::Lock;
use libfuzzer_sys::fuzz_target;

fn folder() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/forebay-fuzz-lock-{}", std::process::id()));
        std::fs::create_dir_all(path.join("lab.plates.inserted")).unwrap();
        path
    })
}

fuzz_target!(|data: &[u8]| {
    let file = folder().join("lab.plates.inserted/1.0.json");
    let named = b"{\"x-event\":\"lab.plates.inserted.v1\",\"x-version\":\"1.0\",";
    let text = if data.first() == Some(&b'{') { data.to_vec() } else { [named, data].concat() };
    std::fs::write(file, text).unwrap();
    if let Ok(Some(lock)) = Lock::read(folder()) {
        for locked in &lock.locked {
            locked.minor();
            locked.newest();
            locked.maker();
        }
        lock.addresses("https://schemas.example");
    }
});
