//! The modules of the crate and what each names of the others, read from the syntax: imports, paths in expressions, types and
//! macros. Files are found by following `mod`, from `src/lib.rs` on; what is compiled only for tests is omitted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path that begins at the root of the crate, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Its segments after `crate`.
    pub(crate) path: Vec<String>,
    /// The file and the line.
    pub(crate) place: String,
}

/// What each module mentions; inline modules count as the module of their file.
pub(crate) type ModuleGraph = BTreeMap<Vec<String>, Vec<Mention>>;

/// Reads the crate whose root is the file `root`.
pub(crate) fn read(root: &Path) -> ModuleGraph {
    let mut graph = ModuleGraph::new();
    let mut pending = vec![(root.to_owned(), Vec::new())];
    while let Some((file, module)) = pending.pop() {
        let text = fs::read_to_string(&file).expect("a source file");
        let found = mentions(&text, &module);
        let folder = match module.last() {
            Some(name) if !file.ends_with("mod.rs") => file.with_file_name(name),
            _ => file.parent().expect("a folder").to_owned(),
        };
        for child in found.modules {
            let inner = folder.join(&child).join("mod.rs");
            let file = if inner.exists() { inner } else { folder.join(format!("{child}.rs")) };
            let path = module.iter().cloned().chain([child]).collect();
            pending.push((file, path));
        }
        let name = |(path, line): (Vec<String>, usize)| Mention { path, place: format!("{}:{line}", short(&file)) };
        graph.insert(module, found.paths.into_iter().map(name).collect());
    }
    graph
}

/// The path from `src` on.
fn short(file: &Path) -> String {
    let parts: Vec<_> = file.iter().collect();
    let src = parts.iter().rposition(|part| *part == "src").unwrap_or_default();
    parts[src..].iter().collect::<PathBuf>().display().to_string()
}

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// The modules that are separate files.
    modules: Vec<String>,
    /// Paths from the root of the crate, with their lines.
    paths: Vec<(Vec<String>, usize)>,
}

fn mentions(text: &str, module: &[String]) -> Found {
    let mut found = Found::default();
    walk(TokenStream::from_str(text).expect("Rust"), module, &mut found);
    found
}

fn walk(tokens: TokenStream, module: &[String], found: &mut Found) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        at += match rest {
            [hash, TokenTree::Group(attribute), ..] if is_punct(hash, '#') && is_for_tests(attribute) => {
                2 + item_length(&rest[2..])
            }
            [word, TokenTree::Ident(name), end, ..] if is_word(word, "mod") => {
                match end {
                    TokenTree::Group(body) => {
                        let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
                        walk(body.stream(), &inner, found);
                    }
                    _ => found.modules.push(name.to_string()),
                }
                3
            }
            [TokenTree::Ident(root), ..] if begins_path(&tokens, at) && is_root(&root.to_string()) => {
                path(rest, Vec::new(), module, found)
            }
            [TokenTree::Group(group), ..] => {
                walk(group.stream(), module, found);
                1
            }
            _ => 1,
        };
    }
}

/// Whether nothing before the token at `at` makes it the middle of a path.
fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    at == 0 || !is_punct(&tokens[at - 1], ':')
}

fn is_root(word: &str) -> bool {
    ["crate", "super", "self"].contains(&word)
}

/// Notes the path, or all paths of the tree, at the beginning of `tokens`, and says how many tokens it takes.
fn path(tokens: &[TokenTree], mut segments: Vec<String>, module: &[String], found: &mut Found) -> usize {
    let mut taken = 0;
    loop {
        match &tokens[taken..] {
            [TokenTree::Ident(name), first, second, ..] if is_punct(first, ':') && is_punct(second, ':') => {
                segments.push(name.to_string());
                taken += 3;
            }
            [TokenTree::Ident(name), ..] => {
                segments.push(name.to_string());
                note(tokens, segments, module, found);
                return taken + 1;
            }
            [TokenTree::Group(tree), ..] if tree.delimiter() == Delimiter::Brace && taken > 0 => {
                let branches: Vec<TokenTree> = tree.stream().into_iter().collect();
                for branch in branches.split(|token| is_punct(token, ',')).filter(|branch| !branch.is_empty()) {
                    path(branch, segments.clone(), module, found);
                }
                return taken + 1;
            }
            // Generic arguments, or `*`.
            _ => {
                note(tokens, segments, module, found);
                return taken.max(1);
            }
        }
    }
}

/// Notes a path as one from the root of the crate; a lone `self` or `crate` is a value or a visibility, no path.
fn note(tokens: &[TokenTree], segments: Vec<String>, module: &[String], found: &mut Found) {
    if segments.len() < 2 {
        return;
    }
    let mut absolute: Vec<String> = if segments[0] == "crate" { Vec::new() } else { module.to_vec() };
    for segment in &segments {
        match segment.as_str() {
            "crate" | "self" => {}
            "super" => drop(absolute.pop()),
            name => absolute.push(name.to_owned()),
        }
    }
    let line = tokens.first().map_or(0, |token| token.span().start().line);
    found.paths.push((absolute, line));
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if *ident == word)
}

fn is_for_tests(attribute: &Group) -> bool {
    attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// How many tokens the item at the beginning has: to its semicolon, or its body.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| {
        is_punct(token, ';') || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

#[test]
fn every_form_of_a_path_is_found() {
    let text = r"
        use std::fmt;
        use crate::{config::{self, Config}, domains::*};
        pub(crate) mod inner;
        mod inline { use super::super::metrics::Family; fn f(self) -> crate::encode::Format { self.x } }
        fn g() { let x = vec![crate::libvirt::open::<u8>(), self::helper()]; }
        /// See [`crate::web::Site`].
        #[cfg(test)]
        mod tests { use crate::push::Series; }
        #[cfg(test)]
        mod other_tests;
        use super::sibling;
    ";
    let found = mentions(text, &["collect".to_owned(), "engine".to_owned()]);
    assert_eq!(found.modules, ["inner"]);
    let paths: Vec<String> = found.paths.iter().map(|(path, _)| path.join("::")).collect();
    let expected = [
        "config",
        "config::Config",
        "domains",
        "collect::metrics::Family",
        "encode::Format",
        "libvirt::open",
        "collect::engine::helper",
        "collect::sibling",
    ];
    assert_eq!(paths, expected);
    assert_eq!(found.paths[0].1, 3);
}
