//! Statistics of libvirt domains for Prometheus and OpenTelemetry.
//!
//! ```text
//!  libvirt/      collect/        metrics/            encode/              web/  push/
//!  C calls    -> records of   -> families of      -> OpenMetrics,    -> HTTP scrape
//!                typed params    labelled samples    text, protobuf,    OTLP push
//!      \            ^                                 OTLP
//!       \ events    | who is asked
//!        -> domains/: who exists, and what the domain XML says
//! ```
//!
//! One number travels: `block.0.rd.bytes` (libvirt) -> a [`libvirt::Param`] (owned, typed) -> one row of [`tables`]
//! -> a sample of `libvirt_domain_block_read_bytes_total{domain,uuid,device}` -> bytes. No stage knows a
//! later one; [`config`] is read by all; [`app`] is where they meet. [`tables`] says which metrics and
//! groups there are, [`probes`] what libvirt is asked, and [`collect`] decides when and by which worker. `files` reads files off the runtime.
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
pub mod pem;
pub mod probes;
pub mod push;
pub mod tables;
pub mod web;
