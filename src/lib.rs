//! Statistics of libvirt domains for Prometheus and OpenTelemetry.
//!
//! ```text
//!  libvirt/      collect/        catalogue/          encode/              web/
//!  C calls    -> records of   -> families of      -> OpenMetrics,    -> HTTP scrape
//!                typed params    labelled samples    text, protobuf
//! ```
//!
//! One number travels: `block.0.rd.bytes` (libvirt) -> a [`libvirt::Param`] (owned, typed) -> one row of the
//! [`catalogue`] -> a sample of `libvirt_domain_block_read_bytes_total{domain,uuid,device}` -> bytes. No stage knows a
//! later one; [`config`] is read by all; [`exporter`] is where they meet, [`service`] is what
//! it looks like to the server, and [`health`] turns what the stages count into
//! families of their own.
#![deny(unsafe_code)]

pub mod catalogue;
pub mod check;
pub mod cli;
pub mod collect;
pub mod config;
pub mod encode;
pub mod exporter;
pub mod health;
pub mod libvirt;
pub mod log;
pub mod reference;
pub mod service;
pub mod web;
