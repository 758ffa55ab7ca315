//! The page at `/`: what this is, and where to go from here. Plain HTML, readable without style or script.

use std::fmt::{self, Display, Formatter};

/// What the landing page shows besides name, version and links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// What there is to say about the exporter's state, each with a heading: (`libvirt`, `connected to qemu:///system`).
    pub facts: Vec<(&'static str, String)>,
}

/// Renders the page.
pub(super) fn render(overview: &Overview, telemetry_path: &str) -> String {
    let facts: String = overview
        .facts
        .iter()
        .map(|(heading, fact)| format!("<dt>{}</dt><dd>{}</dd>\n", Escaped(heading), Escaped(fact)))
        .collect();
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>domstats-exporter</title>
</head>
<body>
<h1>domstats-exporter</h1>
<p>Prometheus exporter for the statistics of libvirt domains.</p>
<dl>
<dt>Version</dt><dd>{version}</dd>
{facts}</dl>
<ul>
<li><a href="{path}">Metrics</a></li>
<li><a href="/-/ready">Ready?</a></li>
<li><a href="/-/healthy">Healthy?</a></li>
</ul>
</body>
</html>
"#,
        version = env!("CARGO_PKG_VERSION"),
        path = Escaped(telemetry_path),
    )
}

/// Text that is safe within an element and within a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => write!(f, "{other}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_from_outside_is_escaped() {
        let overview = Overview { facts: vec![("libvirt", "<script>\"a\" & 'b'</script>".to_owned())] };
        let page = render(&overview, "/a'b&c");
        assert!(
            page.contains("<dt>libvirt</dt><dd>&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;</dd>\n")
        );
        assert!(page.contains("<a href=\"/a&#39;b&amp;c\">Metrics</a>"));
        assert!(!page.contains("<script>"));
    }
}
