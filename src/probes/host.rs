//! The host's memory, huge pages and CPUs.

use std::time::Duration;

use uuid::Uuid;

use super::{Probe, Scope, Session, Subject, WaitsFor, had};
use crate::config::Group;
use crate::domains::{parse_xml, tree};
use crate::libvirt::{Cell, Connection, LibvirtError, ParamValue, Records};

/// Most NUMA cells, and most page sizes of each.
const MOST_CELLS: usize = 1024;
const MOST_SIZES: usize = 16;

pub(super) const PROBE: Probe =
    Probe { fetch, ..Probe::of_group(Group::Host, Scope::Host, WaitsFor::Host, |_| Some(Duration::from_secs(30))) };

/// Huge pages of one size: the size in KiB, and how many the cell has.
type Pages = (u32, u64);

/// Values that a driver does not have are omitted.
fn fetch(session: &mut Session, _: Subject) -> Result<Records, LibvirtError> {
    let connection = &session.connection;
    let mut records = Records::default();
    records.push_object("", Uuid::nil());
    for (name, kib) in had(connection.memory_stats(Cell::All))?.unwrap_or_default() {
        // The total is known from the listing of the domains.
        if ["free", "buffers", "cached"].contains(&name.as_str()) {
            records.push(&format!("host.memory.{name}"), ParamValue::ULLong(kib));
        }
    }
    if let Some(present) = had(connection.present_cpus())? {
        records.push("host.cpu.present", ParamValue::UInt(present));
    }
    if let Some(topology) = had(connection.topology())? {
        for (key, value) in [
            ("host.cpu.nodes", topology.cells),
            ("host.cpu.sockets", topology.sockets),
            ("host.cpu.cores", topology.cores),
            ("host.cpu.threads", topology.threads),
        ] {
            records.push(key, ParamValue::UInt(value));
        }
    }
    for (cell, pages) in had(connection.capabilities())?.map(|xml| cells(&xml)).unwrap_or_default() {
        push_cell(connection, cell, &pages, &mut records)?;
    }
    Ok(records)
}

fn push_cell(connection: &Connection, cell: u32, pages: &[Pages], records: &mut Records) -> Result<(), LibvirtError> {
    for (name, kib) in had(connection.memory_stats(Cell::One(cell)))?.unwrap_or_default() {
        if ["total", "free"].contains(&name.as_str()) {
            records.push(&format!("host.numa.{cell}.memory.{name}"), ParamValue::ULLong(kib));
        }
    }
    let sizes: Vec<u32> = pages.iter().map(|(size, _)| *size).collect();
    let free = if sizes.is_empty() { None } else { had(connection.free_pages(cell, &sizes))? };
    for (number, (size, total)) in pages.iter().enumerate() {
        let key = |what: &str| format!("host.numa.{cell}.pages.{number}.{what}");
        let bytes = (u64::from(*size) * 1024).to_string();
        records.push(&key("size"), ParamValue::String(&bytes));
        records.push(&key("total"), ParamValue::ULLong(*total));
        if let Some(free) = free.as_ref().and_then(|free| free.get(number)) {
            records.push(&key("free"), ParamValue::ULLong(*free));
        }
    }
    Ok(())
}

/// The NUMA cells by id, each with its huge pages: all sizes but the smallest, which is that of the ordinary pages.
fn cells(capabilities: &str) -> Vec<(u32, Vec<Pages>)> {
    let Ok(document) = parse_xml(capabilities) else { return Vec::new() };
    let Some(cells) = tree::find(document.root_element(), "host/topology/cells") else { return Vec::new() };
    let of_cell = |cell| {
        let id = tree::attribute(cell, "id").parse().ok()?;
        let pages = tree::children(cell, "pages").take(MOST_SIZES).filter_map(|pages| {
            let is_kib = tree::attribute(pages, "unit") == "KiB";
            let size = tree::attribute(pages, "size").parse().ok().filter(|_| is_kib)?;
            Some((size, tree::text(pages).parse().ok()?))
        });
        let mut pages: Vec<Pages> = pages.collect();
        pages.sort_unstable();
        pages.drain(..pages.len().min(1));
        Some((id, pages))
    };
    tree::children(cells, "cell").take(MOST_CELLS).filter_map(of_cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_those_that_are_not_the_smallest() {
        let cell = |id, pages: &str| format!("<cell id='{id}'><memory unit='KiB'>99</memory>{pages}</cell>");
        let pages = |size: u32, count: u32| format!("<pages unit='KiB' size='{size}'>{count}</pages>");
        let first = pages(4, 1000) + &pages(1_048_576, 2) + &pages(2048, 512);
        let xml = cell("0", &first) + &cell("8", &pages(4, 7)) + &cell("x", "") + &cell("9", "");
        let xml =
            format!("<capabilities><host><topology><cells num='4'>{xml}</cells></topology></host></capabilities>");
        assert_eq!(cells(&xml), [(0, vec![(2048, 512), (1_048_576, 2)]), (8, vec![]), (9, vec![])]);
        for odd in ["", "<capabilities/>", "<!DOCTYPE x><capabilities/>"] {
            assert_eq!(cells(odd), []);
        }
    }
}
