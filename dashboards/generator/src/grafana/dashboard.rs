//! A dashboard: variables, annotations, links, and panels in rows.

use serde_json::{Value, json};

use super::{Panel, datasource, expand, query};

/// The version of the model: Grafana 10.4 and later read it as it is or migrate it.
const SCHEMA_VERSION: u32 = 39;
const TAG: &str = "libvirt";
/// What a link to another dashboard takes along: time range and data source.
pub(crate) const KEEP: &str = "${__url_time_range}&${datasource:queryparam}";
/// How many columns a dashboard has.
const WIDTH: u32 = 24;

/// A dashboard in the making.
#[derive(Debug)]
pub(crate) struct Dashboard {
    json: Value,
    rows: Vec<Row>,
}

/// Panels below a heading.
#[derive(Debug)]
pub(crate) struct Row {
    title: &'static str,
    collapsed: bool,
    panels: Vec<Panel>,
}

impl Row {
    /// A row that is open; Grafana asks for its data at once.
    pub(crate) fn open(title: &'static str, panels: Vec<Panel>) -> Self {
        Self { title, collapsed: false, panels }
    }

    /// A row that is closed; Grafana asks for its data when it is opened.
    pub(crate) fn closed(title: &'static str, panels: Vec<Panel>) -> Self {
        Self { title, collapsed: true, panels }
    }
}

/// A variable whose values are those of a label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// The label.
    pub(crate) label: &'static str,
    /// A metric with that label, and matchers that chain it to the variables before.
    pub(crate) of: &'static str,
    /// Whether it starts with one value instead of all.
    pub(crate) one: bool,
}

/// Takes the port off the hosts' names.
const WITHOUT_PORT: &str = r"/^(.+?)(?::\d+)?$/";
/// How many lines or rows the lists of the largest have.
const TOP: [&str; 4] = ["5", "10", "20", "50"];

impl Dashboard {
    /// A dashboard that starts with the last three hours.
    pub(crate) fn new(uid: &str, title: &str, description: &str) -> Self {
        let json = json!({
            "uid": uid,
            "title": title,
            "description": description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "liveNow": false,
            "weekStart": "",
            "timezone": "browser",
            "refresh": "1m",
            "time": {"from": "now-3h", "to": "now"},
            "timepicker": {},
            "annotations": {"list": [{
                "builtIn": 1, "name": "Annotations & Alerts", "type": "dashboard", "enable": true, "hide": true,
                "iconColor": "rgba(0, 211, 255, 1)", "datasource": {"type": "grafana", "uid": "-- Grafana --"},
            }]},
            "links": [{
                "title": "libvirt", "type": "dashboards", "tags": [TAG], "asDropdown": true, "includeVars": true,
                "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "The other libvirt dashboards",
                "url": "",
            }],
            "templating": {"list": [{
                "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "regex": "",
                "refresh": 1, "hide": 0, "multi": false, "includeAll": false, "skipUrlSync": false, "options": [],
            }]},
        });
        Self { json, rows: Vec::new() }
    }

    /// Adds a variable with several values, all of them to begin with unless it says one.
    pub(crate) fn variable(self, variable: Variable) -> Self {
        let query = format!("label_values({}, {})", expand(variable.of), variable.label);
        let mut json = json!({
            "name": variable.name, "label": variable.name, "type": "query", "datasource": datasource(),
            "query": {"query": query, "refId": "StandardVariableQuery", "qryType": 1}, "definition": query,
            "refresh": 2, "sort": 1, "hide": 0, "regex": "", "multi": true, "includeAll": true, "allValue": ".+",
            "skipUrlSync": false, "options": [],
        });
        // Without a current value Grafana takes the first.
        if !variable.one {
            json["current"] = json!({"selected": true, "text": ["All"], "value": ["$__all"]});
        }
        if variable.label == "instance" {
            json["regex"] = json!(WITHOUT_PORT);
        }
        self.add_variable(json)
    }

    fn add_variable(mut self, variable: Value) -> Self {
        if let Some(list) = self.json["templating"]["list"].as_array_mut() {
            list.push(variable);
        }
        self
    }

    /// Adds the variable that all dashboards have, `instance`: with one host to begin with, or all.
    pub(crate) fn hosts(self, one: bool) -> Self {
        self.variable(Variable { name: "instance", label: "instance", of: "libvirt_up", one })
    }

    /// Adds the variable `top`: how many guests are shown one by one.
    pub(crate) fn top(self) -> Self {
        let option = |value: &str| json!({"text": value, "value": value, "selected": value == "10"});
        let options: Vec<Value> = TOP.iter().map(|value| option(value)).collect();
        self.add_variable(json!({
            "name": "top", "label": "top", "type": "custom", "query": TOP.join(","), "current": option("10"),
            "options": options, "hide": 0, "multi": false, "includeAll": false, "skipUrlSync": false,
        }))
    }

    /// Marks the points in time at which `expression` has a result; a result whose value is a time in milliseconds is
    /// marked there instead, if `at_value`.
    pub(crate) fn annotation(
        mut self,
        name: &str,
        color: &str,
        expression: &str,
        text: [&str; 2],
        at_value: bool,
    ) -> Self {
        let [title, text] = text;
        if let Some(list) = self.json["annotations"]["list"].as_array_mut() {
            list.push(json!({
                "name": name, "enable": true, "hide": false, "iconColor": color, "datasource": datasource(),
                "target": {"refId": "Anno", "expr": query(expression), "interval": "30s"},
                "titleFormat": title, "textFormat": text, "tagKeys": "",
                "useValueForTime": if at_value { "on" } else { "" },
            }));
        }
        self
    }

    /// Adds a row.
    pub(crate) fn row(mut self, row: Row) -> Self {
        self.rows.push(row);
        self
    }

    /// The finished JSON: each panel has a number and a place, from left to right and from top to bottom.
    pub(crate) fn build(mut self) -> Value {
        let mut layout = Layout { id: 0, y: 0, openers: Vec::new() };
        let mut panels = Vec::new();
        for row in self.rows {
            let mut heading = json!({
                "type": "row", "title": row.title, "collapsed": row.collapsed, "panels": [], "id": layout.next_id(),
                "gridPos": {"x": 0, "y": layout.y, "w": WIDTH, "h": 1},
            });
            layout.y += 1;
            let placed = layout.place(row.panels);
            if row.collapsed {
                heading["panels"] = Value::Array(placed);
                panels.push(heading);
            } else {
                panels.push(heading);
                panels.extend(placed);
            }
        }
        for (opener, title) in layout.openers {
            let Some(opened) = panels.iter().find(|panel| panel["title"] == title).map(|panel| panel["id"].clone())
            else {
                continue;
            };
            let url = format!(
                "/d/{}?{KEEP}&${{instance:queryparam}}&viewPanel={opened}",
                self.json["uid"].as_str().unwrap_or_default()
            );
            if let Some(opener) = panels.iter_mut().find(|panel| panel["id"] == opener) {
                opener["fieldConfig"]["defaults"]["links"] =
                    json!([{"title": title, "url": url, "targetBlank": false}]);
            }
        }
        self.json["panels"] = Value::Array(panels);
        self.json
    }
}

struct Layout {
    id: u32,
    y: u32,
    /// Panels that open another one, by its title.
    openers: Vec<(u32, &'static str)>,
}

impl Layout {
    fn next_id(&mut self) -> u32 {
        self.id += 1;
        self.id
    }

    fn place(&mut self, panels: Vec<Panel>) -> Vec<Value> {
        let (mut x, mut tallest) = (0, 0);
        let mut placed = Vec::new();
        for mut panel in panels {
            if x + panel.width > WIDTH {
                self.y += tallest;
                (x, tallest) = (0, 0);
            }
            let id = self.next_id();
            panel.json["id"] = json!(id);
            self.openers.extend(panel.opens.map(|title| (id, title)));
            panel.json["gridPos"] = json!({"x": x, "y": self.y, "w": panel.width, "h": panel.height});
            x += panel.width;
            tallest = tallest.max(panel.height);
            placed.push(panel.json);
        }
        self.y += tallest;
        placed
    }
}
