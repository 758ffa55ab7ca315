//! The kinds of panels that show numbers: time series, stats, bars and states over time.

use serde_json::{Value, json};

use super::{Panel, Unit};

/// Lines over time, from zero up.
pub(crate) fn timeseries(title: &str, description: &str, unit: Unit) -> Panel {
    let mut panel = Panel::new("timeseries", title, description, unit);
    panel.json["fieldConfig"]["defaults"]["custom"] = json!({
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 10, "gradientMode": "none",
        "showPoints": "never", "pointSize": 5, "spanNulls": false, "insertNulls": false,
        "stacking": {"group": "A", "mode": "none"}, "thresholdsStyle": {"mode": "off"},
        "axisPlacement": "auto", "axisLabel": "", "axisColorMode": "text", "axisBorderShow": false,
        "axisCenteredZero": false, "scaleDistribution": {"type": "linear"}, "barAlignment": 0,
        "hideFrom": {"legend": false, "tooltip": false, "viz": false},
    });
    panel.json["fieldConfig"]["defaults"]["min"] = json!(0);
    // Where nothing happens, the axis would end at a hundred.
    let least = match unit {
        Unit::Count | Unit::Iops | Unit::Packets | Unit::Operations => Some(1.0),
        Unit::Short => Some(0.1),
        Unit::Ratio => Some(0.01),
        Unit::Seconds => Some(0.001),
        Unit::Bytes | Unit::BytesPerSecond | Unit::Watts => None,
    };
    if let Some(least) = least {
        panel.json["fieldConfig"]["defaults"]["custom"]["axisSoftMax"] = json!(least);
    }
    panel.json["options"] = json!({
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    });
    panel
}

/// Bars over time: how often something happened between one point and the next.
pub(crate) fn bars(title: &str, description: &str) -> Panel {
    let mut panel = timeseries(title, description, Unit::Short).stacked();
    let custom = &mut panel.json["fieldConfig"]["defaults"]["custom"];
    custom["drawStyle"] = json!("bars");
    custom["fillOpacity"] = json!(80);
    panel.json["fieldConfig"]["defaults"]["decimals"] = json!(0);
    panel.json["fieldConfig"]["defaults"]["noValue"] = json!("none");
    panel
}

/// One number, with its recent course behind it.
pub(crate) fn stat(title: &str, description: &str, unit: Unit) -> Panel {
    let mut panel = Panel::new("stat", title, description, unit).size(3, 4);
    panel.json["fieldConfig"]["defaults"]["color"] = json!({"mode": "thresholds"});
    panel.json["options"] = json!({
        "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "value",
        "wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard", "reduceOptions": last(),
    });
    panel
}

/// One number of now: of a time range, Grafana would show the last value also where it ended hours ago.
pub(crate) fn number(title: &str, description: &str, unit: Unit) -> Panel {
    let mut panel = stat(title, description, unit);
    panel.json["options"]["graphMode"] = json!("none");
    panel.instant = true;
    panel
}

/// Which state each thing was in, over time.
pub(crate) fn state_timeline(title: &str, description: &str) -> Panel {
    let mut panel = Panel::new("state-timeline", title, description, Unit::Count).size(24, 6);
    panel.json["fieldConfig"]["defaults"]["custom"] = json!({
        "fillOpacity": 70, "lineWidth": 0,
        "hideFrom": {"legend": false, "tooltip": false, "viz": false},
    });
    panel.json["options"] = json!({
        "alignValue": "left", "mergeValues": true, "rowHeight": 0.9, "showValue": "auto",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    });
    panel
}

fn last() -> Value {
    json!({"calcs": ["lastNotNull"], "fields": "", "values": false})
}
