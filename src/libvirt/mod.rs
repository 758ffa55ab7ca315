//! libvirt
mod param;
pub use param::{DomainRecord, Param, ParamValue, Records};
