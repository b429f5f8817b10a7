//! The script of views in the SQL that all engines share. A [`Dialect`] writes the rest.

use super::columns::ColumnType;
use super::place::ArchivePlace;
use super::views::{ArchiveViews, EventView, FieldColumn, RowView};

/// The SQL of one engine.
pub(super) trait Dialect {
    /// The engine's name, for comments.
    const NAME: &'static str;

    /// The statements that make `forebay_lines`, with the columns `day` and the line.
    fn lines(&self, place: ArchivePlace<'_>) -> String;
    /// A name in quotes. Names of views and columns are in lower case.
    fn name(&self, name: &str) -> String;
    /// The text of an attribute of the envelope.
    fn attribute(&self, name: &str) -> String;
    /// The expression for the line in `forebay_deliveries`; later views have it as their column `line`.
    fn whole(&self) -> &'static str;
    /// The text of a field of `data`; `digits`: with all digits of a number.
    fn field(&self, field: &str, digits: bool) -> String;
    /// The JSON of a field of `data`; NULL where it is null.
    fn json(&self, field: &str) -> String;
    /// A text as a value of the type, NULL where it does not fit; `None`: the text itself is the value.
    fn convert(&self, text: &str, to: ColumnType) -> Option<String>;
    /// The texts that are not NULL, separated by commas; NULL if there are none.
    fn list(&self, texts: &[String]) -> String;
    /// The value, NULL included, of the row with the greatest `by`. Rows in which `by` is NULL are ignored.
    fn newest(&self, value: &str, by: &str) -> String;
    /// Whether a text has a part.
    fn contains(&self, text: &str, part: &str) -> String;
}

/// One view: its name, description and query.
#[derive(Debug)]
pub(super) struct SqlView {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) query: String,
    pub(super) columns: Vec<ViewColumn>,
}

/// A column of a view, in the order of its query.
#[derive(Clone, Debug)]
pub(super) struct ViewColumn {
    pub(super) name: String,
    pub(super) column_type: ColumnType,
    /// Its description; may be empty.
    pub(super) note: String,
}

impl ViewColumn {
    fn new(name: &str, column_type: ColumnType) -> Self {
        Self { name: name.to_owned(), column_type, note: String::new() }
    }
}

/// All statements.
pub(super) fn script<D: Dialect>(
    dialect: &D,
    place: ArchivePlace<'_>,
    source: &str,
    views: &ArchiveViews,
) -> String {
    let mut parts = vec![format!(
        "-- The archive of {} for {}, made from its contracts by `forebay events archive-ddl`.\n\
         -- Do not edit it: run the command again when the contracts have changed. docs/ARCHIVE.md explains the views.\n\n{}",
        comment(source),
        D::NAME,
        dialect.lines(place),
    )];
    for view in all(dialect, place, views) {
        let about =
            if view.about.is_empty() { String::new() } else { format!("-- {}\n", comment(&view.about)) };
        let name = dialect.name(&view.name);
        parts.push(format!("\n{about}CREATE OR REPLACE VIEW {name} AS\n{};\n", view.query));
    }
    parts.concat()
}

/// All views in the order in which they depend on each other.
pub(super) fn all<D: Dialect>(dialect: &D, place: ArchivePlace<'_>, views: &ArchiveViews) -> Vec<SqlView> {
    let mut all = vec![deliveries(dialect), once(dialect, place.daily)];
    all.extend(views.events.iter().map(|view| event(dialect, view)));
    all.extend(views.rows().map(|view| rows(dialect, &view)));
    all
}

/// A text for a comment, which must not contain a line break.
fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A text in single quotes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The attributes that `forebay_deliveries` has, with their types.
const ATTRIBUTES: [(&str, ColumnType); 9] = [
    ("source", ColumnType::Text),
    ("id", ColumnType::Text),
    ("type", ColumnType::Text),
    ("subject", ColumnType::Text),
    ("time", ColumnType::TimestampTz),
    ("recordedtime", ColumnType::TimestampTz),
    ("partitionkey", ColumnType::Text),
    ("sequence", ColumnType::Text),
    ("unavailable", ColumnType::Text),
];

fn deliveries<D: Dialect>(dialect: &D) -> SqlView {
    let mut items = Vec::new();
    let mut columns = Vec::new();
    for (name, column_type) in ATTRIBUTES {
        let text = dialect.attribute(name);
        let value = dialect.convert(&text, column_type).unwrap_or(text);
        items.push(format!("  {value} AS {}", dialect.name(name)));
        columns.push(ViewColumn::new(name, column_type));
    }
    items.push(format!("  {}", dialect.name("day")));
    items.push(format!("  {} AS {}", dialect.whole(), dialect.name("line")));
    columns.push(ViewColumn::new("day", ColumnType::Date));
    columns.push(ViewColumn::new("line", ColumnType::Json));
    SqlView {
        name: "forebay_deliveries".to_owned(),
        about: "Each line with its envelope, repeats included.".to_owned(),
        query: format!("SELECT\n{}\nFROM {}", items.join(",\n"), dialect.name("forebay_lines")),
        columns,
    }
}

/// The view of the first delivery of each event.
fn once<D: Dialect>(dialect: &D, daily: bool) -> SqlView {
    let names: Vec<String> = ATTRIBUTES
        .iter()
        .map(|(name, _)| *name)
        .chain(["day", "line"])
        .map(|name| dialect.name(name))
        .collect();
    let same = ["source", "type", "partitionkey", "sequence"].into_iter().chain(daily.then_some("day"));
    let same: Vec<String> = same.map(|name| dialect.name(name)).collect();
    let about = if daily {
        "Each event once a day: a repeat on another day is here twice. A condition on day prunes partitions."
    } else {
        "Each event once. To limit what is read, query forebay_deliveries with a condition on day."
    };
    SqlView {
        name: "forebay_events".to_owned(),
        about: about.to_owned(),
        query: format!(
            "SELECT {names}\nFROM (\n  SELECT {names},\n    row_number() OVER (PARTITION BY {} ORDER BY {}) AS {delivery}\n  \
             FROM {}\n) AS deliveries\nWHERE {delivery} = 1",
            same.join(", "),
            dialect.name("day"),
            dialect.name("forebay_deliveries"),
            names = names.join(", "),
            delivery = dialect.name("delivery"),
        ),
        columns: deliveries(dialect).columns,
    }
}

/// The view's own columns, with the attributes that they are.
const ENVELOPE: [(&str, &str, ColumnType); 9] = [
    ("event_id", "id", ColumnType::Text),
    ("event_source", "source", ColumnType::Text),
    ("event_subject", "subject", ColumnType::Text),
    ("event_key", "partitionkey", ColumnType::Text),
    ("event_time", "time", ColumnType::TimestampTz),
    ("event_recorded", "recordedtime", ColumnType::TimestampTz),
    ("event_sequence", "sequence", ColumnType::Text),
    ("event_unavailable", "unavailable", ColumnType::Text),
    ("day", "day", ColumnType::Date),
];

fn event<D: Dialect>(dialect: &D, view: &EventView) -> SqlView {
    let mut items: Vec<(String, String)> = Vec::new();
    let mut columns = Vec::new();
    for (name, attribute, column_type) in ENVELOPE {
        items.push((format!("{} AS {}", dialect.name(attribute), dialect.name(name)), String::new()));
        columns.push(ViewColumn::new(name, column_type));
    }
    let mut unreadable = Vec::new();
    for column in &view.columns {
        let (value, misfit) = value(dialect, column);
        unreadable.extend(misfit);
        let note = if column.nullable { column.meaning.clone() } else { never_null(&column.meaning) };
        items.push((format!("{value} AS {}", dialect.name(&column.name)), note.clone()));
        columns.push(ViewColumn { note, ..ViewColumn::new(&column.name, column.column_type) });
    }
    let list =
        if unreadable.is_empty() { "CAST(NULL AS VARCHAR)".to_owned() } else { dialect.list(&unreadable) };
    let note = "fields whose value does not fit its column".to_owned();
    items.push((format!("{list} AS {}", dialect.name("event_unreadable")), note.clone()));
    columns.push(ViewColumn { note, ..ViewColumn::new("event_unreadable", ColumnType::Text) });
    let last = items.len() - 1;
    let lines: Vec<String> = items
        .iter()
        .enumerate()
        .map(|(at, (item, note))| {
            let comma = if at == last { "" } else { "," };
            let note = if note.is_empty() { String::new() } else { format!("  -- {}", comment(note)) };
            format!("  {item}{comma}{note}\n")
        })
        .collect();
    SqlView {
        name: view.name.clone(),
        about: view.about.clone(),
        query: format!(
            "SELECT\n{}FROM {}\nWHERE {} = {}",
            lines.concat(),
            dialect.name("forebay_events"),
            dialect.name("type"),
            literal(&view.event_type)
        ),
        columns,
    }
}

fn never_null(meaning: &str) -> String {
    if meaning.is_empty() { "never null".to_owned() } else { format!("never null: {meaning}") }
}

/// The expression for a column, and one for its name if the value does not fit.
fn value<D: Dialect>(dialect: &D, column: &FieldColumn) -> (String, Option<String>) {
    if column.column_type == ColumnType::Json {
        return (dialect.json(&column.field), None);
    }
    let text = dialect.field(&column.field, column.column_type.needs_digits());
    match dialect.convert(&text, column.column_type) {
        Some(value) => {
            let misfit = format!(
                "CASE WHEN {text} IS NOT NULL AND {value} IS NULL THEN {} END",
                literal(&column.field)
            );
            (value, Some(misfit))
        }
        None => (text, None),
    }
}

/// A table's rows: the newest values of each key, unless the row was deleted or the table was truncated
/// later.
fn rows<D: Dialect>(dialect: &D, view: &RowView<'_>) -> SqlView {
    let name = |name: &str| dialect.name(name);
    let (source, subject, sequence) = (name("event_source"), name("event_subject"), name("event_sequence"));
    let columns: Vec<&FieldColumn> = view.inserted.columns.iter().collect();
    let of_part = |part: &EventView, gone: bool| {
        let values = columns.iter().map(|column| {
            let same = part.columns.iter().find(|other| other.field == column.field).filter(|_| !gone);
            same.map_or_else(|| "NULL".to_owned(), |same| name(&same.name)) + " AS " + &name(&column.name)
        });
        let fixed = [
            source.clone(),
            subject.clone(),
            sequence.clone(),
            format!("{gone} AS {}", name("gone")),
            name("event_unavailable"),
        ];
        let items: Vec<String> = fixed.into_iter().chain(values).collect();
        format!("    SELECT {}\n    FROM {}", items.join(", "), name(&part.name))
    };
    let newest = columns.iter().map(|column| {
        // For an unchanged TOASTed value, an earlier event has the value.
        let list = format!("',' || coalesce({}, '') || ','", name("event_unavailable"));
        let absent = dialect.contains(&list, &literal(&format!(",{},", column.field)));
        let known = format!("CASE WHEN NOT {} AND NOT {absent} THEN {sequence} END", name("gone"));
        format!("    {} AS {}", dialect.newest(&name(&column.name), &known), name(&column.name))
    });
    let head = [
        format!("    {source}"),
        format!("    {subject}"),
        format!("    max({sequence}) AS {}", name("newest_sequence")),
        format!("    {} AS {}", dialect.newest(&name("gone"), &sequence), name("newest_gone")),
    ];
    let grouped: Vec<String> = head.into_iter().chain(newest).collect();
    let selected: Vec<String> = columns.iter().map(|column| name(&column.name)).collect();
    let query = format!(
        "SELECT {subject}, {newest} AS {sequence}, {selected}\nFROM (\n  SELECT\n{grouped}\n  FROM (\n{parts}\n  ) AS changes\n  \
         GROUP BY {source}, {subject}\n) AS newest\nWHERE NOT {gone} AND {newest} > coalesce((\n  SELECT max(t.{sequence}) FROM {truncated} \
         AS t WHERE t.{source} = newest.{source}\n), '')",
        newest = name("newest_sequence"),
        selected = selected.join(", "),
        grouped = grouped.join(",\n"),
        parts = [of_part(view.inserted, false), of_part(view.updated, false), of_part(view.deleted, true)]
            .join("\n    UNION ALL\n"),
        gone = name("newest_gone"),
        truncated = name(&view.truncated.name),
    );
    let own = ["event_subject", "event_sequence"].map(|own| ViewColumn::new(own, ColumnType::Text));
    let fields = columns.iter().map(|column| ViewColumn {
        note: column.meaning.clone(),
        ..ViewColumn::new(&column.name, column.column_type)
    });
    SqlView {
        name: view.name.clone(),
        about: format!("The rows of {} as the archive has them.", view.table),
        query,
        columns: own.into_iter().chain(fields).collect(),
    }
}
