//! domstats-exporter
#![deny(unsafe_code)]

pub mod catalogue;
pub mod config;
pub mod encode;
pub mod libvirt;
