//! Writes a new configuration file.

use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file that must not exist.
///
/// # Errors
/// It exists ([`io::ErrorKind::AlreadyExists`]), or cannot be written.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_file_is_left_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forebay.toml");
        write_new(&path, "a").unwrap();
        assert_eq!(write_new(&path, "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a");
    }
}
