//! What `libvirt_exporter_build_info` says: the compiler, and the commit where it is known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DOMSTATS_EXPORTER_REVISION");
    let compiler = std::env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    // `rustc 1.95.0 (59807616e 2026-04-14)`
    let version = compiler.as_deref().and_then(|text| text.split(' ').nth(1)).unwrap_or_default();
    println!("cargo::rustc-env=BUILD_RUST_VERSION={version}");
    println!("cargo::rustc-env=BUILD_REVISION={}", revision().unwrap_or_default());
}

/// The commit of the sources: as the environment says, as git says, or as `cargo package` wrote it into the crate.
fn revision() -> Option<String> {
    if let Ok(given) = std::env::var("DOMSTATS_EXPORTER_REVISION") {
        return Some(given);
    }
    // A development build has none: every commit would compile the crate again.
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return None;
    }
    if !Path::new(".git").exists() {
        let packaged = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
        return packaged.split('"').find(|part| part.len() == 40).map(str::to_owned);
    }
    println!("cargo::rerun-if-changed={}", output("git", &["rev-parse", "--git-path", "logs/HEAD"])?);
    println!("cargo::rerun-if-changed=src");
    output("git", &["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-modified"])
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
