//! Calls about the host's memory and CPUs. It has one NUMA cell.

use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::procedure::Procedure as P;

/// `VIR_NODE_MEMORY_STATS_ALL_CELLS`
const ALL_CELLS: i32 = -1;

impl Call {
    pub(super) fn serve_node(&self) -> Reply {
        let host = &self.shared.host;
        let mut arguments = self.arguments();
        let mut out = payload();
        match self.procedure {
            P::NodeGetMemoryStats => {
                let (room, cell) = (arguments.i32()?, arguments.i32()?);
                let (total, free) = (host.memory_kib, host.memory_kib / 2);
                let all = [("total", total), ("free", free), ("buffers", 1024), ("cached", 2048)];
                let stats = match cell {
                    ALL_CELLS => &all[..],
                    0 => &all[..2],
                    _ => return Err(invalid(format_args!("cellNum in NODE_GET_MEMORY_STATS must not be {cell}"))),
                };
                out.count(if room == 0 { 0 } else { stats.len() });
                for (name, value) in stats.iter().filter(|_| room != 0) {
                    out.string(name).u64(*value);
                }
                out.count(stats.len());
            }
            P::NodeGetCpuMap => {
                let need_map = arguments.i32()? != 0;
                let bytes = usize::try_from(host.cpus).unwrap_or(0).div_ceil(8);
                out.opaque(&vec![0xff; if need_map { bytes } else { 0 }]).i32(host.cpus).i32(host.cpus);
            }
            _ => {
                let sizes: Vec<u32> = (0..arguments.u32()?).map(|_| arguments.u32()).collect::<Result<_, _>>()?;
                let (first, cells) = (arguments.i32()?, arguments.u32()?);
                if first != 0 || cells != 1 {
                    return Err(invalid(format_args!("there is no cell {first}")));
                }
                out.count(sizes.len());
                for size in sizes {
                    out.u64(match size {
                        4 => host.memory_kib / 8,
                        2048 => host.huge_pages,
                        _ => return Err(invalid(format_args!("page size {size} is not available"))),
                    });
                }
            }
        }
        Ok(out)
    }
}

fn invalid(what: std::fmt::Arguments<'_>) -> Failure {
    Failure::qemu(code::INVALID_ARG, format!("invalid argument: {what}"))
}
