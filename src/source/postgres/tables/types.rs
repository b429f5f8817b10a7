//! Types at an earlier time. Each has a state of its own, whatever table uses it.

use std::collections::{HashMap, HashSet};

use super::state::{TypeShape, TypeState};
use crate::source::postgres::catalog::{self, NamedShape};
use crate::types::{Base, Kind, SqlType};

/// The states of types at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct TypesThen<'a> {
    states: HashMap<u32, &'a TypeState>,
}

impl<'a> TypesThen<'a> {
    /// These types, and all types that they consist of, in the states that `state` returns.
    pub(super) fn below(
        oids: impl IntoIterator<Item = u32>,
        state: impl Fn(u32) -> Option<&'a TypeState>,
    ) -> Self {
        let mut states = HashMap::new();
        let mut wanted: Vec<u32> = oids.into_iter().collect();
        while let Some(oid) = wanted.pop() {
            if states.contains_key(&oid) {
                continue;
            }
            if let Some(found) = state(oid) {
                wanted.extend(found.parts());
                states.insert(oid, found);
            }
        }
        Self { states }
    }

    /// Whether a type is included.
    pub(super) fn has(&self, oid: u32) -> bool {
        self.states.contains_key(&oid)
    }

    /// The included types that can change without an announcement.
    pub(super) fn mutable(&self) -> Vec<u32> {
        let mut oids: Vec<u32> =
            self.states.iter().filter(|(_, state)| state.is_mutable()).map(|(oid, _)| *oid).collect();
        oids.sort_unstable();
        oids
    }

    /// Whether a type, and all types that it consists of, are known.
    pub(super) fn knows(&self, oid: u32) -> bool {
        let mut seen = HashSet::new();
        let mut wanted = vec![oid];
        while let Some(oid) = wanted.pop() {
            if catalog::is_builtin(oid) || !seen.insert(oid) {
                continue;
            }
            match self.states.get(&oid) {
                Some(state) => wanted.extend(state.parts()),
                None => return false,
            }
        }
        true
    }

    /// How values of these types are converted to JSON.
    pub(super) fn kinds(&self, oids: &[u32]) -> HashMap<u32, Kind> {
        catalog::kinds_of(self.states.iter().map(|(oid, state)| (*oid, shape(state))), oids)
    }

    /// These types for expressions.
    pub(super) fn data_types(&self, oids: &[u32]) -> HashMap<u32, SqlType> {
        let named = |(oid, state): (&u32, &&TypeState)| {
            (*oid, NamedShape { shape: data_shape(state), name: state.name.clone() })
        };
        catalog::data_types_of(self.states.iter().map(named), oids)
    }
}

impl<'a> FromIterator<(u32, &'a TypeState)> for TypesThen<'a> {
    fn from_iter<I: IntoIterator<Item = (u32, &'a TypeState)>>(states: I) -> Self {
        Self { states: states.into_iter().collect() }
    }
}

fn shape(state: &TypeState) -> catalog::Shape {
    match state.shape {
        TypeShape::Domain => catalog::Shape::Domain { base: state.part },
        TypeShape::Array => catalog::Shape::Array { element: state.part, delimiter: state.delimiter },
        TypeShape::Composite => {
            let there = state.fields.iter().filter(|field| !field.dropped);
            catalog::Shape::Composite {
                fields: there.map(|field| (field.name.clone(), field.type_oid)).collect(),
            }
        }
        TypeShape::Hstore => catalog::Shape::Hstore,
        TypeShape::Enum | TypeShape::Other => catalog::Shape::Text,
    }
}

fn data_shape(state: &TypeState) -> catalog::DataShape {
    match state.shape {
        TypeShape::Domain => catalog::DataShape::Domain { base: state.part, modifier: state.modifier },
        TypeShape::Array if state.plain => catalog::DataShape::Array { element: state.part },
        TypeShape::Enum => catalog::DataShape::Enum { labels: state.labels.clone() },
        _ => catalog::DataShape::Other,
    }
}

/// The labels of an enum; `None` for other types.
pub(super) fn labels(data_type: &SqlType) -> Option<&[String]> {
    match &data_type.base {
        Base::Enum(enumeration) => Some(&enumeration.labels),
        _ => None,
    }
}
