//! Writes a first configuration from the content of a database, for `forebay init`.
//!
//! The text is a function of what was found ([`render`]). It never contains a password.

pub mod instances;
pub mod polled;
mod text;

use crate::config::Secret;
use crate::failure::Failure;
use crate::source::postgres::conninfo::{Password, Settings};
use crate::source::postgres::publication::survey::{self, DatabaseSurvey, SurveyedTable};
use crate::source::postgres::session::Session;

pub use self::polled::ReadMode;

use self::polled::PolledSurvey;
use self::text::{comment, facts, is_writable, name_of, quoted, without_password};

/// With more tables than this, they are counted and not listed, because the default publishes every table
/// with a key.
const LISTED_MAX: usize = 200;

/// Why a table whose name has no form in the configuration is left out.
const UNWRITABLE: &str = "its name cannot be written in source.tables; create the publication yourself";

/// The options of the operator.
#[derive(Clone, Debug)]
pub struct InitOrder {
    /// Connection URL.
    pub url: String,
    /// Password, if it is not in the URL.
    pub password: Option<Secret>,
    /// `name` of the configuration; `None`: derived from the database's name.
    pub name: Option<String>,
    /// `kinesis.stream`; `None`: derived from `name`.
    pub stream: Option<String>,
    /// How the tables are read; `None`: by replication if the role can.
    pub mode: Option<ReadMode>,
}

/// The tables in a configuration.
#[derive(Clone, Copy)]
enum TablesPart<'a> {
    /// Those of the publication that it uses or creates.
    Published,
    /// Those of an existing publication with a part of the rows. The number is the HTTP port of this
    /// instance.
    Divided(u16),
    /// Those that are polled.
    Polled(&'a PolledSurvey),
}

/// A configuration and what it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDraft {
    /// The text of `forebay.toml`.
    pub text: String,
    /// Number of tables that would be published.
    pub published: usize,
    /// Number of tables that would not be.
    pub left_out: usize,
}

/// Reads the database, and writes its configuration.
///
/// # Errors
/// The database cannot be reached.
pub async fn draft(order: &InitOrder) -> Result<ConfigDraft, Failure> {
    let (database, mut session) = open(order).await?;
    let found = session.run(survey::survey).await?;
    let polled = PolledSurvey::read(order.mode, &mut session, &found).await?;
    Ok(match &polled {
        Some(polled) => render_with(order, &database, &found, TablesPart::Polled(polled)),
        None => render(order, &database, &found),
    })
}

/// The name of the database, and a connection.
async fn open(order: &InitOrder) -> Result<(String, Session), Failure> {
    let settings = Settings::from_url(&order.url)
        .and_then(|settings| {
            let password = order.password.as_ref().map(|password| Password::new(password.expose()));
            settings.with_password(password).with_passfile(None)
        })
        .map_err(Failure::stop)?;
    let session = Session::open(&settings).await?;
    Ok((settings.database, session))
}

/// The configuration for a database. Does no I/O.
pub fn render(order: &InitOrder, database: &str, found: &DatabaseSurvey) -> ConfigDraft {
    render_with(order, database, found, TablesPart::Published)
}

/// The same for one of several instances: with an existing publication and this HTTP port.
fn render_part(order: &InitOrder, name: &str, found: &DatabaseSurvey, port: u16) -> ConfigDraft {
    render_with(order, name, found, TablesPart::Divided(port))
}

fn render_with(
    order: &InitOrder,
    database: &str,
    found: &DatabaseSurvey,
    part: TablesPart<'_>,
) -> ConfigDraft {
    let name = order.name.clone().unwrap_or_else(|| name_of(database));
    let (listed, left_out): (Vec<_>, Vec<_>) = found.tables.iter().partition(|table| match part {
        TablesPart::Polled(polled) => polled.lists(&table.name),
        TablesPart::Published | TablesPart::Divided(_) => {
            table.left_out.is_none() && is_writable(&table.name)
        }
    });
    let mut text = String::new();
    let mut add = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    add(
        "# Written by `forebay init`. Look at every line, then run `forebay check`. docs/CONFIGURATION.md explains all keys.",
    );
    add("");
    add(&format!(
        "name = {}    # events come from urn:forebay:{name}; never change it for a stream with readers",
        quoted(&name)
    ));
    add("");
    add("[source]");
    add(&format!("url = {}", quoted(&without_password(&order.url))));
    add("# The password is not written here: set FOREBAY_SOURCE__PASSWORD, PGPASSFILE, or");
    add("# password_file = \"/run/secrets/forebay\"");
    match part {
        TablesPart::Divided(_) => {
            add(&format!(
                "# Its tables are those of the publication forebay_{name}: a part of their rows each."
            ));
        }
        TablesPart::Polled(polled) => polled.write(&mut add, found),
        TablesPart::Published => {
            publication(&mut add, &name, found);
            tables(&mut add, &listed, found);
        }
    }
    add("");
    add("[kinesis]");
    let stream = order.stream.clone().unwrap_or_else(|| format!("{name}-events"));
    add(&format!("stream = {}", quoted(&stream)));
    if !stream.starts_with("arn:") {
        add("# region = \"eu-central-1\"    # default: that of the AWS environment");
    }
    add("");
    add("[buffer]");
    add(&format!(
        "dir = {}    # on a disk that outlives the process",
        quoted(&format!("/var/lib/forebay/{name}"))
    ));
    add(
        "max_size = \"10 GiB\"    # twice what the tables get in the longest stream outage that you plan for",
    );
    if let TablesPart::Divided(port) = part {
        add("");
        add("[http]");
        add(&format!("listen = \"127.0.0.1:{port}\"    # another one for each instance of a machine"));
    }
    personal(&mut add, &listed);
    not_published(&mut add, &left_out, found.more, part);
    ConfigDraft { text, published: listed.len(), left_out: left_out.len() }
}

/// The tables that are left out, each with the reason, and the number of tables that are not shown.
fn not_published(add: &mut impl FnMut(&str), left_out: &[&SurveyedTable], more: usize, part: TablesPart<'_>) {
    if !left_out.is_empty() {
        add("");
        add("# Not published:");
    }
    for table in left_out.iter().take(LISTED_MAX) {
        let reason = match part {
            TablesPart::Polled(polled) => polled.why_not(&table.name),
            TablesPart::Published | TablesPart::Divided(_) => table.left_out,
        };
        add(&comment(&format!("{}: {}", table.name, reason.unwrap_or(UNWRITABLE))));
    }
    let not_shown = more + left_out.len().saturating_sub(LISTED_MAX);
    if not_shown > 0 {
        add(&format!("# … and {not_shown} more tables that are not shown."));
    }
}

fn publication(add: &mut impl FnMut(&str), name: &str, found: &DatabaseSurvey) {
    let default = format!("forebay_{name}");
    if found.publications.is_empty() || found.publications.contains(&default) {
        return;
    }
    add(&comment(&format!(
        "Publications of this database: {}. To use one of them:",
        found.publications.join(", ")
    )));
    let first = found.publications.first().map_or("", String::as_str);
    add(&comment(&format!("publication = {}", quoted(first))));
}

fn tables(add: &mut impl FnMut(&str), listed: &[&SurveyedTable], found: &DatabaseSurvey) {
    if listed.is_empty() {
        add("# No table can be published yet: see the end of this file.");
        return;
    }
    if listed.len() > LISTED_MAX || found.more > 0 {
        add(&format!("# Every table with a key is published: {} tables. To choose some:", listed.len()));
        add(&comment(&format!(
            "tables = [{}]",
            listed.first().map_or_else(String::new, |table| quoted(&table.name.to_string()))
        )));
        return;
    }
    add("tables = [    # of the publication that Forebay creates, or that exists");
    for table in listed {
        let facts = comment(&facts(table, found.counted_for));
        add(&format!("    {},    {facts}", quoted(&table.name.to_string())));
    }
    add("]");
}

/// Writes the columns that look like personal data.
fn personal(add: &mut impl FnMut(&str), listed: &[&SurveyedTable]) {
    let columns: Vec<String> = listed
        .iter()
        .flat_map(|table| table.personal.iter().map(|column| quoted(&table.name.column(column))))
        .take(LISTED_MAX)
        .collect();
    if columns.is_empty() {
        return;
    }
    add("");
    add("# These columns look like personal data. Listed here, they leave only as hmac() of a rule:");
    add("# [pii]");
    add("# columns = [");
    for column in columns {
        add(&comment(&format!("    {column},")));
    }
    add("# ]");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, TableName};

    fn table(table: &str, left_out: Option<&'static str>) -> SurveyedTable {
        SurveyedTable {
            name: TableName { schema: "Odd \"one\"".to_owned(), table: table.to_owned() },
            left_out,
            key: vec!["id\n# x".to_owned()],
            hashed: None,
            is_full: false,
            rows: 10,
            bytes: 8_192,
            changes: 5,
            personal: vec!["email".to_owned()],
        }
    }

    fn order(url: &str) -> InitOrder {
        InitOrder { url: url.to_owned(), password: None, name: None, stream: None, mode: None }
    }

    /// Whatever names the database has, the file can be read, and publishes the tables that can be published.
    #[test]
    fn draft_is_a_valid_configuration_without_password() {
        let survey = DatabaseSurvey {
            tables: vec![table("a.b", None), table("c\n]", None), table("left\nname = 1", Some("no key"))],
            publications: vec!["dba's\n".to_owned()],
            ..DatabaseSurvey::default()
        };
        let draft =
            render(&order("postgres://u:sekret@h/d?password=sekret&sslmode=require"), "My-Shop 2", &survey);
        assert!(!draft.text.contains("sekret"), "{}", draft.text);
        assert_eq!((draft.published, draft.left_out), (2, 1));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &draft.text).unwrap();
        let config = Config::read(file.path(), std::iter::empty())
            .unwrap_or_else(|error| panic!("{error}\n{}", draft.text));
        assert_eq!(config.name, "my_shop_2");
        assert_eq!(config.source.url.expose(), "postgres://u@h/d?sslmode=require");
        assert_eq!(config.kinesis.stream, "my_shop_2-events");
        let names: Vec<_> = survey.tables.iter().take(2).map(|table| table.name.clone()).collect();
        assert_eq!(config.source.tables, Some(names));
    }

    #[test]
    fn many_tables_are_counted_and_not_listed() {
        let tables: Vec<_> = (0..=LISTED_MAX).map(|at| table(&format!("t{at}"), None)).collect();
        let draft =
            render(&order("postgres://u@h/d"), "d", &DatabaseSurvey { tables, ..DatabaseSurvey::default() });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &draft.text).unwrap();
        assert_eq!(Config::read(file.path(), std::iter::empty()).unwrap().source.tables, None);
    }
}
