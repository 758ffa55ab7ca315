//! Histograms over time.

use serde_json::json;

use super::{Panel, Unit, query};

/// How many requests fell into each bin of a Prometheus histogram, over time; `expression` keeps the label `le`.
pub(crate) fn heatmap(title: &str, description: &str, expression: &str) -> Panel {
    let mut panel = Panel::new("heatmap", title, description, Unit::Iops).target(json!({
        "expr": query(expression), "legendFormat": "{{le}}", "range": true, "instant": false, "format": "heatmap",
    }));
    panel.json["fieldConfig"]["defaults"]["custom"] = json!({
        "hideFrom": {"legend": false, "tooltip": false, "viz": false}, "scaleDistribution": {"type": "linear"},
    });
    panel.json["options"] = json!({
        "calculate": false,
        "cellGap": 1,
        "cellValues": {"unit": Unit::Iops.id()},
        "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64, "reverse": false, "fill": "dark-orange"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": true},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": false, "showColorScale": true},
        "yAxis": {"axisPlacement": "left", "reverse": false, "unit": Unit::Seconds.id()},
    });
    panel
}
