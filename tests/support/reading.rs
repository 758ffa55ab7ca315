//! Readers of what virsh and the exporter print, written apart from the exporter's own code.

use std::collections::BTreeMap;

/// The values of one domain by key, as text.
pub type Values = BTreeMap<String, String>;

/// `virsh domstats --raw`: each domain's values, by the domain's name.
pub fn parse_virsh(text: &str) -> BTreeMap<String, Values> {
    let mut domains = BTreeMap::<String, Values>::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Domain: '") {
            name.strip_suffix('\'').unwrap_or(name).clone_into(&mut current);
            domains.insert(current.clone(), Values::new());
        } else if let Some((key, value)) = line.trim_start().split_once('=')
            && let Some(values) = domains.get_mut(&current)
        {
            values.insert(key.to_owned(), value.to_owned());
        }
    }
    domains
}

/// `domstats-exporter scrape --format params`: each domain's values, by the domain's name.
///
/// # Errors
///
/// The line that is not of the format.
pub fn parse_params(text: &str) -> Result<BTreeMap<String, Values>, String> {
    let mut domains = BTreeMap::<String, Values>::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let wrong = || format!("not a line of typed parameters: {line}");
        let mut words = line.splitn(if line.starts_with("domain ") { 4 } else { 3 }, ' ');
        let (key, kind, value) = (words.next(), words.next(), words.next());
        if key == Some("domain") {
            let name = words.next().ok_or_else(wrong)?;
            current = serde_json::from_str(name).map_err(|_| wrong())?;
            domains.insert(current.clone(), Values::new());
            continue;
        }
        let (Some(key), Some(kind), Some(value)) = (key, kind, value) else {
            return Err(wrong());
        };
        let value = match kind {
            "string" => serde_json::from_str(value).map_err(|_| wrong())?,
            _ => value.to_owned(),
        };
        let values = domains.get_mut(&current).ok_or_else(wrong)?;
        values.insert(key.to_owned(), value);
    }
    Ok(domains)
}

/// A sample of a text exposition.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its name, with `_total`, `_bucket`...
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty where there is no such label.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The samples of an OpenMetrics or Prometheus text exposition.
///
/// # Errors
///
/// The line that cannot be read.
pub fn parse_exposition(text: &str) -> Result<Vec<Sample>, String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| parse_sample(line).ok_or_else(|| format!("not a sample: {line}")))
        .collect()
}

fn parse_sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            rest = loop {
                match chars.next()? {
                    (at, '"') => break &after[at + 1..],
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            if labels.insert(label.trim_start_matches(',').to_owned(), value).is_some() {
                return None;
            }
        }
        rest = &rest[1..];
    }
    Some(Sample { name: name.to_owned(), labels, value: rest.split_whitespace().next()?.parse().ok()? })
}
