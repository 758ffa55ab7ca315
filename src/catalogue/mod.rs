//! catalogue
mod family;
pub use family::{
    Families, Family, Histogram, Kind, LabelSet, LabelTable, Meta, Sample, Unit, Value,
};
