//! Calls about the snapshots and checkpoints of a domain.

use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::domain::{Domain, Node};
use crate::procedure::Procedure as P;
use crate::xdr::{Reader, Writer};

/// `VIR_DOMAIN_SNAPSHOT_LIST_ROOTS` and `VIR_DOMAIN_SNAPSHOT_LIST_LEAVES`; those of checkpoints are the same.
const ROOTS: u32 = 1;
const LEAVES: u32 = 1 << 2;

impl Call {
    pub(super) fn serve_tree(&self) -> Reply {
        let mut arguments = self.arguments();
        let mut out = payload();
        match self.procedure {
            P::DomainSnapshotGetXmlDesc | P::DomainCheckpointGetXmlDesc => {
                let name = arguments.string()?;
                let entry = self.domain(&mut arguments)?;
                let of_snapshots = self.procedure == P::DomainSnapshotGetXmlDesc;
                out.string(&xml(&entry.domain, of_snapshots, &name)?);
            }
            P::DomainSnapshotLookupByName | P::DomainCheckpointLookupByName => {
                let entry = self.domain(&mut arguments)?;
                let of_snapshots = self.procedure == P::DomainSnapshotLookupByName;
                write(&mut out, &entry.domain, find(&entry.domain, of_snapshots, &arguments.string()?)?);
            }
            P::DomainHasCurrentSnapshot => {
                let entry = self.domain(&mut arguments)?;
                out.i32(i32::from(current(&entry.domain).is_some()));
            }
            P::DomainSnapshotCurrent => {
                let entry = self.domain(&mut arguments)?;
                let node = current(&entry.domain).ok_or_else(|| no_snapshot("the domain has no current snapshot"))?;
                write(&mut out, &entry.domain, node);
            }
            _ => {
                let entry = self.domain(&mut arguments)?;
                let nodes = match self.procedure {
                    P::DomainListAllSnapshots => &entry.domain.snapshots,
                    _ => &entry.domain.checkpoints,
                };
                list(&mut out, &entry.domain, nodes, &mut arguments)?;
            }
        }
        Ok(out)
    }
}

fn list(out: &mut Writer, domain: &Domain, nodes: &[Node], arguments: &mut Reader<'_>) -> Result<(), Failure> {
    let (wants_results, flags) = (arguments.i32()? != 0, arguments.u32()?);
    let is_leaf = |node: &Node| !nodes.iter().any(|other| other.parent.as_ref() == Some(&node.name));
    let passes = |node: &&Node| (flags & ROOTS == 0 || node.parent.is_none()) && (flags & LEAVES == 0 || is_leaf(node));
    let passing: Vec<&Node> = nodes.iter().filter(passes).collect();
    out.count(if wants_results { passing.len() } else { 0 });
    if wants_results {
        passing.iter().for_each(|node| write(out, domain, node));
    }
    out.count(passing.len());
    Ok(())
}

fn write(out: &mut Writer, domain: &Domain, node: &Node) {
    out.string(&node.name).domain(&domain.name, domain.uuid, domain.id);
}

fn current(domain: &Domain) -> Option<&Node> {
    domain.snapshots.iter().find(|node| node.current)
}

fn no_snapshot(message: &str) -> Failure {
    Failure::qemu(code::NO_DOMAIN_SNAPSHOT, format!("Domain snapshot not found: {message}"))
}

fn find<'d>(domain: &'d Domain, of_snapshots: bool, name: &str) -> Result<&'d Node, Failure> {
    let nodes = if of_snapshots { &domain.snapshots } else { &domain.checkpoints };
    nodes.iter().find(|node| node.name == name).ok_or_else(|| no_snapshot(name))
}

fn xml(domain: &Domain, of_snapshots: bool, name: &str) -> Result<String, Failure> {
    let node = find(domain, of_snapshots, name)?;
    if let Some(xml) = &node.xml {
        return Ok(xml.clone());
    }
    let parent = node.parent.as_ref().map(|parent| format!("  <parent>\n    <name>{parent}</name>\n  </parent>\n"));
    let (parent, created) = (parent.unwrap_or_default(), node.created);
    let head = format!("  <name>{name}</name>\n{parent}  <creationTime>{created}</creationTime>\n");
    if !of_snapshots {
        return Ok(format!(
            "<domaincheckpoint>\n{head}  <disks>\n    <disk name='vda' checkpoint='bitmap' bitmap='{name}'/>\n  </disks>\n</domaincheckpoint>\n"
        ));
    }
    let (kind, memory) = if node.external { ("external", "no") } else { ("internal", "internal") };
    let disks = format!("  <disks>\n    <disk name='vda' snapshot='{kind}'/>\n  </disks>\n");
    // The domain's own definition is part of it, and has disks too.
    let definition = crate::definition::xml(domain);
    Ok(format!(
        "<domainsnapshot>\n{head}  <state>running</state>\n  <memory snapshot='{memory}'/>\n{disks}{definition}</domainsnapshot>\n"
    ))
}
