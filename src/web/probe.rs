//! Which daemon a probe is about, from the query of its URL: `?target=NAME`, `&profile=NAME`.

use std::io;
use std::sync::Arc;

use hyper::StatusCode;
use thiserror::Error;

use crate::config::Config;

/// What a probe asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    /// The name of a target, or a URI.
    pub target: String,
    /// The name of a profile, if it is not that of the target.
    pub profile: Option<String>,
}

/// A daemon that a request is about.
#[derive(Debug)]
pub struct Daemon<D> {
    /// Its key among all daemons; empty for the local one.
    pub key: String,
    /// What its metrics are collected with.
    pub config: Arc<Config>,
    /// What the source knows it by.
    pub handle: Arc<D>,
}

/// Why a probe cannot be made.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A parameter is missing, empty, or given twice.
    #[error("expected one parameter {0} that is not empty, as in /probe?target=NAME")]
    Parameter(&'static str),
    /// There is no such target.
    #[error("unknown target {target:?}, /probe-targets lists the known ones")]
    UnknownTarget {
        /// The name given.
        target: String,
    },
    /// A URI that `probe.allow` does not match.
    #[error("probe.allow does not match the URI {target:?}")]
    NotAllowed {
        /// The URI given.
        target: String,
    },
    /// There is no such profile.
    #[error("unknown profile {profile:?}, expected one of {known}")]
    UnknownProfile {
        /// The name given.
        profile: String,
        /// The known ones, with backquotes and commas.
        known: String,
    },
    /// Connections to other targets are all that there may be.
    #[error("the limit of {limit} connections to targets (probe.max_connections) is reached, try again")]
    Full {
        /// The limit in effect.
        limit: usize,
    },
    /// The operating system has no thread left.
    #[error("cannot start to collect")]
    NotStarted(#[from] io::Error),
}

impl ProbeError {
    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Parameter(_) | Self::UnknownProfile { .. } => StatusCode::BAD_REQUEST,
            Self::NotAllowed { .. } => StatusCode::FORBIDDEN,
            Self::UnknownTarget { .. } => StatusCode::NOT_FOUND,
            Self::Full { .. } | Self::NotStarted(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl ProbeRequest {
    /// Reads it from a query.
    ///
    /// # Errors
    /// If there is not one target, or more than one profile.
    pub(super) fn parse(query: &str) -> Result<Self, ProbeError> {
        let values = |name: &str| {
            let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name);
            pairs.map(|(_, value)| value.into_owned()).collect::<Vec<String>>()
        };
        let one = |name: &'static str| match values(name).as_slice() {
            [] => Ok(None),
            [value] if !value.is_empty() => Ok(Some(value.clone())),
            _ => Err(ProbeError::Parameter(name)),
        };
        let target = one("target")?.ok_or(ProbeError::Parameter("target"))?;
        Ok(Self { target, profile: one("profile")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_about_one_target() {
        let request = ProbeRequest::parse("collect[]=state&target=a%2Fb&profile=remote").expect("a request");
        assert_eq!((request.target.as_str(), request.profile.as_deref()), ("a/b", Some("remote")));
        for (query, parameter) in [
            ("", "target"),
            ("target=", "target"),
            ("target=a&target=b", "target"),
            ("target=a&profile=", "profile"),
            ("target=a&profile=b&profile=b", "profile"),
        ] {
            let error = ProbeRequest::parse(query).expect_err(query);
            assert!(matches!(error, ProbeError::Parameter(name) if name == parameter), "{query}: {error}");
        }
    }
}
