//! What `deploy/` has for other programs: it is valid, and names only what exists.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use forebay::config::{Config, ConfirmAfter};

use super::texts::anchors;
use super::{document, quoted, table};
use crate::support::python::Environment;

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

/// kustomize builds both variants, their configurations are accepted, and only one has a volume.
#[test]
fn kubernetes_manifests_build_with_valid_configuration() {
    for (variant, volume) in [("base", true), ("without-volume", false)] {
        let folder = crate::support::repository().join("deploy/kubernetes").join(variant);
        let password = ("FOREBAY_SOURCE__PASSWORD".to_owned(), "x".to_owned());
        let config = Config::read(&folder.join("forebay.toml"), std::iter::once(password)).unwrap();
        assert_eq!(
            config.buffer.confirm_after_written,
            (!volume).then_some(ConfirmAfter::Never),
            "{variant}"
        );
        if !is_here("kubectl") {
            continue;
        }
        let output = Command::new("kubectl").arg("kustomize").arg(&folder).output().unwrap();
        assert_success(&output);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains("volumeClaimTemplates"), volume, "{text}");
        assert_eq!(text.contains("emptyDir"), !volume, "{text}");
        for part in ["replicas: 1", "readOnlyRootFilesystem: true", "path: /health/live", "name: forebay-"] {
            assert!(text.contains(part), "{variant} lacks {part:?}: {text}");
        }
    }
}

/// The files are requests that the AWS SDK accepts, by its own definition of the API.
#[test]
fn ecs_definitions_are_requests_of_the_api() {
    if !Environment::Client.is_here() {
        return;
    }
    let output = Environment::Client.script("tests/it/readme/ecs.py").output().unwrap();
    assert_success(&output);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "3 accepted, 1 refused");
}
