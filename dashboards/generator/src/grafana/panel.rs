//! A panel: its queries, colours, units and links. `shapes` makes one of each kind.

use serde_json::{Value, json};

use super::{Unit, datasource, plain, query};

/// A panel without its place.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(super) json: Value,
    pub(super) width: u32,
    pub(super) height: u32,
    /// The panel that a click opens, by its title.
    pub(super) opens: Option<&'static str>,
    /// Whether its queries are asked for now only.
    pub(super) instant: bool,
}

impl Panel {
    /// A panel of one of Grafana's types. Every panel has a title, a description and a unit.
    pub(super) fn new(kind: &str, title: &str, description: &str, unit: Unit) -> Self {
        let json = json!({
            "type": kind,
            "title": title,
            "description": description,
            "datasource": datasource(),
            "targets": [],
            "fieldConfig": {
                "defaults": {"unit": unit.id(), "thresholds": plain(), "color": {"mode": "palette-classic"}, "mappings": []},
                "overrides": [],
            },
            "options": {},
        });
        Self { json, width: 8, height: 8, opens: None, instant: false }
    }

    /// Adds a query; `legend` is what a line is called.
    pub(crate) fn query(self, expression: &str, legend: &str) -> Self {
        let instant = self.instant;
        self.target(json!({
            "expr": query(expression), "legendFormat": legend, "range": !instant, "instant": instant, "format": "time_series",
        }))
    }

    pub(super) fn target(mut self, mut target: Value) -> Self {
        if let Some(targets) = self.json["targets"].as_array_mut() {
            let letter = u8::try_from(targets.len()).map_or('Z', |n| char::from(b'A' + n));
            target["refId"] = json!(letter.to_string());
            target["datasource"] = datasource();
            target["editorMode"] = json!("code");
            targets.push(target);
        }
        self
    }

    /// Its size; a dashboard is 24 wide.
    pub(crate) fn size(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    /// Colours by value. A time series gets them as lines.
    pub(crate) fn thresholds(mut self, thresholds: Value) -> Self {
        self.json["fieldConfig"]["defaults"]["thresholds"] = thresholds;
        match self.json["type"].as_str() {
            Some("timeseries") => {
                self.json["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] = json!({"mode": "dashed"});
            }
            _ => self.json["fieldConfig"]["defaults"]["color"] = json!({"mode": "thresholds"}),
        }
        self
    }

    /// The upper end of its axis.
    pub(crate) fn up_to(mut self, max: f64) -> Self {
        self.json["fieldConfig"]["defaults"]["max"] = json!(max);
        self
    }

    /// Areas on top of each other: for numbers whose sum means something.
    pub(crate) fn stacked(mut self) -> Self {
        let custom = &mut self.json["fieldConfig"]["defaults"]["custom"];
        custom["stacking"] = json!({"group": "A", "mode": "normal"});
        custom["fillOpacity"] = json!(40);
        self
    }

    /// Lines whose name matches go down from a zero in the middle: what is written or sent, beside what is read or received.
    pub(crate) fn mirrored(mut self, names: &str) -> Self {
        if let Some(defaults) = self.json["fieldConfig"]["defaults"].as_object_mut() {
            defaults.remove("min");
        }
        let custom = &mut self.json["fieldConfig"]["defaults"]["custom"];
        if let Some(least) = custom["axisSoftMax"].as_f64() {
            custom["axisSoftMin"] = json!(-least);
        }
        custom["axisCenteredZero"] = json!(true);
        custom["fillOpacity"] = json!(0);
        self.over(json!({"id": "byRegexp", "options": names}), &[("custom.transform", json!("negative-Y"))])
    }

    /// Lines whose name matches are dashed and unfilled: limits of the others.
    pub(crate) fn limits(self, names: &str) -> Self {
        let dashed = json!({"dash": [8, 6], "fill": "dash"});
        self.over(
            json!({"id": "byRegexp", "options": names}),
            &[
                ("custom.lineStyle", dashed),
                ("custom.fillOpacity", json!(0)),
                ("custom.stacking", json!({"group": "A", "mode": "none"})),
            ],
        )
    }

    /// Lines whose name matches have another unit, and the axis on the right.
    pub(crate) fn on_the_right(self, names: &str, unit: Unit) -> Self {
        self.over(
            json!({"id": "byRegexp", "options": names}),
            &[("unit", json!(unit.id())), ("custom.axisPlacement", json!("right")), ("custom.fillOpacity", json!(0))],
        )
    }

    pub(super) fn over(mut self, matcher: Value, properties: &[(&str, Value)]) -> Self {
        let properties: Vec<Value> = properties.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
        if let Some(overrides) = self.json["fieldConfig"]["overrides"].as_array_mut() {
            overrides.push(json!({"matcher": matcher, "properties": properties}));
        }
        self
    }

    /// The legend is a table to the right, which scrolls: for as many lines as there are guests.
    pub(crate) fn many(mut self) -> Self {
        self.json["options"]["legend"] = json!({
            "displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["mean", "max"], "sortBy": "Mean",
            "sortDesc": true,
        });
        self
    }

    /// Hosts are named without their ports in the legend. Grafana anchors what has no slashes around it.
    pub(crate) fn without_ports(mut self) -> Self {
        self.json["transformations"] =
            json!([{"id": "renameByRegex", "options": {"regex": r"/^(.+?):\d+(?= |$)/", "renamePattern": "$1"}}]);
        self
    }

    /// A click opens the panel of this title alone.
    pub(crate) fn opens(self, title: &'static str) -> Self {
        Self { opens: Some(title), ..self }
    }

    /// Numbers whose name matches have colours of their own.
    pub(crate) fn colors_of(self, names: &str, thresholds: Value) -> Self {
        self.over(json!({"id": "byRegexp", "options": names}), &[("thresholds", thresholds)])
    }

    /// Words and colours instead of numbers.
    pub(crate) fn words(mut self, words: &[(&str, &str, &str)]) -> Self {
        self.map(mappings(words));
        self
    }

    /// What stands there when the query finds nothing.
    pub(crate) fn nothing(mut self, text: &str) -> Self {
        self.json["fieldConfig"]["defaults"]["noValue"] = json!(text);
        // The lowest threshold would colour it, which is green for most numbers.
        if self.json["type"] == "stat" {
            let result = json!({"text": text, "color": "#8e8e8e", "index": 99});
            self.map(json!({"type": "special", "options": {"match": "null", "result": result}}));
        }
        self
    }

    fn map(&mut self, mapping: Value) {
        if let Some(mappings) = self.json["fieldConfig"]["defaults"]["mappings"].as_array_mut() {
            mappings.push(mapping);
        }
    }

    /// Lines whose name matches always have this colour.
    pub(crate) fn line(self, names: &str, color: &str) -> Self {
        self.over(
            json!({"id": "byRegexp", "options": names}),
            &[("color", json!({"mode": "fixed", "fixedColor": color}))],
        )
    }

    /// A stat shows the name of its series (a version, a state) instead of its value.
    pub(crate) fn shows_name(mut self) -> Self {
        self.json["options"]["textMode"] = json!("name");
        self
    }
}

/// Texts and colours for values.
pub(super) fn mappings(words: &[(&str, &str, &str)]) -> Value {
    let options: serde_json::Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(index, (value, text, color))| {
            ((*value).to_owned(), json!({"text": text, "color": color, "index": index}))
        })
        .collect();
    json!({"type": "value", "options": options})
}
