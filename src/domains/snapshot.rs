//! What the XML of a snapshot or a checkpoint says.

use super::DefinitionError;
use super::metadata::{parse_xml, tree};

/// The facts about a snapshot or a checkpoint that metrics need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// When it was made, in seconds of Unix time.
    pub created: Option<i64>,
    /// Whether its memory or a disk is in a separate file.
    pub is_external: bool,
}

/// Reads the XML that `virDomainSnapshotGetXMLDesc` and `virDomainCheckpointGetXMLDesc` give. The definition of the domain within
/// it is not meant.
///
/// # Errors
/// If it is not well-formed, or beyond the bounds of a definition.
pub fn parse_snapshot(xml: &str) -> Result<SnapshotInfo, DefinitionError> {
    let document = parse_xml(xml)?;
    let root = document.root_element();
    let is_external = |node| tree::attribute(node, "snapshot") == "external";
    let disks = tree::find(root, "disks").into_iter();
    let disk = disks.flat_map(|disks| tree::children(disks, "disk")).any(is_external);
    let memory = tree::find(root, "memory").is_some_and(is_external);
    Ok(SnapshotInfo { created: tree::text_at(root, "creationTime").parse().ok(), is_external: disk || memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> SnapshotInfo {
        parse_snapshot(&format!("<domainsnapshot>{body}</domainsnapshot>")).expect("XML")
    }

    #[test]
    fn the_snapshots_own_elements_count() {
        let info = |created, is_external| SnapshotInfo { created, is_external };
        let inner = "<domain><disks><disk snapshot='external'/></disks><creationTime>1</creationTime></domain>";
        let internal =
            "<creationTime>1700000000</creationTime><memory snapshot='internal'/><disks><disk snapshot='no'/></disks>";
        assert_eq!(parsed(&format!("{inner}{internal}")), info(Some(1_700_000_000), false));
        assert_eq!(parsed("<disks><disk snapshot='no'/><disk snapshot='external'/></disks>"), info(None, true));
        assert_eq!(parsed("<memory snapshot='external' file='/m'/>"), info(None, true));
        assert_eq!(parsed("<creationTime>soon</creationTime>"), info(None, false));
        assert!(parse_snapshot("<domainsnapshot>").is_err());
    }
}
