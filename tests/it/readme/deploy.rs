//! What `deploy/` has for other programs: it is valid, and names only what exists.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use super::texts::anchors;
use super::{document, quoted, table};

/// Whether a program is on this machine; where it is not, only what needs no program is checked.
fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[track_caller]
fn assert_success(output: &Output) {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Words of a text that are metrics of Forebay.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("forebay_")).map(str::to_owned).collect()
}

fn documented_metrics() -> BTreeSet<String> {
    let rows = table(&document("docs/METRICS.md"), "metric");
    rows.iter().flat_map(|row| quoted(&row[0]).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn alert_rules_name_metrics_and_runbook_sections() {
    let rules = document("deploy/prometheus/forebay.rules.yml");
    let expressions: String = rules.lines().filter(|line| line.trim_start().starts_with("expr:")).collect();
    let (used, documented) = (metrics_in(&expressions), documented_metrics());
    assert!(used.len() > 15 && used.is_subset(&documented), "{:?}", used.difference(&documented));
    let sections = anchors(&document("docs/OPERATIONS.md"));
    let links: Vec<_> = rules.lines().filter_map(|line| line.split_once("docs/OPERATIONS.md#")).collect();
    assert_eq!(links.len(), rules.matches("- alert:").count());
    for (_, section) in links {
        assert!(sections.contains(section), "no section {section}");
    }
    if is_here("promtool") {
        let file = crate::support::repository().join("deploy/prometheus/forebay.rules.yml");
        assert_success(&Command::new("promtool").args(["check", "rules"]).arg(file).output().unwrap());
    }
}

#[test]
fn dashboard_is_json_and_names_metrics() {
    let text = document("deploy/grafana/forebay.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let (used, documented) = (metrics_in(&text), documented_metrics());
    assert!(used.len() > 15 && used.is_subset(&documented), "{:?}", used.difference(&documented));
}

/// systemd takes the unit as it is, but for the place of the program and its user.
#[test]
fn systemd_unit_is_valid_and_hardened() {
    let unit = document("deploy/systemd/forebay.service");
    assert!(unit.contains("Type=notify") && unit.contains("NoNewPrivileges=yes"));
    if !is_here("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forebay.service");
    let here = unit
        .replace("/usr/local/bin/forebay", env!("CARGO_BIN_EXE_forebay"))
        .replace("User=forebay", "User=root")
        .replace("Group=forebay", "Group=root");
    std::fs::write(&file, here).unwrap();
    assert_success(&Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap());
    let security = ["security", "--offline=true", "--threshold=20"];
    assert_success(&Command::new("systemd-analyze").args(security).arg(&file).output().unwrap());
}

/// For every shell that is here, the script is one; and there is a page for every subcommand.
#[test]
fn completions_and_manual_pages_are_valid() {
    let forebay = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(arguments).output().unwrap();
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = forebay(&["completions", shell]);
        assert!(script.contains("dlq") && script.contains("recreate-slot"), "{shell}: {script}");
        if ["bash", "zsh", "fish"].contains(&shell) && is_here(shell) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("completions");
            std::fs::write(&file, &script).unwrap();
            assert_success(&Command::new(shell).arg("-n").arg(&file).output().unwrap());
        }
    }
    let page = forebay(&["man"]);
    assert!(page.contains(".TH forebay 1"), "{page}");
    let page = forebay(&["man", "dlq", "retry"]);
    assert!(page.contains(".TH forebay-dlq-retry 1"), "{page}");
    let missing = Command::new(env!("CARGO_BIN_EXE_forebay")).args(["man", "nothing"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
}
