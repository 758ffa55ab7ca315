//! Statistics of libvirt domains for Prometheus and OpenTelemetry.
//!
//! ARCHITECTURE.md has the picture, the journeys of a number, an event, a reload, a push and a deadline, and how to add a key, a
//! group, a probe, a format or a protocol.
#![deny(unsafe_code)]

pub mod app;
pub mod backoff;
pub mod check;
pub mod cli;
pub mod collect;
pub mod config;
pub mod discovery;
pub mod domain_list;
pub mod domains;
pub mod encode;
pub mod errors;
mod files;
pub mod hypervisor;
pub mod libvirt;
pub mod log;
pub mod metrics;
pub mod metrics_doc;
pub mod migration;
pub mod pem;
pub mod probes;
pub mod push;
pub mod tables;
pub mod web;
