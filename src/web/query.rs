//! What a scrape asks to see, from the query of its URL: `?collect[]=group`, `?exclude[]=group`, `?domain[]=regex`,
//! `?naming=exporter`.

use std::collections::BTreeSet;

use thiserror::Error;

use super::limits::{MAX_DOMAIN_BYTES, MAX_DOMAINS};
use crate::collect::Selection;
use crate::config::{Group, MetricNaming, NamePatterns, ValueError, escape_controls};

/// Why a query cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// Two ways to say which groups.
    #[error("collect[] and exclude[] cannot be combined, use one of them")]
    CollectAndExclude,
    /// No group has this name.
    #[error("{parameter}: unknown group {name:?}, expected one of {known}")]
    UnknownGroup {
        /// `collect[]` or `exclude[]`.
        parameter: String,
        /// The name given.
        name: String,
        /// The configured ones, with backquotes and commas.
        known: String,
    },
    /// A group that is not collected.
    #[error("{parameter}: the group `{group}` is not in the configuration's collection.groups, which are {known}")]
    NotCollected {
        /// `collect[]` or `exclude[]`.
        parameter: String,
        /// The group.
        group: Group,
        /// The configured ones, with backquotes and commas.
        known: String,
    },
    /// More expressions than are compiled.
    #[error("there are more than {MAX_DOMAINS} domain[], join them with `|`")]
    TooManyDomains,
    /// Longer expressions than are compiled.
    #[error("all domain[] together have more than {MAX_DOMAIN_BYTES} bytes")]
    DomainsTooLong,
    /// An expression is none, or one that takes too much memory.
    #[error("{}", domain_fault(.0))]
    Domain(ValueError),
    /// There is no such naming.
    #[error("naming: {}", escape_controls(&.0.to_string()))]
    Naming(ValueError),
    /// The thread that compiled them has panicked.
    #[error("the expressions could not be compiled")]
    NotCompiled,
}

/// What a query asks for. Its expressions are not compiled yet, which is work that a request has to wait its turn for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Query {
    groups: Option<BTreeSet<Group>>,
    /// The sources of the expressions, sorted, each once.
    domains: Vec<String>,
    naming: Option<MetricNaming>,
}

/// Parses a query; `configured` are the groups that there are. Parameters that mean nothing here are let pass.
///
/// # Errors
/// If there is something wrong with a parameter.
pub fn parse_query(query: &str, configured: &[Group]) -> Result<Query, QueryError> {
    let mut collect = BTreeSet::new();
    let mut exclude = BTreeSet::new();
    let mut domains: Vec<String> = Vec::new();
    let mut naming = None;
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "collect[]" => _ = collect.insert(group(&name, &value, configured)?),
            "exclude[]" => _ = exclude.insert(group(&name, &value, configured)?),
            "domain[]" => {
                count += 1;
                bytes += value.len();
                if count > MAX_DOMAINS {
                    return Err(QueryError::TooManyDomains);
                }
                if bytes > MAX_DOMAIN_BYTES {
                    return Err(QueryError::DomainsTooLong);
                }
                domains.push(value.into_owned());
            }
            "naming" => naming = Some(value.parse().map_err(QueryError::Naming)?),
            _ => {}
        }
    }
    let groups = match (collect.is_empty(), exclude.is_empty()) {
        (true, true) => None,
        (false, true) => Some(collect),
        (true, false) => Some(configured.iter().copied().filter(|group| !exclude.contains(group)).collect()),
        (false, false) => return Err(QueryError::CollectAndExclude),
    };
    // What names all is the same as what names none, and can share its collections.
    let groups = groups.filter(|groups: &BTreeSet<Group>| configured.iter().any(|group| !groups.contains(group)));
    domains.sort();
    domains.dedup();
    Ok(Query { groups, domains, naming })
}

impl Query {
    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.groups.is_none() && self.domains.is_empty()
    }

    /// Whose names the metrics shall have; `None` for those of the configuration.
    pub(super) fn naming(&self) -> Option<MetricNaming> {
        self.naming
    }

    /// Whether there are no expressions to compile.
    pub(super) fn is_cheap(&self) -> bool {
        self.domains.is_empty()
    }

    /// Compiles the expressions, which takes some ten milliseconds where they use all that they may: not for async threads.
    ///
    /// # Errors
    /// If one is no expression, or they take too much memory.
    pub fn compile(&self) -> Result<Selection, QueryError> {
        let domains = NamePatterns::new(self.domains.clone()).map_err(QueryError::Domain)?;
        Ok(Selection { groups: self.groups.clone(), domains })
    }
}

/// An expression may hold line breaks, but an error is one line.
fn domain_fault(error: &ValueError) -> String {
    escape_controls(&format!("domain[]: {error}"))
}

fn group(parameter: &str, name: &str, configured: &[Group]) -> Result<Group, QueryError> {
    let known = || {
        let names: Vec<String> = configured.iter().map(|group| format!("`{group}`")).collect();
        names.join(", ")
    };
    let parameter = parameter.to_owned();
    match name.parse::<Group>() {
        Ok(group) if configured.contains(&group) => Ok(group),
        Ok(group) => Err(QueryError::NotCollected { parameter, group, known: known() }),
        Err(_) => Err(QueryError::UnknownGroup { parameter, name: name.to_owned(), known: known() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: [Group; 3] = [Group::State, Group::Block, Group::Vcpu];

    fn selection(query: &str) -> Selection {
        parse_query(query, &CONFIGURED).and_then(|query| query.compile()).expect(query)
    }

    #[test]
    fn what_is_asked_for_is_selected() {
        for everything in ["", "a=b&collect=x", "collect[]=state&collect[]=block&collect[]=vcpu"] {
            assert!(selection(everything).is_everything(), "{everything}");
        }
        let block = selection("collect[]=block");
        assert_eq!(block.groups, Some(BTreeSet::from([Group::Block])));
        assert_eq!(block, selection("collect%5B%5D=block&collect%5b%5d=block"));
        assert_eq!(block, selection("exclude[]=state&exclude[]=vcpu"));
        let domains = selection("domain[]=web-%5B0-9%5D%2B&domain[]=a+b");
        assert!(domains.selects("web-12") && domains.selects("a b") && !domains.selects("web-"));
        assert_eq!(domains, selection("domain[]=a%20b&domain[]=web-[0-9]%2B&domain[]=a+b"));
        let asked = |query| parse_query(query, &CONFIGURED).map(|query| query.naming());
        assert_eq!((asked(""), asked("naming=tinkoff")), (Ok(None), Ok(Some(MetricNaming::Tinkoff))));
        let none = selection("exclude[]=state&exclude[]=vcpu&exclude[]=block");
        assert_eq!(none.groups, Some(BTreeSet::new()));
    }

    #[test]
    fn each_bad_query_gets_one_sentence() {
        for (query, expected) in [
            ("collect[]=state&exclude[]=vcpu", "collect[] and exclude[] cannot be combined, use one of them"),
            ("collect[]=blok", "collect[]: unknown group \"blok\", expected one of `state`, `block`, `vcpu`"),
            ("exclude[]=", "exclude[]: unknown group \"\", expected one of `state`, `block`, `vcpu`"),
            (
                "collect[]=vm",
                "collect[]: the group `vm` is not in the configuration's collection.groups, which are `state`, `block`, `vcpu`",
            ),
            (
                "naming=nova",
                "naming: unknown naming of metrics `nova`, expected one of `native`, `tinkoff`, `inovex`, `kumina`, `vexxhost`",
            ),
            ("domain[]=a[", "domain[]: bad regular expression `a[`: unclosed character class"),
            ("domain[]=%0A[", "domain[]: bad regular expression `\\n[`: unclosed character class"),
        ] {
            let refused = parse_query(query, &CONFIGURED).and_then(|query| query.compile());
            assert_eq!(refused.expect_err(query).to_string(), expected);
        }
        let many = "domain[]=a&".repeat(33);
        let refused = parse_query(&many, &CONFIGURED);
        let text = refused.expect_err("too many").to_string();
        assert_eq!(text, "there are more than 32 domain[], join them with `|`");
        let long = format!("domain[]={}&domain[]={}", "a".repeat(2000), "b".repeat(49));
        let refused = parse_query(&long, &CONFIGURED);
        let text = refused.expect_err("too long").to_string();
        assert_eq!(text, "all domain[] together have more than 2048 bytes");
    }

    #[test]
    fn a_query_that_is_refused_compiles_nothing() {
        let expressions: String = (0..31).map(|number| format!("domain[]=%5Cw{{82}}{number}&")).collect();
        let refused = parse_query(&format!("{expressions}collect[]=nonsense"), &CONFIGURED);
        assert!(matches!(refused, Err(QueryError::UnknownGroup { .. })));
        let query = parse_query(&expressions, &CONFIGURED).expect("what it costs is seen when it is compiled");
        assert!(query.compile().is_err_and(|error| error.to_string().ends_with("more than 1 MiB when compiled")));
    }
}
