//! `domains.name_from`: where the value of the label `domain` is.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::error::ValueError;
use super::value::scalar;

/// Where the value of the label `domain` is: the name of the domain, or a label of `libvirt_domain_info`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameFrom(Option<String>);

impl NameFrom {
    /// The label of `libvirt_domain_info` that has the value; `None` for the domain's name.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Display for NameFrom {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.label() {
            None => f.write_str("name"),
            Some("title") => f.write_str("title"),
            Some(label) => write!(f, "metadata.{label}"),
        }
    }
}

impl FromStr for NameFrom {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.trim() {
            "name" => Ok(Self(None)),
            "title" => Ok(Self(Some("title".to_owned()))),
            other => match other.strip_prefix("metadata.").filter(|label| !label.is_empty()) {
                Some(label) => Ok(Self(Some(label.to_owned()))),
                None => Err(ValueError::UnknownWord {
                    noun: "source of names",
                    word: other.to_owned(),
                    known: "`name`, `title`, `metadata.` and a label of libvirt_domain_info".to_owned(),
                }),
            },
        }
    }
}

scalar!(NameFrom, "a source of names");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_the_domain_or_a_label() {
        for (text, label) in
            [("name", None), ("title", Some("title")), ("metadata.instance_name", Some("instance_name"))]
        {
            let from: NameFrom = text.parse().expect(text);
            assert_eq!((from.label(), from.to_string()), (label, text.to_owned()));
        }
        for text in ["", "uuid", "metadata", "metadata."] {
            assert!(text.parse::<NameFrom>().is_err(), "{text}");
        }
    }
}
