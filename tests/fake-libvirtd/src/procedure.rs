//! The procedures of the remote program that this daemon serves, under the names libvirt gives them.

macro_rules! procedures {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $spelling:literal, $priority:ident;)*) => {
        /// A procedure of the remote program (`REMOTE_PROC_*`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Procedure {
            $($(#[doc = $doc])* $name,)*
            /// Any other procedure: it is answered with "unknown procedure".
            Other(i32),
        }

        impl Procedure {
            /// Every procedure that is served.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The procedure with this number.
            #[must_use]
            pub fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> i32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// The name as libvirt's protocol has it, in lower case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $spelling,)*
                    Self::Other(_) => "other",
                }
            }

            /// Whether libvirtd serves it with its priority workers, which hung calls cannot exhaust.
            #[must_use]
            pub fn has_priority(self) -> bool {
                match self {
                    $(Self::$name => procedures!(@ $priority),)*
                    Self::Other(_) => true,
                }
            }
        }
    };
    (@ high) => { true };
    (@ low) => { false };
}

procedures! {
    /// Opens the hypervisor connection.
    ConnectOpen = 1, "connect_open", high;
    /// Closes it.
    ConnectClose = 2, "connect_close", high;
    /// The driver's name.
    ConnectGetType = 3, "connect_get_type", high;
    /// The hypervisor's version.
    ConnectGetVersion = 4, "connect_get_version", high;
    /// The host's hardware in short.
    NodeGetInfo = 6, "node_get_info", low;
    /// The capabilities XML.
    ConnectGetCapabilities = 7, "connect_get_capabilities", low;
    /// Starts a defined domain.
    DomainCreate = 9, "domain_create", low;
    /// Kills a domain.
    DomainDestroy = 12, "domain_destroy", high;
    /// A domain's XML.
    DomainGetXmlDesc = 14, "domain_get_xml_desc", low;
    /// Whether a domain starts with the host.
    DomainGetAutostart = 15, "domain_get_autostart", low;
    /// State, memory, vCPUs and CPU time of a domain.
    DomainGetInfo = 16, "domain_get_info", low;
    /// The type of the guest's operating system.
    DomainGetOsType = 19, "domain_get_os_type", low;
    /// The names of inactive domains.
    ConnectListDefinedDomains = 21, "connect_list_defined_domains", low;
    /// Looks a domain up.
    DomainLookupById = 22, "domain_lookup_by_id", high;
    /// Looks a domain up.
    DomainLookupByName = 23, "domain_lookup_by_name", high;
    /// Looks a domain up.
    DomainLookupByUuid = 24, "domain_lookup_by_uuid", high;
    /// How many domains are inactive.
    ConnectNumOfDefinedDomains = 25, "connect_num_of_defined_domains", low;
    /// Reboots a guest.
    DomainReboot = 27, "domain_reboot", low;
    /// Resumes a paused domain.
    DomainResume = 28, "domain_resume", low;
    /// Asks a guest to shut down.
    DomainShutdown = 33, "domain_shutdown", low;
    /// Pauses a domain.
    DomainSuspend = 34, "domain_suspend", low;
    /// A network's XML.
    NetworkGetXmlDesc = 43, "network_get_xml_desc", high;
    /// Whether a network starts with the host.
    NetworkGetAutostart = 44, "network_get_autostart", high;
    /// Looks a network up.
    NetworkLookupByUuid = 47, "network_lookup_by_uuid", high;
    /// The ids of active domains.
    ConnectListDomains = 37, "connect_list_domains", low;
    /// How many domains are active.
    ConnectNumOfDomains = 51, "connect_num_of_domains", low;
    /// The host's name.
    ConnectGetHostname = 59, "connect_get_hostname", high;
    /// Whether daemon or driver has a feature.
    ConnectSupportsFeature = 60, "connect_supports_feature", high;
    /// The counters of one disk.
    DomainBlockStats = 64, "domain_block_stats", low;
    /// The counters of one interface.
    DomainInterfaceStats = 65, "domain_interface_stats", low;
    /// Which kinds of authentication the daemon wants.
    AuthList = 66, "auth_list", high;
    /// Looks a storage pool up.
    StoragePoolLookupByUuid = 85, "storage_pool_lookup_by_uuid", high;
    /// State and sizes of a storage pool.
    StoragePoolGetInfo = 87, "storage_pool_get_info", high;
    /// A storage pool's XML.
    StoragePoolGetXmlDesc = 88, "storage_pool_get_xml_desc", high;
    /// Whether a storage pool starts with the host.
    StoragePoolGetAutostart = 89, "storage_pool_get_autostart", high;
    /// The connection's URI.
    ConnectGetUri = 110, "connect_get_uri", high;
    /// Whether a domain is active.
    DomainIsActive = 150, "domain_is_active", high;
    /// Whether a domain is persistent.
    DomainIsPersistent = 151, "domain_is_persistent", high;
    /// Whether a network is started.
    NetworkIsActive = 152, "network_is_active", high;
    /// Whether a network is defined.
    NetworkIsPersistent = 153, "network_is_persistent", high;
    /// Whether a storage pool is defined.
    StoragePoolIsPersistent = 155, "storage_pool_is_persistent", high;
    /// libvirt's version.
    ConnectGetLibVersion = 157, "connect_get_lib_version", high;
    /// The memory statistics of a domain.
    DomainMemoryStats = 159, "domain_memory_stats", low;
    /// The old form of a domain's job statistics.
    DomainGetJobInfo = 163, "domain_get_job_info", low;
    /// Whether a domain has a managed save image.
    DomainHasManagedSaveImage = 183, "domain_has_managed_save_image", low;
    /// The XML of a snapshot.
    DomainSnapshotGetXmlDesc = 186, "domain_snapshot_get_xml_desc", high;
    /// Looks a snapshot up.
    DomainSnapshotLookupByName = 189, "domain_snapshot_lookup_by_name", high;
    /// Whether a domain has a current snapshot.
    DomainHasCurrentSnapshot = 190, "domain_has_current_snapshot", low;
    /// The current snapshot of a domain.
    DomainSnapshotCurrent = 191, "domain_snapshot_current", low;
    /// Starts a defined domain.
    DomainCreateWithFlags = 196, "domain_create_with_flags", low;
    /// State and reason of a domain.
    DomainGetState = 212, "domain_get_state", high;
    /// Memory of the host, or of a NUMA cell.
    NodeGetMemoryStats = 228, "node_get_memory_stats", low;
    /// Whether the control channel of a domain is free.
    DomainGetControlInfo = 229, "domain_get_control_info", high;
    /// Kills a domain.
    DomainDestroyFlags = 234, "domain_destroy_flags", high;
    /// The counters of one disk, as typed parameters.
    DomainBlockStatsFlags = 243, "domain_block_stats_flags", low;
    /// The I/O errors of a domain's disks.
    DomainGetDiskErrors = 263, "domain_get_disk_errors", low;
    /// Title, description or one metadata element of a domain.
    DomainGetMetadata = 265, "domain_get_metadata", low;
    /// Every domain that passes a filter.
    ConnectListAllDomains = 273, "connect_list_all_domains", high;
    /// The snapshots of a domain.
    DomainListAllSnapshots = 274, "domain_list_all_snapshots", high;
    /// Every storage pool.
    ConnectListAllStoragePools = 281, "connect_list_all_storage_pools", high;
    /// Every network.
    ConnectListAllNetworks = 283, "connect_list_all_networks", high;
    /// The CPUs of the host that are there and online.
    NodeGetCpuMap = 293, "node_get_cpu_map", low;
    /// The statistics of a domain's job.
    DomainGetJobStats = 298, "domain_get_job_stats", low;
    /// Registers for a network event.
    ConnectNetworkEventRegisterAny = 313, "connect_network_event_register_any", high;
    /// Ends a registration for network events.
    ConnectNetworkEventDeregisterAny = 314, "connect_network_event_deregister_any", high;
    /// Registers for a domain event.
    ConnectDomainEventCallbackRegisterAny = 316, "connect_domain_event_callback_register_any", high;
    /// Ends a registration.
    ConnectDomainEventCallbackDeregisterAny = 317, "connect_domain_event_callback_deregister_any", high;
    /// The clock of a guest.
    DomainGetTime = 337, "domain_get_time", low;
    /// The free pages of the host by size and NUMA cell.
    NodeGetFreePages = 340, "node_get_free_pages", low;
    /// The DHCP leases of a network.
    NetworkGetDhcpLeases = 341, "network_get_dhcp_leases", low;
    /// The statistics of many domains at once.
    ConnectGetAllDomainStats = 344, "connect_get_all_domain_stats", low;
    /// The addresses of a guest's interfaces.
    DomainInterfaceAddresses = 353, "domain_interface_addresses", low;
    /// Registers for the closing of the hypervisor connection.
    ConnectRegisterCloseCallback = 360, "connect_register_close_callback", high;
    /// Ends that registration.
    ConnectUnregisterCloseCallback = 361, "connect_unregister_close_callback", high;
    /// Registers for a storage pool event.
    ConnectStoragePoolEventRegisterAny = 368, "connect_storage_pool_event_register_any", high;
    /// The vCPUs of a guest, as its agent sees them.
    DomainGetGuestVcpus = 371, "domain_get_guest_vcpus", low;
    /// Ends a registration for storage pool events.
    ConnectStoragePoolEventDeregisterAny = 369, "connect_storage_pool_event_deregister_any", high;
    /// The XML of a checkpoint.
    DomainCheckpointGetXmlDesc = 412, "domain_checkpoint_get_xml_desc", high;
    /// The checkpoints of a domain.
    DomainListAllCheckpoints = 413, "domain_list_all_checkpoints", high;
    /// Looks a checkpoint up.
    DomainCheckpointLookupByName = 415, "domain_checkpoint_lookup_by_name", high;
    /// What the guest agent knows of a guest.
    DomainGetGuestInfo = 418, "domain_get_guest_info", low;
    /// What libvirt warns of a domain.
    DomainGetMessages = 426, "domain_get_messages", low;
}

impl Procedure {
    /// The procedure with this name (`domain_get_state`, with `-` allowed for `_`) or number.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Ok(number) = name.parse() {
            return Some(Self::from_number(number));
        }
        let name = name.replace('-', "_");
        Self::ALL.iter().copied().find(|procedure| procedure.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::Procedure;

    #[test]
    fn numbers_and_names_lead_back_to_the_procedure() {
        for procedure in Procedure::ALL {
            assert_eq!(Procedure::from_number(procedure.number()), *procedure);
            assert_eq!(Procedure::from_name(procedure.name()), Some(*procedure));
        }
        assert_eq!(Procedure::from_number(9999), Procedure::Other(9999));
        assert_eq!(Procedure::from_name("344"), Some(Procedure::ConnectGetAllDomainStats));
        assert_eq!(Procedure::from_name("no_such"), None);
    }
}
