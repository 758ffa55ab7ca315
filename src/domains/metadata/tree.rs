//! Ways through the tree of a definition. Elements go by their local names, as libvirt's own have no namespace.

use roxmltree::Node;

use crate::config::XmlPath;

/// Longest text taken from a definition, in bytes: any path of the system fits.
const MOST_TEXT: usize = 4096;

/// The child elements called `name`.
pub(crate) fn children<'a, 'i: 'a>(node: Node<'a, 'i>, name: &'a str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The first element down `path`, names parted by `/`.
pub(crate) fn find<'a, 'i: 'a>(node: Node<'a, 'i>, path: &'a str) -> Option<Node<'a, 'i>> {
    path.split('/').try_fold(node, |node, name| children(node, name).next())
}

/// The text of the first element down `path`, trimmed; empty where there is none.
pub(crate) fn text_at(node: Node<'_, '_>, path: &str) -> String {
    find(node, path).map(text).unwrap_or_default()
}

/// The attribute `name` of the first element down `path`; empty where there is none.
pub(crate) fn attribute_at(node: Node<'_, '_>, path: &str, name: &str) -> String {
    find(node, path).map(|node| attribute(node, name)).unwrap_or_default()
}

/// The attribute with the local name `name`, trimmed; empty where there is none.
pub(crate) fn attribute(node: Node<'_, '_>, name: &str) -> String {
    let found = node.attributes().find(|attribute| attribute.name() == name);
    found.map(|attribute| cut(attribute.value(), MOST_TEXT)).unwrap_or_default()
}

/// The text of `node` without that of its child elements, trimmed.
pub(crate) fn text(node: Node<'_, '_>) -> String {
    let mut text = String::new();
    for part in node.children().filter(Node::is_text).filter_map(|part| part.text()) {
        text.push_str(part);
    }
    cut(&text, MOST_TEXT)
}

/// The first value that is at `path` and is not empty.
pub(crate) fn value_of(domain: Node<'_, '_>, path: &XmlPath) -> Option<String> {
    let mut nodes = vec![domain];
    for name in path.elements() {
        nodes = nodes.into_iter().flat_map(|node| children(node, name)).collect();
    }
    let values = nodes.into_iter().map(|node| match path.attribute() {
        Some(name) => attribute(node, name),
        None => text(node),
    });
    values.into_iter().find(|value| !value.is_empty())
}

/// The first `most` bytes of the trimmed text.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let text = text.trim();
    text[..text.floor_char_boundary(most)].trim_end().to_owned()
}

/// `number` in bytes, with the `unit` of its element, one of libvirt's for scaled integers: `b`, `k`, `KiB`, `KB`, `M`, ...; KiB
/// without one.
pub(super) fn size(number: &str, element: Node<'_, '_>) -> Option<u64> {
    let number: u64 = number.parse().ok()?;
    let unit = attribute(element, "unit").to_ascii_lowercase();
    let base: u64 = match unit.as_str() {
        "" => return number.checked_mul(1024),
        "b" | "byte" | "bytes" => return Some(number),
        unit => match unit.get(1..)? {
            "" | "ib" => 1024,
            "b" => 1000,
            _ => return None,
        },
    };
    let power = "kmgtpe".find(unit.chars().next()?)?;
    number.checked_mul(base.checked_pow(u32::try_from(power + 1).ok()?)?)
}
