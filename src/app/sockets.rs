//! The sockets that the patterns of targets match now.
//!
//! Looked for by hand: only folders in which the pattern has a `*` are listed, and no watch is kept on folders of others, of which a
//! pod has many. A search of 1,000 pods takes some milliseconds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::app::targets::Known;
use crate::config::{CapturingRegex, Uri};

/// More than one host has; a pattern yields no more.
const MOST: usize = 10_000;

/// A target whose URI has a `*` in the path of its socket.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// The target's name, in front of those of the sockets.
    pub(super) name: String,
    /// The path, with `*` in it.
    pub(super) path: String,
    /// Takes the name of a socket from its path.
    pub(super) regex: CapturingRegex,
    pub(super) uri: Uri,
    pub(super) profile: String,
}

/// The sockets that match, by the names of their targets: `PATTERN/NAME`. Of two with one name, the first path counts. Folders
/// that cannot be read have none. Reads directories: not for async threads.
pub(super) fn find(patterns: &[Pattern]) -> BTreeMap<String, Known> {
    let mut found = BTreeMap::new();
    for pattern in patterns {
        let mut paths = Vec::new();
        walk(String::new(), &pattern.path, &mut paths);
        paths.sort();
        for path in paths {
            if let Some(name) = pattern.regex.capture(&path).filter(|name| !name.is_empty()) {
                let known = || Known { uri: pattern.uri.with_socket(&path), profile: pattern.profile.clone() };
                found.entry(format!("{}/{name}", pattern.name)).or_insert_with(known);
            }
        }
    }
    found
}

/// Adds the sockets below `folder` that the `rest` of the pattern matches. A folder is listed only where the pattern has a `*`
/// for its entries: what is beside it is never looked at.
fn walk(folder: String, rest: &str, paths: &mut Vec<String>) {
    let rest = rest.trim_start_matches('/');
    let (part, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let mut go_on = |name: &str| {
        let path = format!("{folder}/{name}");
        if !rest.is_empty() {
            walk(path, rest, paths);
        } else if paths.len() < MOST && is_socket(Path::new(&path)) {
            paths.push(path);
        }
    };
    if !part.contains('*') {
        return go_on(part);
    }
    let shown = if folder.is_empty() { "/" } else { folder.as_str() };
    for entry in fs::read_dir(shown).into_iter().flatten().flatten() {
        // A name that is not UTF-8 could not be the value of a label.
        if let Some(name) = entry.file_name().to_str().filter(|name| matches(part, name)) {
            go_on(name);
        }
    }
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Whether a name is as the pattern, in which `*` is any text. A name that begins with a dot is hidden from a `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(front).filter(|_| !front.is_empty() || !name.starts_with('.')) else {
        return false;
    };
    // The shortest match of each part leaves the most for the others.
    let mut left = name;
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_star_is_any_part_of_a_name() {
        for (pattern, name) in
            [("*", "a"), ("a*", "a"), ("a*c", "abc"), ("*b*", "abc"), ("a*b*c*", "axbxcx"), ("a", "a"), (".*", ".a")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*", ".a"), ("a*", "b"), ("a*a", "a"), ("a*b*c", "acb"), ("a", "ab"), ("*bc*c", "abc")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn sockets_are_found_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().display().to_string();
        let mut listeners = Vec::new();
        for name in ["pod-a", "pod-b", "other", "pod c"] {
            fs::create_dir_all(format!("{root}/{name}/run")).expect("made");
            listeners.push(UnixListener::bind(format!("{root}/{name}/run/sock")).expect("bound"));
        }
        fs::create_dir_all(format!("{root}/pod-d/run")).expect("made");
        fs::write(format!("{root}/pod-d/run/sock"), "no socket").expect("written");
        let pattern = Pattern {
            name: "pods".to_owned(),
            path: format!("{root}/pod*/run/sock"),
            regex: format!("{root}/pod[- ]([^/]+)/.*").parse().expect("an expression"),
            uri: format!("qemu+unix:///session?socket={root}/pod*/run/sock").parse().expect("a URI"),
            profile: "default".to_owned(),
        };
        let found = find(std::slice::from_ref(&pattern));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["pods/a", "pods/b", "pods/c"]);
        assert_eq!(found["pods/c"].uri.as_str(), format!("qemu+unix:///session?socket={root}/pod%20c/run/sock"));
        drop(listeners);
        fs::remove_file(format!("{root}/pod-a/run/sock")).expect("removed");
        assert_eq!(find(&[pattern]).keys().collect::<Vec<_>>(), ["pods/b", "pods/c"], "one is gone");
    }
}
