//! libpq's password file with lines of `host:port:database:user:password`. The first matching line counts.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Problem;

use super::conninfo::{Host, Password, Settings, SettingsError};

/// Default socket directories of PostgreSQL. The password file calls them `localhost`, as in libpq.
const DEFAULT_SOCKET_DIRECTORIES: [&str; 2] = ["/tmp", "/var/run/postgresql"];
/// Largest part of a password file that is read, in bytes.
const SIZE_MAX: u64 = 1 << 20;

impl Settings {
    /// Sets the password, unless it is set already. It is read from `path`, or otherwise from the URL's
    /// `passfile`, `$PGPASSFILE` or `~/.pgpass`.
    ///
    /// # Errors
    /// `path` or `passfile` cannot be used. Problems with the other two matter only if the server requests a
    /// password.
    pub fn with_passfile(mut self, path: Option<&Path>) -> Result<Self, SettingsError> {
        if self.password.is_some() {
            return Ok(self);
        }
        match path.or(self.passfile.as_deref()) {
            Some(path) => self.password = find(&self, path)?,
            None => match find_default(&self) {
                Ok(password) => self.password = password,
                Err(problem) => self.passfile_problem = Some(Problem::of(&problem).to_string()),
            },
        }
        Ok(self)
    }
}

/// The password for these settings from an explicitly configured file.
///
/// # Errors
/// The file does not exist, is readable by others, or cannot be read.
pub fn find(settings: &Settings, path: &Path) -> Result<Option<Password>, SettingsError> {
    match read_private(path) {
        Ok(text) => Ok(look_up(&text, settings)),
        Err(problem) => {
            let problem = problem.unwrap_or_else(|| "the password file does not exist".into());
            Err(SettingsError::File { path: path.to_owned(), problem })
        }
    }
}

/// The password for these settings from `$PGPASSFILE`, or otherwise `~/.pgpass`, which need not exist.
///
/// # Errors
/// The same as those of [`find`].
pub fn find_default(settings: &Settings) -> Result<Option<Password>, SettingsError> {
    if let Some(path) = env_path("PGPASSFILE") {
        return find(settings, &path);
    }
    let Some(path) = env_path("HOME").map(|home| home.join(".pgpass")) else { return Ok(None) };
    match find(settings, &path) {
        Err(_) if !path.exists() => Ok(None),
        found => found,
    }
}

fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Reads a file that only its owner can read. `Err(None)`: it does not exist.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, Option<Problem>> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => None,
        _ => Some(format!("cannot be read: {error}").into()),
    };
    // Opening a pipe would wait for a writer.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(Some("is not a plain file".into()));
    }
    // Like libpq: 0600, or 0640 if root owns the file.
    let forbidden = if facts.uid() == 0 { 0o037 } else { 0o077 };
    if facts.mode() & forbidden != 0 {
        let problem = Problem::new(format!("can be read by others (mode {:04o})", facts.mode() & 0o7777));
        return Err(Some(problem.with_hint(format!("Run `chmod 0600 {}`.", path.display()))));
    }
    let mut text = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn look_up(text: &[u8], settings: &Settings) -> Option<Password> {
    let host = match &settings.host {
        Host::Tcp(host) => host.clone(),
        Host::Socket(path) if DEFAULT_SOCKET_DIRECTORIES.iter().any(|usual| path == Path::new(usual)) => {
            "localhost".to_owned()
        }
        Host::Socket(path) => path.display().to_string(),
    };
    let port = settings.port.to_string();
    let wanted = [host.as_bytes(), port.as_bytes(), settings.database.as_bytes(), settings.user.as_bytes()];
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") {
            return None;
        }
        let mut rest = line;
        for value in wanted {
            let (field, after) = field(rest)?;
            if field.raw != b"*" && field.unescaped != value {
                return None;
            }
            rest = after?;
        }
        let password = unescape_password(rest);
        (!password.is_empty()).then(|| Password::new(password))
    })
}

struct Field<'a> {
    raw: &'a [u8],
    unescaped: Vec<u8>,
}

/// The field up to the next unescaped colon, and the text after the colon.
fn field(text: &[u8]) -> Option<(Field<'_>, Option<&[u8]>)> {
    let mut unescaped = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b':' => return Some((Field { raw: text.get(..at)?, unescaped }, text.get(at + 1..))),
            b'\\' => unescaped.push(bytes.next().map_or(b'\\', |(_, &escaped)| escaped)),
            _ => unescaped.push(byte),
        }
    }
    Some((Field { raw: text, unescaped }, None))
}

/// The password ends at the next unescaped colon or at the end of the line, as in libpq.
fn unescape_password(text: &[u8]) -> Vec<u8> {
    field(text).map(|(field, _)| field.unescaped).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::failure::Explain as _;

    fn settings(url: &str) -> Settings {
        url.parse().unwrap()
    }

    #[test]
    fn first_matching_line_gives_password() {
        let file = b"# db:5432:lab:u:comment\n\
            other:*:*:*:no\n\
            db:5432:lab:u:exact\n\
            db:*:*:u:wild\n\
            a\\:b:*:*:u\\\\v:p\\:q\\\\r\r\n\
            localhost:5432:*:u:local\n\
            /run/x:5432:*:u:sock\n\
            \\*:*:*:u:literal star\n\
            short:line\n\
            *:*:*:last:end";
        let cases = [
            ("postgres://u@db/lab", Some("exact")),
            ("postgres://u@db/else", Some("wild")),
            ("postgres://u@db:1/lab", Some("wild")),
            ("postgres://u%5Cv@a%3Ab/lab", Some("p:q\\r")),
            ("postgres://u@/lab?host=/tmp", Some("local")),
            ("postgres://u@/lab?host=/var/run/postgresql", Some("local")),
            ("postgres://u@/lab?host=/run/x", Some("sock")),
            ("postgres://u@short/lab", None),
            ("postgres://last@anywhere:99/lab", Some("end")),
            ("postgres://nobody@db/lab", None),
        ];
        for (url, password) in cases {
            assert_eq!(look_up(file, &settings(url)), password.map(Password::new), "{url}");
        }
    }

    #[test]
    fn passfile_readable_by_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret").unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o604, false), (0o644, false), (0o660, false)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = find(&settings("postgres://u@h/d"), &path);
            assert_eq!(found.is_ok(), accepted, "{mode:o}");
            if let Err(error) = found {
                assert!(error.hint().is_some_and(|hint| hint.contains("chmod 0600")), "{error}");
            }
        }
    }

    #[test]
    fn named_passfile_must_exist() {
        let error = find(&settings("postgres://u@h/d"), Path::new("/nonexistent/pgpass")).unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
