//! Random expressions: templates whose holes are filled with expressions of the named type, and sometimes of another.

use crate::json::generate::Random;

use super::columns::{ALL, COLUMNS, NUMBERS, literals};
use super::patterns;
use super::templates::TEMPLATES;

pub(super) struct Generator<'r> {
    pub(super) random: &'r mut Random,
}

impl Generator<'_> {
    pub(super) fn expression(&mut self) -> String {
        let kind = self.random.pick(ALL);
        let depth = 1 + self.random.below(3);
        self.of(kind, depth)
    }

    fn of(&mut self, kind: &str, depth: u64) -> String {
        match kind {
            "pattern" => return patterns::pattern(self.random),
            "sequence" => return patterns::sequence(self.random),
            _ => {}
        }
        let templates = TEMPLATES.iter().find(|(result, _)| *result == kind);
        let templates = templates.map(|(_, templates)| templates.split(" ;; ").collect::<Vec<_>>());
        match templates {
            Some(templates) if depth > 0 => {
                let template = self.random.pick(&templates);
                self.filled(template, depth)
            }
            _ => self.leaf(kind),
        }
    }

    /// Mostly columns: the server's planner evaluates constants even if they are not needed.
    fn leaf(&mut self, kind: &str) -> String {
        let columns: Vec<&str> =
            COLUMNS.iter().filter(|(_, _, of, _)| *of == kind).map(|(name, ..)| *name).collect();
        if columns.is_empty() || kind != "bool" && self.random.one_in(4) {
            return self.random.pick(literals(kind)).to_owned();
        }
        let name = self.random.pick(&columns);
        if self.random.one_in(5) { format!("new.{name}") } else { name.to_owned() }
    }

    fn filled(&mut self, template: &str, depth: u64) -> String {
        let (number, any) = (self.random.pick(NUMBERS), self.random.pick(ALL));
        let mut out = String::new();
        let mut rest = template;
        let mut first = true;
        while let Some((before, hole)) = rest.split_once('{') {
            out.push_str(before);
            // `'{a,b}'` is not a hole.
            let Some((name, after)) = hole.split_once('}').filter(|_| !before.ends_with('\'')) else {
                out.push('{');
                rest = hole;
                continue;
            };
            let kind = match name {
                "N" => number,
                "A" => any,
                name => name,
            };
            let kind = if self.random.one_in(60) { self.random.pick(ALL) } else { kind };
            // The first hole reads the row.
            let inner =
                if first && depth == 1 { self.column_or_leaf(kind) } else { self.of(kind, depth - 1) };
            first = false;
            let simple = matches!(kind, "pattern" | "sequence")
                || inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if simple || self.random.one_in(8) {
                out.push_str(&inner);
            } else {
                out.push('(');
                out.push_str(&inner);
                out.push(')');
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn column_or_leaf(&mut self, kind: &str) -> String {
        let columns: Vec<&str> =
            COLUMNS.iter().filter(|(_, _, of, _)| *of == kind).map(|(name, ..)| *name).collect();
        if columns.is_empty() { self.leaf(kind) } else { self.random.pick(&columns).to_owned() }
    }
}
