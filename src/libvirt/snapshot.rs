//! Snapshots and checkpoints of a domain (`virDomainListAllSnapshots`, `virDomainListAllCheckpoints`).
//!
//! Both form trees, and libvirt has the same calls for both. None of them waits for the domain's job or its hypervisor.

use std::ptr::NonNull;

use virt::sys;

use super::connection::Connection;
use super::domain::Domain;
use super::error::LibvirtError;
use super::list::take_all;
use super::text::OwnedText;

/// Which nodes of a tree are listed; the flags are those of `virDomainSnapshotListFlags` and `virDomainCheckpointListFlags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// All.
    All,
    /// Those without a parent.
    Roots,
    /// Those without children.
    Leaves,
}

impl Generation {
    fn flags(self) -> u32 {
        match self {
            Self::All => 0,
            Self::Roots => sys::VIR_DOMAIN_SNAPSHOT_LIST_ROOTS,
            Self::Leaves => sys::VIR_DOMAIN_SNAPSHOT_LIST_LEAVES,
        }
    }
}

/// A kind of node: its type, the call of [`Domain`] that lists it, libvirt's type and functions, the flags for its XML.
macro_rules! node {
    ($(#[$doc:meta])* $node:ident, $calls:ident, $target:ident, $list:ident, $xml:ident, $free:ident, $flags:expr, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $node(NonNull<sys::$target>);

        impl Domain {
            #[doc = concat!("Handles of the domain's ", $noun, "s. One call.")]
            ///
            /// # Errors
            /// Of any class; [`super::ErrorClass::NotSupported`] where driver or daemon does not have them.
            pub fn $calls(&self, connection: &Connection, which: Generation) -> Result<Vec<$node>, LibvirtError> {
                let mut list = std::ptr::null_mut();
                // SAFETY: a valid domain and a valid out-parameter.
                let count = unsafe { sys::$list(self.as_ptr(), &raw mut list, which.flags()) };
                let failed = || connection.last_error(concat!("cannot list a domain's ", $noun, "s"));
                let count = usize::try_from(count).map_err(|_| failed())?;
                // SAFETY: a successful call leaves handles there, each with a reference for the caller, then a null pointer.
                Ok(unsafe { take_all(list, count, $node) })
            }
        }

        impl $node {
            /// Its XML, without secrets. Bytes that are not UTF-8 become U+FFFD.
            ///
            /// # Errors
            /// Of any class; [`super::ErrorClass::TooLarge`] beyond 8 MiB.
            pub fn xml_description(&self, connection: &Connection) -> Result<String, LibvirtError> {
                // SAFETY: a valid handle; the result is null or a string for the caller.
                let xml = OwnedText::new(unsafe { sys::$xml(self.0.as_ptr(), $flags) });
                connection.definition(xml, concat!("cannot read a ", $noun))
            }
        }

        impl Drop for $node {
            fn drop(&mut self) {
                // SAFETY: the handle owns one reference and gives it back once.
                unsafe { sys::$free(self.0.as_ptr()) };
            }
        }
    };
}

node! {
    /// A snapshot. The handle holds a reference to its connection.
    Snapshot, snapshots, _virDomainSnapshot, virDomainListAllSnapshots, virDomainSnapshotGetXMLDesc, virDomainSnapshotFree, 0, "snapshot"
}
node! {
    /// A checkpoint, from which on an incremental backup goes. The handle holds a reference to its connection.
    Checkpoint, checkpoints, _virDomainCheckpoint, virDomainListAllCheckpoints, virDomainCheckpointGetXMLDesc, virDomainCheckpointFree,
        sys::VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN, "checkpoint"
}

impl Domain {
    /// The snapshot that the domain's disks go on from; `None` where it has none. One call or two.
    ///
    /// # Errors
    /// Of any class.
    pub fn current_snapshot(&self, connection: &Connection) -> Result<Option<Snapshot>, LibvirtError> {
        const OPERATION: &str = "cannot ask for a domain's current snapshot";
        // SAFETY: a valid domain.
        match unsafe { sys::virDomainHasCurrentSnapshot(self.as_ptr(), 0) } {
            0 => return Ok(None),
            1 => {}
            _ => return Err(connection.last_error(OPERATION)),
        }
        // SAFETY: a valid domain; the result is null or a handle for the caller.
        let snapshot = NonNull::new(unsafe { sys::virDomainSnapshotCurrent(self.as_ptr(), 0) });
        snapshot.map(|snapshot| Some(Snapshot(snapshot))).ok_or_else(|| connection.last_error(OPERATION))
    }
}
