//! How the definitions of the domains are read, and which labels are taken from them.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ValueError;
use super::value::{scalar, text};
use super::{count, duration};

/// Labels of `libvirt_domain_info`, and those that Prometheus gives to whatever it scrapes.
const TAKEN: &[&str] = &[
    "arch",
    "domain",
    "emulator",
    "flavor",
    "group_id",
    "group_name",
    "image_id",
    "instance",
    "instance_name",
    "job",
    "kubevirt_name",
    "kubevirt_namespace",
    "kubevirt_uid",
    "machine",
    "os",
    "os_type",
    "ovirt_cluster_version",
    "project_id",
    "project_name",
    "title",
    "user_id",
    "user_name",
    "uuid",
];

/// Deeper than any definition.
const MOST_STEPS: usize = 32;

/// How the definitions of the domains are read, and which labels are taken from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `metadata`")]
pub struct Metadata {
    /// How many definitions are read in a second, at most.
    #[serde(deserialize_with = "count::up_to::<_, 10_000>")]
    pub rate: usize,
    /// After how long a definition is read again even if nothing was heard of a change.
    #[serde(deserialize_with = "duration::from_ms::<_, 1_000>", serialize_with = "duration::serialize")]
    pub refresh_interval: Duration,
    /// How long the reading of one definition may take.
    #[serde(deserialize_with = "duration::from_ms::<_, 100>", serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// Labels of `libvirt_domain_info` beyond those that it has of itself.
    pub labels: MetadataLabels,
}

/// Where in a definition the value of each label is.
pub type MetadataLabels = BTreeMap<LabelName, XmlPath>;

impl Default for Metadata {
    fn default() -> Self {
        Self {
            rate: 50,
            refresh_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            labels: MetadataLabels::new(),
        }
    }
}

/// The name of a label that is free to take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelName(String);

impl FromStr for LabelName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.to_owned();
        let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let starts_well = name.starts_with(|first: char| !first.is_ascii_digit()) && !name.starts_with("__");
        if !legal || !starts_well {
            Err(ValueError::LabelName { name })
        } else if TAKEN.contains(&name.as_str()) {
            Err(ValueError::LabelTaken { name })
        } else {
            Ok(Self(name))
        }
    }
}

text!(LabelName, "a label name");

/// A place in the XML of a definition: the names of elements from below `domain` on, and of an attribute at the end if it
/// is not the last element's text that is meant. Only local names are compared: a prefix may stand for the reader's sake, as
/// namespaces have no fixed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmlPath {
    text: String,
    elements: Vec<String>,
    attribute: Option<String>,
}

impl XmlPath {
    /// The local names of the elements, the outermost first.
    #[must_use]
    pub fn elements(&self) -> &[String] {
        &self.elements
    }

    /// The local name of the attribute; `None` for the text of the last element.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        self.attribute.as_deref()
    }
}

impl Display for XmlPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for XmlPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::XmlPath { path: text.to_owned() };
        let (elements, attribute) = match text.rsplit_once('@') {
            Some(("", attribute)) => (None, Some(attribute)),
            Some((elements, attribute)) => (Some(elements.strip_suffix('/').ok_or_else(bad)?), Some(attribute)),
            None => (Some(text), None),
        };
        let local = |step: &str| local_name(step).map(str::to_owned).ok_or_else(bad);
        let elements: Vec<String> =
            elements.map_or_else(|| Ok(Vec::new()), |steps| steps.split('/').map(local).collect())?;
        if elements.len() > MOST_STEPS {
            return Err(bad());
        }
        let attribute = attribute.map(local).transpose()?;
        Ok(Self { text: text.to_owned(), elements, attribute })
    }
}

scalar!(XmlPath, "a path in a domain's XML");

/// The local part of `name` or `prefix:name`.
fn local_name(step: &str) -> Option<&str> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name.chars().all(|character| character.is_alphanumeric() || "_-.".contains(character))
    };
    match step.split_once(':') {
        Some((prefix, local)) => (is_name(prefix) && is_name(local)).then_some(local),
        None => is_name(step).then_some(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_elements_and_perhaps_an_attribute() {
        let cases: [(&str, &[&str], Option<&str>); 5] = [
            ("metadata/nova:instance/nova:flavor/@name", &["metadata", "instance", "flavor"], Some("name")),
            ("description", &["description"], None),
            ("@type", &[], Some("type")),
            ("a/@x:b", &["a"], Some("b")),
            ("on_reboot/é-1.x", &["on_reboot", "é-1.x"], None),
        ];
        for (text, elements, attribute) in cases {
            let path: XmlPath = text.parse().expect(text);
            assert_eq!(path.elements(), elements, "{text}");
            assert_eq!(path.attribute(), attribute, "{text}");
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let deep = ["a"; MOST_STEPS + 1].join("/");
        let bad =
            ["", "/", "/a", "a/", "a//b", "@", "a@b", "a/@b/c", "a/@b/@c", "a:", ":a", "a:b:c", "a[1]", "1", &deep];
        for text in bad {
            assert_eq!(text.parse::<XmlPath>(), Err(ValueError::XmlPath { path: text.to_owned() }));
        }
    }

    #[test]
    fn a_label_is_legal_and_free() {
        for good in ["a", "_a", "team_2", "Team"] {
            assert_eq!(good.parse::<LabelName>().expect(good).as_str(), good);
        }
        for bad in ["", "1a", "__a", "a-b", "a b", "é", "a:b"] {
            assert_eq!(bad.parse::<LabelName>(), Err(ValueError::LabelName { name: bad.to_owned() }));
        }
        for taken in TAKEN {
            assert_eq!(taken.parse::<LabelName>(), Err(ValueError::LabelTaken { name: (*taken).to_owned() }));
        }
    }
}
