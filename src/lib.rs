//! domstats-exporter
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod libvirt;
pub mod log;
pub mod web;
