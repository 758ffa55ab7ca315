//! The names of other exporters: families to families, by one table for each exporter.
//!
//! A table ([`Dialect`]) says for each metric of that exporter which native family it is made of, and with which labels.
//! [`translate`] is the step, a pure one: a scrape that asks for a dialect is collected and built as any other. The tables are
//! also what docs/migration.md and the recording rules of alerts/ are made from ([`migration`](crate::migration)).

mod entry;
mod inovex;
mod kumina;
mod things;
mod tinkoff;
mod translate;
mod vexxhost;

pub(crate) use entry::{Asked, Dialect, Entry, Label, Missing, Source, Values, Zero, interface_stats};
pub use translate::translate;

use crate::config::MetricNaming;

/// The tables, in the order of the documentation.
pub(crate) static DIALECTS: [&Dialect; 4] = [&tinkoff::DIALECT, &inovex::DIALECT, &kumina::DIALECT, &vexxhost::DIALECT];

impl Dialect {
    /// The table for a naming; `None` for the native one.
    pub(crate) fn of(naming: MetricNaming) -> Option<&'static Self> {
        DIALECTS.into_iter().find(|dialect| dialect.naming == naming)
    }
}

#[cfg(test)]
mod tests;
