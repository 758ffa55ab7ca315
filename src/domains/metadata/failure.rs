//! Why the definition of a domain is not known.

use std::fmt;

use super::DefinitionError;
use crate::libvirt::ErrorClass;

/// Why the definition of a domain is not known. Also the `reason` label of `libvirt_exporter_metadata_failures_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefinitionFailure {
    /// It is larger than any definition, or than libvirt's protocol allows.
    TooLarge,
    /// It is nested too deeply.
    TooDeep,
    /// It has a document type declaration.
    Dtd,
    /// It is no XML.
    Malformed,
    /// It is the definition of something else.
    NoDomain,
    /// The daemon lets this user list the domain, but not read it.
    PermissionDenied,
    /// The daemon did not answer in time.
    TimedOut,
    /// The driver does not know the call.
    NotSupported,
    /// The domain's hypervisor does not answer, so the daemon was not asked.
    Quarantined,
    /// The readings of other domains hang, so the daemon was not asked.
    OthersHang,
    /// Any other error of libvirt's.
    Other,
}

impl DefinitionFailure {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::TooLarge,
        Self::TooDeep,
        Self::Dtd,
        Self::Malformed,
        Self::NoDomain,
        Self::PermissionDenied,
        Self::TimedOut,
        Self::NotSupported,
        Self::Quarantined,
        Self::OthersHang,
        Self::Other,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::Dtd => "dtd",
            Self::Malformed => "malformed",
            Self::NoDomain => "no_domain",
            Self::PermissionDenied => "permission_denied",
            Self::TimedOut => "timed_out",
            Self::NotSupported => "not_supported",
            Self::Quarantined => "quarantined",
            Self::OthersHang => "others_hang",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for DefinitionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&DefinitionError> for DefinitionFailure {
    fn from(error: &DefinitionError) -> Self {
        match error {
            DefinitionError::TooLarge => Self::TooLarge,
            DefinitionError::TooDeep => Self::TooDeep,
            DefinitionError::Dtd => Self::Dtd,
            DefinitionError::Malformed { .. } => Self::Malformed,
            DefinitionError::NoDomain { .. } => Self::NoDomain,
        }
    }
}

impl From<ErrorClass> for DefinitionFailure {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::PermissionDenied => Self::PermissionDenied,
            ErrorClass::TimedOut => Self::TimedOut,
            ErrorClass::TooLarge => Self::TooLarge,
            ErrorClass::NotSupported => Self::NotSupported,
            ErrorClass::ConnectFailed
            | ErrorClass::BadUri
            | ErrorClass::ReadOnly
            | ErrorClass::Disconnected
            | ErrorClass::VanishedDomain
            | ErrorClass::Other(_) => Self::Other,
        }
    }
}
