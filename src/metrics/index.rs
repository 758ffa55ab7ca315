//! The tables made ready for look-up: every key pattern with all that it stands for.

use std::collections::HashMap;
use std::sync::Arc;

use super::family::Meta;
use super::table_of;
use crate::config::{Config, Group};
use crate::tables::{Origin, Row, Scope, Shape, Subject, Table, WITHOUT_METRIC};

/// The key that numbers the layers of a disk's image chain, within the scope of its device.
const LAYER_KEY: &str = "block.<n>.backingIndex";

/// A row of the tables with what follows from its place in them and from the configuration.
#[derive(Debug)]
pub(super) struct IndexedRow {
    pub(super) row: &'static Row,
    pub(super) meta: Arc<Meta>,
    /// The innermost numbered part of its keys.
    pub(super) scope: Option<usize>,
    pub(super) group: Group,
    /// What its samples describe; a record of another subject cannot have its keys.
    pub(super) subject: Subject,
    pub(super) origin: Origin,
    pub(super) active_only: bool,
    /// Whether the configuration wants it.
    pub(super) enabled: bool,
}

impl IndexedRow {
    /// Whether libvirt has the value under `key` from KVM.
    pub(super) fn is_from_kvm(&self, key: &str) -> bool {
        let monitor = self.group.info().monitor.as_ref();
        monitor.is_some_and(|monitor| monitor.from_kvm && monitor.answers.matches(key))
    }
}

/// A scope with the one around it: `block.<n>.timed_group.<m>` lies in `block.<n>`.
#[derive(Debug)]
pub(super) struct IndexedScope {
    pub(super) scope: &'static Scope,
    pub(super) parent: Option<usize>,
}

/// What a key stands for; it may be several things at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// The row that the value belongs to, and the position of the key in [`Row::keys`].
    pub(super) row: Option<(usize, usize)>,
    /// The row that it belongs to instead in a layer below the top image.
    pub(super) backing_row: Option<usize>,
    /// The scope whose label the value is.
    pub(super) names: Option<usize>,
    /// Whether the value numbers a layer of a disk's image chain.
    pub(super) is_layer: bool,
}

/// All rows, scopes and key patterns.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) rows: Vec<IndexedRow>,
    pub(super) scopes: Vec<IndexedScope>,
    pub(super) patterns: HashMap<&'static str, Target>,
    /// The row that counts the layers below a disk's top image.
    pub(super) backing_layers: Option<usize>,
    /// The scope of disks, whose instances may be layers.
    pub(super) disk_scope: Option<usize>,
}

impl Index {
    pub(super) fn new(config: &Config) -> Self {
        let scopes = indexed_scopes();
        let mut index = Self {
            rows: Vec::new(),
            patterns: HashMap::new(),
            backing_layers: None,
            disk_scope: innermost(&scopes, LAYER_KEY),
            scopes,
        };
        for &group in Group::ALL {
            let table = table_of(group);
            for row in table.rows {
                let meta = Arc::new(Meta::of(row));
                let number = index.rows.len();
                index.register(row, number);
                let scope = row.keys.first().and_then(|key| innermost(&index.scopes, key));
                // The count of layers is the only row that is derived from others; it belongs to the disk.
                let derived = matches!(row.shape, Shape::BackingLayers);
                let scope = if derived { index.disk_scope } else { scope };
                let enabled = config.collection.groups.contains(&group) && config.metrics.selects(row.name);
                let Table { subject, origin, active_only, .. } = *table;
                index.rows.push(IndexedRow { row, meta, scope, group, subject, origin, active_only, enabled });
            }
        }
        for (number, indexed) in index.scopes.iter().enumerate() {
            if let Some(key) = indexed.scope.named_by {
                index.patterns.entry(key).or_default().names = Some(number);
            }
        }
        index.patterns.entry(LAYER_KEY).or_default().is_layer = true;
        index.patterns.entry(WITHOUT_METRIC).or_default();
        index
    }

    fn register(&mut self, row: &'static Row, number: usize) {
        for (part, key) in row.keys.iter().enumerate() {
            let target = self.patterns.entry(key).or_default();
            match row.shape {
                Shape::BackingNumber | Shape::BackingInfo => target.backing_row = Some(number),
                _ => target.row = Some((number, part)),
            }
        }
        if matches!(row.shape, Shape::BackingLayers) {
            self.backing_layers = Some(number);
        }
    }

    /// The labels of a scope and of those around it, the outermost first.
    pub(super) fn labels_of_scope(&self, mut scope: Option<usize>) -> Vec<&'static str> {
        let mut labels = Vec::new();
        while let Some(number) = scope {
            labels.insert(0, self.scopes[number].scope.label);
            scope = self.scopes[number].parent;
        }
        labels
    }

    /// The labels of a row beyond those of the domain, in the order of the exposition.
    pub(super) fn labels(&self, indexed: &IndexedRow) -> Vec<&'static str> {
        let mut labels = self.labels_of_scope(indexed.scope);
        let shape = indexed.row.shape;
        if matches!(shape, Shape::BackingNumber | Shape::BackingInfo) {
            labels.push("backing_index");
        }
        labels.extend(indexed.row.labels);
        match shape {
            Shape::States { label, .. } => labels.push(label),
            Shape::Reason { .. } => labels.extend(["state", "reason"]),
            Shape::Histogram { .. } => labels.push("le"),
            _ => {}
        }
        labels
    }
}

fn indexed_scopes() -> Vec<IndexedScope> {
    let all: Vec<&'static Scope> = Group::ALL.iter().flat_map(|group| table_of(*group).scopes).collect();
    let parent_of = |scope: &Scope| {
        all.iter().position(|other| scope.prefix.strip_prefix(other.prefix).is_some_and(|rest| rest.starts_with('.')))
    };
    all.iter().map(|scope| IndexedScope { scope, parent: parent_of(scope) }).collect()
}

/// The longest scope that `key` lies in.
pub(super) fn innermost(scopes: &[IndexedScope], key: &str) -> Option<usize> {
    let inside = |scope: &Scope| key.strip_prefix(scope.prefix).is_some_and(|rest| rest.starts_with('.'));
    (0..scopes.len())
        .filter(|&number| inside(scopes[number].scope))
        .max_by_key(|&number| scopes[number].scope.prefix.len())
}
