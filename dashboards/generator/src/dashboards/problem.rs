//! A kind of trouble: how it is counted, coloured and listed.

use serde_json::Value;

use crate::grafana::{Column, Panel, Unit, none_is_good, number, orange_from, rising};
use crate::thresholds::Limits;

/// A kind of trouble.
pub(super) struct Problem {
    title: &'static str,
    about: &'static str,
    /// What of a guest, host or pool may be wrong.
    pub(super) signs: Vec<Sign>,
    /// What the count says where nothing is known of it.
    unknown: &'static str,
}

/// A number that is only there where it is bad.
pub(super) struct Sign {
    pub(super) title: &'static str,
    /// What is looked at: where it is not there, nothing is known, which is not the same as none.
    pub(super) seen: String,
    /// Who has it and how bad it is, by instance and domain, or by instance and `what`.
    pub(super) found: String,
    pub(super) unit: Unit,
    pub(super) bad: Bad,
}

/// How bad it is, which the list shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bad {
    /// A word: it is 1 where it is there.
    Critical(&'static str),
    Warning(&'static str),
    /// A value.
    Above(Limits),
    AtLimit(f64),
}

/// The words for [`Sign::severity`].
pub(super) const SEVERITIES: &[(&str, &str, &str)] = &[("1", "warning", "orange"), ("2", "critical", "red")];

impl Sign {
    fn colors(&self) -> Value {
        match self.bad {
            Bad::Critical(_) => none_is_good("red"),
            Bad::Warning(_) => none_is_good("orange"),
            Bad::Above(limits) => rising(limits),
            Bad::AtLimit(limit) => orange_from(limit),
        }
    }

    pub(super) fn column(&self) -> Column {
        let word = match self.bad {
            Bad::Critical(word) | Bad::Warning(word) => word,
            Bad::Above(_) | Bad::AtLimit(_) => "",
        };
        // As wide as its heading, or its word.
        let letters = self.title.len().max(word.len());
        let width = 40 + 7 * u32::try_from(letters).unwrap_or_default();
        let column = Column::query(self.title, &self.found, self.unit).width(width);
        match self.bad {
            Bad::Critical(word) => column.words(&[("1", word, "red")]),
            Bad::Warning(word) => column.words(&[("1", word, "orange")]),
            Bad::Above(_) | Bad::AtLimit(_) => column.colored(self.colors()),
        }
    }

    /// Where it is critical.
    fn critical(&self) -> Option<String> {
        match self.bad {
            Bad::Critical(_) => Some(self.found.clone()),
            Bad::Above(limits) => Some(format!("({}) > {}", self.found, limits.critical)),
            Bad::Warning(_) | Bad::AtLimit(_) => None,
        }
    }

    /// 1 where it is a warning, 2 where it is critical.
    pub(super) fn severity(&self) -> String {
        match self.bad {
            Bad::Critical(_) => format!("2 * ({})", self.found),
            Bad::Warning(_) => self.found.clone(),
            Bad::Above(limits) => format!("1 + (({}) > bool {})", self.found, limits.critical),
            Bad::AtLimit(_) => format!("1 + 0 * ({})", self.found),
        }
    }
}

impl Problem {
    pub(super) fn new(title: &'static str, about: &'static str, signs: Vec<Sign>) -> Self {
        Self { title, about, signs, unknown: "not reported" }
    }

    /// With this text where nothing is known of it.
    pub(super) fn unknown(self, unknown: &'static str) -> Self {
        Self { unknown, ..self }
    }

    fn any(&self, of: impl Fn(&Sign) -> String) -> String {
        self.signs.iter().map(of).collect::<Vec<_>>().join(" or ")
    }

    /// Who has it, by instance and domain, or by instance and `what`.
    fn found(&self) -> String {
        self.any(|sign| sign.found.clone())
    }

    /// How many have it: red where one of them is critical, green where none has it, and a text where nothing is known.
    pub(super) fn count(&self, list: &'static str, width: u32) -> Panel {
        let count = format!("count({})", self.found());
        let none = self.any(|sign| format!("0 * count({})", sign.seen));
        let panel = number(self.title, self.about, Unit::Count).nothing(self.unknown).opens(list).size(width, 3);
        let critical: Vec<String> = self.signs.iter().filter_map(Sign::critical).collect();
        if self.signs.iter().all(|sign| matches!(sign.bad, Bad::Critical(_))) {
            return panel.query(&format!("{count} or {none}"), "count").thresholds(none_is_good("red"));
        }
        let panel = panel.thresholds(none_is_good("orange"));
        if critical.is_empty() {
            return panel.query(&format!("{count} or {none}"), "count");
        }
        let critical = format!("count({})", critical.join(" or "));
        panel
            .query(&format!("({count} or {none}) unless {critical}"), "count")
            .query(&format!("{count} and {critical}"), "count with critical ones")
            .colors_of(".* critical ones$", none_is_good("red"))
    }

    /// How many guests of each value of a label have it, of all that `of` finds.
    pub(super) fn count_by(&self, label: &str, of: &str) -> Column {
        let count =
            format!("count by ({label}) (({}) * on (instance, domain) group_left ({label}) {of})", self.found());
        let color = if self.signs.iter().any(|sign| matches!(sign.bad, Bad::Critical(_))) { "red" } else { "orange" };
        Column::query(self.title, &count, Unit::Count).colored(none_is_good(color))
    }
}
