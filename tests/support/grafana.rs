//! What a dashboard asks for: its queries, found in the JSON as Grafana would find them.

use serde_json::Value;

/// A query of a panel.
#[derive(Debug, Clone)]
pub struct Query {
    /// `Libvirt / Host: Domains`, for messages.
    pub place: String,
    pub expression: String,
    /// The name of a line; empty in a table.
    pub legend: String,
    /// The unit that its values are shown in; empty where they are not shown.
    pub unit: String,
    /// The numbers at which its colour changes.
    pub limits: Vec<f64>,
    /// Whether it is asked for one point in time.
    pub instant: bool,
    /// The columns' labels, if it is a table's.
    pub table: Option<Vec<String>>,
    /// A heatmap takes its label `le` as the axis.
    pub heatmap: bool,
}

/// All panels of a dashboard, those in closed rows included, without the rows.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let outer = dashboard["panels"].as_array().expect("panels");
    let inner = outer.iter().filter_map(|panel| panel["panels"].as_array()).flatten();
    outer.iter().chain(inner).filter(|panel| panel["type"] != "row").collect()
}

/// All queries of a panel.
pub fn queries(dashboard: &Value, panel: &Value) -> Vec<Query> {
    let targets = panel["targets"].as_array().expect("targets");
    let table = panel["type"] == "table";
    targets
        .iter()
        .map(|target| {
            let legend = text(&target["legendFormat"]);
            let column =
                if targets.len() == 1 { "Value".to_owned() } else { format!("Value #{}", text(&target["refId"])) };
            let name = if table { text(&organize(panel)["renameByName"][&column]) } else { legend.clone() };
            let query = Query {
                place: format!("{}: {}", text(&dashboard["title"]), text(&panel["title"])),
                expression: text(&target["expr"]),
                legend,
                unit: if table && name.is_empty() { String::new() } else { text(property(panel, &name, "unit")) },
                limits: limits(property(panel, &name, "thresholds")),
                instant: target["instant"] == true,
                table: table.then(|| columns(panel)),
                heatmap: panel["type"] == "heatmap",
            };
            // The value of a query for the sake of its labels is not shown.
            if table && name.is_empty() {
                assert_eq!(organize(panel)["excludeByName"][&column], true, "{}: {column}", query.place);
            }
            query
        })
        .collect()
}

/// A property of the field or column `name`: the panel's, or an override's.
fn property<'a>(panel: &'a Value, name: &str, id: &str) -> &'a Value {
    let overrides = panel["fieldConfig"]["overrides"].as_array().expect("overrides");
    let applies = |matcher: &Value| {
        let options = matcher["options"].as_str().unwrap_or_default();
        match matcher["id"].as_str() {
            Some("byName") => options == name,
            Some("byRegexp") => regex::Regex::new(options).expect("a regular expression").is_match(name),
            _ => panic!("the matcher {matcher} is not known here"),
        }
    };
    let own = overrides
        .iter()
        .filter(|over| applies(&over["matcher"]))
        .flat_map(|over| over["properties"].as_array().expect("properties"))
        .find(|property| property["id"] == id);
    own.map_or(&panel["fieldConfig"]["defaults"][id], |property| &property["value"])
}

fn limits(thresholds: &Value) -> Vec<f64> {
    thresholds["steps"].as_array().into_iter().flatten().filter_map(|step| step["value"].as_f64()).collect()
}

/// The labels that a table shows.
fn columns(panel: &Value) -> Vec<String> {
    let names = organize(panel)["renameByName"].as_object().expect("names");
    names.keys().filter(|field| !field.starts_with("Value")).cloned().collect()
}

/// The options of a table's transformation.
pub fn organize(panel: &Value) -> &Value {
    let transformations = panel["transformations"].as_array().expect("transformations");
    &transformations.iter().find(|one| one["id"] == "organize").expect("organize")["options"]
}

/// The expressions of the annotations that come from Prometheus, with their names.
pub fn annotations(dashboard: &Value) -> Vec<(String, String)> {
    let list = dashboard["annotations"]["list"].as_array().expect("annotations");
    let asked = list.iter().filter(|one| one["target"]["expr"].is_string());
    asked.map(|one| (text(&one["name"]), text(&one["target"]["expr"]))).collect()
}

/// The variables that come from Prometheus: the series whose label they take, and the label.
pub fn variables(dashboard: &Value) -> Vec<(String, String)> {
    let list = dashboard["templating"]["list"].as_array().expect("variables");
    let query = regex::Regex::new(r"^label_values\((.+), (\w+)\)$").expect("a regular expression");
    let queries = list.iter().filter(|one| one["type"] == "query");
    queries
        .map(|one| {
            let text = one["query"]["query"].as_str().expect("a query");
            let found = query.captures(text).unwrap_or_else(|| panic!("{text}"));
            (found[1].to_owned(), found[2].to_owned())
        })
        .collect()
}

/// An expression as Prometheus gets it: with ranges, and with variables at these values.
pub fn interpolate(expression: &str, values: &[(&str, &str)]) -> String {
    let ranges = expression.replace("$__rate_interval", "1m").replace("$__interval", "15s").replace("$__range", "3h");
    let chosen = values.iter().fold(ranges, |text, (name, value)| text.replace(&format!("${name}"), value));
    chosen.replace("$top", "10")
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
