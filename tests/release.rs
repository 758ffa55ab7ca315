//! Version and names of a release are the same everywhere, and the workflows only call scripts that can be run here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn workflows() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(".github/workflows")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_version_is_that_of_the_program() {
    let chart: Value = serde_yaml::from_str(&file("packaging/helm/domstats-exporter/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], VERSION);
    assert_eq!(chart["appVersion"], VERSION);
    let base: Value = serde_yaml::from_str(&file("packaging/kustomize/base/kustomization.yaml")).unwrap();
    assert_eq!(base["images"][0]["newTag"], VERSION);
    assert_eq!(base["labels"][0]["pairs"]["app.kubernetes.io/version"], VERSION);
    let debian = file("debian/changelog");
    assert!(debian.starts_with(&format!("domstats-exporter ({VERSION}-1) ")), "{debian}");
    let named = regex::Regex::new(r"domstats-exporter[-_:](\d+\.\d+\.\d+)").unwrap();
    for page in ["docs/installation.md", "docs/containers.md", "packaging/ansible/domstats_exporter/README.md"] {
        let text = file(page);
        let versions: Vec<&str> = named.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
        assert!(!versions.is_empty() && versions.iter().all(|found| *found == VERSION), "{page}: {versions:?}");
    }
    let dated = regex::Regex::new(&format!(r"(?m)^## \[{}\] - \d{{4}}-\d\d-\d\d$", regex::escape(VERSION))).unwrap();
    assert!(dated.is_match(&file("CHANGELOG.md")), "CHANGELOG.md has no dated section of {VERSION}");
}

/// A step is a script of the repository, or an action that checks out, moves files or attests.
#[test]
fn workflows_call_scripts_of_the_repository() {
    for path in workflows() {
        let workflow: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for (job, steps) in workflow["jobs"].as_mapping().unwrap().iter().map(|(name, job)| (name, &job["steps"])) {
            for step in steps.as_sequence().unwrap() {
                let Some(run) = step["run"].as_str() else {
                    assert!(step["uses"].as_str().unwrap().starts_with("actions/"), "{job:?}: {step:?}");
                    continue;
                };
                let mut scripts = run.split_whitespace().filter(|word| word.ends_with(".sh")).peekable();
                assert!(scripts.peek().is_some() && !run.contains('\n'), "{job:?}: {run}");
                for script in scripts {
                    assert!(root().join(script).is_file(), "{job:?}: {script}");
                }
                // What it makes is a target of the Makefile.
                let makefile = file("Makefile");
                for target in run.split_once(" make ").map_or("", |(_, targets)| targets).split_whitespace() {
                    assert!(makefile.contains(&format!("\n{target}:")), "{job:?}: make {target}");
                }
            }
        }
    }
}

#[test]
fn actionlint_finds_no_fault_in_the_workflows() {
    let tool = Command::new(root().join("tests/lab/gotool.sh")).arg("actionlint").output().unwrap();
    let said = String::from_utf8_lossy(&tool.stderr);
    if tool.status.code() == Some(3) {
        eprintln!("SKIPPED release::actionlint_finds_no_fault_in_the_workflows: {}", said.trim());
        return;
    }
    assert!(tool.status.success(), "{said}");
    let done = Command::new(String::from_utf8(tool.stdout).unwrap().trim()).args(workflows()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// Names of images are arguments; a host that has them is for each user to choose.
#[test]
fn nothing_that_is_shipped_names_a_registry() {
    for (path, text) in texts(&["packaging", "release", "docs", "examples", ".github"]) {
        for host in ["docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io"] {
            assert!(!text.contains(host), "{}: {host}", path.display());
        }
    }
}

#[test]
fn each_make_that_a_text_names_is_a_target() {
    let places = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "Cargo.toml", "RELEASING.md"];
    let folders = ["packaging", "release", "docs", "benches", "dashboards", "fuzz", ".github"];
    let (named, makefile) = (regex::Regex::new(r"(?:`|\$ )make ([a-z][a-z-]*)").unwrap(), file("Makefile"));
    let mut found = 0;
    for (path, text) in texts(&places).into_iter().chain(texts(&folders)) {
        for target in named.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", path.display());
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}

/// The texts at these places, folders with all that is in them.
fn texts(places: &[&str]) -> Vec<(PathBuf, String)> {
    let mut ahead: Vec<PathBuf> = places.iter().map(|name| root().join(name)).collect();
    let mut texts = Vec::new();
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            texts.push((path, text));
        }
    }
    texts
}
