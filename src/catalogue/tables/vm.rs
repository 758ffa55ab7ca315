//! `vm.*`: statistics that KVM keeps for the whole domain; all of them are named by rule, see the matcher.

use crate::catalogue::family::Origin;
use crate::catalogue::row::Table;
use crate::config::Group;

pub(super) const TABLE: Table =
    Table { group: Group::Vm, origin: Origin::Process, active_only: false, scopes: &[], rows: &[] };
