//! Statistics of libvirt domains for Prometheus and OpenTelemetry.
//!
//! ```text
//!  libvirt/      collect/        catalogue/          encode/              web/  push/
//!  C calls    -> records of   -> families of      -> OpenMetrics,    -> HTTP scrape
//!                typed params    labelled samples    text, protobuf,    OTLP push
//!      \            ^                                 OTLP
//!       \ events    | who is asked
//!        -> targets/: who exists, and what definitions say
//! ```
//!
//! One number travels: `block.0.rd.bytes` (libvirt) -> a [`libvirt::Param`] (owned, typed) -> one row of the
//! [`catalogue`] -> a sample of `libvirt_domain_block_read_bytes_total{domain,uuid,device}` -> bytes. No stage knows a
//! later one; [`config`] is read by all; [`exporter`] is where they meet, [`service`] is what
//! it looks like to the server, [`rendering`] what scrapers share of it. [`inventory`] turns what [`targets`] knows of the
//! domains into families, and [`health`] what the stages count, both by [`rows`]. [`supervisor`] reports to systemd, `files` reads
//! files where none can hold up a request.
#![deny(unsafe_code)]

pub mod catalogue;
pub mod check;
pub mod cli;
pub mod collect;
pub mod config;
pub mod discovery;
pub mod encode;
pub mod exporter;
mod files;
pub mod health;
pub mod inventory;
pub mod libvirt;
pub mod log;
pub mod push;
pub mod reference;
pub mod rendering;
pub mod roster;
pub mod rows;
pub mod service;
pub mod supervisor;
pub mod targets;
pub mod web;
