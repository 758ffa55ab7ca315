//! The C library's allocator, which libvirt's replies and everything of this process share.

#[cfg(target_env = "gnu")]
use std::ffi::c_int;

/// Blocks from this size on are the kernel's again as soon as they are freed. They are what a large host's records and bodies
/// consist of; without a fixed size glibc learns from the first of them to keep up to 32 MiB each.
#[cfg(target_env = "gnu")]
const LARGE: c_int = 1 << 20;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn mallopt(parameter: c_int, value: c_int) -> c_int;
    fn malloc_trim(pad: usize) -> c_int;
}

/// Has the memory of large blocks given back as soon as they are freed, and all threads share one heap, where the C library is
/// glibc: with a heap for each of a dozen threads, what one has freed is of no use to the others. They allocate seldom, and what
/// they wait for is the daemon. To be called before there are other threads.
pub fn keep_memory_small() {
    #[cfg(target_env = "gnu")]
    {
        const M_MMAP_THRESHOLD: c_int = -3;
        const M_ARENA_MAX: c_int = -8;
        for (parameter, value) in [(M_MMAP_THRESHOLD, LARGE), (M_ARENA_MAX, 1)] {
            // SAFETY: it sets a number of the allocator, and there is no other thread yet that could read it.
            let _is_set = unsafe { mallopt(parameter, value) };
        }
    }
}

/// Gives the pages that are free now back, which takes some milliseconds where there are many. Small blocks are kept otherwise, and
/// what lives long between them keeps the records of the next collection from fitting in their places.
pub fn give_back_free_pages() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: any thread may call it at any time; it locks one arena after the other.
        let _has_given = unsafe { malloc_trim(0) };
    }
}
