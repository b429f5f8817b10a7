//! Checks the AWS profile files before the SDK reads them. The SDK ignores a file that it cannot read, or
//! does not name it in its error.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::config::aws;
use crate::failure::Problem;
use crate::small_file;

use super::super::network::fits_header;
use super::value;

/// The byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// The text of a profile file; `None` if it does not exist or cannot be opened.
fn profile_text(path: &Path) -> Result<Option<String>, Problem> {
    const FILE_MAX: u64 = 1 << 20;
    let wrong = |error: io::Error| Problem::new(format!("{}: {error}", path.display()));
    match small_file::read_text(path, FILE_MAX) {
        Ok(text) => match misplaced(&text) {
            Some((line, what)) => Err(Problem::new(format!("{}: line {line}: {what}", path.display()))
                .with_hint("Write [default] or [profile name] on a line of its own, and the keys below it.")),
            None if small_file::read(path, FILE_MAX).map_err(wrong)?.starts_with(BYTE_ORDER_MARK) => {
                let fact = format!(
                    "{}: begins with a byte order mark, which the AWS SDK does not read",
                    path.display()
                );
                Err(Problem::new(fact).with_hint("Save it as UTF-8 without one."))
            }
            None => Ok(Some(text)),
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge) => {
            Err(wrong(error))
        }
        Err(_) => Ok(None),
    }
}

/// Number (from 1) and problem of the first line in a profile file that the AWS SDK cannot parse.
fn misplaced(text: &str) -> Option<(usize, &'static str)> {
    let mut is_in_section = false;
    for (at, line) in text.lines().enumerate() {
        let text = line.trim();
        match text.chars().next() {
            None | Some('#' | ';') => {}
            Some('[') if !text.contains(']') => return Some((at + 1, "a section is not closed")),
            Some('[') => is_in_section = true,
            Some(_) if !is_in_section => return Some((at + 1, "a key stands before the first section")),
            Some(_) => {}
        }
    }
    None
}

/// Rejects a profile that the environment selects and no file contains.
fn check_profile(profiles: &Profiles, name: &str) -> Result<(), Problem> {
    if profiles.contains_key(name) {
        return Ok(());
    }
    let slips = |known: &&String| strsim::damerau_levenshtein(known, name);
    let near = profiles.keys().min_by_key(slips).filter(|near| slips(near) <= 2);
    let hint = match near {
        Some(near) => format!("Did you mean {near:?}?"),
        None => "Correct AWS_PROFILE, or name the file with AWS_CONFIG_FILE.".to_owned(),
    };
    Err(Problem::new(format!("AWS_PROFILE: there is no profile {name:?}")).with_hint(hint))
}

/// Checks the selected profile, and keys in the profile files that would sign unchecked when a role is
/// assumed.
pub(super) fn check() -> Result<(), Problem> {
    let home = std::env::home_dir();
    let mut profiles = HashMap::new();
    for (variable, name) in [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")] {
        let default = || home.as_deref().map(|home| home.join(".aws").join(name));
        let Some(path) = std::env::var_os(variable).map(Into::into).or_else(default) else { continue };
        let Some(text) = profile_text(&path)? else { continue };
        check_profiles(&text).map_err(|error| error.at(&path.display().to_string()))?;
        read_profiles(&text, &mut profiles);
    }
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    if value("AWS_ACCESS_KEY_ID").is_some() && value("AWS_SECRET_ACCESS_KEY").is_some() {
        return Ok(());
    }
    let named = value("AWS_PROFILE");
    if let Some(name) = &named {
        check_profile(&profiles, name)?;
    }
    check_login(&profiles, &named.unwrap_or_else(|| "default".to_owned()))
}

/// The properties of each profile, by its name.
type Profiles = HashMap<String, HashMap<String, String>>;

/// Adds the profiles of a file.
fn read_profiles(text: &str, profiles: &mut Profiles) {
    let mut name = None;
    for line in text.lines() {
        if let Some(section) = line.trim_end().strip_prefix('[').and_then(|line| line.split(']').next()) {
            let section = section.trim();
            let profile = section.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t']));
            let profile = profile.unwrap_or(section).trim().to_owned();
            profiles.entry(profile.clone()).or_default();
            name = Some(profile);
        } else if let (Some(name), Some((key, value))) = (&name, line.split_once('='))
            // An indented line belongs to the property above it.
            && !line.starts_with([' ', '\t', '#', ';'])
        {
            let properties = profiles.entry(name.clone()).or_default();
            properties.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}

/// Rejects a profile whose credentials need a person to log in: SSO and `aws login`.
fn check_login(profiles: &Profiles, name: &str) -> Result<(), Problem> {
    /// Longest chain of roles. The SDK rejects longer ones.
    const ROLES_MAX: usize = 8;
    let mut base = name;
    for _ in 0..ROLES_MAX {
        let Some(properties) = profiles.get(base) else { return Ok(()) };
        match properties.get("source_profile") {
            Some(source) if properties.contains_key("role_arn") && source != base => base = source,
            _ => break,
        }
    }
    let Some(properties) = profiles.get(base) else { return Ok(()) };
    let has = |keys: &[&'static str]| keys.iter().copied().find(|key| properties.contains_key(*key));
    let comes_otherwise =
        ["aws_access_key_id", "credential_process", "credential_source", "web_identity_token_file"];
    let login = match (has(&["sso_session", "sso_start_url", "sso_account_id"]), has(&["login_session"])) {
        _ if has(&comes_otherwise).is_some() => return Ok(()),
        (Some(key), _) => format!("IAM Identity Center (SSO, {key})"),
        (None, Some(key)) => format!("`aws login` ({key})"),
        (None, None) => return Ok(()),
    };
    let through = if base == name { String::new() } else { format!(", the source of profile {name:?},") };
    let fact = format!(
        "AWS profile {base:?}{through} takes its credentials from {login}, for which a person must log in"
    );
    Err(Problem::new(fact).with_hint(format!(
        "Use a role, static keys or a credential_process: in another profile, credential_process = aws configure export-credentials \
         --profile {base} --format process"
    )))
}

fn check_profiles(text: &str) -> Result<(), Problem> {
    const SENT: [&str; 5] =
        ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "role_session_name"];
    for (at, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        if SENT.iter().any(|sent| sent.eq_ignore_ascii_case(key)) && !fits_header(value) {
            return Err(format!("line {}: {key} has a character that cannot be sent", at + 1).into());
        }
        value::check(key, value).map_err(|error| error.at(&format!("line {}", at + 1)))?;
        if key.eq_ignore_ascii_case("endpoint_url") {
            aws::endpoint(value).map_err(|error| error.at(&format!("line {}: endpoint_url", at + 1)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_with_values_that_cannot_be_sent_are_refused_by_line() {
        let error = check_profiles("[default]\naws_access_key_id = AKID\u{c4}\n").unwrap_err().lines();
        assert!(error.contains("line 2: aws_access_key_id") && !error.contains("AKID"), "{error}");
        assert!(check_profiles("[x]\n  endpoint_url = localhost\n").unwrap_err().lines().contains("line 2"));
        assert_eq!(check_profiles("[default]\r\nregion = eu-central-1 \r\nname = jürgen\r\n"), Ok(()));
    }

    #[test]
    fn profile_files_that_the_sdk_cannot_read_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, about) in [
            (&b"aws_access_key_id = A\n"[..], "line 1: a key stands before"),
            (b"# keys\n[default\n", "line 2: a section is not closed"),
            (b"\xef\xbb\xbf[default]\n", "byte order mark"),
            (b"[default]\n# f\xfcr\n", "not UTF-8: line 2"),
        ] {
            std::fs::write(file.path(), bytes).unwrap();
            let error = profile_text(file.path()).unwrap_err().lines();
            assert!(error.contains(about) && error.contains(&file.path().display().to_string()), "{error}");
        }
        assert_eq!(profile_text(Path::new("/nowhere")), Ok(None));
        let mut profiles = Profiles::new();
        read_profiles("[profile lab]\n", &mut profiles);
        assert_eq!(check_profile(&profiles, "lab"), Ok(()));
        assert!(check_profile(&profiles, "lap").unwrap_err().lines().contains("Did you mean \"lab\"?"));
    }

    #[test]
    fn profiles_that_need_a_login_are_refused_by_name() {
        let config = "[default]\nregion = eu-central-1\n[profile dev]\nsso_session = corp\nsso_account_id = 1\n\
                      [profile lab]\nrole_arn = arn:x\nsource_profile = dev\n\
                      [profile person]\nlogin_session = arn:y\n\
                      [profile old]\ns3 =\n  sso_start_url = no\nsso_start_url = https://x\naws_access_key_id = A\n\
                      [profile process]\nsso_session = corp\ncredential_process = /bin/keys\n\
                      [sso-session corp]\nsso_start_url = https://x\n";
        let mut profiles = Profiles::new();
        read_profiles(config, &mut profiles);
        for name in ["default", "missing", "old", "process"] {
            assert_eq!(check_login(&profiles, name), Ok(()), "{name}");
        }
        for (name, texts) in [
            ("dev", ["profile \"dev\" takes", "(SSO, sso_session)", "export-credentials --profile dev"]),
            ("lab", ["profile \"dev\", the source of profile \"lab\",", "sso_session", "static keys"]),
            ("person", ["profile \"person\"", "`aws login` (login_session)", "credential_process"]),
        ] {
            let error = check_login(&profiles, name).unwrap_err().lines();
            assert!(texts.iter().all(|text| error.contains(text)), "{error}");
        }
        // The credentials file has the same profile names without the prefix `profile`.
        read_profiles("[dev]\naws_access_key_id = A\naws_secret_access_key = S\n", &mut profiles);
        assert_eq!(check_login(&profiles, "lab"), Ok(()));
    }
}
