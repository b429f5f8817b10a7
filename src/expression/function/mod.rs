//! Plain functions and operators: a table of names, argument types, results and code. `check` resolves a call
//! as PostgreSQL does, and the evaluator calls the code.
//!
//! Invariant: a result is at most as long as any value may be; its length is checked before it is built.

mod arrays;
mod json;
mod moments;
mod numbers;
mod texts;

use super::def::{CallValues, Def, Nulls, Slot, def, made};

/// All functions and operators of a name.
pub(super) fn called(name: &str) -> impl Iterator<Item = &'static Def> {
    all().filter(move |def| def.name == name)
}

/// All functions and operators.
pub(super) fn all() -> impl Iterator<Item = &'static Def> {
    [texts::TABLE, numbers::TABLE, moments::TABLE, json::TABLE].into_iter().flatten()
}

/// Names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|def| def.name).filter(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic()))
}

pub(super) use arrays::{ARRAY, ARRAY_APPEND, ARRAY_JOIN, ARRAY_PREPEND, slice};
pub(super) use json::{BUILD_ARRAY, BUILD_OBJECT};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_room_for_its_arguments() {
        for table in [texts::TABLE, numbers::TABLE, moments::TABLE, json::TABLE] {
            for def in table {
                assert!(def.least <= def.arguments.len(), "{}", def.name);
                assert!(def.names.is_empty() || def.names.len() == def.arguments.len(), "{}", def.name);
                let same = called(def.name).filter(|other| other.arguments == def.arguments);
                assert_eq!(same.count(), 1, "{} is there twice", def.name);
            }
        }
    }
}
