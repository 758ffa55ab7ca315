//! Label sets as both text formats print them, each escaped once and copied into every sample that carries it.

use std::ops::Range;

use crate::metrics::{LabelSet, LabelTable};

/// Every label set as it stands between the braces.
#[derive(Debug)]
pub(super) struct Rendered {
    text: String,
    sets: Vec<Range<usize>>,
}

impl Rendered {
    pub(super) fn new(labels: &LabelTable) -> Self {
        let mut rendered = Self { text: String::new(), sets: Vec::with_capacity(labels.len()) };
        for set in labels.sets() {
            rendered.add(labels.get(set));
        }
        rendered
    }

    fn add<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        let start = self.text.len();
        for (name, value) in labels {
            if self.text.len() > start {
                self.text.push(',');
            }
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value, &[('\\', "\\\\"), ('"', "\\\""), ('\n', "\\n")]);
            self.text.push('"');
        }
        self.sets.push(start..self.text.len());
    }

    /// How many bytes of memory it fills.
    pub(super) fn memory(&self) -> usize {
        self.text.len() + self.sets.len() * size_of::<Range<usize>>()
    }

    /// `a="1",b="2"`, escaped; empty for the empty set.
    pub(super) fn get(&self, set: LabelSet) -> &str {
        &self.text[self.sets[set.index()].clone()]
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
        assert_eq!(rendered.get(LabelSet::EMPTY), "");
    }
}
