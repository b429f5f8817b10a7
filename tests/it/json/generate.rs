//! Columns of every sample type, and literals for them.

use std::fmt::Write as _;

use super::samples::{SAMPLES, SPECIALS, Sample};

/// A seeded sequence (`SplitMix64`).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    /// Of every magnitude, not only the largest.
    pub(crate) fn signed(&mut self) -> i64 {
        let shift = self.below(64);
        self.next().cast_signed() >> shift
    }
}

/// The structure of a column's values.
#[derive(Clone)]
enum Shape {
    Sample(&'static Sample),
    Array(Box<Shape>, char),
    Composite(Vec<Shape>),
    Fixed(&'static [&'static str]),
}

/// A column of the table `everything`.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) sql: String,
    shape: Shape,
}

impl Column {
    /// The hand-picked values, and `count` random ones.
    pub(crate) fn literals(&self, random: &mut Random, count: usize) -> Vec<String> {
        let mut literals = self.shape.edges();
        literals.extend((0..count).map(|_| self.shape.literal(random)));
        literals
    }
}

impl Shape {
    /// Each hand-picked value by itself, also inside of arrays and composites.
    fn edges(&self) -> Vec<String> {
        match self {
            Self::Sample(sample) => sample.edges.iter().map(|&edge| edge.to_owned()).collect(),
            Self::Fixed(edges) => edges.iter().map(|&edge| edge.to_owned()).collect(),
            Self::Array(element, delimiter) => {
                let one = |edge: String| format!("{{NULL{delimiter}{}}}", quoted(&edge, "\\\""));
                element.edges().into_iter().map(one).chain(["{}".to_owned()]).collect()
            }
            Self::Composite(fields) => {
                let others = ",".repeat(fields.len() - 1);
                let one = |edge: String| format!("({}{others})", quoted(&edge, "\"\""));
                fields[0].edges().into_iter().map(one).chain([format!("({others})")]).collect()
            }
        }
    }

    fn literal(&self, random: &mut Random) -> String {
        match self {
            Self::Sample(sample) if random.one_in(8) => random.pick(sample.edges).to_owned(),
            Self::Sample(sample) => (sample.random)(random),
            Self::Fixed(edges) => random.pick(edges).to_owned(),
            Self::Array(element, delimiter) => array(element, *delimiter, random),
            Self::Composite(fields) => {
                let field = |field: &Self| {
                    if random.one_in(6) { String::new() } else { quoted(&field.literal(random), "\"\"") }
                };
                format!("({})", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// One or two dimensions, sometimes with explicit bounds.
fn array(element: &Shape, delimiter: char, random: &mut Random) -> String {
    let mut row = |length: u64| -> String {
        let item = |_| {
            if random.one_in(6) { "NULL".to_owned() } else { quoted(&element.literal(random), "\\\"") }
        };
        format!("{{{}}}", (0..length).map(item).collect::<Vec<_>>().join(&delimiter.to_string()))
    };
    let (two, bounds) = (row(2), row(2));
    let three = row(3);
    match random.below(6) {
        0 => format!("{{{two}{delimiter}{bounds}}}"),
        1 => format!("[-1:1]={three}"),
        2 => format!("[0:1][5:6]={{{two}{delimiter}{bounds}}}"),
        3 => two,
        _ => three,
    }
}

fn quoted(text: &str, quote: &str) -> String {
    let mut item = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => item.push_str(quote),
            '\\' => item.push_str("\\\\"),
            other => item.push(other),
        }
    }
    item.push('"');
    item
}

/// For each sample type T: T, T[], arrays of a domain of it, domains over T[] and arrays of these, a composite with a
/// dropped attribute, arrays of it, and a composite of composites. The SQL makes the types and the table `everything`.
pub(crate) fn columns() -> (String, Vec<Column>) {
    let mut schema = String::from(super::samples::SCHEMA);
    let mut columns = Vec::new();
    for (nth, sample) in SAMPLES.iter().enumerate() {
        let delimiter = if sample.sql == "box" { ';' } else { ',' };
        let array = |shape: &Shape, delimiter| Shape::Array(Box::new(shape.clone()), delimiter);
        let sql = sample.sql;
        write!(
            schema,
            r#"CREATE DOMAIN d_{nth} AS {sql}; CREATE DOMAIN dd_{nth} AS d_{nth}; CREATE DOMAIN da_{nth} AS {sql}[];
               CREATE TYPE k_{nth} AS (a dd_{nth}, gone int, "b ""q"" é" {sql}[], c {sql});
               ALTER TYPE k_{nth} DROP ATTRIBUTE gone;
               CREATE TYPE n_{nth} AS (x k_{nth}[], y k_{nth}, z da_{nth}[]);"#
        )
        .unwrap();
        let plain = Shape::Sample(sample);
        let plains = array(&plain, delimiter);
        let flat = Shape::Composite(vec![plain.clone(), plains.clone(), plain.clone()]);
        let flats = array(&flat, ',');
        let arrays = array(&plains, delimiter);
        let nested = Shape::Composite(vec![flats.clone(), flat.clone(), arrays.clone()]);
        for (sql, shape) in [
            (sql.to_owned(), plain),
            (format!("{sql}[]"), plains.clone()),
            (format!("dd_{nth}[]"), plains.clone()),
            (format!("da_{nth}"), plains),
            (format!("da_{nth}[]"), arrays),
            (format!("k_{nth}"), flat),
            (format!("k_{nth}[]"), flats),
            (format!("n_{nth}"), nested),
        ] {
            columns.push(Column { name: format!("c{}", columns.len()), sql, shape });
        }
    }
    for &(sql, edges) in SPECIALS {
        let name = format!("c{}", columns.len());
        columns.push(Column { name, sql: sql.to_owned(), shape: Shape::Fixed(edges) });
    }
    let list: Vec<_> = columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    write!(schema, "CREATE TABLE everything ({});", list.join(", ")).unwrap();
    (schema, columns)
}
