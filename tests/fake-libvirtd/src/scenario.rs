//! Scenarios: which domains a daemon starts with, on which host, under which limits, and how its clock runs.

use std::time::Duration;

use crate::domain::Domain;
use crate::frame::MESSAGE_MAX;
use crate::params::{self, ParseError};
use crate::template::Template;

/// How the counters of template domains grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// Only when a test says so, with [`advance`](crate::FakeLibvirtd::advance).
    #[default]
    Manual,
    /// With the time since the daemon was started.
    Time,
    /// By so much before each bulk statistics call.
    PerCall(Duration),
}

/// What the daemon reports about itself and its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The host's name.
    pub hostname: String,
    /// libvirt's version: major * 1,000,000 + minor * 1,000 + release. It decides which event IDs exist, whether a VM that
    /// dies fails the whole bulk call (before 11.3), and whether reading the definition waits for the job (since 11.0).
    pub libvirt_version: u64,
    /// QEMU's version, in the same form.
    pub hypervisor_version: u64,
    /// The driver's name.
    pub driver: String,
    /// The URI that `virConnectGetURI` returns.
    pub uri: String,
    /// The capabilities XML; a small one is made where this is `None`.
    pub capabilities: Option<String>,
    /// CPUs of the host.
    pub cpus: i32,
    /// Memory of the host in KiB. Half of it is free.
    pub memory_kib: u64,
    /// Huge pages of 2 MiB in the only NUMA cell; all are free.
    pub huge_pages: u64,
    /// Storage pools.
    pub pools: Vec<Pool>,
    /// Networks.
    pub networks: Vec<Network>,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The name; the UUID follows from it.
    pub name: String,
    /// `virStoragePoolState`
    pub state: i32,
    /// Bytes in total.
    pub capacity: u64,
    /// Bytes that are taken.
    pub allocation: u64,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The name; the UUID follows from it.
    pub name: String,
    /// Whether it is started.
    pub active: bool,
    /// Its bridge.
    pub bridge: String,
    /// Its DHCP leases.
    pub leases: u32,
}

impl Default for Host {
    /// libvirt 9.0.0 with QEMU 7.2.22, as Debian 12 has them, on a host called `fakehost`.
    fn default() -> Self {
        Self {
            hostname: "fakehost".to_owned(),
            libvirt_version: 9_000_000,
            hypervisor_version: 7_002_022,
            driver: "QEMU".to_owned(),
            uri: "qemu:///system".to_owned(),
            capabilities: None,
            cpus: 64,
            memory_kib: 512 << 20,
            huge_pages: 1024,
            pools: Vec::new(),
            networks: Vec::new(),
        }
    }
}

/// The limits of the daemon, with libvirt's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones are not accepted.
    pub max_clients: usize,
    /// Calls of one connection under way; the daemon stops reading from a connection that has so many.
    pub max_client_requests: u32,
    /// Workers for calls without priority, of all connections together.
    pub max_workers: u32,
    /// After how much silence the daemon pings a client; zero for never.
    pub keepalive_interval: Duration,
    /// After how many unanswered pings it drops the client.
    pub keepalive_count: u32,
    /// How long a call waits for the job of a busy domain.
    pub job_wait: Duration,
    /// The longest reply in bytes, without its length word; a longer one becomes error 39.
    pub message_max: usize,
    /// The most records in a reply.
    pub records_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: 5000,
            max_client_requests: 5,
            max_workers: 20,
            keepalive_interval: Duration::from_secs(5),
            keepalive_count: 5,
            job_wait: Duration::from_secs(30),
            message_max: MESSAGE_MAX,
            records_max: 16_384,
        }
    }
}

/// What a daemon starts with.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// The domains.
    pub domains: Vec<Domain>,
    /// The host.
    pub host: Host,
    /// The limits.
    pub limits: Limits,
    /// The clock.
    pub clock: Clock,
    /// Control commands (see [`control`](crate::control)) that run before the first client is served.
    pub commands: Vec<String>,
}

impl Scenario {
    /// A builder of a scenario without domains.
    #[must_use]
    pub fn builder() -> ScenarioBuilder {
        ScenarioBuilder::default()
    }
}

/// Builds a [`Scenario`].
#[derive(Debug, Clone, Default)]
pub struct ScenarioBuilder {
    scenario: Scenario,
}

impl ScenarioBuilder {
    /// Adds `count` running domains of one shape, called `vm-<n>`, n counting from the number of domains so far.
    #[must_use]
    pub fn domains(self, count: usize, template: Template) -> Self {
        self.named_domains("vm-{}", count, template)
    }

    /// The same, with names made by putting the number in place of `{}`.
    #[must_use]
    pub fn named_domains(mut self, pattern: &str, count: usize, template: Template) -> Self {
        let template = std::sync::Arc::new(template);
        let first = self.scenario.domains.len();
        for number in first..first + count {
            let name = pattern.replace("{}", &number.to_string());
            let domain = Domain::new(name, std::sync::Arc::clone(&template));
            self.scenario.domains.push(domain);
        }
        self
    }

    /// Adds one domain.
    #[must_use]
    pub fn domain(mut self, domain: Domain) -> Self {
        self.scenario.domains.push(domain);
        self
    }

    /// Adds the domains of a golden file, to be served as they are.
    ///
    /// # Errors
    ///
    /// When the text is not in the `.params` format.
    pub fn params(mut self, text: &str) -> Result<Self, ParseError> {
        let domains = params::parse(text)?;
        self.scenario.domains.extend(domains.into_iter().map(Domain::golden));
        Ok(self)
    }

    /// Sets the host.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.scenario.host = host;
        self
    }

    /// Sets libvirt's version, such as `11_003_000`.
    #[must_use]
    pub fn libvirt_version(mut self, version: u64) -> Self {
        self.scenario.host.libvirt_version = version;
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.scenario.limits = limits;
        self
    }

    /// Sets how long a call waits for the job of a busy domain; libvirt's 30 s are long for a test.
    #[must_use]
    pub fn job_wait(mut self, wait: Duration) -> Self {
        self.scenario.limits.job_wait = wait;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.scenario.clock = clock;
        self
    }

    /// Adds a control command that runs before the first client is served.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.scenario.commands.push(command.into());
        self
    }

    /// The scenario.
    #[must_use]
    pub fn build(self) -> Scenario {
        self.scenario
    }
}
