//! Reads and creates publications.

pub use postgres_protocol::escape::escape_identifier;
use tokio_postgres::{Client, Row};

use crate::config::TableName;
use crate::diagnosis::Diagnosis;
use crate::failure::{Explain, Failure};

use super::error::Error;
use super::name::{CatalogText, raw_name, table_name, texts};
use super::pages;

pub mod identity;
pub mod survey;

pub(super) const SCHEMA: &str = raw_name!("n.nspname");
pub(super) const TABLE: &str = raw_name!("c.relname");
const COLUMN: &str = raw_name!("a.attname");

/// A table's name, quoted for SQL.
pub fn quoted(name: &TableName) -> String {
    format!("{}.{}", escape_identifier(&name.schema), escape_identifier(&name.table))
}

/// The content of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_publication")]
pub struct PublicationFacts {
    /// Its name.
    pub name: String,
    /// `server_version_num` of its server.
    pub version: i32,
    /// `pg_publication.oid`. DROP and CREATE change it.
    pub oid: u32,
    /// Whether it is `FOR ALL TABLES`.
    pub all_tables: bool,
    /// Whether it sends inserts.
    pub insert: bool,
    /// Whether it sends updates.
    pub update: bool,
    /// Whether it sends deletes.
    pub delete: bool,
    /// Whether it sends truncations.
    pub truncate: bool,
    /// Whether it sends changes of partitions as changes of their root.
    pub via_root: bool,
    /// Which generated columns it sends (`pubgencols`, from PostgreSQL 18).
    pub generated: Option<String>,
    /// Its tables, by name.
    pub tables: Vec<PublishedTable>,
}

impl PublicationFacts {
    /// Whether it sends stored generated columns of tables without a column list.
    pub fn sends_generated(&self) -> bool {
        self.generated.as_deref() == Some("s")
    }
}

/// A table of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    /// `pg_class.oid`, which does not change when the table is renamed.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// The published columns (from PostgreSQL 15); `None`: all.
    pub columns: Option<Vec<String>>,
    /// Fingerprint of its row filter (from PostgreSQL 15). The text itself would need a lock on the table
    /// ([`row_filter`]).
    pub filter: Option<String>,
    /// Generated columns of its key that are not sent: the key is its replica identity, or otherwise its
    /// primary key.
    pub unsent_key: Vec<String>,
    /// OIDs of the entries in `pg_publication_rel` and `pg_publication_namespace` that publish it. They
    /// change if the table leaves the publication and returns. Empty for `FOR ALL TABLES`.
    pub entries: Vec<u32>,
}

/// A partition whose changes are sent as those of its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Name of the published root.
    pub root: TableName,
    /// Its file node. TRUNCATE and a rewrite change it.
    pub file: u32,
    /// Whether no statistics have counted rows in that file.
    pub uncounted: bool,
}

/// Common table expressions for everything that a publication reaches: `p` is its row, `members` has every
/// table with its partitions. Reads only the catalogue: `pg_publication_tables` and `pg_partition_tree` lock
/// the tables, so one locked table would block the whole result. Parameter 1 is the publication's name.
pub(super) fn members(version: i32) -> String {
    // PostgreSQL 15 and later can publish schemas.
    let schemas = if version < SCHEMAS_SINCE {
        ""
    } else {
        "UNION
         SELECT c.oid, s.oid FROM p
         JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
         JOIN pg_catalog.pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p')"
    };
    format!(
        "WITH RECURSIVE p AS (SELECT * FROM pg_catalog.pg_publication WHERE pubname = $1::text::name),
         named (oid, entry) AS (
             SELECT r.prrelid, r.oid FROM p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
             {schemas}
             UNION
             SELECT c.oid, NULL::oid FROM p JOIN pg_catalog.pg_class c ON p.puballtables AND c.relkind IN ('r', 'p')),
         tree (top, oid, entry) AS (
             SELECT oid, oid, entry FROM named
             UNION
             SELECT t.top, i.inhrelid, t.entry FROM tree t
             JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'p'
             JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid),
         members (oid, entries, below) AS (
             SELECT t.oid, array_agg(DISTINCT t.entry) FILTER (WHERE t.entry IS NOT NULL), bool_or(t.top <> t.oid)
             FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid
             -- As the server decides which tables can be published at all.
             WHERE c.relpersistence = 'p' AND c.oid >= 16384 AND c.relkind IN ('r', 'p')
             GROUP BY t.oid)"
    )
}

/// The first version with schemas, column lists and row filters.
const SCHEMAS_SINCE: i32 = 150_000;
const INSUFFICIENT_PRIVILEGE: &str = "42501";

pub(super) async fn version(client: &Client) -> Result<i32, Error> {
    let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await?;
    Ok(row.try_get(0)?)
}

/// Reads a publication; `None` if it does not exist.
///
/// # Errors
/// The connection broke.
pub async fn publication_facts(client: &Client, name: &str) -> Result<Option<PublicationFacts>, Error> {
    let rows = client
        .query(
            "SELECT oid, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
                    to_jsonb(p) ->> 'pubgencols'
             FROM pg_catalog.pg_publication p WHERE pubname = $1::text::name",
            &[&name],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let version = version(client).await?;
    Ok(Some(PublicationFacts {
        name: name.to_owned(),
        version,
        oid: row.try_get(0)?,
        all_tables: row.try_get(1)?,
        insert: row.try_get(2)?,
        update: row.try_get(3)?,
        delete: row.try_get(4)?,
        truncate: row.try_get(5)?,
        via_root: row.try_get(6)?,
        generated: row.try_get(7)?,
        tables: published_tables(client, name, version).await?,
    }))
}

/// Columns of the key of the table `c` that are generated and not sent.
fn unsent_key() -> String {
    format!(
        "(SELECT array_agg({COLUMN} ORDER BY a.attnum) FROM pg_catalog.pg_index i
     JOIN pg_catalog.pg_attribute a
         ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
     WHERE i.indrelid = c.oid AND a.attgenerated <> ''
       AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
       AND NOT (a.attgenerated = 's' AND CASE WHEN jsonb_typeof(r.entry -> 'prattrs') = 'array'
            THEN r.entry -> 'prattrs' @> to_jsonb(a.attnum::int)
            ELSE coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's' END))"
    )
}

/// Reads the published tables. A role that may not read `pg_index` gets everything but the keys.
async fn published_tables(client: &Client, name: &str, version: i32) -> Result<Vec<PublishedTable>, Error> {
    match read_tables(client, name, version, &unsent_key()).await {
        Err(Error::Server(error)) if error.code == INSUFFICIENT_PRIVILEGE => {
            read_tables(client, name, version, "NULL::bytea[]").await
        }
        tables => tables,
    }
}

async fn read_tables(
    client: &Client,
    name: &str,
    version: i32,
    unsent_key: &str,
) -> Result<Vec<PublishedTable>, Error> {
    // Columns and filter are read as JSON, because PostgreSQL 14 has neither.
    let query = format!(
        "{}
         SELECT {SCHEMA}, {TABLE},
                (SELECT array_agg({COLUMN} ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND jsonb_typeof(r.entry -> 'prattrs') = 'array'
                   AND r.entry -> 'prattrs' @> to_jsonb(a.attnum::int)),
                md5(r.entry ->> 'prqual'), coalesce(m.entries, '{{}}'), c.oid,
                {unsent_key}
         FROM p CROSS JOIN members m
         JOIN pg_catalog.pg_class c ON c.oid = m.oid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN LATERAL (SELECT to_jsonb(e) FROM pg_catalog.pg_publication_rel e
                            WHERE e.prpubid = p.oid AND e.prrelid = c.oid) r (entry) ON true
         WHERE CASE WHEN p.pubviaroot THEN NOT m.below ELSE c.relkind = 'r' END
         ORDER BY 1, 2",
        members(version)
    );
    let table = |row: &Row| -> Result<PublishedTable, Error> {
        Ok(PublishedTable {
            name: table_name(row, 0)?,
            columns: row.try_get::<_, Option<Vec<CatalogText>>>(2)?.map(texts),
            filter: row.try_get(3)?,
            entries: row.try_get(4)?,
            oid: row.try_get(5)?,
            unsent_key: row.try_get::<_, Option<Vec<CatalogText>>>(6)?.map(texts).unwrap_or_default(),
        })
    };
    let mut tables = Vec::new();
    let take = |row: &Row| {
        tables.push(table(row)?);
        Ok(())
    };
    pages::each(client, &query, name, take).await?;
    Ok(tables)
}

/// The `pg_class.oid` of at most `most` tables that a publication reaches.
///
/// # Errors
/// The connection broke.
pub async fn table_oids(client: &Client, name: &str, most: usize) -> Result<Vec<u32>, Error> {
    let query =
        format!("{} SELECT oid FROM members ORDER BY oid LIMIT {most}", members(version(client).await?));
    let rows = client.query(&query, &[&name]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Partitions whose changes are sent as those of a published root. Empty if partitions are sent under their
/// own names.
///
/// # Errors
/// The connection broke.
pub async fn partitions(client: &Client, name: &str) -> Result<Vec<Partition>, Error> {
    let (root_schema, root) = (raw_name!("rn.nspname"), raw_name!("r.relname"));
    let query = format!(
        "{}
         SELECT c.oid, {SCHEMA}, {TABLE}, {root_schema}, {root}, c.relfilenode, c.reltuples < 0
         FROM p JOIN tree t ON p.pubviaroot AND t.top <> t.oid
         JOIN members m ON m.oid = t.top AND NOT m.below
         JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'r'
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_class r ON r.oid = t.top
         JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
         GROUP BY 1, 2, 3, 4, 5, 6, 7",
        members(version(client).await?)
    );
    let partition = |row: &Row| -> Result<Partition, Error> {
        Ok(Partition {
            oid: row.try_get(0)?,
            name: table_name(row, 1)?,
            root: table_name(row, 3)?,
            file: row.try_get(5)?,
            uncounted: row.try_get(6)?,
        })
    };
    let mut partitions = Vec::new();
    let take = |row: &Row| {
        partitions.push(partition(row)?);
        Ok(())
    };
    pages::each(client, &query, name, take).await?;
    Ok(partitions)
}

/// The row filter of a table in a publication, as SQL. Waits if another session has locked the table.
///
/// # Errors
/// The connection broke, or the lock could not be acquired.
pub async fn row_filter(
    client: &Client,
    publication: &str,
    table: &TableName,
) -> Result<Option<String>, Error> {
    if version(client).await? < SCHEMAS_SINCE {
        return Ok(None);
    }
    let row = client
        .query_opt(
            "SELECT pg_get_expr(r.prqual, r.prrelid)
             FROM pg_catalog.pg_publication p
             JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
             JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pubname = $1::text::name AND n.nspname = $2::text::name AND c.relname = $3::text::name",
            &[&publication, &table.schema, &table.table],
        )
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

/// Creates a publication of these tables that sends changes of partitions as changes of their root.
///
/// # Errors
/// It exists, no table was given, or the role lacks a permission; the last error has the statement that
/// grants it.
pub async fn create_publication(
    client: &Client,
    name: &str,
    tables: &[TableName],
) -> Result<(), CreateError> {
    if tables.is_empty() {
        return Err(CreateError::Empty(name.to_owned()));
    }
    let statement = create_statement(name, tables);
    let Err(error) = client.batch_execute(&statement).await else { return Ok(()) };
    let escaped: Vec<String> =
        tables.iter().map(TableName::to_string).filter(|name| name.contains("\\x")).collect();
    if !escaped.is_empty() && error.code().is_some_and(|code| NOT_FOUND.contains(&code.code())) {
        return Err(CreateError::Unwritable {
            name: name.to_owned(),
            cause: error.into(),
            tables: escaped.join(", "),
        });
    }
    if error.code().is_none_or(|code| code.code() != INSUFFICIENT_PRIVILEGE) {
        return Err(CreateError::Server(error.into()));
    }
    // The server's message may name only the first of several missing permissions.
    let missing = missing_rights(client, tables).await.map_err(CreateError::Server)?;
    Err(CreateError::NotAllowed { name: name.to_owned(), cause: error.into(), statement, missing })
}

/// The statement that creates a publication of these tables, without a semicolon.
pub fn create_statement(name: &str, tables: &[TableName]) -> String {
    let list: Vec<String> = tables.iter().map(quoted).collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
        escape_identifier(name),
        list.join(", ")
    )
}

/// The permissions that the role lacks to create a publication of these tables, each with the statement that
/// grants it.
///
/// # Errors
/// The connection broke.
pub async fn missing_rights(client: &Client, tables: &[TableName]) -> Result<Vec<Diagnosis>, Error> {
    const QUERY: &str = concat!(
        "SELECT current_user::text, current_database()::text,
        pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
        ARRAY(SELECT ",
        raw_name!("pg_catalog.format('%I.%I', n.nspname, c.relname)"),
        "
              FROM unnest($1::text[], $2::text[]) AS t (schema, name)
              JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
              JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
              WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1),
        ARRAY(SELECT DISTINCT ",
        raw_name!("pg_catalog.format('%I', n.nspname)"),
        "
              FROM unnest($1::text[]) AS t (schema) JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
              WHERE NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1)"
    );
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
    let row = client.query_one(QUERY, &[&schemas, &names]).await?;
    let (role, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let (may_create, not_owned): (bool, Vec<String>) = (row.try_get(2)?, texts(row.try_get(3)?));
    let hidden = texts(row.try_get(4)?).join(", ");
    let subject = format!("role {}", escape_identifier(&role));
    let mut found = Vec::new();
    // If the owner or a superuser must create it anyway, the role needs no such permission.
    if !hidden.is_empty() && not_owned.is_empty() {
        let command = format!("GRANT USAGE ON SCHEMA {hidden} TO {};", escape_identifier(&role));
        found
            .push(Diagnosis::blocker(&subject, format!("may not use schema {hidden}")).with_command(command));
    }
    if !may_create {
        let database = escape_identifier(&database);
        found.push(
            Diagnosis::blocker(&subject, format!("may not create objects in database {database}"))
                .with_command(format!(
                    "GRANT CREATE ON DATABASE {database} TO {};",
                    escape_identifier(&role)
                )),
        );
    }
    if !not_owned.is_empty() {
        let fact = format!("does not own {}", not_owned.join(", "));
        found.push(Diagnosis::blocker(&subject, fact));
    }
    Ok(found)
}

/// SQLSTATEs `undefined_table` and `invalid_schema_name`.
const NOT_FOUND: [&str; 2] = ["42P01", "3F000"];

/// Why a publication could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is no table to publish.
    #[error("publication {0:?} would be empty: no table has a primary key or another replica identity")]
    Empty(String),
    /// Names of tables contain bytes without a character.
    #[error("publication {name:?} cannot be made: names of tables are not valid text: {tables}")]
    Unwritable {
        /// The publication's name.
        name: String,
        /// The server's error.
        cause: Error,
        /// The tables, escaped.
        tables: String,
    },
    /// The role lacks a permission.
    #[error("publication {name:?} cannot be made{}", facts(missing))]
    NotAllowed {
        /// The publication's name.
        name: String,
        /// The server's error.
        cause: Error,
        /// The statement that failed.
        statement: String,
        /// The missing permissions, as far as they could be determined.
        missing: Vec<Diagnosis>,
    },
    /// Another error.
    #[error(transparent)]
    Server(Error),
}

fn facts(missing: &[Diagnosis]) -> String {
    missing.iter().fold(String::new(), |text, one| format!("{text}; {one}"))
}

impl Explain for CreateError {
    fn detail(&self) -> Option<String> {
        match self {
            Self::NotAllowed { cause, .. } | Self::Unwritable { cause, .. } => Some(cause.to_string()),
            Self::Server(error) => error.detail(),
            Self::Empty(_) => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotAllowed { statement, missing, .. } => Some(match missing.as_slice() {
                [Diagnosis { command: Some(command), .. }] => {
                    format!("Run as the database's owner or a superuser: {command}")
                }
                _ => format!("Run as a superuser or as the owner of the tables: {statement};"),
            }),
            Self::Server(error) => error.hint(),
            Self::Unwritable { name, .. } => Some(format!(
                "Rename the tables, name others in source.tables, or create the publication yourself: CREATE PUBLICATION {} FOR ALL TABLES \
                 WITH (publish_via_partition_root = true);",
                escape_identifier(name)
            )),
            Self::Empty(_) => {
                Some("Add a primary key to the tables, or name tables in source.tables.".to_owned())
            }
        }
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Server(error) => error.into(),
            CreateError::Empty(_) | CreateError::NotAllowed { .. } | CreateError::Unwritable { .. } => {
                Self::stop(error)
            }
        }
    }
}
