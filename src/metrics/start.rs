//! Since when counters count.

use std::time::SystemTime;

use uuid::Uuid;

use crate::tables::Origin;

/// When the counters of a subject began; what is not known is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Started {
    /// Which incarnation of which domain the samples are of; `None` for the exporter and for a domain that is shut off.
    pub incarnation: Option<(Uuid, u32)>,
    /// Those of [`Origin::Process`], and of the devices that are not in `devices`.
    pub process: Option<SystemTime>,
    /// Those of [`Origin::Guest`].
    pub guest: Option<SystemTime>,
    /// Those of [`Origin::Exporter`].
    pub exporter: Option<SystemTime>,
    /// Devices that did not begin with the process.
    pub devices: Vec<DeviceStart>,
    /// When the subject was first seen, once [`Lifetimes`](super::Lifetimes) has followed it.
    pub seen: Option<SystemTime>,
}

impl Started {
    /// When the counters of `origin` began.
    #[must_use]
    pub fn of(&self, origin: Origin) -> Option<SystemTime> {
        match origin {
            Origin::Process | Origin::Device => self.process,
            Origin::Guest => self.guest,
            Origin::Exporter => self.exporter,
        }
    }
}

/// When the counters of one device began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStart {
    /// The label that names such devices, `device` or `interface`.
    pub label: &'static str,
    /// Its value.
    pub name: String,
    /// When it was attached; `None` for a device of the host, which counts on from one incarnation to the next.
    pub at: Option<SystemTime>,
}

/// Since when a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It was at zero then.
    Known(SystemTime),
    /// It was first seen then, and may have counted for long.
    Seen(SystemTime),
}

impl Start {
    /// The moment.
    #[must_use]
    pub fn at(self) -> SystemTime {
        match self {
            Self::Known(at) | Self::Seen(at) => at,
        }
    }

    /// The moment, if the sample was at zero then.
    #[must_use]
    pub fn known(self) -> Option<SystemTime> {
        match self {
            Self::Known(at) => Some(at),
            Self::Seen(_) => None,
        }
    }
}
