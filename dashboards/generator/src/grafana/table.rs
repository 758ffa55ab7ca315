//! Tables: one query a column, one row for each value of the labels that the queries share.

use serde_json::{Value, json};

use super::panel::mappings;
use super::{Panel, Unit, query};

/// A column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    name: &'static str,
    from: From,
    properties: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum From {
    /// The value of a query.
    Query(String),
    /// A label of the first query that has it.
    Label(&'static str),
}

impl Column {
    /// The value of `expression`, an instant query that keeps the labels of the rows and no other. Without a name it is asked
    /// for the sake of its labels only.
    pub(crate) fn query(name: &'static str, expression: &str, unit: Unit) -> Self {
        Self { name, from: From::Query(query(expression)), properties: vec![("unit", json!(unit.id()))] }
    }

    /// The value of a label.
    pub(crate) fn label(name: &'static str, label: &'static str) -> Self {
        Self { name, from: From::Label(label), properties: vec![("custom.filterable", json!(true))] }
    }

    /// The host, without its port.
    pub(crate) fn host() -> Self {
        let name = json!({"pattern": r"(.+?)(:\d+)?", "result": {"text": "$1", "index": 0}});
        let mut column = Self::label("Host", "instance").width(110);
        column.properties.push(("mappings", json!([{"type": "regex", "options": name}])));
        column
    }

    /// Its cells are coloured by value.
    pub(crate) fn colored(mut self, thresholds: Value) -> Self {
        self.properties.push(("thresholds", thresholds));
        self.properties.push(("color", json!({"mode": "thresholds"})));
        self.cell(json!({"type": "color-text"}))
    }

    /// Its cells are bars from zero to `max` or the largest value, coloured by value.
    pub(crate) fn bar(mut self, max: Option<f64>, thresholds: Value) -> Self {
        self.properties.push(("min", json!(0)));
        if let Some(max) = max {
            self.properties.push(("max", json!(max)));
        }
        self.properties.push(("thresholds", thresholds));
        self.properties.push(("color", json!({"mode": "thresholds"})));
        self.cell(json!({"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}))
    }

    /// Its cells are words and colours instead of values.
    pub(crate) fn words(mut self, words: &[(&str, &str, &str)]) -> Self {
        self.properties.push(("mappings", json!([mappings(words)])));
        self.cell(json!({"type": "color-text"}))
    }

    /// Its cells lead somewhere.
    pub(crate) fn link(mut self, title: &str, url: &str) -> Self {
        self.properties.push(("links", json!([{"title": title, "url": url, "targetBlank": false}])));
        self
    }

    /// The text of a cell without a value.
    fn absent(mut self) -> Self {
        self.properties.push(("noValue", json!(" ")));
        self
    }

    /// Its width in pixels.
    pub(crate) fn width(mut self, width: u32) -> Self {
        self.properties.push(("custom.width", json!(width)));
        self
    }

    fn cell(mut self, options: Value) -> Self {
        self.properties.push(("custom.cellOptions", options));
        self
    }
}

/// A table with one row for each set of labels, sorted by a column, descending if `sort.1`.
pub(crate) fn table(title: &str, description: &str, columns: Vec<Column>, sort: (&str, bool)) -> Panel {
    let mut panel = Panel::new("table", title, description, Unit::Short).size(24, 10);
    let defaults = &mut panel.json["fieldConfig"]["defaults"];
    defaults["color"] = json!({"mode": "thresholds"});
    defaults["noValue"] = json!("none");
    defaults["custom"] = json!({
        "align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "filterable": false, "minWidth": 60,
    });
    panel.json["options"] = json!({
        "cellHeight": "sm", "frameIndex": 0, "showHeader": true,
        "sortBy": [{"displayName": sort.0, "desc": sort.1}],
    });
    let queries = columns.iter().filter(|column| matches!(column.from, From::Query(_))).count();
    let (mut order, mut names) = (serde_json::Map::new(), serde_json::Map::new());
    let mut hidden = serde_json::Map::from_iter([("Time".to_owned(), json!(true))]);
    let mut letter = b'A';
    // A text for an empty table is not one for an empty cell.
    for (index, column) in columns.into_iter().map(Column::absent).enumerate() {
        let field = match column.from {
            From::Label(label) => label.to_owned(),
            From::Query(expression) => {
                let field = if queries == 1 { "Value".to_owned() } else { format!("Value #{}", char::from(letter)) };
                letter += 1;
                panel = panel.target(json!({
                    "expr": expression, "legendFormat": "", "range": false, "instant": true, "format": "table",
                }));
                field
            }
        };
        if column.name.is_empty() {
            // Asked for the sake of its labels; its value is always 1.
            hidden.insert(field, json!(true));
            continue;
        }
        order.insert(field.clone(), json!(index));
        names.insert(field, json!(column.name));
        panel = panel.over(json!({"id": "byName", "options": column.name}), &column.properties);
    }
    panel.json["transformations"] = json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "indexByName": order, "renameByName": names, "includeByName": {}}},
    ]);
    panel
}
