//! `vm.*`: statistics that KVM keeps for the whole domain; all of them are named by rule, see the matcher.

use crate::config::Group;
use crate::metrics::family::Origin;
use crate::metrics::row::Table;

pub(super) const TABLE: Table =
    Table { group: Group::Vm, origin: Origin::Process, active_only: false, scopes: &[], rows: &[] };
