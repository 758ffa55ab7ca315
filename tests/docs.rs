//! docs/troubleshooting.md has every message that the program logs as a warning or an error, or prints as one.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::{fs, slice};

const LOGGED_OR_PRINTED: [&str; 3] = ["#[error(", "tracing::warn!(", "tracing::error!("];
/// Messages that are nothing but another one, or made of parts that are listed.
const MADE_OF_OTHERS: [&str; 4] = ["{what}", "{warning}", "{key}: {fault}", "{file}:{place}{message}"];

#[test]
fn every_message_is_in_the_troubleshooting_page() {
    let page = read(&root().join("docs/troubleshooting.md"));
    let messages = sources(&root().join("src")).iter().flat_map(|file| messages(&read(file))).collect::<Vec<_>>();
    assert!(messages.len() > 60, "found {} messages only", messages.len());
    let wanted = messages.iter().filter(|message| !MADE_OF_OTHERS.contains(&message.as_str()));
    let missing: Vec<_> = wanted.filter(|message| !page.contains(message.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:#?}");
}

#[test]
fn every_message_of_the_troubleshooting_page_is_in_the_source() {
    let page = read(&root().join("docs/troubleshooting.md"));
    let source: String = sources(&root().join("src")).iter().map(|file| read(file)).collect();
    let rows = page.split("``").skip(1).step_by(2).map(str::trim);
    // A literal that a line ends in goes on at the next word.
    let plain = |text: &str| text.replace(['\\', '"'], "").split_whitespace().collect::<Vec<_>>().join(" ");
    let known = plain(&source);
    let stale: Vec<&str> = rows.filter(|row| !known.contains(&plain(row))).collect();
    assert!(stale.is_empty(), "in docs/troubleshooting.md alone: {stale:#?}");
}

#[test]
fn every_message_of_libvirt_with_a_remedy_is_in_the_troubleshooting_page() {
    let page = read(&root().join("docs/troubleshooting.md"));
    let source = read(&root().join("src/libvirt/remedy.rs"));
    let table = source.split_once("const REMEDIES").and_then(|(_, rest)| rest.split_once("\n];")).unwrap().0;
    // A row begins with the marks; its remedy is no list.
    let marks: Vec<_> = table.split("&[\"").skip(1).flat_map(|row| literals(&format!("\"{row}"), ']')).collect();
    assert!(marks.len() > 15, "found {} marks only", marks.len());
    let missing: Vec<_> = marks.iter().filter(|mark| !page.contains(mark.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:#?}");
}

/// The message of each error and warning in `source`, without those of its tests.
fn messages(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let calls = LOGGED_OR_PRINTED.iter().flat_map(|start| source.split(start).skip(1));
    calls.filter_map(|call| literals(call, ')').into_iter().next()).collect()
}

/// The string literals of `text` up to the `end` that closes it.
fn literals(text: &str, end: char) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => found.push(literal(&mut characters)),
            '(' | '[' => depth += 1,
            _ if character == end && depth == 0 => break,
            ')' | ']' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// The rest of a literal, with its escapes resolved.
fn literal(characters: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(character) = characters.next().filter(|character| *character != '"') {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            // The line goes on at the next word.
            Some('\n') => {
                let rest = characters.as_str();
                *characters = rest.trim_start().chars();
            }
            Some(escaped) => text.push(escaped),
            None => break,
        }
    }
    text
}

/// The files with code below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { slice::from_ref(&path).to_vec() })
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
        .filter(|path| !path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests")))
        // Only its tests call these.
        .filter(|path| !path.ends_with("src/log.rs"))
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
