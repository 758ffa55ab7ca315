//! What a definition may look like before a tree is built from it: one pass over its tags, without allocation.
//!
//! The parser compares each attribute with all others of its tag, looks a prefix up among all namespaces in scope, and copies
//! those to each element that declares one more; its own limit is only on nodes. These bounds keep what a hostile definition costs linear in its size.

use super::DefinitionError;

/// Larger than any definition that libvirt itself would read.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// libvirt's own parser gives up at 256.
pub(super) const MOST_DEPTH: usize = 200;
/// Attributes of one element.
const MOST_ATTRIBUTES: usize = 256;
/// Declarations of namespaces in the whole definition.
const MOST_NAMESPACES: usize = 256;

/// Refuses a definition that is too large, too deep or has a DTD. What is no XML is left for the parser to say.
pub(super) fn check(xml: &str) -> Result<(), DefinitionError> {
    if xml.len() > MOST_BYTES || xml.matches("xmlns").nth(MOST_NAMESPACES).is_some() {
        return Err(DefinitionError::TooLarge);
    }
    let mut depth = 0_usize;
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let end = if let Some(comment) = rest.strip_prefix("<!--") {
            after(comment, "-->")
        } else if rest.starts_with("<![CDATA[") {
            after(rest, "]]>")
        } else if rest.starts_with("<?") {
            after(rest, "?>")
        } else if rest.starts_with("<!DOCTYPE") {
            return Err(DefinitionError::Dtd);
        } else {
            let (tag, end) = tag(rest)?;
            if tag.starts_with("</") {
                depth = depth.saturating_sub(1);
            } else if !tag.ends_with('/') {
                depth += 1;
            }
            end
        };
        if depth > MOST_DEPTH {
            return Err(DefinitionError::TooDeep);
        }
        rest = end;
    }
    Ok(())
}

/// What follows `end`; nothing if it is not there.
fn after<'x>(text: &'x str, end: &str) -> &'x str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

/// A tag from its `<` up to its `>`, and what follows.
fn tag(text: &str) -> Result<(&str, &str), DefinitionError> {
    let mut quote = None;
    let mut attributes = 0;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Ok((&text[..at], &text[at + 1..])),
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'=') => attributes += 1,
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
        if attributes > MOST_ATTRIBUTES {
            return Err(DefinitionError::TooLarge);
        }
    }
    Ok((text, ""))
}
