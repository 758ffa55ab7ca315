//! The host's memory, huge pages and CPUs.

use std::time::Duration;

use uuid::Uuid;

use super::{Probe, Scope, Session, Subject, WaitsFor, had};
use crate::config::Group;
use crate::domains::{parse_xml, tree};
use crate::libvirt::{Cell, Connection, LibvirtError, ParamValue, Records};
use crate::tables::{self, KIB, NONE, NUMBER, Origin, Row, Table, of};

/// Most NUMA cells, and most page sizes of each.
const MOST_CELLS: usize = 1024;
const MOST_SIZES: usize = 16;

pub(super) const PROBE: Probe = Probe {
    table: Some(&TABLE),
    fetch,
    ..Probe::of_group(Group::Host, Scope::Host, WaitsFor::Host, |_| Some(Duration::from_secs(30)))
};

/// `host.*`.
#[rustfmt::skip]
static TABLE: Table = Table {
    group: Some(Group::Host),
    subject: tables::Subject::Host,
    origin: Origin::Exporter,
    active_only: false,
    scopes: &[
        tables::Scope { prefix: "host.numa.<n>", label: "node", named_by: None },
        tables::Scope { prefix: "host.numa.<n>.pages.<m>", label: "page_size", named_by: Some("host.numa.<n>.pages.<m>.size") },
    ],
    rows: &[
        Row::gauge(&["host.memory.free"], "libvirt_host_memory_free_bytes", KIB, ("libvirt.host.memory.free", NONE),
            "Free memory of the host"),
        Row::gauge(&["host.memory.buffers"], "libvirt_host_memory_buffers_bytes", KIB,
            ("libvirt.host.memory.buffers", NONE), "Memory of the host in buffers"),
        Row::gauge(&["host.memory.cached"], "libvirt_host_memory_cached_bytes", KIB,
            ("libvirt.host.memory.cached", NONE), "Memory of the host in the page cache"),
        Row::gauge(&["host.numa.<n>.memory.total"], "libvirt_host_numa_memory_bytes", KIB, ("libvirt.host.numa.memory", NONE),
            "Memory of the NUMA node"),
        Row::gauge(&["host.numa.<n>.memory.free"], "libvirt_host_numa_memory_free_bytes", KIB,
            ("libvirt.host.numa.memory.free", NONE), "Free memory of the NUMA node"),
        Row::gauge(&["host.numa.<n>.pages.<m>.total"], "libvirt_host_hugepages", of("page"),
            ("libvirt.host.hugepage.count", NONE), "Huge pages of the NUMA node by size in bytes"),
        Row::gauge(&["host.numa.<n>.pages.<m>.free"], "libvirt_host_hugepages_free", of("page"),
            ("libvirt.host.hugepage.free", NONE), "Free huge pages of the NUMA node by size in bytes"),
        Row::gauge(&["host.cpu.present"], "libvirt_host_cpus_present", of("cpu"), ("libvirt.host.cpu.present", NONE),
            "Logical CPUs of the host, those that are offline included"),
        Row::gauge(&["host.cpu.nodes"], "libvirt_host_numa_nodes", of("node"), ("libvirt.host.numa.node.count", NONE),
            "NUMA nodes of the host; 1 where libvirt cannot express the topology"),
        Row::gauge(&["host.cpu.sockets"], "libvirt_host_cpu_sockets_per_node", NUMBER,
            ("libvirt.host.cpu.sockets_per_node", NONE), "CPU sockets of each NUMA node"),
        Row::gauge(&["host.cpu.cores"], "libvirt_host_cpu_cores_per_socket", NUMBER,
            ("libvirt.host.cpu.cores_per_socket", NONE), "Cores of each CPU socket"),
        Row::gauge(&["host.cpu.threads"], "libvirt_host_cpu_threads_per_core", NUMBER,
            ("libvirt.host.cpu.threads_per_core", NONE), "Threads of each core"),
    ],
};

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
