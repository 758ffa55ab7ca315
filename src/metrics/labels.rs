//! The labels of a collection, each value once.

/// The number of a set of labels in a [`LabelTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(u32);

impl LabelSet {
    /// No labels at all.
    pub const EMPTY: Self = Self(0);

    /// The position in the table, from 0 (the empty set) to [`LabelTable::len`].
    #[must_use]
    pub fn index(self) -> usize {
        index(self.0)
    }
}

/// A place in one of the vectors, as they keep it.
fn offset(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn index(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// All label sets of one collection. Offsets have 32 bits: 4 GiB of label values are more than a process is given memory for.
#[derive(Debug, Clone)]
pub struct LabelTable {
    text: String,
    /// The start, the middle and the end of each label in the text.
    pairs: Vec<[u32; 3]>,
    /// The end of each set in the pairs.
    sets: Vec<u32>,
}

impl Default for LabelTable {
    fn default() -> Self {
        Self { text: String::new(), pairs: Vec::new(), sets: vec![0] }
    }
}

impl LabelTable {
    /// Adds a set of labels, names and values in the order in which they are to be printed.
    pub fn push<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSet {
        for (name, value) in labels {
            let start = offset(self.text.len());
            self.text.push_str(name);
            let middle = offset(self.text.len());
            self.text.push_str(value);
            self.pairs.push([start, middle, offset(self.text.len())]);
        }
        let number = self.sets.len();
        self.sets.push(offset(self.pairs.len()));
        // More than 2^32 label sets would need more memory than the kernel gives a process its size.
        LabelSet(u32::try_from(number).unwrap_or(0))
    }

    /// Adds a set that holds the labels of `base` and one more.
    pub fn extend(&mut self, base: LabelSet, name: &str, value: &str) -> LabelSet {
        // The text of `base` is shared: its pairs are copied, what they point to is not.
        let (start, end) = self.bounds(base);
        self.pairs.extend_from_within(start..end);
        self.push([(name, value)])
    }

    /// The labels of a set, name and unescaped value.
    pub fn get(&self, set: LabelSet) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let (start, end) = self.bounds(set);
        self.pairs[start..end].iter().map(|pair| {
            let [start, middle, end] = pair.map(index);
            (&self.text[start..middle], &self.text[middle..end])
        })
    }

    /// All sets, from the empty one on.
    pub fn sets(&self) -> impl Iterator<Item = LabelSet> {
        (0..).map(LabelSet).take(self.sets.len())
    }

    fn bounds(&self, set: LabelSet) -> (usize, usize) {
        let number = set.index();
        let start = number.checked_sub(1).map_or(0, |previous| self.sets[previous]);
        (index(start), index(self.sets[number]))
    }

    /// How many bytes of memory it fills.
    pub(super) fn memory(&self) -> usize {
        self.text.len() + size_of_val(&*self.pairs) + size_of_val(&*self.sets)
    }

    /// How many sets there are, the empty one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether only the empty set is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.len() == 1
    }
}
