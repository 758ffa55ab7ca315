//! The licences of what is linked into the program, with their texts: each crate's own files, as cargo has unpacked them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// For crates that come without a text, and for Rust's standard library.
const APACHE: &str = include_str!("../LICENSE-APACHE");

/// All licences as one text, the same for the same Cargo.lock.
///
/// # Errors
/// If cargo does not say what is linked, or a crate has no licence text.
pub fn text() -> io::Result<String> {
    let mut list = String::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked()? {
        let name = format!("{} {}", word(&package["name"]), word(&package["version"]));
        let licence = word(&package["license"]);
        let _ = writeln!(list, "{name}: {licence}");
        let folder = Path::new(word(&package["manifest_path"])).parent().unwrap_or_else(|| Path::new(""));
        let mut own = licence_files(folder)?.iter().map(fs::read_to_string).collect::<io::Result<Vec<_>>>()?;
        if own.is_empty() {
            own.push(common_text(licence).ok_or_else(|| io::Error::other(format!("{name}: no text of {licence}")))?);
        }
        for text in own {
            texts.entry(tidy(&text)).or_default().insert(name.clone());
        }
    }
    texts.entry(tidy(APACHE)).or_default().insert("Rust's standard library".to_owned());
    let mut all = format!(
        "domstats-exporter is linked with Rust's standard library (MIT OR Apache-2.0) and with these crates:\n\n{list}\n\
         virt and virt-sys are under the LGPL: the public source with its Cargo.lock lets anyone link the program with other \
         versions of them.\n"
    );
    for (text, names) in texts {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let _ = write!(all, "\n{}\n{}\n\n{text}\n", "=".repeat(100), names.join("\n"));
    }
    Ok(all)
}

/// The packages that the program is linked with, by name, as cargo describes them. Procedural macros run while it is compiled, and are
/// no part of it.
fn linked() -> io::Result<Vec<Value>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let done = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version=1", "--filter-platform", &target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    if !done.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    let metadata: Value = serde_json::from_slice(&done.stdout)?;
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        items(list).iter().map(|item| (word(&item["id"]).to_owned(), item.clone())).collect()
    };
    let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let root = word(&metadata["resolve"]["root"]);
    let (mut found, mut ahead) = (BTreeSet::new(), vec![root]);
    while let Some(id) = ahead.pop() {
        let is_macro =
            |package: &Value| items(&package["targets"]).iter().any(|target| target["kind"][0] == "proc-macro");
        if packages.get(id).is_some_and(is_macro) || !found.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).map(|node| items(&node["deps"])).unwrap_or_default().iter();
        let normal = dependencies.filter(|one| items(&one["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()));
        ahead.extend(normal.map(|one| word(&one["pkg"])));
    }
    found.remove(root);
    let mut found: Vec<Value> = found.into_iter().filter_map(|id| packages.get(id).cloned()).collect();
    found.sort_by_key(|package| [&package["name"], &package["version"]].map(|text| word(text).to_owned()));
    Ok(found)
}

/// The licence files of a crate and of what it brings along, such as C sources.
fn licence_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut copying = Vec::new();
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_dir() {
            files.extend(licence_files(&path)?);
        } else if ["LICENSE", "LICENCE", "UNLICENSE", "NOTICE"].iter().any(|start| name.starts_with(start)) {
            files.push(path);
        } else if name.starts_with("COPYING") {
            copying.push(path);
        }
    }
    // Beside another text it points to that one, or is the licence that was not chosen (zstd's GPL).
    if files.iter().all(|file| file.parent() != Some(folder)) {
        files.append(&mut copying);
    }
    Ok(files)
}

/// The text of a licence whose texts do not differ by author.
fn common_text(licence: &str) -> Option<String> {
    match licence {
        "Apache-2.0" => Some(APACHE.to_owned()),
        "LGPL-2.1" => Some("The text is that of the crate virt, below.".to_owned()),
        _ => None,
    }
}

/// Copies of one text differ in spaces at the ends of their lines.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
