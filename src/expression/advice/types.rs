//! Hints for type names: those of other databases, and those of PostgreSQL that rules cannot cast to.

/// Types of other databases, and PostgreSQL's.
const TYPES: &[(&[&str], &str)] = &[
    (
        &[
            "string",
            "nvarchar",
            "nvarchar2",
            "varchar2",
            "clob",
            "tinytext",
            "longtext",
            "mediumtext",
            "char_varying",
        ],
        "write text",
    ),
    (&["datetime", "datetime2", "smalldatetime", "timestamp_ntz"], "write timestamp"),
    (&["timestamp_tz", "timestampz", "timestamp_ltz", "datetimeoffset"], "write timestamptz"),
    (&["number", "money", "bignumeric", "decfloat"], "write numeric"),
    (&["tinyint", "int16", "uint8"], "write smallint"),
    (&["int32", "mediumint", "serial", "unsigned"], "write int"),
    (&["int64", "long", "bigserial", "uint32", "hugeint"], "write bigint"),
    (&["float32"], "write real"),
    (&["float64", "double"], "write double precision"),
    (&["blob", "varbinary", "binary", "bytes", "raw", "image"], "write bytea"),
    (&["bit"], "write boolean"),
    (&["uniqueidentifier", "guid"], "write uuid"),
    (&["object", "variant", "map", "struct"], "write jsonb"),
    (&["citext"], "write lower(x)"),
];

/// PostgreSQL's type for a type of another database, by the name as it was written.
pub(in crate::expression) fn for_type(written: &str) -> &'static str {
    let name = written.to_ascii_lowercase();
    if name.starts_with("time") && name.contains('(') {
        return "use date_trunc()";
    }
    let name = name.split(['(', ' ', '<']).next().unwrap_or_default();
    let known = TYPES.iter().find(|(names, _)| names.contains(&name));
    known.map_or("cast to text, a number, a date or time, uuid, jsonb or bytea", |(_, advice)| *advice)
}
