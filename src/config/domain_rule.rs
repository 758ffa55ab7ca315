//! One entry of `domains.include` and `domains.exclude`: a name, or conditions of several kinds.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ValueError;
use super::regex::AnchoredRegex;
use super::value::scalar;
use super::word::DomainState;

/// Which domains are meant: those that meet every condition given. In YAML a text, which is a regular expression on the
/// name, or a mapping with at least one of `name`, `uuid`, `state` and `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainRule {
    /// The whole name matches.
    pub name: Option<AnchoredRegex>,
    /// This one domain.
    pub uuid: Option<DomainUuid>,
    /// What the domain does.
    pub state: Option<DomainState>,
    /// The whole value of each of these labels of `libvirt_domain_info` matches; one that the domain does not have is empty.
    pub metadata: BTreeMap<String, AnchoredRegex>,
}

/// A domain's UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainUuid(pub Uuid);

impl Display for DomainUuid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DomainUuid {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.trim().parse().map(Self).map_err(|_| ValueError::Uuid { text: text.to_owned() })
    }
}

scalar!(DomainUuid, "a UUID");

/// The mapping as written in YAML.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Conditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<AnchoredRegex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<DomainUuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<DomainState>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, AnchoredRegex>,
}

impl<'de> Deserialize<'de> for DomainRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RuleVisitor;

        impl<'de> Visitor<'de> for RuleVisitor {
            type Value = DomainRule;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a regular expression on the name, or a mapping of `name`, `uuid`, `state`, `metadata`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DomainRule, E> {
                let name = text.parse().map_err(E::custom)?;
                Ok(DomainRule { name: Some(name), ..DomainRule::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DomainRule, A::Error> {
                let conditions = Conditions::deserialize(MapAccessDeserializer::new(map))?;
                let Conditions { name, uuid, state, metadata } = conditions;
                let rule = DomainRule { name, uuid, state, metadata };
                if rule == DomainRule::default() { Err(A::Error::custom(ValueError::EmptyRule)) } else { Ok(rule) }
            }
        }

        deserializer.deserialize_any(RuleVisitor)
    }
}

impl Serialize for DomainRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self { name: Some(name), uuid: None, state: None, metadata } if metadata.is_empty() => {
                name.serialize(serializer)
            }
            Self { name, uuid, state, metadata } => {
                let (name, metadata) = (name.clone(), metadata.clone());
                Conditions { name, uuid: *uuid, state: *state, metadata }.serialize(serializer)
            }
        }
    }
}
