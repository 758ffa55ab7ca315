//! Label sets as both text formats print them, each escaped once and copied into every sample that carries it.

use crate::catalogue::{LabelSet, LabelTable};

/// Every label set as it stands between the braces.
pub(super) struct Rendered<'a> {
    labels: &'a LabelTable,
    text: String,
    sets: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    /// Where the name of the last label ends.
    head_end: usize,
    end: usize,
}

impl<'a> Rendered<'a> {
    pub(super) fn new(labels: &'a LabelTable) -> Self {
        let mut rendered = Self { labels, text: String::new(), sets: Vec::with_capacity(labels.len()) };
        for set in labels.sets() {
            rendered.add(set);
        }
        rendered
    }

    fn add(&mut self, set: LabelSet) {
        let start = self.text.len();
        let mut head_end = start;
        for (name, value) in self.labels.get(set) {
            if self.text.len() > start {
                self.text.push(',');
            }
            self.text.push_str(name);
            head_end = self.text.len();
            self.text.push_str("=\"");
            escape(&mut self.text, value, &[('\\', "\\\\"), ('"', "\\\""), ('\n', "\\n")]);
            self.text.push('"');
        }
        self.sets.push(Span { start, head_end, end: self.text.len() });
    }

    /// `a="1",b="2"`, escaped; empty for the empty set.
    pub(super) fn get(&self, set: LabelSet) -> &str {
        let span = self.sets[set.index()];
        &self.text[span.start..span.end]
    }

    /// `a="1",b`, escaped, and `2`, not escaped; `None` for the empty set.
    pub(super) fn split_last(&self, set: LabelSet) -> Option<(&str, &str)> {
        let span = self.sets[set.index()];
        let (_, value) = self.labels.get(set).last()?;
        Some((&self.text[span.start..span.head_end], value))
    }
}

/// Appends `text` with each special character replaced by what `escapes` says.
pub(super) fn escape(out: &mut String, text: &str, escapes: &[(char, &str)]) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| escapes.iter().any(|escape| escape.0 == c)) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut tail = special.chars();
        let found = tail.next();
        out.push_str(escapes.iter().find(|escape| Some(escape.0) == found).map_or("", |escape| escape.1));
        rest = tail.as_str();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut labels = LabelTable::default();
        let set = labels.push([("a", "x\"y\\z\nä"), ("b", "1\\2")]);
        let rendered = Rendered::new(&labels);
        assert_eq!(rendered.get(set), r#"a="x\"y\\z\nä",b="1\\2""#);
        assert_eq!(rendered.split_last(set), Some((r#"a="x\"y\\z\nä",b"#, "1\\2")));
        assert_eq!((rendered.get(LabelSet::EMPTY), rendered.split_last(LabelSet::EMPTY)), ("", None));
    }
}
