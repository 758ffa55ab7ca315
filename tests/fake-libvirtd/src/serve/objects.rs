//! Calls about storage pools and networks. All of them start with the host and are defined.

use uuid::Uuid;

use super::{Call, Failure, Reply, code};
use crate::connection::payload;
use crate::definition::escape;
use crate::domain::uuid_of;
use crate::procedure::Procedure as P;
use crate::scenario::{Network, Pool};
use crate::xdr::{DecodeError, Reader, Writer};

impl Call {
    pub(super) fn serve_pools(&self) -> Reply {
        let pools = &self.shared.host.pools;
        let mut arguments = self.arguments();
        let mut out = payload();
        if self.procedure == P::ConnectListAllStoragePools {
            list(&mut out, pools.iter().map(|pool| pool.name.as_str()));
            return Ok(out);
        }
        let uuid = wanted(&mut arguments, self.procedure == P::StoragePoolLookupByUuid)?;
        let pool = pools.iter().find(|pool| uuid_of(&pool.name) == uuid);
        let no_pool = || Failure::qemu(code::NO_STORAGE_POOL, format!("Storage pool not found: {uuid}"));
        let pool = pool.ok_or_else(no_pool)?;
        let Pool { name, state, capacity, allocation } = pool;
        match self.procedure {
            P::StoragePoolLookupByUuid => object(&mut out, name),
            P::StoragePoolGetInfo => {
                out.i32(*state).u64(*capacity).u64(*allocation).u64(capacity.saturating_sub(*allocation));
            }
            P::StoragePoolGetXmlDesc => {
                let name = escape(name);
                out.string(&format!(
                    "<pool type='dir'>\n  <name>{name}</name>\n  <target>\n    <path>/srv/{name}</path>\n  </target>\n</pool>\n"
                ));
            }
            _ => _ = out.i32(1),
        }
        Ok(out)
    }

    pub(super) fn serve_networks(&self) -> Reply {
        let networks = &self.shared.host.networks;
        let mut arguments = self.arguments();
        let mut out = payload();
        if self.procedure == P::ConnectListAllNetworks {
            list(&mut out, networks.iter().map(|network| network.name.as_str()));
            return Ok(out);
        }
        let uuid = wanted(&mut arguments, self.procedure == P::NetworkLookupByUuid)?;
        let network = networks.iter().find(|network| uuid_of(&network.name) == uuid);
        let no_network = || Failure::qemu(code::NO_NETWORK, format!("Network not found: {uuid}"));
        let Network { name, active, bridge, leases } = network.ok_or_else(no_network)?;
        match self.procedure {
            P::NetworkLookupByUuid => object(&mut out, name),
            P::NetworkIsActive => _ = out.i32(i32::from(*active)),
            // Their number alone: nothing asks for more.
            P::NetworkGetDhcpLeases => _ = out.u32(0).u32(*leases),
            P::NetworkGetXmlDesc => {
                let (name, bridge) = (escape(name), escape(bridge));
                out.string(&format!(
                    "<network>\n  <name>{name}</name>\n  <forward mode='nat'/>\n  <bridge name='{bridge}'/>\n</network>\n"
                ));
            }
            _ => _ = out.i32(1),
        }
        Ok(out)
    }
}

fn object(out: &mut Writer, name: &str) {
    out.string(name).raw(uuid_of(name).as_bytes());
}

fn list<'n>(out: &mut Writer, names: impl ExactSizeIterator<Item = &'n str>) {
    let count = names.len();
    out.count(count);
    names.for_each(|name| object(out, name));
    out.count(count);
}

/// The UUID in a look-up, or in the object that any other call begins with.
fn wanted(arguments: &mut Reader<'_>, is_look_up: bool) -> Result<Uuid, DecodeError> {
    if !is_look_up {
        arguments.string()?;
    }
    arguments.uuid()
}
