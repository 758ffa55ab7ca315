//! What a scrape asks to see, from the query of its URL: `?collect[]=group`, `?exclude[]=group`, `?domain[]=regex`.

use std::collections::BTreeSet;

use crate::collect::Selection;
use crate::config::{AnchoredRegex, Group, escape_controls};

/// More than anybody writes into a scrape configuration; each costs some time to compile.
const MAX_DOMAINS: usize = 32;

/// Parses a query; `configured` are the groups that there are. Parameters that mean nothing here are let pass.
///
/// # Errors
/// One sentence.
pub fn parse_query(query: &str, configured: &[Group]) -> Result<Selection, String> {
    let mut collect = BTreeSet::new();
    let mut exclude = BTreeSet::new();
    let mut domains: Vec<AnchoredRegex> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "collect[]" => _ = collect.insert(group(&name, &value, configured)?),
            "exclude[]" => _ = exclude.insert(group(&name, &value, configured)?),
            "domain[]" if domains.len() == MAX_DOMAINS => {
                return Err(format!("there are more than {MAX_DOMAINS} domain[], join them with `|`"));
            }
            "domain[]" => domains.push(value.parse().map_err(|error| escape_controls(&format!("domain[]: {error}")))?),
            _ => {}
        }
    }
    let groups = match (collect.is_empty(), exclude.is_empty()) {
        (true, true) => None,
        (false, true) => Some(collect),
        (true, false) => Some(configured.iter().copied().filter(|group| !exclude.contains(group)).collect()),
        (false, false) => return Err("collect[] and exclude[] do not go together, use one of them".to_owned()),
    };
    // What names all is the same as what names none, and can share its collections.
    let groups = groups.filter(|groups: &BTreeSet<Group>| configured.iter().any(|group| !groups.contains(group)));
    domains.sort_by_key(ToString::to_string);
    domains.dedup();
    Ok(Selection { groups, domains })
}

fn group(parameter: &str, word: &str, configured: &[Group]) -> Result<Group, String> {
    let known = || {
        let words: Vec<String> = configured.iter().map(|group| format!("`{group}`")).collect();
        words.join(", ")
    };
    match word.parse::<Group>() {
        Ok(group) if configured.contains(&group) => Ok(group),
        Ok(group) => Err(format!(
            "{parameter}: the group `{group}` is not in the configuration's collection.groups, which are {}",
            known()
        )),
        Err(_) => Err(format!("{parameter}: unknown group {word:?}, expected one of {}", known())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: [Group; 3] = [Group::State, Group::Block, Group::Vcpu];

    fn selection(query: &str) -> Selection {
        parse_query(query, &CONFIGURED).expect(query)
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
        let none = selection("exclude[]=state&exclude[]=vcpu&exclude[]=block");
        assert_eq!(none.groups, Some(BTreeSet::new()));
    }

    #[test]
    fn each_bad_query_gets_one_sentence() {
        for (query, expected) in [
            ("collect[]=state&exclude[]=vcpu", "collect[] and exclude[] do not go together, use one of them"),
            ("collect[]=blok", "collect[]: unknown group \"blok\", expected one of `state`, `block`, `vcpu`"),
            ("exclude[]=", "exclude[]: unknown group \"\", expected one of `state`, `block`, `vcpu`"),
            (
                "collect[]=vm",
                "collect[]: the group `vm` is not in the configuration's collection.groups, which are `state`, `block`, `vcpu`",
            ),
            ("domain[]=a[", "domain[]: bad regular expression `a[`: unclosed character class"),
            ("domain[]=%0A[", "domain[]: bad regular expression `\\n[`: unclosed character class"),
        ] {
            assert_eq!(parse_query(query, &CONFIGURED), Err(expected.to_owned()));
        }
        let many = "domain[]=a&".repeat(33);
        assert_eq!(
            parse_query(&many, &CONFIGURED),
            Err("there are more than 32 domain[], join them with `|`".to_owned())
        );
    }
}
