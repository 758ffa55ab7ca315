//! domstats-exporter
pub mod catalogue;
pub mod libvirt;
