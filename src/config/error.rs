//! What can be wrong with a configuration, each in one sentence.

use std::io;

use thiserror::Error;

use super::place;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("cannot read the {kind} file {file}")]
    Unreadable {
        /// What the file is.
        kind: &'static str,
        /// The file as it was asked for.
        file: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("{file} is larger than 1 MiB, which no configuration file is")]
    TooLarge {
        /// The file as it was asked for.
        file: String,
    },
    /// The file is binary, or in another encoding.
    #[error("{file}:{line}:{column}: this is not UTF-8 text")]
    NotUtf8 {
        /// The file as it was asked for.
        file: String,
        /// Line of the first byte that is not UTF-8, from 1.
        line: usize,
        /// Column of that byte in characters, from 1.
        column: usize,
    },
    /// The file is not YAML, or holds a key or a value that it may not.
    #[error("{file}:{place}{message}")]
    Invalid {
        /// The file as it was asked for.
        file: String,
        /// `line:column: `, from 1; just a space where the whole file is meant.
        place: String,
        /// Key path and fault.
        message: String,
    },
    /// The values of a flag do not go together. A single bad value never gets this far: `clap` refuses it.
    #[error("bad {flag}")]
    Flag {
        /// The flag, dashes included.
        flag: &'static str,
        /// The fault.
        #[source]
        source: ValueError,
    },
    /// An environment variable holds a value that it may not.
    #[error("bad {variable} in the environment")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// The fault.
        #[source]
        source: ValueError,
    },
    /// Keys of the configuration, wherever each comes from, that do not go together.
    #[error("{key}: {fault}")]
    Contradiction {
        /// The key that says what cannot be.
        key: String,
        /// The conflict.
        fault: String,
    },
}

impl ConfigError {
    /// `serde_yaml` writes `key.path: fault at line 1 column 2`; the place belongs to the front, after the file,
    /// where editors and people look for it. YAML knows keys, not fields.
    pub(super) fn from_yaml(file: &str, error: &serde_yaml::Error) -> Self {
        let text = error.to_string().replace("unknown field `", "unknown key `");
        let text =
            text.replace("missing field `", "missing key `").replace("invalid type: unit value", "invalid type: null");
        let (place, message) = match error.location() {
            Some(at) => (
                format!("{}:{}: ", at.line(), at.column()),
                text.replacen(&format!(" at line {} column {}", at.line(), at.column()), "", 1),
            ),
            None => (" ".to_owned(), text),
        };
        Self::Invalid { file: file.to_owned(), place, message: escape_controls(&message) }
    }

    /// The value of a key, down these `steps` from the top, cannot be, although it is one for itself. The place is that in `text`,
    /// the content of `file`, if the key is there.
    pub(super) fn contradiction(file: &str, text: &str, steps: &[&str], fault: &str) -> Self {
        let place =
            place::of(text, steps).map_or_else(|| " ".to_owned(), |(line, column)| format!("{line}:{column}: "));
        let key = steps.join(".");
        Self::Invalid { file: file.to_owned(), place, message: escape_controls(&format!("{key}: {fault}")) }
    }

    /// `valid` is what comes before the first byte that is not UTF-8.
    pub(super) fn not_utf8(file: String, valid: &[u8]) -> Self {
        let valid = String::from_utf8_lossy(valid);
        let last_line = valid.rsplit('\n').next().unwrap_or_default();
        Self::NotUtf8 { file, line: valid.matches('\n').count() + 1, column: last_line.chars().count() + 1 }
    }
}

/// What a document holds may have line breaks in it, but an error is one line, and no terminal takes orders from it.
pub(crate) fn escape_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Why a text is not the value that a key or a flag holds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// None of the known values.
    #[error("unknown {noun} `{word}`, expected one of {known}")]
    UnknownWord {
        /// What the values mean.
        noun: &'static str,
        /// The value given.
        word: String,
        /// The known values, with backquotes and commas.
        known: String,
    },
    /// An empty URI would let libvirt guess which daemon is meant.
    #[error("the libvirt URI is empty, expected one such as `qemu:///system`")]
    EmptyUri,
    /// A URI that C would cut short.
    #[error("the libvirt URI {uri:?} contains a NUL character")]
    NulInUri {
        /// The URI given.
        uri: String,
    },
    /// No URI. Names from libvirt's `uri_aliases` would hide what they stand for.
    #[error("bad libvirt URI {uri:?}, expected one such as `qemu:///system`")]
    Uri {
        /// The text given.
        uri: String,
    },
    /// A URI that would make a hypervisor daemon of the exporter.
    #[error("the libvirt URI {uri:?} runs the driver and QEMU within the exporter, expected that of a daemon")]
    EmbeddedDriver {
        /// The URI given.
        uri: String,
    },
    /// No name of a target or a profile.
    #[error("bad name {name:?}, expected up to 200 letters, digits and characters of `-._:@`")]
    TargetName {
        /// The name given.
        name: String,
    },
    /// No profile has this name.
    #[error("unknown profile `{profile}`, expected one of {known}")]
    UnknownProfile {
        /// The name given.
        profile: String,
        /// The known ones, with backquotes and commas.
        known: String,
    },
    /// A profile that there is already.
    #[error("the profile `default` is the sections outside of profiles, expected another name")]
    DefaultProfile,
    /// A pattern that would walk through whole file systems.
    #[error("the path of the socket in {uri:?} has `**`, expected `*`, which stands for a part of one name")]
    RecursivePattern {
        /// The URI given.
        uri: String,
    },
    /// A pattern of sockets that have no names.
    #[error(
        "the URI {uri:?} has a `*`, expected a name_regex beside it whose group is the name of each socket's target"
    )]
    PatternWithoutName {
        /// The URI given.
        uri: String,
    },
    /// A pattern of what cannot be listed.
    #[error("the URI {uri:?} has a `*`, expected none outside of the path of its parameter `socket`")]
    PatternOutsideSocket {
        /// The URI given.
        uri: String,
    },
    /// A name for what has one.
    #[error("the URI has no `*`, expected no name_regex: the target has its name already")]
    NameWithoutPattern,
    /// An expression that names nothing.
    #[error("the regular expression `{regex}` has no group, expected one around the name, as in `/run/([^/]+)/sock`")]
    NoGroup {
        /// The expression given.
        regex: String,
    },
    /// No UUID.
    #[error("`{text}` is not a UUID, expected one such as `f07c280b-269b-4e75-b6b4-da2ff2ea172d`")]
    Uuid {
        /// The text given.
        text: String,
    },
    /// A rule that would mean every domain.
    #[error("the mapping has no condition, expected at least one of `name`, `uuid`, `state`, `metadata`")]
    EmptyRule,
    /// No regular expression, or too large a one.
    #[error("bad regular expression `{regex}`: {fault}")]
    Regex {
        /// The expression given.
        regex: String,
        /// What the compiler says.
        fault: String,
    },
    /// No duration, or one that would stop the exporter from working, or keep it too busy.
    #[error("bad duration `{text}`, expected a number and a unit such as `500ms` or `8s`, from {least} to {most}")]
    Duration {
        /// The text given.
        text: String,
        /// The shortest that the key takes.
        least: String,
        /// The longest.
        most: String,
    },
    /// A number of things that there cannot be.
    #[error("bad number `{number}`, expected one from {least} to {most}")]
    CountRange {
        /// The number given.
        number: String,
        /// The least there can be.
        least: usize,
        /// The most there can be.
        most: usize,
    },
    /// Nothing to listen on.
    #[error("bad listen address `{address}`, expected `:port`, `host:port`, `[ipv6]:port` or `unix:/path`")]
    ListenAddress {
        /// The address given.
        address: String,
    },
    /// No path, or one that no request can name.
    #[error("bad path `{path}`, expected one that starts with `/` and holds only characters that a URL path may")]
    Path {
        /// The path given.
        path: String,
    },
    /// A path that another page has.
    #[error("bad path `{path}`, which the exporter serves another page at")]
    PathTaken {
        /// The path given.
        path: String,
    },
    /// One path for two pages.
    #[error("`{path}` is the path of the metrics (web.telemetry_path) too, expected another")]
    PathOfMetrics {
        /// The path given.
        path: String,
    },
    /// No name of a label.
    #[error("bad label name `{name}`, expected letters, digits and underscores, not a digit first nor two underscores")]
    LabelName {
        /// The name given.
        name: String,
    },
    /// A label that has another meaning.
    #[error("the label `{name}` is taken: `libvirt_domain_info` or Prometheus itself uses it")]
    LabelTaken {
        /// The name given.
        name: String,
    },
    /// No path in a domain's XML.
    #[error(
        "bad path `{path}`, expected names of elements, perhaps with an attribute last, such as \
         `metadata/nova:instance/nova:flavor/@name`"
    )]
    XmlPath {
        /// The path given.
        path: String,
    },
    /// No path.
    #[error("the path is empty, expected that of a file")]
    EmptyPath,
    /// No text.
    #[error("the text is empty, expected at least one character")]
    EmptyText,
    /// A list that may not be empty.
    #[error("the list is empty, expected at least one entry")]
    EmptyList,
    /// A list that may not hold an entry twice.
    #[error("`{entry}` is listed twice")]
    ListedTwice {
        /// The entry.
        entry: String,
    },
    /// No bcrypt hash. Its text is a secret, or a password that was not hashed.
    #[error("not a bcrypt hash, generate one with `htpasswd -nBC 10 \"\"`: the part from `$2y$` on")]
    BcryptHash,
    /// A bcrypt hash that would take too long to check.
    #[error("a check of this bcrypt hash would take too long: its cost is {cost}, expected at most {highest}")]
    BcryptCost {
        /// The cost of the hash.
        cost: u32,
        /// The highest allowed.
        highest: u32,
    },
    /// A user name that no request can carry.
    #[error("bad user name `{name}`, expected one that is not empty and has no colon")]
    UserName {
        /// The name given.
        name: String,
    },
    /// No text for a header.
    #[error("bad value of a header {text:?}, expected visible ASCII characters")]
    HeaderText {
        /// The text given.
        text: String,
    },
    /// No URL to push to.
    #[error("bad endpoint `{hidden}`, expected a URL such as `http://collector:4318`, or `host:port`")]
    Endpoint {
        /// The text given, without what may be a password.
        hidden: String,
    },
    /// A URL with a password.
    #[error("the endpoint holds a user or a password, expected them in `headers`, as `authorization`")]
    EndpointCredentials,
    /// No name for a header.
    #[error("bad name of a header `{name}`")]
    HeaderName {
        /// The name given.
        name: String,
    },
    /// No value for a header, which is not shown as it may be a secret.
    #[error(
        "bad value of a header, expected visible ASCII characters (in the environment: `name=value,name=value`, percent-encoded)"
    )]
    HeaderSecret,
    /// No number of milliseconds.
    #[error("bad duration `{text}`, expected a number of milliseconds")]
    Milliseconds {
        /// The text given.
        text: String,
    },
}
