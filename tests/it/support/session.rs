//! SQL, blocking: text in, text out.

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::postgres::Postgres;

/// A row, as text; NULL is `None`.
pub type Row = Vec<Option<String>>;

/// A connection that stays open: for transactions that a test holds open, and for workloads.
pub struct Session {
    // Declared first, dropped first: the connection's task lives in the runtime.
    client: Client,
    runtime: Runtime,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Connects without TLS.
    pub fn connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let runtime = runtime();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        runtime.spawn(async move {
            // How a connection ended, the next statement says.
            connection.await.unwrap_or_default();
        });
        Ok(Self { client, runtime })
    }

    /// Runs one or more statements.
    pub fn try_execute(&mut self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }

    /// Runs one or more statements; panics with the server's message.
    #[track_caller]
    pub fn execute(&mut self, sql: &str) {
        if let Err(error) = self.try_execute(sql) {
            panic!("{}: {sql}", explain(&error));
        }
    }

    /// The rows of a query.
    pub fn try_query(&mut self, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        let messages = self.runtime.block_on(self.client.simple_query(sql))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.map(|row| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()).collect())
    }

    /// The rows of a query; panics with the server's message.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Vec<Row> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{}: {sql}", explain(&error)))
    }
}

impl Postgres {
    /// A session of a user in the default database, over the unix socket.
    #[track_caller]
    pub fn session(&self, user: &str) -> Session {
        self.try_session(user, &self.database).unwrap_or_else(|error| panic!("{}", explain(&error)))
    }

    /// A session of a user in a database, over the unix socket.
    pub fn try_session(&self, user: &str, database: &str) -> Result<Session, tokio_postgres::Error> {
        Session::connect(&format!("{} user={user} dbname={database}", self.server()))
    }

    /// Where the default database is, for the superuser, as libpq's keywords and values.
    pub fn address(&self) -> String {
        format!("{} user=postgres dbname={}", self.server(), self.database)
    }

    fn server(&self) -> String {
        format!("host={} port={}", self.socket_directory().display(), self.port)
    }

    /// Runs statements as the superuser in the default database.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.session("postgres").execute(sql);
    }

    /// The rows of a query, as the superuser in the default database.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Row> {
        self.session("postgres").query(sql)
    }

    /// The only value of a query; the empty text for NULL or for no row.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        self.query(sql).into_iter().flatten().next().flatten().unwrap_or_default()
    }
}

/// A runtime for one blocking caller.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The server's own words, where it said any.
pub fn explain(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
