//! The Debian package, and the rpm on Debian, under real systemd, with a real libvirtd: each script of `tests/systemd` in its own container.
//!
//! Where no container can be booted, each test says so by its name and why, and is passed over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code, unreachable_pub)]

#[path = "../packaging/manual.rs"]
mod manual;
#[path = "support/package.rs"]
mod package;

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn boot(test: &str) {
    boot_with(test, || [(package::build("1"), "/root/old.deb"), (package::build("2"), "/root/new.deb")]);
}

/// Boots with these packages, which are built only where a container can be booted.
fn boot_with(test: &str, packages: impl FnOnce() -> [(PathBuf, &'static str); 2]) {
    let program = root().join("tests/lab/boot.sh");
    let check = Command::new(&program).arg("--check").output().expect("boot.sh runs");
    if !check.status.success() {
        eprintln!("SKIPPED systemd::{test}: {}", String::from_utf8_lossy(&check.stdout).trim());
        return;
    }
    let at = |file: PathBuf, path: &str| format!("{}={path}", file.display());
    let done = Command::new(&program)
        .arg(root().join(format!("tests/systemd/{test}.sh")))
        .arg(at(root().join("tests/systemd/lib.sh"), "/root/lib.sh"))
        .args(packages().map(|(file, path)| at(file, path)))
        .output()
        .expect("boot.sh runs");
    let (said, failed) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    eprintln!("{said}{failed}");
    assert!(done.status.success(), "{test}.sh failed; its output is above");
}

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    boot("package");
}

#[test]
fn the_rpm_is_installed_upgraded_and_erased() {
    boot_with("rpm", || [(package::build_rpm("1"), "/root/old.rpm"), (package::build_rpm("2"), "/root/new.rpm")]);
}

#[test]
fn the_service_is_watched_reloaded_and_outlives_libvirtd() {
    boot("service");
}

#[test]
fn a_socket_that_systemd_owns_starts_the_service_and_outlives_it() {
    boot("socket");
}

#[test]
fn each_way_to_libvirt_works_or_is_refused_as_documented() {
    boot("access");
}
