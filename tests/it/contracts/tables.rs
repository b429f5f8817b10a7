//! Tables for pairs of contracts, without a database, and statements that change them.
//!
//! `type COLUMN TYPE`, `add COLUMN TYPE`, `drop COLUMN`, `rename COLUMN NAME`, `require COLUMN` and `allow COLUMN` (NOT
//! NULL), `labels TYPE A, B`, `parts TYPE NAME TYPE, …`, `identity default`. A semicolon separates them.

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay::change::{Column, Described, Relation, ReplicaIdentity};
use forebay::types::{Base, Enumeration, Kind, Named, SqlType, TypePart, TypeParts};

/// The columns of s.t; those with an exclamation mark are NOT NULL.
const COLUMNS: &str = "id bigint!, id2 bigint!, a int!, b text, st s.st!, amount numeric(10,2)!, name varchar(20)!, \
                       at timestamptz!, at2 timestamptz!, day date, email text, doc jsonb!, js json, home s.addr, \
                       homes s.addr[], tags text[]!, sts s.st[], nums int[], small smallint!, v double, u uuid!, \
                       u2 uuid!, flag boolean!, ts timestamp, raw bytea, code char(3)!, l int4range, ip inet, m money, \
                       p point, i interval, t time, a2 int!";

/// A database of two tables.
#[derive(Clone)]
pub struct Tables {
    columns: Vec<Declared>,
    types: BTreeMap<String, UserType>,
    identity: ReplicaIdentity,
    last: i16,
}

#[derive(Clone)]
struct Declared {
    name: String,
    of: String,
    not_null: bool,
    number: i16,
    is_key: bool,
}

#[derive(Clone)]
enum UserType {
    Enum(Vec<String>),
    Composite(Vec<(String, String)>),
}

impl Tables {
    pub fn new() -> Self {
        let mut tables =
            Self { columns: Vec::new(), types: BTreeMap::new(), identity: ReplicaIdentity::Full, last: 0 };
        tables.change("labels s.st open, shipped; parts s.addr street text, no int");
        for column in list(COLUMNS) {
            let (name, of) = column.split_once(' ').unwrap();
            tables.add(name, of);
        }
        tables.columns[0].is_key = true;
        tables
    }

    fn add(&mut self, name: &str, of: &str) {
        self.last += 1;
        let (of, not_null) = of.strip_suffix('!').map_or((of, false), |of| (of, true));
        let (name, of) = (name.to_owned(), of.to_owned());
        self.columns.push(Declared { name, of, not_null, number: self.last, is_key: false });
    }

    fn of(&mut self, name: &str) -> &mut Declared {
        self.columns
            .iter_mut()
            .find(|column| column.name == name)
            .unwrap_or_else(|| panic!("no column {name}"))
    }

    /// Runs statements.
    pub fn change(&mut self, statements: &str) {
        for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let (verb, rest) = statement.split_once(' ').unwrap();
            let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
            match verb {
                "type" => more.clone_into(&mut self.of(first).of),
                "add" => self.add(first, more),
                "drop" => self.columns.retain(|column| column.name != first),
                "rename" => more.clone_into(&mut self.of(first).name),
                "require" => self.of(first).not_null = true,
                "allow" => self.of(first).not_null = false,
                "identity" => self.identity = ReplicaIdentity::Default,
                "labels" => {
                    self.types
                        .insert(first.to_owned(), UserType::Enum(list(more).map(str::to_owned).collect()));
                }
                "parts" => {
                    let part = |text: &str| {
                        let (name, of) = text.split_once(' ').unwrap();
                        (name.to_owned(), of.to_owned())
                    };
                    self.types.insert(first.to_owned(), UserType::Composite(list(more).map(part).collect()));
                }
                other => panic!("unknown statement {other}"),
            }
        }
    }

    /// The tables, as the database would describe them: s.t, and s.z of the same columns.
    pub fn described(&self) -> Vec<Described> {
        ["t", "z"].map(|name| self.table(name)).into()
    }

    fn table(&self, name: &str) -> Described {
        let full = self.identity == ReplicaIdentity::Full;
        let column = |declared: &Declared| {
            let (kind, data_type) = self.typed(&declared.of);
            Column {
                name: declared.name.clone(),
                kind,
                data_type,
                not_null: declared.not_null,
                in_identity: full || declared.is_key,
                origin: None,
            }
        };
        let parts = |(name, of): (&String, &UserType)| match of {
            UserType::Enum(_) => None,
            UserType::Composite(parts) => {
                let part = |(name, of): &(String, String)| TypePart {
                    name: name.clone(),
                    data_type: self.typed(of).1,
                };
                Some(TypeParts { name: name.clone(), parts: parts.iter().map(part).collect() })
            }
        };
        Described {
            relation: Relation {
                oid: 7,
                schema: "s".into(),
                table: name.into(),
                identity: self.identity,
                columns: self.columns.iter().map(column).collect(),
                primary_key: self.columns.iter().position(|column| column.is_key).into_iter().collect(),
                absent: Vec::new(),
                unknown: None,
            },
            comment: None,
            comments: vec![None; self.columns.len()],
            types: self.types.iter().filter_map(parts).collect(),
            numbers: self.columns.iter().map(|column| column.number).collect(),
            unsent: Vec::new(),
        }
    }

    fn typed(&self, of: &str) -> (Kind, SqlType) {
        if let Some(element) = of.strip_suffix("[]") {
            let (kind, inner) = self.typed(element);
            let data_type = SqlType { base: Base::Array(Arc::new(inner.base)), modifier: inner.modifier };
            return (Kind::Array { element: Arc::new(kind), delimiter: b',' }, data_type);
        }
        let (name, modifier) = of.split_once('(').unwrap_or((of, ""));
        let numbers: Vec<i32> =
            modifier.trim_end_matches(')').split(',').filter_map(|number| number.parse().ok()).collect();
        let plain = |kind, base| (kind, SqlType::plain(base));
        let sized = |base| SqlType { base, modifier: numbers.first().map_or(-1, |length| length + 4) };
        match name {
            "boolean" => plain(Kind::Bool, Base::Bool),
            "smallint" => plain(Kind::Number, Base::Int2),
            "int" => plain(Kind::Number, Base::Int4),
            "bigint" => plain(Kind::Number, Base::Int8),
            "numeric" => {
                let modifier =
                    if let [precision, scale] = numbers[..] { (precision << 16 | scale) + 4 } else { -1 };
                (Kind::Number, SqlType { base: Base::Numeric, modifier })
            }
            "real" => plain(Kind::Float, Base::Float4),
            "double" => plain(Kind::Float, Base::Float8),
            "text" => plain(Kind::Text, Base::Text),
            "varchar" => (Kind::Text, sized(Base::Varchar)),
            "char" => (Kind::Text, sized(Base::Bpchar)),
            "date" => plain(Kind::Date, Base::Date),
            "time" => plain(Kind::Text, Base::Time),
            "timestamp" => plain(Kind::Timestamp, Base::Timestamp),
            "timestamptz" => plain(Kind::TimestampTz, Base::TimestampTz),
            "interval" => plain(Kind::Text, Base::Interval),
            "uuid" => plain(Kind::Text, Base::Uuid),
            "json" => plain(Kind::Json, Base::Json),
            "jsonb" => plain(Kind::Json, Base::Jsonb),
            "bytea" => plain(Kind::Bytea, Base::Bytea),
            other => self.user_type(other),
        }
    }

    fn user_type(&self, name: &str) -> (Kind, SqlType) {
        let named = || Base::Other(Arc::new(Named { oid: 20_000, name: name.to_owned() }));
        match self.types.get(name) {
            Some(UserType::Enum(labels)) => {
                let (name, labels) = (name.to_owned(), labels.clone());
                let enumeration = Enumeration { oid: 20_001, name, labels };
                (Kind::Text, SqlType::plain(Base::Enum(Arc::new(enumeration))))
            }
            Some(UserType::Composite(parts)) => {
                let part = |(name, of): &(String, String)| (name.clone(), self.typed(of).0);
                (Kind::Composite { fields: parts.iter().map(part).collect() }, SqlType::plain(named()))
            }
            None => (Kind::Text, SqlType::plain(named())),
        }
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    // A comma inside parentheses belongs to a type.
    let mut depth = 0;
    text.split(move |letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}
