//! Reads the locked contracts of another commit, with the user's git.

use std::path::Path;
use std::process::Command;

/// The files below a directory at a commit: their paths in it, and their contents.
///
/// # Errors
/// Git is missing, the directory is in no repository, or the commit is unknown.
pub(super) fn files(directory: &Path, commit: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The commit must not be parsed as an option.
    let known = run_git(
        parent,
        &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{commit}^{{commit}}")],
    )
    .map_err(|error| {
        format!("--against {commit}: {}", if error.is_empty() { "git knows no such commit" } else { &error })
    })?;
    let known = String::from_utf8_lossy(&known).trim().to_owned();
    let listed = run_git(parent, &["ls-tree", "-r", "-z", "--name-only", &known, "--", name])?;
    let mut files = Vec::new();
    for path in listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        let path = String::from_utf8_lossy(path);
        let content = run_git(parent, &["show", &format!("{known}:./{path}")])?;
        let inside = path.strip_prefix(name).and_then(|path| path.strip_prefix('/')).unwrap_or(&path);
        files.push((inside.to_owned(), content));
    }
    Ok(files)
}

fn run_git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
