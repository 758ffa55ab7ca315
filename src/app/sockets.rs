//! The sockets that the patterns of targets match now.
//!
//! Looked for by hand: only folders in which the pattern has a `*` are listed, and no watch is kept on folders of others, of which a
//! pod has many. A search of 1,000 pods takes some milliseconds.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::{fs, io};

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

/// A socket in the file system. Another one at its path is that of another daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Socket {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds: a file system may give the number of one that is gone to the next.
    made: (i64, i64),
}

/// What a search has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// By the names of their targets: `PATTERN/NAME`.
    pub(super) targets: BTreeMap<String, Known>,
    /// Of each pattern.
    pub(super) searches: Vec<Search>,
}

/// What a pattern matches now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// The name of the pattern.
    pub name: String,
    /// The path, with `*` in it.
    pub path: String,
    /// How many of the sockets are targets.
    pub targets: usize,
    /// The sockets that have no name, or that of another one.
    pub nameless: Vec<String>,
    /// What could not be looked at, and why.
    pub unreadable: Vec<String>,
}

/// The sockets that match. Of two with one name, the first path counts. Reads directories: not for async threads.
pub(super) fn find(patterns: &[Pattern]) -> Found {
    let mut found = Found::default();
    for pattern in patterns {
        let mut search = Search { name: pattern.name.clone(), path: pattern.path.clone(), ..Search::default() };
        let mut sockets = BTreeMap::new();
        walk(String::new(), &pattern.path, &mut sockets, &mut search.unreadable);
        for (path, socket) in sockets {
            let name = pattern.regex.capture(&path).filter(|name| !name.is_empty());
            let name = name.map(|name| format!("{}/{name}", pattern.name));
            match name.filter(|name| !found.targets.contains_key(name)) {
                Some(name) => {
                    let (uri, profile) = (pattern.uri.with_socket(&path), pattern.profile.clone());
                    found.targets.insert(name, Known { uri, profile, socket: Some(socket) });
                    search.targets += 1;
                }
                None => search.nameless.push(path),
            }
        }
        found.searches.push(search);
    }
    found
}

/// Adds the sockets below `folder` that the `rest` of the pattern matches. A folder is listed only where the pattern has a `*`
/// for its entries: what is beside it is never looked at.
fn walk(folder: String, rest: &str, sockets: &mut BTreeMap<String, Socket>, unreadable: &mut Vec<String>) {
    let rest = rest.trim_start_matches('/');
    let (part, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let mut go_on = |name: &str| {
        let path = format!("{folder}/{name}");
        if !rest.is_empty() {
            return walk(path, rest, sockets, unreadable);
        }
        match socket(&path) {
            Ok(Some(socket)) if sockets.len() < MOST => _ = sockets.insert(path, socket),
            Ok(_) => {}
            Err(error) => unreadable.extend(fault(&path, &error)),
        }
    };
    if !part.contains('*') {
        return go_on(part);
    }
    let shown = if folder.is_empty() { "/" } else { folder.as_str() };
    let entries = match fs::read_dir(shown) {
        Ok(entries) => entries,
        Err(error) => return unreadable.extend(fault(shown, &error)),
    };
    for entry in entries.flatten() {
        // A name that is not UTF-8 could not be the value of a label.
        if let Some(name) = entry.file_name().to_str().filter(|name| matches(part, name)) {
            go_on(name);
        }
    }
}

fn socket(path: &str) -> io::Result<Option<Socket>> {
    let metadata = fs::metadata(path)?;
    let made = (metadata.mtime(), metadata.mtime_nsec());
    let socket = Socket { device: metadata.dev(), inode: metadata.ino(), made };
    Ok(Some(socket).filter(|_| metadata.file_type().is_socket()))
}

/// That something is not there, or is no folder, is no fault: the pattern does not match it.
fn fault(path: &str, error: &io::Error) -> Option<String> {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind());
    (!absent).then(|| format!("{path}: {error}"))
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
        let find = |pattern: &Pattern| super::find(std::slice::from_ref(pattern));
        let found = find(&pattern);
        assert_eq!(found.targets.keys().collect::<Vec<_>>(), ["pods/a", "pods/b", "pods/c"]);
        let uri = &found.targets["pods/c"].uri;
        assert_eq!(uri.as_str(), format!("qemu+unix:///session?socket={root}/pod%20c/run/sock"));
        drop(listeners);
        fs::remove_file(format!("{root}/pod-a/run/sock")).expect("removed");
        let fewer = find(&pattern);
        assert_eq!(fewer.targets.keys().collect::<Vec<_>>(), ["pods/b", "pods/c"], "one is gone");
        assert_eq!(fewer, find(&pattern), "nothing changes by looking");
        fs::remove_file(format!("{root}/pod-b/run/sock")).expect("removed");
        let _other = UnixListener::bind(format!("{root}/pod-b/run/sock")).expect("bound");
        assert_ne!(fewer, find(&pattern), "another socket at the same path");
        // Two have one name, and one has none.
        let regex = format!("{root}/p(od)[- ][bc]/.*").parse().expect("an expression");
        let found = find(&Pattern { regex, path: format!("{root}/*/run/sock"), ..pattern.clone() });
        assert_eq!(found.targets.keys().collect::<Vec<_>>(), ["pods/od"]);
        let search = &found.searches[0];
        let nameless = ["other", "pod-b"].map(|name| format!("{root}/{name}/run/sock"));
        assert_eq!((search.targets, &search.nameless[..], &search.unreadable[..]), (1, &nameless[..], &[][..]));
        std::os::unix::fs::symlink("loop", format!("{root}/loop")).expect("linked");
        let found = find(&Pattern { path: format!("{root}/loop/*/sock"), ..pattern });
        assert!(found.searches[0].unreadable[0].starts_with(&format!("{root}/loop: ")), "{found:?}");
    }
}
