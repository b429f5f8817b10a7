//! The Glue catalogue: Athena's table and views as a CloudFormation template.
//!
//! A view of Athena is a table of type `VIRTUAL_VIEW`. Its text is base64 of a JSON document, after the words
//! `Presto View`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::athena::{Athena, hive, presto, properties};
use super::columns::ColumnType;
use super::place::ArchivePlace;
use super::sql::{SqlView, ViewColumn, all};
use super::views::ArchiveViews;

/// The template, as JSON.
pub(super) fn template(place: ArchivePlace<'_>, source: &str, views: &ArchiveViews) -> String {
    let mut resources = Map::new();
    resources.insert(
        "Database".to_owned(),
        json!({
            "Type": "AWS::Glue::Database",
            "Properties": {
                "CatalogId": {"Ref": "AWS::AccountId"},
                "DatabaseInput": {"Name": place.database, "Description": format!("The archive of {source}")},
            },
        }),
    );
    resources.insert("Lines".to_owned(), table(&lines(place)));
    for view in &all(&Athena, place, views) {
        // Names of resources have only letters and digits. Names of views have no capitals, so this is
        // unambiguous.
        resources.insert(format!("View{}", view.name.replace('_', "Z")), table(&virtual_view(place, view)));
    }
    let whole = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("The archive of {source} in the Glue catalogue, made by forebay events archive-ddl"),
        "Resources": resources,
    });
    format!("{whole:#}\n")
}

fn table(input: &Value) -> Value {
    json!({
        "Type": "AWS::Glue::Table",
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseName": {"Ref": "Database"},
            "TableInput": input,
        },
    })
}

fn lines(place: ArchivePlace<'_>) -> Value {
    let mut parameters: Map<String, Value> =
        properties(place).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    parameters.insert("EXTERNAL".to_owned(), "TRUE".into());
    json!({
        "Name": "forebay_lines",
        "TableType": "EXTERNAL_TABLE",
        "Parameters": parameters,
        "PartitionKeys": [{"Name": "day", "Type": "string"}],
        "StorageDescriptor": {
            "Columns": [{"Name": "line", "Type": "string"}],
            "Location": format!("{}/events/", place.location),
            "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
                "Parameters": {"field.delim": "\u{1}"},
            },
        },
    })
}

fn virtual_view(place: ArchivePlace<'_>, view: &SqlView) -> Value {
    // The day is a partition key of the table of lines, whose type is text.
    let kind = |column: &ViewColumn| if column.name == "day" { ColumnType::Text } else { column.column_type };
    let columns: Vec<Value> = view
        .columns
        .iter()
        .map(|column| json!({"name": column.name, "type": presto(kind(column))}))
        .collect();
    let known: Vec<Value> = view
        .columns
        .iter()
        .map(|column| match column.note.as_str() {
            "" => json!({"Name": column.name, "Type": hive(kind(column))}),
            note => json!({"Name": column.name, "Type": hive(kind(column)), "Comment": shortened(note, 255)}),
        })
        .collect();
    let text = json!({
        "originalSql": view.query,
        "catalog": "awsdatacatalog",
        "schema": place.database,
        "columns": columns,
    });
    json!({
        "Name": view.name,
        "Description": shortened(&view.about, 2048),
        "TableType": "VIRTUAL_VIEW",
        "Parameters": {"presto_view": "true"},
        "PartitionKeys": [],
        "ViewOriginalText": format!("/* Presto View: {} */", STANDARD.encode(text.to_string())),
        "ViewExpandedText": "/* Presto View */",
        "StorageDescriptor": {"Columns": known, "SerdeInfo": {}},
    })
}

/// The beginning of a text, as long as the catalogue stores it.
fn shortened(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
