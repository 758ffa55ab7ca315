//! A libvirt daemon for tests.
