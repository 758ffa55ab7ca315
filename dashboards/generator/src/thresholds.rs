//! Every number at which a dashboard changes colour or an alert fires. Change it here and run `cargo run -p dashboards`.

/// A value that is bad, and one that is worse.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Warning: to be looked at in working hours.
    pub warning: f64,
    /// Critical: to be looked at at once.
    pub critical: f64,
}

impl Limits {
    /// The same limits of what is missing to the whole: what is used, where these are of what is left.
    #[must_use]
    pub fn of_the_rest(self) -> Self {
        Self { warning: 1.0 - self.warning, critical: 1.0 - self.critical }
    }
}

/// Share of the time in which a domain's vCPUs were ready but had no CPU. Guests feel 10 %, users feel 25 %.
pub const STEAL: Limits = Limits { warning: 0.10, critical: 0.25 };

/// Share of its vCPUs' time that a domain computes. Only for colours: a busy guest is no fault.
pub const CPU: Limits = Limits { warning: 0.80, critical: 0.95 };

/// Share of the guest's memory that it can still use without swapping; lower is worse.
pub const MEMORY_USABLE: Limits = Limits { warning: 0.10, critical: 0.05 };

/// Bytes per second that a guest swaps, in and out together.
pub const SWAP: Limits = Limits { warning: 1_048_576.0, critical: 10_485_760.0 };

/// Seconds that a request to a block device takes on average.
pub const BLOCK_LATENCY: Limits = Limits { warning: 0.05, critical: 0.2 };

/// Seconds within which 99 % of the requests are done, where the guest has a latency histogram.
pub const BLOCK_LATENCY_P99: Limits = Limits { warning: 0.25, critical: 1.0 };

/// Requests per second below which a latency says too little to alert.
pub const BLOCK_LATENCY_MIN_REQUESTS: f64 = 5.0;

/// Seconds that the requests of all guests of a host take on average: more is the fault of the storage, not of a guest.
pub const HOST_BLOCK_LATENCY: f64 = 0.1;

/// Share of a thin image's device on the host that is written.
pub const THIN_IMAGE: Limits = Limits { warning: 0.85, critical: 0.95 };

/// Share of an interface's packets that are dropped.
pub const DROPS: Limits = Limits { warning: 0.01, critical: 0.05 };

/// Packets dropped per second below which a share says too little to alert.
pub const DROPS_MIN_PACKETS: f64 = 1.0;

/// Share of a limit that a guest uses from which on it is at its limit.
pub const AT_LIMIT: f64 = 0.95;

/// Share of its CPU quota that a guest uses from which on its steal is that of the quota, which the host takes away on purpose.
pub const QUOTA_STEALS: f64 = 0.8;

/// Share of the periods of its CPU quota in which a guest is throttled, above which it is held back.
pub const THROTTLED: f64 = 0.25;

/// Share of the time in which a guest's QEMU waits for memory of the host.
pub const MEMORY_WAITING: f64 = 0.1;

/// Packets with errors per second.
pub const INTERFACE_ERRORS: f64 = 0.1;

/// vCPUs of running domains for each CPU of the host. Alone no fault: the alert wants steal as well.
pub const CPU_OVERCOMMIT: Limits = Limits { warning: 3.0, critical: 6.0 };

/// Average steal of a host's domains that makes its overcommitment an alert.
pub const HOST_STEAL: f64 = 0.05;

/// Memory of running domains for each byte of the host's.
pub const MEMORY_OVERCOMMIT: Limits = Limits { warning: 1.0, critical: 1.2 };

/// Share of the host's memory that is free or in caches, above which overcommitment is no alert.
pub const HOST_MEMORY_LEFT: f64 = 0.2;

/// Share of a storage pool that is taken.
pub const POOL: Limits = Limits { warning: 0.85, critical: 0.95 };

/// Share of a storage pool that is taken from which on it is of interest when it will be full.
pub const POOL_FILLING: f64 = 0.6;

/// Seconds within which a storage pool is going to be full.
pub const POOL_FULL_IN: f64 = 86_400.0;

/// Seconds that a snapshot is kept: it slows its guest's disks down, and grows.
pub const SNAPSHOT_AGE: f64 = 7.0 * 86_400.0;

/// Share of a guest's file system that is used.
pub const GUEST_FILESYSTEM: Limits = Limits { warning: 0.90, critical: 0.97 };

/// Seconds that a guest's clock is off.
pub const GUEST_CLOCK: f64 = 5.0;

/// Seconds that a collection takes: `collection.deadline` is 8 s by default, Prometheus' scrape_timeout 10 s.
pub const COLLECT_SECONDS: Limits = Limits { warning: 4.0, critical: 6.0 };

/// Share of the scrape interval that a collection takes.
pub const COLLECT_SHARE: Limits = Limits { warning: 0.3, critical: 0.8 };

/// Seconds since the guest last reported its memory.
pub const MEMORY_REPORT_AGE: Limits = Limits { warning: 60.0, critical: 600.0 };

/// What is left of a migration, for each byte that was left five minutes before, above which it makes no progress.
pub const MIGRATION_STALLED: f64 = 0.98;

/// Seconds that a migration, save, dump or backup has been running.
pub const JOB_SECONDS: Limits = Limits { warning: 600.0, critical: 3_600.0 };
