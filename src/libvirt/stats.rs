//! Bulk statistics: `virConnectGetAllDomainStats`, visited borrowed and copied out once.

use std::ffi::{CStr, c_uint};
use std::ops::{BitOr, BitOrAssign};

use uuid::Uuid;
use virt::sys;

use super::connection::Connection;
use super::domain::{Domain, identity_of};
use super::error::LibvirtError;
use super::param::{ParamValue, Records};

/// Room for a parameter's key, its NUL included (`VIR_TYPED_PARAM_FIELD_LENGTH`).
pub(super) const FIELD_LENGTH: usize = 80;

/// A set of statistics groups (`virDomainStatsTypes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StatsGroups(u32);

impl StatsGroups {
    /// `state.*`
    pub const STATE: Self = Self(sys::VIR_DOMAIN_STATS_STATE);
    /// `cpu.*`
    pub const CPU_TOTAL: Self = Self(sys::VIR_DOMAIN_STATS_CPU_TOTAL);
    /// `balloon.*`
    pub const BALLOON: Self = Self(sys::VIR_DOMAIN_STATS_BALLOON);
    /// `vcpu.*`
    pub const VCPU: Self = Self(sys::VIR_DOMAIN_STATS_VCPU);
    /// `net.*`
    pub const INTERFACE: Self = Self(sys::VIR_DOMAIN_STATS_INTERFACE);
    /// `block.*`
    pub const BLOCK: Self = Self(sys::VIR_DOMAIN_STATS_BLOCK);
    /// `perf.*`
    pub const PERF: Self = Self(sys::VIR_DOMAIN_STATS_PERF);
    /// `iothread.*`
    pub const IOTHREAD: Self = Self(sys::VIR_DOMAIN_STATS_IOTHREAD);
    /// `memory.*`
    pub const MEMORY: Self = Self(sys::VIR_DOMAIN_STATS_MEMORY);
    /// `dirtyrate.*`
    pub const DIRTYRATE: Self = Self(sys::VIR_DOMAIN_STATS_DIRTYRATE);
    /// `vm.*`
    pub const VM: Self = Self(sys::VIR_DOMAIN_STATS_VM);

    /// No group.
    pub const NONE: Self = Self(0);

    /// Whether no group is in the set. libvirt takes the empty set for "all groups", so it must not be asked for.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The groups of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The groups of this set that are in `other` too.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The groups of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOrAssign for StatsGroups {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitOr for StatsGroups {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl FromIterator<Self> for StatsGroups {
    fn from_iter<I: IntoIterator<Item = Self>>(groups: I) -> Self {
        groups.into_iter().fold(Self::default(), Self::bitor)
    }
}

/// Which domains a bulk statistics call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainSelection {
    /// Domains with a running or paused hypervisor process.
    Active,
    /// Domains that are shut off.
    Inactive,
}

/// One bulk statistics call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsRequest {
    /// The groups to ask for; not empty.
    pub groups: StatsGroups,
    /// The domains to ask about; `None` for those that the call names.
    pub domains: Option<DomainSelection>,
    /// Also report the layers below the top image of each disk.
    pub backing_chain: bool,
    /// Of a domain that is busy, report what can be had without its monitor instead of waiting 30 s for it. Only a daemon
    /// older than libvirt 4.5 does not know this.
    pub nowait: bool,
}

impl StatsRequest {
    fn flags(self) -> c_uint {
        let domains = match self.domains {
            None => 0,
            Some(DomainSelection::Active) => sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE,
            Some(DomainSelection::Inactive) => sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE,
        };
        let backing = if self.backing_chain { sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING } else { 0 };
        let nowait = if self.nowait { sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT } else { 0 };
        // Never ENFORCE: one domain without a group would fail the whole call.
        domains | backing | nowait
    }
}

impl Connection {
    /// Asks for the statistics of all requested domains in one call and appends those whose name `selects` to `records`.
    ///
    /// Blocks until the daemon answers, which a frozen QEMU or daemon can delay without limit.
    ///
    /// # Errors
    /// Of any class; `records` is then as it was.
    pub fn fetch_stats(
        &self,
        request: StatsRequest,
        selects: impl Fn(&str, Uuid) -> bool,
        records: &mut Records,
    ) -> Result<(), LibvirtError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: an open connection and a valid out-parameter, which libvirt sets to a list that `RecordList` frees.
        let count = unsafe {
            sys::virConnectGetAllDomainStats(self.as_ptr(), request.groups.0, &raw mut list, request.flags())
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(self.last_error("cannot fetch domain statistics"));
        };
        RecordList { list, count }.copy_to(selects, records, |_, _, _| {});
        Ok(())
    }

    /// Asks for the statistics of `domains`, handles of this connection, and appends them to `records`. Domains that have
    /// vanished are omitted silently.
    ///
    /// `complete` is called with each domain's UUID and id once its parameters are there, to add more of them.
    ///
    /// Blocks as [`Connection::fetch_stats`] does.
    ///
    /// # Errors
    /// Of any class; `records` is then as it was.
    pub fn fetch_stats_completed<'d>(
        &self,
        domains: impl IntoIterator<Item = &'d Domain>,
        request: StatsRequest,
        records: &mut Records,
        complete: impl FnMut(Uuid, Option<u32>, &mut Records),
    ) -> Result<(), LibvirtError> {
        let mut pointers: Vec<sys::virDomainPtr> = domains.into_iter().map(Domain::as_ptr).collect();
        if pointers.is_empty() {
            return Ok(());
        }
        pointers.push(std::ptr::null_mut());
        let mut list = std::ptr::null_mut();
        // SAFETY: a null-terminated array of valid domains of one connection, and a valid out-parameter, which libvirt sets
        // to a list that `RecordList` frees.
        let count = unsafe {
            sys::virDomainListGetStats(pointers.as_mut_ptr(), request.groups.0, &raw mut list, request.flags())
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(self.last_error("cannot fetch domain statistics"));
        };
        RecordList { list, count }.copy_to(|_, _| true, records, complete);
        Ok(())
    }

    /// As [`Connection::fetch_stats_completed`], with nothing added.
    ///
    /// # Errors
    /// Likewise.
    pub fn fetch_stats_of<'d>(
        &self,
        domains: impl IntoIterator<Item = &'d Domain>,
        request: StatsRequest,
        records: &mut Records,
    ) -> Result<(), LibvirtError> {
        self.fetch_stats_completed(domains, request, records, |_, _, _| {})
    }
}

/// Owns the reply of a bulk statistics call.
struct RecordList {
    list: *mut sys::virDomainStatsRecordPtr,
    count: usize,
}

impl RecordList {
    fn copy_to(
        &self,
        selects: impl Fn(&str, Uuid) -> bool,
        records: &mut Records,
        mut complete: impl FnMut(Uuid, Option<u32>, &mut Records),
    ) {
        if self.list.is_null() {
            return;
        }
        // SAFETY: a successful call leaves an array of `count` record pointers behind `list`, alive as long as `self`.
        let list = unsafe { std::slice::from_raw_parts(self.list, self.count) };
        // SAFETY: null is checked by `as_ref`; each element points to a live record of the list.
        let all = || list.iter().filter_map(|&record| unsafe { record.as_ref() });
        records.reserve(all().map(|record| usize::try_from(record.nparams).unwrap_or(0)).sum());
        for record in all() {
            // Name, UUID and id are part of the record: this does not ask the daemon.
            let identity = identity_of(record.dom);
            if !selects(&identity.name, identity.uuid) {
                continue;
            }
            records.push_domain(&identity.name, identity.uuid, identity.id);
            let count = usize::try_from(record.nparams).unwrap_or_default();
            if count > 0 && !record.params.is_null() {
                // SAFETY: a record with a non-null `params` has `nparams` initialised parameters there.
                let params = unsafe { std::slice::from_raw_parts(record.params, count) };
                params.iter().for_each(|param| push_param(param, records));
            }
            complete(identity.uuid, identity.id, records);
        }
    }
}

impl Drop for RecordList {
    fn drop(&mut self) {
        // SAFETY: the list came from virConnectGetAllDomainStats, is freed once, and null is allowed.
        unsafe { sys::virDomainStatsRecordListFree(self.list) };
    }
}

pub(super) fn push_param(param: &sys::virTypedParameter, records: &mut Records) {
    // SAFETY: c_char, signed or not, has the layout of u8, and the array is initialised up to its NUL and beyond.
    let field = unsafe { &*(&raw const param.field).cast::<[u8; FIELD_LENGTH]>() };
    let key = CStr::from_bytes_until_nul(field).map_or(field.as_slice(), CStr::to_bytes);
    let value = &param.value;
    let tag = u32::try_from(param.type_).unwrap_or_default();
    let value = match tag {
        // SAFETY: the tag says that `i` was written.
        sys::VIR_TYPED_PARAM_INT => ParamValue::Int(unsafe { value.i }),
        // SAFETY: the tag says that `ui` was written.
        sys::VIR_TYPED_PARAM_UINT => ParamValue::UInt(unsafe { value.ui }),
        // SAFETY: the tag says that `l` was written.
        sys::VIR_TYPED_PARAM_LLONG => ParamValue::LLong(unsafe { value.l }),
        // SAFETY: the tag says that `ul` was written.
        sys::VIR_TYPED_PARAM_ULLONG => ParamValue::ULLong(unsafe { value.ul }),
        // SAFETY: the tag says that `d` was written.
        sys::VIR_TYPED_PARAM_DOUBLE => ParamValue::Double(unsafe { value.d }),
        // SAFETY: the tag says that `b` was written.
        sys::VIR_TYPED_PARAM_BOOLEAN => ParamValue::Boolean(unsafe { value.b } != 0),
        sys::VIR_TYPED_PARAM_STRING => {
            // SAFETY: the tag says that `s` was written.
            let string = unsafe { value.s };
            if string.is_null() {
                ParamValue::String("")
            } else {
                // SAFETY: a non-null string is NUL-terminated and belongs to the record, which outlives this call.
                let string = unsafe { CStr::from_ptr(string) };
                records.push_bytes(key, ParamValue::String(&string.to_string_lossy()));
                return;
            }
        }
        _ => ParamValue::Unknown(param.type_),
    };
    records.push_bytes(key, value);
}
