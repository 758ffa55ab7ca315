//! The golden format `.params`: domains and their typed parameters as text.
//!
//! ```text
//! # a comment line; blank lines are ignored
//! domain 3 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 "vm one"
//! state.state int 1
//! cpu.time ullong 123
//! block.0.name string "vda"
//! x.ratio double 1.5
//! x.flag boolean 1
//! x.new unknown(9)
//! ```
//!
//! A `domain` line opens a domain: its id (`-` while it is shut off), UUID, and name as a JSON string. Each line after
//! it is one parameter: key, libvirt's name of the type, value. Strings are JSON strings, booleans `0` or `1`, doubles
//! as Rust prints them (`NaN`, `inf` and `-inf` among them). A type tag that libvirt does not define stands as
//! `unknown(TAG)` and has no value. A key that is not a plain word is a JSON string too.

use std::fmt::{self, Write as _};

use uuid::Uuid;

/// A domain of a golden file.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// The domain's name.
    pub name: String,
    /// The domain's UUID.
    pub uuid: Uuid,
    /// The id of this run of the domain; `None` while it is shut off.
    pub id: Option<u32>,
    /// The parameters, in the order of the file.
    pub params: Vec<(String, Value)>,
}

/// The value of one typed parameter (`virTypedParameter`).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `VIR_TYPED_PARAM_INT`
    Int(i32),
    /// `VIR_TYPED_PARAM_UINT`
    UInt(u32),
    /// `VIR_TYPED_PARAM_LLONG`
    LLong(i64),
    /// `VIR_TYPED_PARAM_ULLONG`
    ULLong(u64),
    /// `VIR_TYPED_PARAM_DOUBLE`
    Double(f64),
    /// `VIR_TYPED_PARAM_BOOLEAN`
    Boolean(bool),
    /// `VIR_TYPED_PARAM_STRING`
    String(String),
    /// A type tag that libvirt does not define (yet).
    Unknown(i32),
}

impl Value {
    /// The tag that stands for the type on the wire and in `virTypedParameter.type`.
    #[must_use]
    pub fn type_tag(&self) -> i32 {
        match self {
            Self::Int(_) => 1,
            Self::UInt(_) => 2,
            Self::LLong(_) => 3,
            Self::ULLong(_) => 4,
            Self::Double(_) => 5,
            Self::Boolean(_) => 6,
            Self::String(_) => 7,
            Self::Unknown(tag) => *tag,
        }
    }
}

impl fmt::Display for Value {
    /// Type and value as a parameter line has them after the key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(out, "int {value}"),
            Self::UInt(value) => write!(out, "uint {value}"),
            Self::LLong(value) => write!(out, "llong {value}"),
            Self::ULLong(value) => write!(out, "ullong {value}"),
            Self::Double(value) => write!(out, "double {value}"),
            Self::Boolean(value) => write!(out, "boolean {}", u8::from(*value)),
            Self::String(value) => write!(out, "string {}", json(value)),
            Self::Unknown(tag) => write!(out, "unknown({tag})"),
        }
    }
}

/// Why a text is not in the `.params` format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line of a `.params` text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A parameter stands before the first `domain` line.
    #[error("a parameter before the first domain line")]
    NoDomain,
    /// A part of the line is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A part of the line cannot be read as what it should be.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// What the format wants there.
        expected: &'static str,
        /// What stands there.
        text: String,
    },
    /// No such type.
    #[error("unknown type {0:?}")]
    UnknownType(String),
    /// Something follows where the line should end.
    #[error("unexpected {0:?} at the end")]
    Trailing(String),
}

/// Reads a `.params` text.
///
/// # Errors
///
/// When a line is not in the format; the error names the first such line.
pub fn parse(text: &str) -> Result<Vec<Domain>, ParseError> {
    let mut domains: Vec<Domain> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |reason| ParseError { line: index + 1, reason };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = strip_word(line, "domain") {
            domains.push(parse_domain(rest).map_err(at)?);
        } else {
            let param = parse_param(line).map_err(at)?;
            let domain = domains.last_mut().ok_or(Reason::NoDomain).map_err(at)?;
            domain.params.push(param);
        }
    }
    Ok(domains)
}

/// Writes domains in the `.params` format; [`parse`] reads the same domains back.
#[must_use]
pub fn write(domains: &[Domain]) -> String {
    let mut out = String::new();
    for domain in domains {
        let id = domain.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "domain {id} {} {}", domain.uuid, json(&domain.name));
        for (key, value) in &domain.params {
            let _ = writeln!(out, "{} {value}", written_key(key));
        }
    }
    out
}

fn parse_domain(rest: &str) -> Result<Domain, Reason> {
    let (id, rest) = split_word(rest);
    let id = match id {
        "" => return Err(Reason::Missing("the domain's id")),
        "-" => None,
        text => Some(number(text, "an id or -")?),
    };
    let (uuid, rest) = split_word(rest);
    if uuid.is_empty() {
        return Err(Reason::Missing("the domain's uuid"));
    }
    let uuid = Uuid::try_parse(uuid).map_err(|_| malformed("a uuid", uuid))?;
    let (name, rest) = split_json(rest, "the domain's name")?;
    ended(rest)?;
    Ok(Domain { name, uuid, id, params: Vec::new() })
}

fn parse_param(line: &str) -> Result<(String, Value), Reason> {
    let (key, rest) = if line.starts_with('"') {
        split_json(line, "the key")?
    } else {
        let (key, rest) = split_word(line);
        (key.to_owned(), rest)
    };
    let (type_name, rest) = split_word(rest);
    let value = parse_value(type_name, rest)?;
    Ok((key, value))
}

fn parse_value(type_name: &str, text: &str) -> Result<Value, Reason> {
    if let Some(tag) = type_name.strip_prefix("unknown(") {
        let tag = tag.strip_suffix(')').ok_or_else(|| malformed("unknown(TAG)", type_name))?;
        ended(text)?;
        return Ok(Value::Unknown(number(tag, "a type tag")?));
    }
    if type_name.is_empty() {
        return Err(Reason::Missing("the type"));
    }
    if type_name == "string" {
        let (value, rest) = split_json(text, "the value")?;
        ended(rest)?;
        return Ok(Value::String(value));
    }
    let (text, rest) = split_word(text);
    let value = match type_name {
        _ if text.is_empty() => Err(Reason::Missing("the value")),
        "int" => number(text, "an int").map(Value::Int),
        "uint" => number(text, "a uint").map(Value::UInt),
        "llong" => number(text, "an llong").map(Value::LLong),
        "ullong" => number(text, "a ullong").map(Value::ULLong),
        "double" => number(text, "a double").map(Value::Double),
        "boolean" => match text {
            "0" => Ok(Value::Boolean(false)),
            "1" => Ok(Value::Boolean(true)),
            _ => Err(malformed("0 or 1", text)),
        },
        _ => Err(Reason::UnknownType(type_name.to_owned())),
    }?;
    ended(rest)?;
    Ok(value)
}

fn number<T: std::str::FromStr>(text: &str, expected: &'static str) -> Result<T, Reason> {
    text.parse().map_err(|_| malformed(expected, text))
}

fn malformed(expected: &'static str, text: &str) -> Reason {
    Reason::Malformed { expected, text: text.to_owned() }
}

fn ended(rest: &str) -> Result<(), Reason> {
    if rest.is_empty() { Ok(()) } else { Err(Reason::Trailing(rest.to_owned())) }
}

fn strip_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim_start())
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

fn split_json<'a>(text: &'a str, what: &'static str) -> Result<(String, &'a str), Reason> {
    if text.is_empty() {
        return Err(Reason::Missing(what));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match values.next() {
        Some(Ok(value)) => Ok((value, text[values.byte_offset()..].trim_start())),
        _ => Err(malformed("a JSON string", text)),
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The key as a parameter line starts with it: quoted where the line could be read otherwise.
fn written_key(key: &str) -> String {
    let plain = !key.is_empty()
        && key != "domain"
        && !key.starts_with('#')
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if plain { key.to_owned() } else { json(key) }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
