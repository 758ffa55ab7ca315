//! The machine below libvirt: its memory, huge pages and CPUs.

use std::ffi::c_uint;
use std::mem::MaybeUninit;

use virt::sys;

use super::connection::Connection;
use super::error::LibvirtError;
use super::text::{OwnedText, libc_free};

/// More numbers about the memory of the machine than libvirt has (it has four).
const MOST_MEMORY_STATS: usize = 64;
/// Room for the name of one (`VIR_NODE_MEMORY_STATS_FIELD_LENGTH`).
const MEMORY_STATS_FIELD: usize = 80;

/// What the machine below libvirt has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Logical CPUs that are online (`virNodeGetInfo`).
    pub cpus: u32,
    /// Memory in KiB (`virNodeGetMemoryStats`, or `virNodeGetInfo` where the driver does not have that).
    pub memory_kib: u64,
}

/// How the CPUs of the machine are built (`virNodeGetInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// NUMA cells; 1 where the topology is none that libvirt can express.
    pub cells: u32,
    /// Sockets of each cell.
    pub sockets: u32,
    /// Cores of each socket.
    pub cores: u32,
    /// Threads of each core.
    pub threads: u32,
}

/// Whose memory is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// That of the whole machine.
    All,
    /// That of the NUMA cell with this id.
    One(u32),
}

impl Connection {
    /// The machine as it is now: it may get more memory and CPUs while it runs. `None` where the driver does not say. Two calls,
    /// served without any hypervisor.
    #[must_use]
    pub fn host(&self) -> Option<Host> {
        let info = self.node_info().ok()?;
        #[allow(clippy::useless_conversion, reason = "C's unsigned long has 32 bits on some machines")]
        let at_boot = || info.memory.into();
        // What virNodeGetInfo has was there when the machine booted.
        let stats = self.memory_stats(Cell::All).unwrap_or_default();
        let total = stats.into_iter().find(|(name, _)| name.as_bytes() == sys::VIR_NODE_MEMORY_STATS_TOTAL.to_bytes());
        Some(Host { cpus: info.cpus, memory_kib: total.map_or_else(at_boot, |(_, value)| value) })
    }

    /// How the CPUs are built.
    ///
    /// # Errors
    /// Of any class.
    pub fn topology(&self) -> Result<Topology, LibvirtError> {
        let sys::virNodeInfo { nodes: cells, sockets, cores, threads, .. } = self.node_info()?;
        Ok(Topology { cells, sockets, cores, threads })
    }

    fn node_info(&self) -> Result<sys::virNodeInfo, LibvirtError> {
        let mut info = MaybeUninit::<sys::virNodeInfo>::zeroed();
        // SAFETY: an open connection and a valid out-parameter.
        let done = unsafe { sys::virNodeGetInfo(self.as_ptr(), info.as_mut_ptr()) };
        // SAFETY: a struct of integers, for which zero is a valid value too.
        let info = unsafe { info.assume_init() };
        if done == 0 { Ok(info) } else { Err(self.last_error("cannot ask for the host's CPUs and memory")) }
    }

    /// Names (`total`, `free`, `buffers`, `cached`) and values in KiB (`virNodeGetMemoryStats`).
    ///
    /// # Errors
    /// Of any class.
    pub fn memory_stats(&self, cell: Cell) -> Result<Vec<(String, u64)>, LibvirtError> {
        let failed = || self.last_error("cannot ask for the host's memory");
        let cell = match cell {
            Cell::All => sys::VIR_NODE_MEMORY_STATS_ALL_CELLS,
            Cell::One(id) => i32::try_from(id).unwrap_or(i32::MAX),
        };
        let mut count = 0;
        // SAFETY: an open connection; without room for values the call only says how many there are.
        if unsafe { sys::virNodeGetMemoryStats(self.as_ptr(), cell, std::ptr::null_mut(), &raw mut count, 0) } < 0 {
            return Err(failed());
        }
        let wanted = usize::try_from(count).unwrap_or(0).min(MOST_MEMORY_STATS);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        count = i32::try_from(wanted).unwrap_or(0);
        let mut stats = vec![sys::virNodeMemoryStats { field: [0; MEMORY_STATS_FIELD], value: 0 }; wanted];
        // SAFETY: as above, with room for `count` values.
        if unsafe { sys::virNodeGetMemoryStats(self.as_ptr(), cell, stats.as_mut_ptr(), &raw mut count, 0) } < 0 {
            return Err(failed());
        }
        stats.truncate(usize::try_from(count).unwrap_or(0));
        let copy = |stat: &sys::virNodeMemoryStats| {
            let name = stat.field.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0);
            let name = String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned();
            #[allow(clippy::useless_conversion, reason = "C's unsigned long has 32 bits on some machines")]
            (name, stat.value.into())
        };
        Ok(stats.iter().map(copy).collect())
    }

    /// How many pages of each of these `sizes`, in KiB, are free in a NUMA cell (`virNodeGetFreePages`).
    ///
    /// # Errors
    /// Of any class; a size that the machine does not have is one.
    pub fn free_pages(&self, cell: u32, sizes: &[u32]) -> Result<Vec<u64>, LibvirtError> {
        let mut pages: Vec<c_uint> = sizes.to_vec();
        let mut counts = vec![0_u64; sizes.len()];
        let (count, cell) = (c_uint::try_from(pages.len()).unwrap_or(0), i32::try_from(cell).unwrap_or(i32::MAX));
        // SAFETY: an open connection, `count` sizes, and room for as many numbers, those of one cell.
        let done = unsafe {
            sys::virNodeGetFreePages(self.as_ptr(), count, pages.as_mut_ptr(), cell, 1, counts.as_mut_ptr(), 0)
        };
        if done < 0 { Err(self.last_error("cannot ask for the host's free pages")) } else { Ok(counts) }
    }

    /// How many CPUs the machine has, those that are offline included (`virNodeGetCPUMap`).
    ///
    /// # Errors
    /// Of any class.
    pub fn present_cpus(&self) -> Result<u32, LibvirtError> {
        let mut map = std::ptr::null_mut();
        // SAFETY: an open connection and an out-parameter for a map, which is freed below; the number online is not wanted.
        let count = unsafe { sys::virNodeGetCPUMap(self.as_ptr(), &raw mut map, std::ptr::null_mut(), 0) };
        // SAFETY: null, or allocated by libvirt with malloc and not used after this.
        unsafe { libc_free(map.cast()) };
        u32::try_from(count).map_err(|_| self.last_error("cannot ask for the host's CPUs"))
    }

    /// What the host can do, as XML (`virConnectGetCapabilities`).
    ///
    /// # Errors
    /// Of any class.
    pub fn capabilities(&self) -> Result<String, LibvirtError> {
        // SAFETY: an open connection; the result is null or a string for the caller.
        let xml = OwnedText::new(unsafe { sys::virConnectGetCapabilities(self.as_ptr()) });
        xml.map(|xml| xml.to_text()).ok_or_else(|| self.last_error("cannot ask what the host can do"))
    }
}
