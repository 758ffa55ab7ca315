//! The Debian package and the rpm of the program under test, as `make deb` and `make rpm` build them, but without a release build.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::manual;

/// The packages that this process has built; also, two tests at once would write the same files.
static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Builds the package with this Debian revision, once for each; it stays in the folder for the tests' files.
pub fn build(revision: &str) -> PathBuf {
    build_in(concat!("package-", env!("CARGO_CRATE_NAME")), revision)
}

/// Likewise, in a folder of this name.
pub fn build_in(folder: &str, revision: &str) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let package = folder.join(format!("domstats-exporter-{revision}.deb"));
    if built.contains(&package) {
        return package;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    manual::write_all(&root.join("target/manual")).expect("the manual is written");
    // cargo-deb takes the program from where a release build would put it.
    fs::create_dir_all(folder.join("release")).expect("a folder");
    let program = folder.join("release/domstats-exporter");
    run(
        "objcopy",
        "binutils",
        [
            "--strip-all".as_ref(),
            "--remove-section=.comment".as_ref(),
            env!("CARGO_BIN_EXE_domstats-exporter").as_ref(),
            program.as_os_str(),
        ],
        &folder,
    );
    let arguments = ["deb", "--locked", "--no-build", "--no-dbgsym", "--fast", "--deb-revision", revision, "--output"];
    let arguments = arguments.iter().map(OsStr::new).chain([package.as_os_str()]);
    run("cargo", "cargo-deb (cargo install --locked cargo-deb)", arguments, &folder);
    built.insert(package.clone());
    package
}

/// The rpm with this release, in the folder for the tests' files.
pub fn build_rpm(release: &str) -> PathBuf {
    build_rpm_in(concat!("rpm-", env!("CARGO_CRATE_NAME")), release)
}

/// Likewise, in a folder of this name.
pub fn build_rpm_in(folder: &str, release: &str) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let package = folder.join(format!("domstats-exporter-{version}-{release}.{arch}.rpm"));
    if built.contains(&package) {
        return package;
    }
    manual::write_all(&root.join("target/manual")).expect("the manual is written");
    fs::create_dir_all(&folder).expect("a folder");
    let arguments = [env!("CARGO_BIN_EXE_domstats-exporter").as_ref(), OsStr::new(release), folder.as_os_str()];
    let script = root.join("packaging/rpm/build.sh");
    run(script.to_str().expect("a path"), "rpm and binutils", arguments, &folder);
    built.insert(package.clone());
    package
}

fn run<'a>(program: &str, package: &str, arguments: impl IntoIterator<Item = &'a OsStr>, target: &Path) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target);
    // As in the Makefile, where it is the time of the commit.
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    let done = command.output().unwrap_or_else(|error| panic!("{program}: {error}; install {package}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} failed; is {package} installed? {said}");
}
