//! What libvirt reports when a call fails, read at once and on the same thread, and classified.

use super::peer::without_user;
use std::ffi::CStr;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;

use virt::sys;

use super::connection::Access;

/// Why a call failed: one variant for each way that a caller acts. Also the `reason` label of
/// `libvirt_exporter_collect_failures_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// No connection could be opened: no socket, no daemon, no route, no certificate.
    ConnectFailed,
    /// The client library cannot open such a URI: it is none, or names a driver or transport that there is not.
    BadUri,
    /// The daemon or the file system refuses this user.
    PermissionDenied,
    /// The call needs a read-write connection, and the socket behind this one is read-only (`VIR_ERR_OPERATION_DENIED`).
    ReadOnly,
    /// An open connection broke: daemon gone, keepalive unanswered, socket shut.
    Disconnected,
    /// No answer within the deadline.
    TimedOut,
    /// The reply is beyond the limits of libvirt's protocol (`VIR_ERR_RPC`, or more domains than a reply may have).
    TooLarge,
    /// The driver, the daemon or the library does not know the call.
    NotSupported,
    /// The domain does not exist any more.
    VanishedDomain,
    /// Anything else, by its `virErrorNumber`.
    Other(i32),
}

impl ErrorClass {
    /// The classes that stand for themselves, without [`ErrorClass::Other`].
    pub const NAMED: [Self; 9] = [
        Self::ConnectFailed,
        Self::BadUri,
        Self::PermissionDenied,
        Self::ReadOnly,
        Self::Disconnected,
        Self::TimedOut,
        Self::TooLarge,
        Self::NotSupported,
        Self::VanishedDomain,
    ];

    /// The label value: lower case, words joined by underscores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::BadUri => "bad_uri",
            Self::PermissionDenied => "permission_denied",
            Self::ReadOnly => "read_only",
            Self::Disconnected => "disconnected",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::NotSupported => "not_supported",
            Self::VanishedDomain => "vanished_domain",
            Self::Other(_) => "other",
        }
    }
}

/// A failed libvirt call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct LibvirtError {
    /// What was attempted, such as `cannot open qemu:///system read-only`.
    pub operation: String,
    /// The class to act on.
    pub class: ErrorClass,
    /// libvirt's own message.
    pub message: String,
    /// How the connection was opened, or was meant to be, where the error is about one.
    pub access: Option<Access>,
}

/// Marks of a login that failed, which no permission of a local socket would change.
const OF_REMOTE: [&str; 4] = ["TLS", "certificate", "SASL", "authentication callback"];

impl fmt::Display for LibvirtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)?;
        if self.class == ErrorClass::PermissionDenied
            && let Some(access) = self.access
            && !OF_REMOTE.iter().any(|mark| self.message.contains(mark))
        {
            let user = std::fs::metadata("/proc/self").map(|process| process.uid());
            let user = user.map_or_else(|_| String::from("this user"), |uid| format!("uid {uid}"));
            let (setting, action) = match access {
                Access::ReadOnly => ("unix_sock_ro_perms", "org.libvirt.unix.monitor"),
                Access::ReadWrite => ("unix_sock_rw_perms", "org.libvirt.unix.manage"),
            };
            if self.is_refused_by_module() {
                return Ok(());
            }
            if let Some(folder) = self.closed_folder() {
                return write!(f, " ({user} may not enter the folder {})", folder.display());
            }
            write!(f, " ({user} needs access to the {access} socket: {setting} in the daemon's configuration, or a ")?;
            write!(f, "polkit rule for {action})")?;
        }
        Ok(())
    }
}

/// The error numbers of libvirt that decide a class.
mod code {
    use virt::sys;
    pub(super) const NO_SUPPORT: sys::virErrorNumber = sys::VIR_ERR_NO_SUPPORT;
    pub(super) const NO_DOMAIN: sys::virErrorNumber = sys::VIR_ERR_NO_DOMAIN;
    pub(super) const RPC: sys::virErrorNumber = sys::VIR_ERR_RPC;
    pub(super) const SYSTEM_ERROR: sys::virErrorNumber = sys::VIR_ERR_SYSTEM_ERROR;
    /// What the client library says of a URI before it connects to anything.
    pub(super) const OF_URIS: [sys::virErrorNumber; 3] =
        [sys::VIR_ERR_INVALID_ARG, sys::VIR_ERR_NO_CONNECT, sys::VIR_ERR_NO_SUPPORT];
}

impl LibvirtError {
    /// An error that this program found itself, without libvirt's help.
    pub(crate) fn own(operation: impl Into<String>, class: ErrorClass, message: impl Into<String>) -> Self {
        Self { operation: operation.into(), class, message: message.into(), access: None }
    }

    /// Reads the calling thread's last libvirt error. Must follow the failed call directly.
    pub(super) fn last(operation: impl Into<String>, phase: Phase) -> Self {
        // SAFETY: takes no argument; returns null or a pointer to this thread's error, valid until its next libvirt call.
        let error = unsafe { sys::virGetLastError() };
        // SAFETY: null is checked by `as_ref`; a non-null error is a live, initialised virError of this thread.
        let Some(error) = (unsafe { error.as_ref() }) else {
            return Self::own(operation, phase.class_of_unknown(), NO_REASON);
        };
        // Where an error was lost on its way between threads, libvirt fills in its own, "the cause is unknown": code 1,
        // from nowhere (VIR_FROM_NONE), and without the parts that a reported error has.
        let lost = error.code == INTERNAL_ERROR && error.domain == 0 && error.str1.is_null();
        let message = if lost || error.message.is_null() {
            String::from(NO_REASON)
        } else {
            // SAFETY: a non-null message is a NUL-terminated string owned by the error, copied out before any other call.
            unsafe { CStr::from_ptr(error.message) }.to_string_lossy().trim_end().to_owned()
        };
        let number = sys::virErrorNumber::try_from(error.code).unwrap_or_default();
        let mut class = phase.classify(number, error.int1, error.code);
        if phase == Phase::Connecting && error.code == INTERNAL_ERROR && error.domain == FROM_URI {
            class = ErrorClass::BadUri;
        }
        if phase == Phase::Alive && error.code == INTERNAL_ERROR && is_about_the_record_limit(&message) {
            class = ErrorClass::TooLarge;
        }
        Self::own(operation, class, message)
    }

    /// The same error, about a connection with this access.
    pub(super) fn with_access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// The same error without the user and the password of a URI, which libvirt repeats where it cannot parse it.
    pub(super) fn without_user_of(mut self, uri: &str) -> Self {
        self.message = self.message.replace(uri, &without_user(uri));
        self
    }

    /// The same error, of a call whose connection has ended.
    pub(super) fn disconnected(mut self) -> Self {
        self.class = ErrorClass::Disconnected;
        if self.message == NO_REASON {
            self.message = String::from("the connection to the daemon broke");
        }
        self
    }
}

/// What stands for a message where there is none.
const NO_REASON: &str = "libvirt gave no reason";

/// `VIR_ERR_INTERNAL_ERROR`.
const INTERNAL_ERROR: i32 = 1;
/// `VIR_FROM_URI`: the part of libvirt that reads URIs.
const FROM_URI: i32 = 45;

/// More domains than a reply may have are an internal error to the daemon (`Number of domain stats records is 16385, which
/// exceeds max limit: 16384`, and in listings `Too many domains '16385' for limit '16384'`): only the text tells it from
/// others, and of a text in the daemon's language only the number, `REMOTE_DOMAIN_LIST_MAX`.
fn is_about_the_record_limit(message: &str) -> bool {
    ["exceeds max limit", "' for limit '", "16384"].iter().any(|mark| message.contains(mark))
}

/// What was going on when the call failed: the same error number means something else while connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Opening a connection.
    Connecting,
    /// A call on an open connection, which is still alive afterwards.
    Alive,
    /// A call on a connection that is dead afterwards.
    Dead,
}

impl Phase {
    fn classify(self, number: sys::virErrorNumber, errno: i32, raw: i32) -> ErrorClass {
        const DENIED: [sys::virErrorNumber; 5] = [
            sys::VIR_ERR_OPERATION_DENIED,
            sys::VIR_ERR_AUTH_FAILED,
            sys::VIR_ERR_AUTH_CANCELLED,
            sys::VIR_ERR_AUTH_UNAVAILABLE,
            sys::VIR_ERR_ACCESS_DENIED,
        ];
        // virReportSystemError keeps the errno in int1: 1 is EPERM, 13 is EACCES.
        let refused_by_kernel = number == code::SYSTEM_ERROR && [1, 13].contains(&errno);
        match self {
            // The text of an error on a dead connection says anything from "unknown" to "invalid pointer".
            Self::Dead => ErrorClass::Disconnected,
            Self::Alive if number == sys::VIR_ERR_OPERATION_DENIED => ErrorClass::ReadOnly,
            _ if DENIED.contains(&number) => ErrorClass::PermissionDenied,
            Self::Connecting if refused_by_kernel => ErrorClass::PermissionDenied,
            Self::Connecting if code::OF_URIS.contains(&number) => ErrorClass::BadUri,
            Self::Connecting => ErrorClass::ConnectFailed,
            Self::Alive => match number {
                code::NO_SUPPORT => ErrorClass::NotSupported,
                code::NO_DOMAIN => ErrorClass::VanishedDomain,
                code::RPC => ErrorClass::TooLarge,
                _ => ErrorClass::Other(raw),
            },
        }
    }

    fn class_of_unknown(self) -> ErrorClass {
        match self {
            Self::Connecting => ErrorClass::ConnectFailed,
            Self::Alive => ErrorClass::Other(0),
            Self::Dead => ErrorClass::Disconnected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_domains_are_told_from_other_internal_errors() {
        assert!(is_about_the_record_limit("Anzahl der Einträge ist 16385, mehr als 16384"));
        assert!(is_about_the_record_limit("internal error: Too many domains '3' for limit '2'"));
        assert!(!is_about_the_record_limit("internal error: client socket is closed"));
    }

    #[test]
    fn the_same_number_means_something_else_in_another_phase() {
        let system_error = |phase: Phase, errno| phase.classify(sys::VIR_ERR_SYSTEM_ERROR, errno, 38);
        assert_eq!(system_error(Phase::Connecting, 2), ErrorClass::ConnectFailed);
        assert_eq!(system_error(Phase::Connecting, 13), ErrorClass::PermissionDenied);
        assert_eq!(system_error(Phase::Alive, 104), ErrorClass::Other(38));
        assert_eq!(Phase::Connecting.classify(sys::VIR_ERR_INVALID_ARG, 0, 8), ErrorClass::BadUri);
        assert_eq!(Phase::Alive.classify(sys::VIR_ERR_INVALID_ARG, 0, 8), ErrorClass::Other(8));
        assert_eq!(system_error(Phase::Dead, 104), ErrorClass::Disconnected);
        assert_eq!(Phase::Alive.classify(sys::VIR_ERR_RPC, 0, 39), ErrorClass::TooLarge);
        assert_eq!(Phase::Connecting.classify(sys::VIR_ERR_AUTH_FAILED, 0, 45), ErrorClass::PermissionDenied);
    }
}
