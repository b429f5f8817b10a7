//! Chooses the column that shows new rows of a table: the configured one, or the best one that the table has.
//! Does no I/O.

use serde::Deserialize;

use crate::config::{CursorSetting, TableName};
use crate::diagnosis::Diagnosis;
use crate::source::postgres::publication::{escape_identifier, quoted};

/// `pg_class.relkind` of a partitioned table.
pub const PARTITIONED: &str = "p";

/// How a cursor finds rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorKind {
    /// A sequence fills the column. It finds inserted rows only.
    Serial,
    /// The column has the time of the last change. It finds the last version of each row.
    UpdatedAt,
    /// The column has the id of the transaction that wrote the row.
    Xid8,
}

impl CursorKind {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::UpdatedAt => "updated_at",
            Self::Xid8 => "xid8",
        }
    }
}

/// The cursor of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// How it finds rows.
    pub kind: CursorKind,
    /// The columns of the sort order, by name: the cursor column, then more columns that make the order
    /// unique.
    pub order: Vec<String>,
    /// The sequence that fills a `serial` cursor, as SQL writes it, if the role may read it. Without it, no
    /// lower bound can be proven.
    pub sequence: Option<String>,
    /// Why this cursor was chosen.
    pub reason: String,
}

impl Cursor {
    /// Whether each poll must read the whole table, because no lower bound can be proven.
    pub fn reads_all(&self) -> bool {
        self.kind == CursorKind::Serial && self.sequence.is_none()
    }
}

/// The facts about a table from the catalogue that the choice of a cursor needs.
#[derive(Clone, Debug, Deserialize)]
pub struct TableFacts {
    /// The role that polls.
    pub role: String,
    /// `pg_class.relkind`.
    pub kind: String,
    /// `pg_class.relpersistence`.
    pub persistence: String,
    /// The table access method.
    pub access: Option<String>,
    /// Whether other tables inherit from it, or are its partitions.
    pub children: bool,
    /// For a partitioned table: a partition that is foreign, unlogged, or without the heap access method.
    #[serde(default)]
    pub foreign_leaf: Option<String>,
    /// Whether the role may read all columns.
    pub may_select: bool,
    /// Whether policies hide rows from the role.
    pub row_security: bool,
    /// Its columns.
    pub columns: Vec<ColumnFacts>,
    /// Its complete btree indexes.
    pub indexes: Vec<IndexFacts>,
}

/// A column.
#[derive(Clone, Debug, Deserialize)]
pub struct ColumnFacts {
    /// Name.
    pub name: String,
    /// Type, without its modifier.
    #[serde(rename = "type")]
    pub data_type: String,
    /// `NOT NULL`.
    pub not_null: bool,
    /// The default.
    pub default: Option<String>,
    /// The sequence that fills it.
    pub sequence: Option<SequenceFacts>,
}

/// A sequence.
#[derive(Clone, Debug, Deserialize)]
pub struct SequenceFacts {
    /// Name, as SQL writes it.
    pub name: String,
    /// Whether the role may read it.
    pub readable: bool,
    /// `CACHE`.
    pub cache: i64,
    /// `INCREMENT`.
    pub increment: i64,
    /// `CYCLE`.
    pub cycle: bool,
}

/// An index.
#[derive(Clone, Debug, Deserialize)]
pub struct IndexFacts {
    /// Whether it belongs to the primary key.
    pub primary: bool,
    /// Whether it is unique and checked immediately.
    pub unique: bool,
    /// Its columns.
    pub columns: Vec<String>,
}

/// Usual names of columns with the time of the last change.
const CHANGED: [&str; 6] =
    ["updated_at", "modified_at", "changed_at", "last_modified", "last_updated", "updated"];

/// The cursor of a table.
///
/// # Errors
/// The table cannot be polled without losing rows: the reason and the remedy.
pub fn choose(
    name: &TableName,
    facts: Option<&TableFacts>,
    setting: Option<&CursorSetting>,
) -> Result<Cursor, Diagnosis> {
    let table = format!("table {name}");
    let wrong = |fact: &str| Diagnosis::blocker(table.clone(), fact);
    let Some(facts) = facts else {
        return Err(wrong("it does not exist").with_hint("Correct source.tables, or create the table."));
    };
    let is_partitioned = facts.kind == PARTITIONED;
    if !is_partitioned && (facts.kind != "r" || facts.children) {
        let fact = "it is a parent of other tables, or no table, and these cannot be polled";
        return Err(wrong(fact).with_hint("Name its children in source.tables, if it has any."));
    }
    if let Some(leaf) = facts.foreign_leaf.as_ref().filter(|_| is_partitioned) {
        let fact =
            format!("its partition {leaf} is a foreign or unlogged table, or not of the heap access method");
        return Err(
            wrong(&fact).with_hint("Name the other partitions in source.tables, instead of the table.")
        );
    }
    if facts.persistence != "p" || (!is_partitioned && facts.access.as_deref() != Some("heap")) {
        return Err(wrong("it is temporary, unlogged or not of the heap access method")
            .with_hint("Poll only ordinary tables, or make it one: ALTER TABLE … SET LOGGED."));
    }
    if !facts.may_select {
        return Err(wrong("the role may not read it").with_command(format!(
            "GRANT SELECT ON {} TO {};",
            quoted(name),
            escape_identifier(&facts.role)
        )));
    }
    if facts.row_security {
        return Err(wrong("row-level security would hide rows from the role")
            .with_hint("Use a role with BYPASSRLS, or do not poll this table."));
    }
    let Some(key) = facts.indexes.iter().find(|index| index.primary && index.unique) else {
        return Err(wrong("it has no primary key that is checked at once")
            .with_command(format!("ALTER TABLE {} ADD PRIMARY KEY (…);", quoted(name))));
    };
    let table = Table { name, facts, key: &key.columns };
    match setting {
        Some(CursorSetting::Serial(column)) => table.serial(column, "it is configured"),
        Some(CursorSetting::UpdatedAt(column)) => table.updated_at(column, "it is configured"),
        Some(CursorSetting::Xid8(column)) => table.xid8(column, "it is configured"),
        None => table.detect(),
    }
}

struct Table<'a> {
    name: &'a TableName,
    facts: &'a TableFacts,
    key: &'a [String],
}

impl Table<'_> {
    /// The best cursor that the table offers: exact ones first, then those that find updates, then those that
    /// find only inserts.
    fn detect(&self) -> Result<Cursor, Diagnosis> {
        let fills = |column: &&ColumnFacts| {
            let default = column.default.as_deref().unwrap_or_default();
            column.data_type == "xid8" && default.contains("pg_current_xact_id()")
        };
        if let Some(column) = self.facts.columns.iter().find(fills)
            && let Ok(cursor) =
                self.xid8(&column.name, "it has the id of the transaction, which finds every row exactly")
        {
            return Ok(cursor);
        }
        let by_name = CHANGED.iter().filter_map(|name| self.column(name).ok());
        for column in by_name {
            if let Ok(cursor) = self.updated_at(&column.name, "its name says that it changes with the row") {
                return Ok(cursor);
            }
        }
        let is_filled = |column: &&String| {
            self.column(column).is_ok_and(|facts| facts.sequence.is_some()) && self.facts.kind == PARTITIONED
        };
        let column = match self.key {
            [column] => Some(column),
            columns => columns.iter().find(is_filled),
        };
        let Some(column) = column else {
            return Err(self.without_cursor("its primary key is no single column"));
        };
        self.serial(column, "it is the primary key and filled by a sequence; updates are not seen")
            .map_err(|found| Diagnosis { command: found.command, ..self.without_cursor(&found.fact) })
    }

    fn without_cursor(&self, why: &str) -> Diagnosis {
        let fact = format!("it has no column by which new rows are found without losing any: {why}");
        Diagnosis::blocker(self.subject(), fact)
            .with_hint(format!(
                "Name a column in [source.cursors], or add one: {} For updates, also set it in a BEFORE UPDATE trigger.",
                self.add_xid8()
            ))
    }

    fn serial(&self, column: &str, reason: &str) -> Result<Cursor, Diagnosis> {
        let facts = self.not_null(column)?;
        let is_unique = |index: &IndexFacts| index.unique && *index.columns == [column.to_owned()];
        // A unique index of a partitioned table also has its partition columns.
        let is_partitioned = self.facts.kind == PARTITIONED;
        if is_partitioned {
            self.indexed(column)?;
        } else if !self.facts.indexes.iter().any(is_unique) {
            return Err(self.wrong(column, "no unique index has it alone").with_command(format!(
                "CREATE UNIQUE INDEX CONCURRENTLY ON {} ({});",
                quoted(self.name),
                escape_identifier(column)
            )));
        }
        let is_integer = matches!(facts.data_type.as_str(), "smallint" | "integer" | "bigint");
        let Some(sequence) = facts.sequence.as_ref().filter(|_| is_integer) else {
            let fact = "it is no integer that a sequence fills, so a low value may be committed at any time";
            return Err(self.wrong(column, fact).with_hint(format!("Add a column: {}", self.add_xid8())));
        };
        if sequence.cycle || sequence.cache != 1 || sequence.increment != 1 {
            let fact = format!(
                "its sequence {} has CACHE {}, INCREMENT {}{}, so a low value may be committed at any time",
                sequence.name,
                sequence.cache,
                sequence.increment,
                if sequence.cycle { " and CYCLE" } else { "" }
            );
            return Err(self
                .wrong(column, &fact)
                .with_hint(format!(
                    "Add a column: {} Or, if no client allocates values in blocks:",
                    self.add_xid8()
                ))
                .with_command(format!("ALTER SEQUENCE {} CACHE 1 INCREMENT 1 NO CYCLE;", sequence.name)));
        }
        Ok(Cursor {
            kind: CursorKind::Serial,
            order: if is_partitioned { self.with_key(column) } else { vec![column.to_owned()] },
            sequence: sequence.readable.then(|| sequence.name.clone()),
            reason: reason.to_owned(),
        })
    }

    fn updated_at(&self, column: &str, reason: &str) -> Result<Cursor, Diagnosis> {
        let facts = self.not_null(column)?;
        if facts.data_type != "timestamp with time zone" {
            let fact = format!("its type is {}, not timestamp with time zone", facts.data_type);
            let found = self.wrong(column, &fact);
            return Err(if facts.data_type == "timestamp without time zone" {
                found.with_hint("Local time repeats an hour each autumn, and later rows would be taken for read ones:").with_command(
                    format!(
                        "ALTER TABLE {} ALTER COLUMN {} TYPE timestamptz USING {1} AT TIME ZONE 'UTC';",
                        quoted(self.name),
                        escape_identifier(column)
                    ),
                )
            } else {
                found
            });
        }
        self.indexed(column)?;
        Ok(self.cursor(CursorKind::UpdatedAt, column, reason))
    }

    fn xid8(&self, column: &str, reason: &str) -> Result<Cursor, Diagnosis> {
        let facts = self.not_null(column)?;
        if facts.data_type != "xid8" {
            return Err(self.wrong(column, &format!("its type is {}, not xid8", facts.data_type)));
        }
        self.indexed(column)?;
        Ok(self.cursor(CursorKind::Xid8, column, reason))
    }

    fn cursor(&self, kind: CursorKind, column: &str, reason: &str) -> Cursor {
        Cursor { kind, order: self.with_key(column), sequence: None, reason: reason.to_owned() }
    }

    fn not_null(&self, column: &str) -> Result<&ColumnFacts, Diagnosis> {
        let facts = self.column(column)?;
        if facts.not_null {
            return Ok(facts);
        }
        Err(self.wrong(column, "it may be NULL, and such rows would never be found").with_command(format!(
            "ALTER TABLE {} ALTER COLUMN {} SET NOT NULL;",
            quoted(self.name),
            escape_identifier(column)
        )))
    }

    fn column(&self, column: &str) -> Result<&ColumnFacts, Diagnosis> {
        let found = self.facts.columns.iter().find(|found| found.name == column);
        found.ok_or_else(|| self.wrong(column, "the table has no such column"))
    }

    fn indexed(&self, column: &str) -> Result<(), Diagnosis> {
        if self.facts.indexes.iter().any(|index| index.columns.first().is_some_and(|first| first == column)) {
            return Ok(());
        }
        let fact = "no complete index begins with it, so that each poll would read the whole table";
        Err(self.wrong(column, fact).with_command(self.index_on(column)))
    }

    fn index_on(&self, column: &str) -> String {
        let columns: Vec<String> = self.with_key(column).iter().map(|name| escape_identifier(name)).collect();
        format!("CREATE INDEX CONCURRENTLY ON {} ({});", quoted(self.name), columns.join(", "))
    }

    fn add_xid8(&self) -> String {
        format!(
            "ALTER TABLE {} ADD COLUMN txid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(); {}",
            quoted(self.name),
            self.index_on("txid")
        )
    }

    fn with_key(&self, column: &str) -> Vec<String> {
        let key = self.key.iter().filter(|key| *key != column).cloned();
        std::iter::once(column.to_owned()).chain(key).collect()
    }

    fn subject(&self) -> String {
        format!("table {}", self.name)
    }

    fn wrong(&self, column: &str, fact: &str) -> Diagnosis {
        Diagnosis::blocker(
            self.subject(),
            format!("column {} cannot be the cursor: {fact}", escape_identifier(column)),
        )
    }
}

#[cfg(test)]
mod tests;
