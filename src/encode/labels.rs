//! Label sets as both text formats print them, each escaped once and copied into every sample that carries it.

use std::ops::Range;

use crate::metrics::{LabelSet, LabelTable};

/// Every label set as it stands between the braces.
#[derive(Debug)]
pub(super) struct Rendered {
    text: String,
    sets: Ends,
}

/// Where each label set ends in what all of them are written into, one after the other. 32 bits hold 4 GiB, which is more than a
/// process is given memory for.
#[derive(Debug)]
pub(super) struct Ends(Vec<u32>);

impl Ends {
    /// Room for those of `labels`.
    pub(super) fn of(labels: &LabelTable) -> Self {
        Self(Vec::with_capacity(labels.len()))
    }

    /// The next set ends at this length.
    pub(super) fn push(&mut self, end: usize) {
        self.0.push(u32::try_from(end).unwrap_or(u32::MAX));
    }

    /// Where a set is.
    pub(super) fn range(&self, set: LabelSet) -> Range<usize> {
        let end = |number: usize| usize::try_from(self.0[number]).unwrap_or(usize::MAX);
        set.index().checked_sub(1).map_or(0, end)..end(set.index())
    }

    /// How many bytes of memory they fill.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl Rendered {
    pub(super) fn new(labels: &LabelTable) -> Self {
        let mut rendered = Self { text: String::new(), sets: Ends::of(labels) };
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
        self.sets.push(self.text.len());
    }

    /// How many bytes of memory it fills.
    pub(super) fn memory(&self) -> usize {
        self.text.len() + self.sets.memory()
    }

    /// `a="1",b="2"`, escaped; empty for the empty set.
    pub(super) fn get(&self, set: LabelSet) -> &str {
        &self.text[self.sets.range(set)]
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
