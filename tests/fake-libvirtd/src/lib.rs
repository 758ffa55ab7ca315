//! A libvirt daemon for tests.
pub mod params;
