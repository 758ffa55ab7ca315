//! A host full of the same guest, and a push of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use domstats_exporter::config::{Naming, Temporality};
use domstats_exporter::encode::otlp::{Chunks, Dialect, Part, Starts};
use domstats_exporter::libvirt::Records;
use domstats_exporter::metrics::Families;
use uuid::Uuid;

/// The numbers of the domains that each reply is about when the exporter asks about `domains` of them, as a rule.
pub(crate) fn batches(domains: u32) -> impl Iterator<Item = Range<u32>> {
    (0..domains).step_by(16).map(move |first| first..domains.min(first + 16))
}

/// The replies about `domains` domains with the parameters of the first of `of`.
pub(crate) fn host(domains: u32, of: &Records) -> Vec<Records> {
    let guest = of.domain(0);
    let reply = |numbers: Range<u32>| {
        let mut records = Records::default();
        for number in numbers {
            records.push_domain(&format!("guest-{number:05}"), Uuid::from_u128(u128::from(number)), Some(number));
            for param in guest.params() {
                records.push(param.key, param.value);
            }
        }
        records
    };
    batches(domains).map(reply).collect()
}

/// A push of all of it.
pub(crate) fn push(families: &Arc<Families>) -> Chunks {
    let dialect = Dialect {
        naming: Naming::Otel,
        temporality: Temporality::Cumulative,
        resource: Vec::new(),
        domain_resource: false,
    };
    Chunks::new(
        dialect,
        vec![Part { families: Arc::clone(families), starts: Starts::OfFamilies, at: UNIX_EPOCH, ended: false }],
    )
}
