//! The daemons of `/probe`: the sections `targets`, `profiles` and `probe`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml::{Mapping, Value};

use super::error::ValueError;
use super::regex::{AnchoredRegex, CapturingRegex};
use super::uri::Uri;
use super::value::{deserialize_text, scalar};
use super::{Collection, Config, Domains, Metadata, Metrics, count, duration};

/// The profile of a target that names none: the settings outside of `profiles`.
pub const DEFAULT_PROFILE: &str = "default";
/// A name is a label of Prometheus and a parameter of a URL.
const LONGEST_NAME: usize = 200;

/// A libvirt daemon that `/probe` can be asked for, or a pattern of the sockets of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with the keys `uri`, `profile`, `name_regex`")]
pub struct Target {
    /// The connection URI. A `*` in the path of its parameter `socket` makes it a pattern.
    #[serde(deserialize_with = "uri")]
    pub uri: Uri,
    /// The profile, if it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<TargetName>,
    /// The part of a path found by the pattern that names the target, by its first group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_regex: Option<CapturingRegex>,
}

impl Target {
    /// The profile's name.
    #[must_use]
    pub fn profile(&self) -> &str {
        self.profile.as_ref().map_or(DEFAULT_PROFILE, TargetName::as_str)
    }

    /// The path of the sockets that it stands for, if it is a pattern, and the expression of their names.
    #[must_use]
    pub fn pattern(&self) -> Option<(String, &CapturingRegex)> {
        let path = self.uri.socket().filter(|path| path.contains('*'))?;
        Some((path, self.name_regex.as_ref()?))
    }

    /// What is wrong with the whole, and the key that says so.
    fn fault(&self) -> Option<(&'static str, ValueError)> {
        let uri = || self.uri.to_string();
        match self.uri.socket() {
            Some(path) if path.contains("**") => Some(("uri", ValueError::RecursivePattern { uri: uri() })),
            Some(path) if path.contains('*') && self.name_regex.is_none() => {
                Some(("uri", ValueError::PatternWithoutName { uri: uri() }))
            }
            Some(path) if path.contains('*') => None,
            _ if self.uri.as_str().contains('*') => Some(("uri", ValueError::PatternOutsideSocket { uri: uri() })),
            _ if self.name_regex.is_some() => Some(("name_regex", ValueError::NameWithoutPattern)),
            _ => None,
        }
    }
}

fn uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uri, D::Error> {
    struct TargetUri(Uri);

    impl FromStr for TargetUri {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            let uri: Uri = text.parse()?;
            if uri.is_none() { Err(ValueError::EmptyUri) } else { Ok(Self(uri)) }
        }
    }

    deserialize_text(deserializer, "a libvirt URI").map(|TargetUri(uri)| uri)
}

/// The name of a target or of a profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetName(String);

impl TargetName {
    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TargetName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Display for TargetName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TargetName {
    type Err = ValueError;

    /// No slash: it stands between the name of a pattern and that of a socket; with `://` it would be a URI.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let legal = |character: char| character.is_alphanumeric() || "-._:@".contains(character);
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(legal) {
            return Err(ValueError::TargetName { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

scalar!(TargetName, "a name");

/// Settings that take the place of those outside: what the file has in a profile, key by key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile(Mapping);

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Profile {
    /// Checks every value where it stands. The keys themselves come with `Config::fill_profiles`: the sections cannot tell which
    /// they were given.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a mapping with sections such as `collection:`")]
        #[allow(dead_code, reason = "read to be checked")]
        #[derive(Default)]
        struct Sections {
            collection: Collection,
            domains: Domains,
            metadata: Metadata,
            metrics: Metrics,
        }
        Sections::deserialize(deserializer)?;
        Ok(Self::default())
    }
}

impl Profile {
    fn apply(&self, config: &mut Config) -> Result<(), serde_yaml::Error> {
        self.overlay("collection", &mut config.collection)?;
        self.overlay("domains", &mut config.domains)?;
        self.overlay("metadata", &mut config.metadata)?;
        self.overlay("metrics", &mut config.metrics)
    }

    fn overlay<T: Serialize + DeserializeOwned>(&self, name: &str, section: &mut T) -> Result<(), serde_yaml::Error> {
        if let Some(over) = self.0.get(name) {
            let mut value = serde_yaml::to_value(&*section)?;
            merge(&mut value, over);
            *section = serde_yaml::from_value(value)?;
        }
        Ok(())
    }
}

/// A mapping is merged key by key, anything else takes the place of what was there.
fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Mapping(known), Value::Mapping(over)) => {
            for (key, over) in over {
                match known.get_mut(key) {
                    Some(value) => merge(value, over),
                    None => _ = known.insert(key.clone(), over.clone()),
                }
            }
        }
        (value, over) => value.clone_from(over),
    }
}

/// The setting that has the URI of the daemon: the local one, or the target of this name. For texts.
#[must_use]
pub fn uri_key(target: Option<&str>) -> String {
    match target {
        None => "libvirt.uri".to_owned(),
        Some(uri) if uri.parse::<Uri>().is_ok() => "the parameter target".to_owned(),
        // What stands behind the slash comes from the path of a socket.
        Some(name) => format!("targets.{}.uri", name.split('/').next().unwrap_or_default()),
    }
}

/// How targets are probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `probe`")]
pub struct Probe {
    /// URIs that a request may name as its target, with a user or parameters only if an expression spells them out.
    pub allow: Vec<AnchoredRegex>,
    /// After how long without a probe the connections to a target are closed.
    #[serde(deserialize_with = "duration::from_ms::<_, 1_000>", serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,
    /// How many connections to the daemons of all targets there may be.
    #[serde(deserialize_with = "count::up_to::<_, 10_000>")]
    pub max_connections: usize,
    /// How often the sockets of patterns are looked for.
    #[serde(deserialize_with = "duration::from_ms::<_, 1_000>", serialize_with = "duration::serialize")]
    pub rescan_interval: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            idle_timeout: Duration::from_secs(5 * 60),
            max_connections: 1024,
            rescan_interval: Duration::from_secs(15),
        }
    }
}

impl Probe {
    /// Whether a request may name this URI.
    #[must_use]
    pub fn allows(&self, uri: &Uri) -> bool {
        self.allow.iter().any(|regex| regex.is_match(uri.as_str()) && uri.is_spelled_out_in(&regex.to_string()))
    }
}

/// The profiles by name.
pub type Profiles = BTreeMap<TargetName, Profile>;

impl Config {
    /// Whether there is anything to probe.
    #[must_use]
    pub fn has_targets(&self) -> bool {
        !self.targets.is_empty() || !self.probe.allow.is_empty()
    }

    /// How many connections to targets there may be.
    #[must_use]
    pub fn probe_connections(&self) -> usize {
        if self.has_targets() { self.probe.max_connections } else { 0 }
    }

    /// The settings for a daemon: these, with the profile over them. `None` if there is no such profile.
    #[must_use]
    pub fn of_target(&self, uri: &Uri, profile: &str) -> Option<Self> {
        let mut config = Self { targets: BTreeMap::new(), profiles: BTreeMap::new(), ..self.clone() };
        config.libvirt.uri = uri.clone();
        if profile != DEFAULT_PROFILE {
            // What each of the values is was checked when the file was read.
            self.profiles.get(profile)?.apply(&mut config).ok()?;
        }
        Some(config)
    }

    /// The names of the profiles, for texts: with backquotes and commas.
    #[must_use]
    pub fn known_profiles(&self) -> String {
        let names = std::iter::once(DEFAULT_PROFILE).chain(self.profiles.keys().map(TargetName::as_str));
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// Takes the keys of the profiles from the text that this configuration was read from.
    pub(super) fn fill_profiles(&mut self, text: &str) -> Result<(), serde_yaml::Error> {
        if self.profiles.is_empty() {
            return Ok(());
        }
        let document: Value = serde_yaml::from_str(text)?;
        for (name, profile) in &mut self.profiles {
            let keys = document.get("profiles").and_then(|profiles| profiles.get(name.as_str()));
            profile.0 = keys.and_then(Value::as_mapping).cloned().unwrap_or_default();
        }
        Ok(())
    }

    /// The first target or profile that does not fit the others: where it stands, and why.
    pub(super) fn target_fault(&self) -> Option<(Vec<&str>, ValueError)> {
        if self.profiles.contains_key(DEFAULT_PROFILE) {
            return Some((vec!["profiles", DEFAULT_PROFILE], ValueError::DefaultProfile));
        }
        self.targets.iter().find_map(|(name, target)| {
            let name = name.as_str();
            if self.of_target(&target.uri, target.profile()).is_none() {
                let (profile, known) = (target.profile().to_owned(), self.known_profiles());
                return Some((vec!["targets", name, "profile"], ValueError::UnknownProfile { profile, known }));
            }
            target.fault().map(|(key, fault)| (vec!["targets", name, key], fault))
        })
    }
}
