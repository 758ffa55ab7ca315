//! The targets of `/probe` on the landing page.

use super::landing::Escaped;
use super::overview::{Target, TargetState};
use crate::config::PROBE_PATHS;

/// Targets that are listed; `/probe-targets` has them all.
const LISTED: usize = 100;

/// The other daemons, with links to their metrics.
pub(super) fn targets(targets: &[Target]) -> String {
    if targets.is_empty() {
        return String::new();
    }
    let row = |Target { name, uri, state }: &Target| {
        let state = match state {
            TargetState::Closed => "not probed recently".to_owned(),
            TargetState::Opening => "connecting".to_owned(),
            TargetState::Good(domains) => format!("{domains} domains"),
            TargetState::Bad { error, remedy } => format!("failed: {error}; remedy: {remedy}"),
        };
        let query = form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
        let (path, name, uri, state) = (PROBE_PATHS[0], Escaped(name), Escaped(uri), Escaped(&state));
        format!("<li><a href=\"{path}?target={query}\"><b>{name}</b></a> <small>{uri}: {state}</small></li>\n")
    };
    let mut rows: String = targets.iter().take(LISTED).map(row).collect();
    if let Some(more) = targets.len().checked_sub(LISTED).filter(|more| *more > 0) {
        rows.push_str(&format!("<li class=\"soft\">and {more} more</li>\n"));
    }
    let count = targets.len();
    format!("<section class=\"wide\">\n<h2>Targets: {count}</h2>\n<ul class=\"rows\">\n{rows}</ul>\n</section>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_a_link_and_a_state() {
        let target =
            |name: &str, state| Target { name: name.to_owned(), uri: "qemu+tls://h/<system>".to_owned(), state };
        let page = targets(&[
            target("pods/a", TargetState::Good(3)),
            target("b", TargetState::Bad { error: "no <route>".to_owned(), remedy: "correct it".to_owned() }),
            target("c", TargetState::Closed),
            target("test:///x?y&z", TargetState::Opening),
        ]);
        for part in [
            "<h2>Targets: 4</h2>",
            "<a href=\"/probe?target=pods%2Fa\"><b>pods/a</b></a> <small>qemu+tls://h/&lt;system&gt;: 3 domains</small>",
            "failed: no &lt;route&gt;; remedy: correct it",
            "not probed recently",
            "target=test%3A%2F%2F%2Fx%3Fy%26z\"",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        let many: Vec<Target> =
            (0..LISTED + 5).map(|number| target(&number.to_string(), TargetState::Closed)).collect();
        assert!(targets(&many).contains("and 5 more") && targets(&[]).is_empty());
    }
}
