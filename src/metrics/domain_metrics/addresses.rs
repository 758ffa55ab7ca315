//! Families of the network addresses of domains.

use std::borrow::Cow;

use super::Shown;
use crate::domains::{Located, located_addresses};
use crate::metrics::Value;
use crate::metrics::fill::{Filling, Labels};
use crate::tables::address::ADDRESS_INFO;

pub(super) fn fill(filling: &mut Filling<'_>, domains: &[Shown<'_>]) {
    let running = domains.iter().filter(|(_, domain)| domain.is_active());
    let samples = running.flat_map(|(subject, domain)| {
        let source = domain.addresses.as_ref().and_then(|found| found.as_ref()).map(|found| found.source.as_str());
        let located = located_addresses(domain, |_| true).into_iter();
        located.map(move |one| (*subject, labels(one, source.unwrap_or_default()), Value::Unsigned(1)))
    });
    filling.add(&ADDRESS_INFO, samples);
}

/// The interface is called as in the other families where the definition has it.
fn labels<'d>(one: Located<'d>, source: &'static str) -> Labels<'d> {
    let device = one.interface.map(|interface| interface.device.as_str()).filter(|device| !device.is_empty());
    vec![
        ("interface", Cow::Borrowed(device.unwrap_or(&one.seen.name))),
        ("mac", Cow::Borrowed(one.interface.map_or(&*one.seen.mac, |interface| &*interface.mac))),
        ("address", one.address.to_string().into()),
        ("address_source", Cow::Borrowed(source)),
    ]
}
