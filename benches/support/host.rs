//! A host full of the same guest, and a push of it.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use domstats_exporter::catalogue::Families;
use domstats_exporter::config::{Naming, Temporality};
use domstats_exporter::encode::otlp::{Chunks, Dialect, Part, Starts};
use domstats_exporter::libvirt::Records;
use uuid::Uuid;

/// `domains` domains with the parameters of the first of `of`.
pub(crate) fn host(domains: u32, of: &Records) -> Records {
    let guest = of.domain(0);
    let mut records = Records::default();
    for number in 0..domains {
        records.push_domain(&format!("guest-{number:05}"), Uuid::from_u128(u128::from(number)), Some(number));
        for param in guest.params() {
            records.push(param.key, param.value);
        }
    }
    records
}

/// A push of all of it.
pub(crate) fn push(families: &Arc<Families>) -> Chunks {
    let dialect = Dialect { naming: Naming::Otel, temporality: Temporality::Cumulative, resource: Vec::new() };
    let starts = Starts::BySubject(vec![UNIX_EPOCH; families.labels.len()]);
    Chunks::new(dialect, vec![Part { families: Arc::clone(families), starts, at: UNIX_EPOCH, ended: false }])
}
