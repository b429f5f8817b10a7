//! Publications: looked at, made.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use crate::change::ReplicaIdentity;
use crate::config::TableName;

use super::error::Error;
use super::slot::Finding;

/// A table's name, quoted for SQL.
pub fn quoted(name: &TableName) -> String {
    format!("{}.{}", escape_identifier(&name.schema), escape_identifier(&name.table))
}

/// What a publication sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_publication")]
pub struct PublicationFacts {
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// Sends inserts.
    pub insert: bool,
    /// Sends updates.
    pub update: bool,
    /// Sends deletes.
    pub delete: bool,
    /// Sends truncations.
    pub truncate: bool,
    /// Sends changes of partitions as changes of their root.
    pub via_root: bool,
    /// Its tables.
    pub tables: Vec<PublishedTable>,
}

/// A table of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    /// Its name.
    pub name: TableName,
    /// The published columns (from PostgreSQL 15); `None` is not known, so all.
    pub columns: Option<Vec<String>>,
    /// Row filter (from 15).
    pub row_filter: Option<String>,
    /// Replica identity.
    pub identity: ReplicaIdentity,
    /// Whether that gives the old row of an update or delete a name.
    pub has_usable_identity: bool,
    /// Whether it is partitioned.
    pub is_partitioned: bool,
}

fn no_identity(table: &TableName) -> Finding {
    let quoted = quoted(table);
    Finding {
        message: format!(
            "{quoted} has no replica identity, so that every UPDATE and DELETE on it fails while it is published. Give it a \
             primary key, or let the whole old row identify it."
        ),
        mend: Some(format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;")),
    }
}

/// The identity in force: with an index that was dropped, or a primary key that does not exist or is deferrable, there is none.
const USABLE: &str = "CASE c.relreplident
    WHEN 'f' THEN true
    WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
    WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)
    ELSE false END";

/// Looks at a publication; `None` if there is none of that name.
///
/// # Errors
/// The connection broke.
pub async fn publication_facts(client: &Client, name: &str) -> Result<Option<PublicationFacts>, Error> {
    let rows = client
        .query(
            "SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
             FROM pg_catalog.pg_publication WHERE pubname = $1::text::name",
            &[&name],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(PublicationFacts {
        all_tables: row.try_get(0)?,
        insert: row.try_get(1)?,
        update: row.try_get(2)?,
        delete: row.try_get(3)?,
        truncate: row.try_get(4)?,
        via_root: row.try_get(5)?,
        tables: published_tables(client, name).await?,
    }))
}

async fn published_tables(client: &Client, name: &str) -> Result<Vec<PublishedTable>, Error> {
    // Columns and filter by JSON, because PostgreSQL 14 has neither.
    let query = format!(
        "SELECT t.schemaname::text, t.tablename::text,
                (SELECT array_agg(a) FROM jsonb_array_elements_text(nullif(j.row -> 'attnames', 'null')) a),
                j.row ->> 'rowfilter', c.relreplident::text, {USABLE}, c.relkind = 'p'
         FROM pg_catalog.pg_publication_tables t
         CROSS JOIN LATERAL (SELECT to_jsonb(t)) j (row)
         JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
         WHERE t.pubname = $1::text::name ORDER BY 1, 2"
    );
    let rows = client.query(&query, &[&name]).await?;
    let table = |row: &tokio_postgres::Row| -> Result<PublishedTable, Error> {
        Ok(PublishedTable {
            name: TableName { schema: row.try_get(0)?, table: row.try_get(1)? },
            columns: row.try_get(2)?,
            row_filter: row.try_get(3)?,
            identity: match row.try_get::<_, &str>(4)? {
                "f" => ReplicaIdentity::Full,
                "i" => ReplicaIdentity::Index,
                "n" => ReplicaIdentity::Nothing,
                _ => ReplicaIdentity::Default,
            },
            has_usable_identity: row.try_get(5)?,
            is_partitioned: row.try_get(6)?,
        })
    };
    rows.iter().map(table).collect()
}

/// Tables of the publication `name` whose own UPDATE or DELETE fails; none if there is no such publication. Leaves of
/// partitioned tables count, for they are what is written.
///
/// # Errors
/// The connection broke.
pub async fn broken_by(client: &Client, name: &str) -> Result<Vec<Finding>, Error> {
    let query = format!(
        "SELECT DISTINCT n.nspname::text, c.relname::text
         FROM pg_catalog.pg_publication p
         JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
         JOIN pg_catalog.pg_namespace tn ON tn.nspname = t.schemaname
         JOIN pg_catalog.pg_class tc ON tc.relnamespace = tn.oid AND tc.relname = t.tablename
         CROSS JOIN LATERAL (SELECT tc.oid UNION SELECT relid FROM pg_partition_tree(tc.oid)) m (oid)
         JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'r'
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE p.pubname = $1::text::name AND (p.pubupdate OR p.pubdelete) AND NOT {USABLE} ORDER BY 1, 2"
    );
    let rows = client.query(&query, &[&name]).await?;
    let broken = rows
        .iter()
        .map(|row| Ok(no_identity(&TableName { schema: row.try_get(0)?, table: row.try_get(1)? })));
    broken.collect()
}

/// Which of the tables that the configuration names cannot be published: they do not exist, or their UPDATEs would fail.
///
/// # Errors
/// The connection broke.
pub async fn unfit_tables(client: &Client, tables: &[TableName]) -> Result<Vec<Finding>, Error> {
    let query = format!(
        "SELECT (SELECT coalesce(bool_and({USABLE}), true)
                 FROM (SELECT r.oid UNION SELECT relid FROM pg_partition_tree(r.oid)) m (oid)
                 JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'r')
         FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
         WHERE n.nspname = $1::text::name AND r.relname = $2::text::name AND r.relkind IN ('r', 'p')"
    );
    let mut findings = Vec::new();
    for name in tables {
        let usable = client.query_opt(&query, &[&name.schema, &name.table]).await?;
        match usable.map(|row| row.try_get::<_, bool>(0)).transpose()? {
            Some(true) => {}
            Some(false) => findings.push(no_identity(name)),
            None => findings.push(Finding {
                message: format!("source.tables names {name}, and there is no such table."),
                mend: Some("a correction of source.tables, or CREATE TABLE".to_owned()),
            }),
        }
    }
    Ok(findings)
}

/// What Forebay publishes by default: every permanent table with a usable identity in the users' schemas; of a
/// partitioned table the root; nothing that belongs to an extension.
///
/// # Errors
/// The connection broke.
pub async fn candidate_tables(client: &Client) -> Result<Vec<TableName>, Error> {
    let query = format!(
        "SELECT n.nspname::text, c.relname::text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
           AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' AND {USABLE}
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass
                           AND d.objid = c.oid AND d.deptype = 'e')
         ORDER BY 1, 2"
    );
    let rows = client.query(&query, &[]).await?;
    rows.iter().map(|row| Ok(TableName { schema: row.try_get(0)?, table: row.try_get(1)? })).collect()
}

/// Makes a publication of these tables, that sends changes of partitions as changes of their root.
///
/// # Errors
/// There is one already, no table was given, or the role may not: then with the statement that mends it.
pub async fn create_publication(
    client: &Client,
    name: &str,
    tables: &[TableName],
) -> Result<(), CreateError> {
    if tables.is_empty() {
        return Err(CreateError::Empty(name.to_owned()));
    }
    let list: Vec<String> = tables.iter().map(quoted).collect();
    let statement = format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
        escape_identifier(name),
        list.join(", ")
    );
    let Err(error) = client.batch_execute(&statement).await else { return Ok(()) };
    if error.code().is_none_or(|code| code.code() != "42501") {
        return Err(CreateError::Server(error.into()));
    }
    let mend = format!(
        "as a superuser or the tables' owner: {statement}; (or make this role their owner and GRANT CREATE ON DATABASE … TO \
         it)"
    );
    Err(CreateError::NotAllowed { name: name.to_owned(), cause: error.into(), mend })
}

/// Why a publication could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Nothing to publish.
    #[error("publication {0:?} would be empty: no table has a primary key or another replica identity")]
    Empty(String),
    /// The role may not.
    #[error("publication {name:?} cannot be made: {cause}. Run {mend}")]
    NotAllowed {
        /// Its name.
        name: String,
        /// What the server said.
        cause: Error,
        /// The statement, and who can run it.
        mend: String,
    },
    /// Something else.
    #[error(transparent)]
    Server(Error),
}

impl From<CreateError> for crate::failure::Failure {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Server(error) => error.into(),
            CreateError::Empty(_) | CreateError::NotAllowed { .. } => Self::stop(error),
        }
    }
}
