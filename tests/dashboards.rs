//! The dashboards as files: valid for Grafana, and asking only for what the exporter exports.
//!
//! `dashboards_live.rs` asks a Prometheus all of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/grafana.rs"]
mod grafana;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/promql.rs"]
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use grafana::{annotations, interpolate, panels, queries, text, variables};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dashboards() -> Vec<Value> {
    // Made once: it takes a second, and every test wants them.
    static ALL: LazyLock<Vec<Value>> = LazyLock::new(dashboards::dashboards);
    ALL.clone()
}

/// A file of `tests/fixtures/grafana`; its README says where they come from.
fn fixture(name: &str) -> String {
    fs::read_to_string(root().join("tests/fixtures/grafana").join(name)).expect("a fixture")
}

#[test]
fn the_files_are_current() {
    for file in dashboards::files() {
        let found = fs::read_to_string(root().join(&file.path)).unwrap_or_default();
        assert!(found == file.contents, "{} is not what `cargo run -p dashboards` writes", file.path);
    }
}

#[test]
fn grafana_knows_every_field() {
    let schemas: Value = serde_json::from_str(&fixture("schemas.json")).unwrap();
    let check = |schema: &str, what: &Value, place: &str| {
        let validator = jsonschema::validator_for(&schemas[schema]).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(what).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{place} as a {schema}: {errors:#?}");
    };
    for dashboard in dashboards() {
        check("dashboard", &without_data_source_fields(&dashboard), &text(&dashboard["title"]));
        for panel in panels(&dashboard) {
            let (kind, place) = (text(&panel["type"]), text(&panel["title"]));
            check(&format!("{kind} Options"), &panel["options"], &place);
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            let schema = format!("{kind} FieldConfig");
            assert_eq!(schemas.get(&schema).is_some(), !custom.is_null(), "{place}: {schema}");
            if !custom.is_null() {
                // Overrides are written into the same fields.
                let mut custom = custom.clone();
                for property in panel["fieldConfig"]["overrides"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|over| over["properties"].as_array().unwrap())
                {
                    if let Some(field) = property["id"].as_str().unwrap().strip_prefix("custom.") {
                        custom[field] = property["value"].clone();
                        check(&schema, &custom, &format!("{place}, {field}"));
                    }
                }
                check(&schema, &custom, &place);
            }
        }
    }
}

/// The dashboard without the fields that Grafana's Prometheus plugin adds to the model.
fn without_data_source_fields(dashboard: &Value) -> Value {
    let mut dashboard = dashboard.clone();
    for annotation in dashboard["annotations"]["list"].as_array_mut().unwrap() {
        let fields = annotation.as_object_mut().unwrap();
        let foreign = ["target", "titleFormat", "textFormat", "tagKeys", "useValueForTime"];
        fields.retain(|name, _| !foreign.contains(&name.as_str()));
    }
    for variable in dashboard["templating"]["list"].as_array_mut().unwrap() {
        variable.as_object_mut().unwrap().remove("definition");
    }
    dashboard
}

/// A schema that lets everything pass would prove nothing.
#[test]
fn the_schema_refuses_a_typing_error() {
    let schemas: Value = serde_json::from_str(&fixture("schemas.json")).unwrap();
    let validator = jsonschema::validator_for(&schemas["dashboard"]).unwrap();
    let mut dashboard = without_data_source_fields(&dashboards()[0]);
    assert!(validator.is_valid(&dashboard));
    dashboard["panels"][1]["titel"] = json!("x");
    assert!(!validator.is_valid(&dashboard));
    let options = jsonschema::validator_for(&schemas["timeseries Options"]).unwrap();
    assert!(!options.is_valid(&json!({"legend": {"showLegend": "yes"}, "tooltip": {}})));
}

/// The rules of Grafana's dashboard-linter, and those of this project.
#[test]
fn dashboards_follow_the_linters_rules() {
    let units = fixture("units.txt");
    let units: BTreeSet<&str> = units.lines().collect();
    let mut uids = BTreeSet::new();
    for dashboard in dashboards() {
        let title = text(&dashboard["title"]);
        assert!(
            uids.insert(text(&dashboard["uid"])) && text(&dashboard["uid"]).starts_with("libvirt-"),
            "{title}: uid"
        );
        assert!(
            title.starts_with("Libvirt / ") && dashboard["id"].is_null() && dashboard["__inputs"].is_null(),
            "{title}"
        );
        assert_eq!(dashboard["editable"], false, "{title}");
        let version = dashboard["schemaVersion"].as_u64().unwrap();
        assert!((39..=41).contains(&version), "{title}: schemaVersion {version}");
        check_templating(&title, &dashboard);
        let link = &dashboard["links"][0];
        assert!(
            link["includeVars"] == true && link["keepTime"] == true && link["tags"] == dashboard["tags"],
            "{title}: {link}"
        );
        let ids: Vec<u64> = panels(&dashboard).iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{title}: a panel's number is there twice");
        for panel in panels(&dashboard) {
            let place = format!("{title}: {}", text(&panel["title"]));
            assert!(!text(&panel["title"]).is_empty(), "{place}: title");
            let description = text(&panel["description"]);
            assert!(description.len() > 15 && description.ends_with('.'), "{place}: description");
            assert_eq!(panel["datasource"], json!({"type": "prometheus", "uid": "${datasource}"}), "{place}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{place}: no query");
            for query in queries(&dashboard, panel) {
                let shown = query.unit.as_str();
                let known = shown.is_empty() || units.contains(shown) || shown.starts_with("count:");
                assert!(known, "{place}: unit {}", query.unit);
                check_selectors(&query.place, &query.expression);
            }
        }
        for (name, expression) in annotations(&dashboard) {
            check_selectors(&format!("{title}: annotation {name}"), &expression);
        }
    }
    assert_eq!(uids.len(), 6);
}

fn check_templating(title: &str, dashboard: &Value) {
    let list = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!((&list[0]["type"], &list[0]["name"]), (&json!("datasource"), &json!("datasource")), "{title}");
    assert_eq!((&list[0]["label"], &list[0]["query"]), (&json!("Data source"), &json!("prometheus")), "{title}");
    let list: Vec<&Value> = list[1..].iter().filter(|variable| variable["type"] == "query").collect();
    let names: Vec<String> = list.iter().map(|variable| text(&variable["name"])).collect();
    // No `job`, which the linter would like: a host is not split by the jobs that scrape it.
    assert_eq!(names[0], "instance", "{title}");
    for (index, variable) in list.iter().enumerate() {
        let name = text(&variable["name"]);
        assert_eq!(variable["label"], json!(name), "{title}: {name}");
        assert_eq!(variable["datasource"]["uid"], "${datasource}", "{title}: {name}");
        assert!(
            variable["multi"] == true && variable["includeAll"] == true && variable["allValue"] == ".+",
            "{title}: {name}"
        );
        assert_eq!(variable["refresh"], 2, "{title}: {name} follows the time range");
        // Chained: each is narrowed by all before it.
        let query = text(&variable["query"]["query"]);
        for before in &names[..index] {
            assert!(query.contains(&format!("${before}")), "{title}: {query} is not chained to {before}");
        }
        // A host's name has no port.
        let pattern = text(&variable["regex"]);
        assert_eq!(name == "instance", !pattern.is_empty(), "{title}: {name}");
        if name == "instance" {
            let pattern = regex::Regex::new(pattern.trim_matches('/')).unwrap();
            for (address, host) in [("node-1:9177", "node-1"), ("node-1", "node-1"), ("[::1]:9177", "[::1]")] {
                assert_eq!(&pattern.captures(address).unwrap()[1], host, "{title}");
            }
        }
    }
}

/// Every selector is narrowed by the variables, and every range is one that fits the scrape interval.
fn check_selectors(place: &str, expression: &str) {
    for (name, matchers) in promql::selectors(&interpolate(expression, &[])).unwrap_or_else(|e| panic!("{place}: {e}"))
    {
        // What tells the exporter's jobs from others, also where all chosen hosts are down.
        let of_jobs = expression.contains(&format!("group by (job) ({name})")) || name.starts_with("job:");
        let of_jobs = of_jobs && matchers.is_empty();
        let chosen = matchers.contains("instance=~\"($instance)(:.*)?\"");
        assert!(chosen || of_jobs, "{place}: {name} {matchers:?} is not narrowed to the chosen hosts");
    }
    for function in ["rate(", "increase("] {
        for (start, _) in expression.match_indices(function) {
            let mut parts = expression[start..].split(['[', ']']);
            let (range, after) = (parts.nth(1).unwrap(), parts.next().unwrap());
            // All of the time that is shown, once, to choose the guests by.
            let whole = range == "$__range" && after.starts_with(" @ end()");
            assert!(range == "$__rate_interval" || whole, "{place}: {expression}");
        }
    }
}

/// The heart of it: no metric or label that the exporter does not have, no unit that the values are not in, no two lines of
/// one name.
#[test]
fn every_query_means_what_its_panel_says() {
    let metrics = metrics::with_rules();
    let mut wrong = Vec::new();
    let mut count = 0;
    for dashboard in dashboards() {
        for query in panels(&dashboard).into_iter().flat_map(|panel| queries(&dashboard, panel)) {
            count += 1;
            let what = match metrics.check(&interpolate(&query.expression, &[])) {
                Ok(what) => what,
                Err(error) => {
                    wrong.push(format!("{}: {error}", query.place));
                    continue;
                }
            };
            if !query.heatmap && !query.unit.is_empty() && !promql::fits_grafana(&query.unit, what.dimension) {
                wrong
                    .push(format!("{}: {} is {:?}, not {}", query.place, query.expression, what.dimension, query.unit));
            }
            let labels = what.labels.unwrap_or_default();
            wrong
                .extend(naming(&query, &labels).map(|error| format!("{}: {error}: {}", query.place, query.expression)));
        }
        for (name, expression) in annotations(&dashboard) {
            let checked = metrics.check(&interpolate(&expression, &[]));
            wrong.extend(checked.err().map(|error| format!("{}: {name}: {error}", dashboard["title"])));
        }
        for (series, label) in variables(&dashboard) {
            let has = metrics.labels(&interpolate(&series, &[])).map(|labels| labels.contains(&label));
            if has != Ok(true) {
                wrong.push(format!("{}: {label} of {series}: {has:?}", dashboard["title"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "only {count} queries");
}

/// What an alert and a colour are about changes both at the same numbers.
#[test]
fn colors_change_where_alerts_fire() {
    // A part of the expressions, and the alerts. Numbers of what is left stand for those of what is used.
    const SAME: [(&str, &str); 9] = [
        ("guest_filesystem_used", "LibvirtGuestFilesystemNearlyFull"),
        ("block_allocation_bytes", "LibvirtThinImageNearlyFull|LibvirtThinImageFull"),
        ("block_thin_image:ratio", "LibvirtThinImageNearlyFull|LibvirtThinImageFull"),
        ("pool_available_bytes", "LibvirtPoolNearlyFull|LibvirtPoolFull"),
        ("pool_used:ratio", "LibvirtPoolNearlyFull|LibvirtPoolFull"),
        ("vcpu_delay", "LibvirtDomainStealHigh"),
        ("memory_usable", "LibvirtDomainMemoryPressure"),
        ("quota", "LibvirtDomainAtCpuQuota"),
        ("throttle", "LibvirtBlockAtThrottle"),
    ];
    let number = regex::Regex::new(r"^[\w:]+ [<>] ([\d.]+)").unwrap();
    let rules: Vec<_> = dashboards::alerts::groups().into_iter().flat_map(|group| group.rules).collect();
    let mut seen = BTreeSet::new();
    for dashboard in dashboards() {
        for query in panels(&dashboard).into_iter().flat_map(|panel| queries(&dashboard, panel)) {
            // A count of guests is coloured by their number, and some numbers are only informed about.
            if query.unit != "percentunit" || query.limits.is_empty() {
                continue;
            }
            let Some((part, names)) = SAME.iter().find(|(part, _)| query.expression.contains(part)) else { continue };
            let alerts = rules.iter().filter(|rule| names.split('|').any(|name| rule.alert == Some(name)));
            let mut fires: Vec<f64> = alerts
                .map(|rule| number.captures(&rule.expr).unwrap_or_else(|| panic!("{}", rule.expr))[1].parse().unwrap())
                .collect();
            fires.sort_by(f64::total_cmp);
            let left: Vec<f64> = fires.iter().rev().map(|number| 1.0 - number).collect();
            let same = |of: &[f64]| {
                of.len() == query.limits.len() && of.iter().zip(&query.limits).all(|(a, b)| (a - b).abs() < 1e-9)
            };
            assert!(same(&fires) || same(&left), "{}: {:?}, but {names} at {fires:?}", query.place, query.limits);
            seen.insert(*part);
        }
    }
    assert_eq!(seen.len(), SAME.len(), "no colour for some of them: {seen:?}");
}

/// What the number of scrape jobs of a host would change is refused.
#[test]
fn no_query_may_depend_on_the_jobs_that_scrape_a_host() {
    let metrics = metrics::with_rules();
    for (expression, fault) in [
        ("sum(libvirt_up)", "each series as often as there are jobs"),
        ("avg by (instance) (libvirt_host_cpus)", "each series as often as there are jobs"),
        ("libvirt_up == 0", "as many results as there are jobs"),
        ("rate(libvirt_domain_cpu_time_seconds_total[5m])", "as many results as there are jobs"),
        (
            "max without (job) (libvirt_host_cpus and on (instance) libvirt_up)",
            "a match of series that may be of different jobs",
        ),
    ] {
        let found = metrics.check(expression);
        assert!(found.as_ref().is_err_and(|error| error.contains(fault)), "{expression}: {found:?}");
    }
    for expression in ["sum(max without (job) (libvirt_up))", "sum without (job) (libvirt_exporter_series)"] {
        assert!(metrics.check(expression).is_ok(), "{expression}: {:?}", metrics.check(expression));
    }
}

/// What is wrong with the names of a query's lines.
fn naming(query: &grafana::Query, labels: &BTreeSet<String>) -> Option<String> {
    let pattern = regex::Regex::new(r"\{\{(\w+)\}\}").unwrap();
    let mut named: BTreeSet<String> = pattern.captures_iter(&query.legend).map(|found| found[1].to_owned()).collect();
    named.extend(query.table.clone().unwrap_or_default());
    if query.table.is_none()
        && let Some(missing) = named.iter().find(|label| !labels.contains(*label))
    {
        return Some(format!("the legend's {missing} is not in the result"));
    }
    // One host has one domain of a name, and it is chosen above the panels which hosts these are.
    let known = if query.place.starts_with("Libvirt / Fleet") || query.place.starts_with("Libvirt / Exporter") {
        vec!["uuid"]
    } else {
        vec!["instance", "uuid"]
    };
    let extra: Vec<&String> =
        labels.iter().filter(|label| !named.contains(*label) && !known.contains(&label.as_str())).collect();
    (!extra.is_empty()).then(|| format!("lines differ in {extra:?}, but not in name"))
}

#[test]
fn panels_do_not_overlap_and_fill_their_rows() {
    for dashboard in dashboards() {
        let rows = dashboard["panels"].as_array().unwrap();
        let open: Vec<&Value> = rows.iter().collect();
        let closed = rows
            .iter()
            .filter(|row| row["collapsed"] == true)
            .map(|row| row["panels"].as_array().unwrap().iter().collect());
        for panels in closed.chain([open]).collect::<Vec<Vec<&Value>>>() {
            let mut cells = BTreeMap::new();
            for panel in panels {
                let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
                assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
                for (x, y) in
                    (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
                {
                    let other = cells.insert((x, y), &panel["title"]);
                    assert_eq!(other, None, "{} covers it at {x}, {y}", panel["title"]);
                }
            }
            // No hole to the right of a panel.
            let lines: BTreeSet<u64> = cells.keys().map(|(_, y)| *y).collect();
            for y in lines {
                assert!(
                    (0..24).all(|x| cells.contains_key(&(x, y))),
                    "{}: a hole beside {:?}",
                    dashboard["title"],
                    cells.iter().find(|((_, at), _)| *at == y)
                );
            }
        }
    }
}

#[test]
fn links_lead_to_dashboards_and_take_everything_along() {
    let all = dashboards();
    let uids: Vec<String> = all.iter().map(|dashboard| text(&dashboard["uid"])).collect();
    let link = regex::Regex::new(r#""url": "(/d/[^"]+)""#).unwrap();
    let mut count = 0;
    for dashboard in &all {
        let json = format!("{dashboard:#}");
        for found in link.captures_iter(&json) {
            count += 1;
            let (path, query) = found[1].split_once('?').unwrap();
            let target = all.iter().find(|other| format!("/d/{}", text(&other["uid"])) == path);
            let target = target.unwrap_or_else(|| panic!("{path} is none of {uids:?}"));
            let names: Vec<String> =
                target["templating"]["list"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
            for parameter in query.split('&') {
                let known = match parameter.split_once('=') {
                    Some(("viewPanel", id)) => {
                        panels(target).iter().any(|panel| panel["id"].as_u64() == id.parse().ok())
                    }
                    Some((name, _)) => names.iter().any(|known| format!("var-{known}") == name),
                    None => {
                        parameter == "${__url_time_range}"
                            || names.iter().any(|known| parameter == format!("${{{known}:queryparam}}"))
                    }
                };
                assert!(known, "{path}: {parameter}");
            }
            assert!(query.contains("${__url_time_range}") && query.contains("${datasource:queryparam}"), "{query}");
        }
    }
    assert!(count > 5, "only {count} links");
}
