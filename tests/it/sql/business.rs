//! The second generator: expressions as rules of a shop have them, over a table of orders. It shares neither templates
//! nor values with the first one, and composes less wildly: what people write must be equal, too.

use std::fmt::Write as _;

use crate::json::generate::Random;

pub(super) const SCHEMA: &str = "
    CREATE TYPE order_status AS ENUM ('new', 'paid', 'packed', 'shipped', 'delivered', 'cancelled', 'returned');
    CREATE DOMAIN money_amount AS numeric(12,2);";

/// Name, SQL type, values.
const COLUMNS: &[(&str, &str, &[&str])] = &[
    (
        "status",
        "order_status NOT NULL",
        &["new", "paid", "packed", "shipped", "delivered", "cancelled", "returned"],
    ),
    ("previous", "text", &["new", "paid", "PAID", "unknown", ""]),
    (
        "customer",
        "text NOT NULL",
        &["Ada Lovelace", "Jörg  Müller", "O'Neil", " Łukasz", "x", "李 雷", "ada lovelace"],
    ),
    (
        "email",
        "varchar(80)",
        &["Ada@Example.org", "joerg@example.de", "broken", "a@b@c", "", "x.y@shop.example"],
    ),
    ("country", "char(2)", &["DE", "FR", "us", "A "]),
    ("city", "varchar(40)", &["Berlin", "New York", "Köln", "bern", "Aix-en-Provence", ""]),
    ("amount", "money_amount", &["0", "9.99", "100", "1234.50", "-20.00", "99999.99"]),
    ("discount", "numeric(5,2)", &["0", "5.00", "12.5", "100"]),
    ("tax_rate", "numeric", &["0.19", "0.07", "0", "0.077", "1"]),
    ("quantity", "int NOT NULL", &["1", "2", "3", "12", "0", "250"]),
    ("weight_g", "int", &["0", "250", "1999", "32000"]),
    ("points", "bigint", &["0", "7", "1000000", "9007199254740993", "-5"]),
    ("rating", "real", &["4.5", "0", "3.3333333"]),
    ("ratio", "float8", &["0.25", "1.5", "0.1", "100", "0"]),
    (
        "created_at",
        "timestamptz NOT NULL",
        &[
            "2026-10-01 10:00:00+00",
            "2026-02-28 23:59:59.999+00",
            "2024-02-29 00:00:00+00",
            "2025-12-31 18:30:00.123456+00",
            "2026-03-29 01:30:00+00",
        ],
    ),
    (
        "paid_at",
        "timestamptz",
        &[
            "2026-10-01 10:05:00+00",
            "2026-10-31 00:00:00+00",
            "2024-03-01 12:00:00+00",
            "2026-11-02 07:08:09+00",
        ],
    ),
    ("shipped_at", "timestamp", &["2026-10-03 08:00:00", "2026-12-24 23:00:00.5", "2024-02-29 12:00:00"]),
    ("due", "date", &["2026-10-15", "2024-02-29", "2026-12-31", "2027-01-01"]),
    ("opens", "time", &["08:00", "09:30:15", "23:59:59.5"]),
    ("lead", "interval", &["3 days", "1 mon", "36:00:00", "1 mon 2 days 03:04:05.5", "-1 days"]),
    ("tags", "text[]", &["{}", "{vip}", "{vip,b2b,\"first order\"}", "{gift,NULL}", "{\"a,b\"}"]),
    ("amounts", "numeric[]", &["{}", "{9.99,20}", "{0,NULL,5.5}"]),
    (
        "details",
        "jsonb",
        &[
            r#"{"channel": "web", "items": 3, "total": "19.90", "address": {"zip": "10115", "street": "Allee 1"}, "lines": [{"sku": "A-1", "n": 2}]}"#,
            r#"{"channel": "shop", "priority": true, "items": "2", "coupon": null, "at": "2026-10-01T10:00:00.123456789Z", "epoch": 1790000000.5}"#,
            r#"{"address": {"zip": 8001}, "lines": [], "at": "2026-10-01T10:00:00+0200", "epoch": 0}"#,
            r#"{"total": 100.00, "items": 0, "tags": ["vip", "x"], "at": "20261001T100000Z"}"#,
            "{}",
            r"[1, 2]",
        ],
    ),
    (
        "legacy",
        "json",
        &[
            r#"{"code": "X1", "code": {"v": 2}, "n": 1.50}"#,
            r#" {"code" : "Ä", "list": [ 1, [2, 3] ]} "#,
            "{}",
        ],
    ),
    ("is_gift", "bool", &["t", "f"]),
    (
        "note",
        "text",
        &["", "  ", "please ring", "50% off", "line\nbreak", "call 030/123", "ÄÖÜ straße", "1_000"],
    ),
];

/// Forms of each kind. A hole is a form of the kind that it names.
const FORMS: &[(&str, &[&str])] = &[
    (
        "condition",
        &[
            "status = 'paid'",
            "status in ('paid', 'packed', 'shipped')",
            "status <> 'cancelled'",
            "status > 'paid'",
            "status::text = previous",
            "{number} > 100",
            "{number} <= {number}",
            "amount between 10 and 99.99",
            "{number} = 0",
            "quantity * weight_g > 5000",
            "coalesce(note, '') <> ''",
            "note is null",
            "{text} is not null",
            "country = 'DE'",
            "country in ('DE', 'FR', 'A')",
            "email like '%@example.%'",
            "city ilike 'b%'",
            "{text} like '%' || {text}",
            "{text} = {text}",
            "lower({text}) = 'berlin'",
            "'vip' = any (tags)",
            "'gift' <> all (tags)",
            "tags && array['vip', 'b2b']",
            "tags @> array['vip']",
            "{number} = any (amounts)",
            "details ->> 'channel' = 'web'",
            "details @> '{\"priority\": true}'",
            "details ? 'coupon'",
            "details ?| array['coupon', 'total']",
            "(details ->> 'items')::int > 2",
            "details #>> '{address,zip}' like '1%'",
            "details -> 'lines' = '[]'",
            "jsonb_typeof(details -> 'total') = 'number'",
            "{moment} < {moment}",
            "paid_at < created_at + interval '14 days'",
            "paid_at is null",
            "{day} >= {day}",
            "{day} = due",
            "{span} > interval '2 days'",
            "extract(dow from created_at) in (0, 6)",
            "extract(hour from {moment}) between 8 and 18",
            "(status, country) in (('paid', 'DE'), ('shipped', 'FR'))",
            "(quantity, amount) > (2, 50)",
            "(customer, city) = ({text}, {text})",
            "is_gift",
            "not {condition}",
            "{condition} and {condition}",
            "{condition} or {condition}",
            "{condition} and not {condition}",
            "coalesce(is_gift, false)",
            "is_gift is not true",
            "starts_with({text}, 'A')",
            "email ~ '^[^@ ]+@[^@ ]+[.][a-z]{2,}$'",
            "{text} ~ '^[A-Z]{2}-?\\d+$'",
            "{text} ~* '(new|paid|vip)'",
            "note !~ '[0-9]'",
            "opens < time '09:00'",
            "{text} is distinct from {text}",
            "{number} is not distinct from {number}",
            "points & 1 = 1",
            "nullif({text}, '') is null",
            "length({text}) > 10",
        ],
    ),
    (
        "number",
        &[
            "amount",
            "quantity",
            "points",
            "weight_g",
            "tax_rate",
            "discount",
            "rating",
            "ratio",
            "amount * quantity",
            "round(amount * (1 + tax_rate), 2)",
            "amount - coalesce(discount, 0)",
            "greatest(amount - discount, 0)",
            "round({number}::numeric, 2)",
            "coalesce({number}, 0)",
            "abs({number})",
            "case when {condition} then {number} else {number} end",
            "case when {condition} then {number} end",
            "coalesce((details ->> 'total')::numeric, amount)",
            "round(weight_g / 1000.0, 3)",
            "{number} / nullif(quantity, 0)",
            "{number} + {number}",
            "{number} - {number}",
            "{number} * {number}",
            "{number} * 0.81",
            "mod(points, 100)",
            "div(amount, 10)",
            "extract(epoch from paid_at - created_at)",
            "round(extract(epoch from {span}) / 3600, 1)",
            "due - created_at::date",
            "length({text})",
            "cardinality(tags)",
            "array_length(tags, 1)",
            "points & 7",
            "quantity << 2",
            "sqrt(abs(amount))",
            "trunc({number}::numeric, 1)",
            "extract(year from {moment})",
            "extract(day from {day})",
            "(details ->> 'items')::int",
            "jsonb_array_length(details -> 'lines')",
            "amounts[1]",
            "(details -> 'lines' -> 0 ->> 'n')::int",
            "({text})::int",
            "strpos({text}, ' ')",
            "date_part('epoch', {moment})",
            "ceil({number})",
            "floor({number})",
            "sign({number})",
            "least({number}, {number}, 100)",
            "nullif({number}, 0)",
            "round({number})",
            "(legacy ->> 'n')::numeric",
            "octet_length({text})",
            "{number} % 7",
            "(case status when 'new' then 1 when 'paid' then 2 else 0 end)",
            "amount::int",
            "({number})::bigint",
            "({number})::numeric(10,1)",
        ],
    ),
    (
        "text",
        &[
            "customer",
            "city",
            "note",
            "email",
            "country",
            "previous",
            "status::text",
            "upper(country)",
            "coalesce(note, city, 'none')",
            "left({text}, 1) || '.'",
            "customer || ' <' || email || '>'",
            "concat_ws(', ', {text}, {text}, {text})",
            "concat({text}, ' ', {number}, ' ', {moment})",
            "upper(left({text}, 1))",
            "case status when 'new' then 'open' when 'cancelled' then 'closed' else status::text end",
            "case when {condition} then {text} else {text} end",
            "lpad(id::text, 8, '0')",
            "'ORD-' || lpad(quantity::text, 4, '0') || '/' || country",
            "to_char(created_at, 'YYYY-MM-DD')",
            "to_char({moment}, 'DD.MM.YYYY HH24:MI')",
            "split_part(email, '@', 2)",
            "lower(trim({text}))",
            "replace({text}, ' ', '-')",
            "substring({text} from 1 for 10)",
            "details ->> 'channel'",
            "details #>> '{address,street}'",
            "details -> 'lines' -> 0 ->> 'sku'",
            "array_to_string(tags, ',')",
            "array_to_string(tags, ', ', '-')",
            "md5(email)",
            "translate({text}, 'äöüß', 'aous')",
            "repeat('*', length({text}) % 5)",
            "coalesce(nullif(trim({text}), ''), '-')",
            "legacy ->> 'code'",
            "legacy #>> '{code,v}'",
            "legacy #>> '{list,1,0}'",
            "left(note, strpos(note, ' ') - 1)",
            "rtrim({text}, '. ')",
            "tags[1]",
            "array_to_string(tags[1:2] || {text}, ';')",
            "to_char(created_at at time zone interval '01:00', 'HH24:MI')",
            "(string_to_array({text}, ' '))[1]",
            "({number})::text",
            "({moment})::text",
            "({day})::text",
            "({span})::text",
            "({condition})::text",
            "{text} || {text}",
            "{text} || {number}",
            "rpad({text}, 12, '.')",
            "reverse({text})",
            "({json})::text",
            "encode(sha256(convert_to({text}, 'UTF8')), 'hex')",
            "right({text}, 3)",
            "greatest(customer collate \"C\", city)",
            "to_char(due, 'IYYY-\"W\"IW')",
            "nullif({text}, {text})",
            "upper({text})",
            "({text})::varchar(5)",
            "{number}::text || '%'",
            "regexp_replace({text}, '[^0-9]', '', 'g')",
            "regexp_replace({text}, '^0+', '')",
            "substring({text} from '[0-9]+')",
            "regexp_replace({text}, ' +', ' ', 'g')",
        ],
    ),
    (
        "moment",
        &[
            "created_at",
            "paid_at",
            "created_at + interval '3 days'",
            "created_at + lead",
            "{moment} - interval '1 month'",
            "date_trunc('week', {moment})",
            "date_trunc('month', {moment})",
            "coalesce(paid_at, created_at)",
            "shipped_at at time zone 'UTC'",
            "created_at + make_interval(days => quantity)",
            "(details ->> 'at')::timestamptz",
            "to_timestamp((details ->> 'epoch')::float8)",
            "date_bin('15 minutes', {moment}, '2000-01-01Z')",
            "least({moment}, {moment})",
            "greatest({moment}, created_at)",
            "case when {condition} then {moment} end",
            "{day}::timestamptz",
            "created_at + quantity * interval '1 hour'",
            "date_trunc('day', {moment}, 'UTC')",
            "created_at + opens",
            "make_timestamptz(2026, 1 + quantity % 12, 1, 0, 0, 0)",
        ],
    ),
    (
        "day",
        &[
            "due",
            "created_at::date",
            "due + quantity",
            "due - 14",
            "({moment})::date",
            "make_date(2026, 1 + quantity % 12, 28)",
            "coalesce({day}, due)",
            "(date_trunc('month', due) + interval '1 mon -1 days')::date",
            "(details ->> 'at')::date",
            "greatest({day}, date '2026-01-01')",
        ],
    ),
    (
        "span",
        &[
            "paid_at - created_at",
            "lead",
            "lead * 2",
            "age(paid_at, created_at)",
            "justify_hours(paid_at - created_at)",
            "{moment} - {moment}",
            "{span} + interval '1 hour'",
            "lead / 3",
            "make_interval(hours => quantity, mins => 30)",
            "coalesce({span}, interval '0 days')",
            "justify_interval({span})",
            "lead * ratio",
            "date_trunc('hour', {span})",
            "opens - time '07:00'",
        ],
    ),
    (
        "json",
        &[
            "details",
            "details -> 'lines'",
            "details -> 'address'",
            "details || jsonb_build_object('status', status, 'amount', amount)",
            "details - 'address'",
            "details #- '{address,zip}'",
            "jsonb_build_object('name', {text}, 'amount', {number}, 'at', {moment}, 'tags', tags)",
            "jsonb_build_object('when', {day}, 'for', {span}, 'ok', {condition})",
            "jsonb_build_array({text}, {number})",
            "to_jsonb(tags)",
            "to_jsonb({number})",
            "to_jsonb({text})",
            "to_jsonb({moment})",
            "coalesce(details -> 'tags', '[]')",
            "details - array['items', 'total']",
            "case when {condition} then {json} else '{}' end",
            "{json} || {json}",
            "legacy::jsonb",
            "to_jsonb(legacy)",
            "(details ->> 'channel')::jsonb",
        ],
    ),
];

const KINDS: &[&str] =
    &["condition", "condition", "number", "number", "text", "text", "moment", "day", "span", "json"];

pub(super) fn expression(random: &mut Random) -> String {
    let kind = random.pick(KINDS);
    let depth = 1 + random.below(4);
    form(random, kind, depth)
}

fn form(random: &mut Random, kind: &str, depth: u64) -> String {
    let forms = FORMS.iter().find(|(name, _)| *name == kind).unwrap().1;
    let plain: Vec<&str> = forms.iter().copied().filter(|form| !has_hole(form)).collect();
    let chosen = if depth == 0 { random.pick(&plain) } else { random.pick(forms) };
    let mut out = String::new();
    let mut rest = chosen;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let name = rest[at + 1..].split('}').next().unwrap();
        if FORMS.iter().any(|(kind, _)| *kind == name) {
            write!(out, "({})", form(random, name, depth.saturating_sub(1))).unwrap();
            rest = &rest[at + name.len() + 2..];
        } else {
            out.push('{');
            rest = &rest[at + 1..];
        }
    }
    out + rest
}

fn has_hole(form: &str) -> bool {
    FORMS.iter().any(|(kind, _)| form.contains(&format!("{{{kind}}}")))
}

/// Statements that create and fill the table `r`.
pub(super) fn table(random: &mut Random, rows: usize) -> String {
    let columns: Vec<_> = COLUMNS.iter().map(|(name, sql, _)| format!("{name} {sql}")).collect();
    let mut out = format!("CREATE TABLE r (id int PRIMARY KEY, {});", columns.join(", "));
    for id in 0..rows {
        let values: Vec<_> = COLUMNS
            .iter()
            .map(|(_, sql, values)| {
                if random.one_in(6) && !sql.contains("NOT NULL") {
                    "NULL".to_owned()
                } else {
                    format!("'{}'", random.pick(values).replace('\'', "''"))
                }
            })
            .collect();
        write!(out, "INSERT INTO r VALUES ({id}, {});", values.join(", ")).unwrap();
    }
    out
}
