//! Casts: which exist, which PostgreSQL applies implicitly, and the categories of types.

use std::sync::Arc;

use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, ObjectNamePart, TimezoneInfo,
};

use crate::types::{Base, SqlType};

use super::super::tree::{Cast, Width};
use super::Scope;

/// Types that can be compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Category {
    Bool,
    Number,
    Text,
    Moment,
    Interval,
    Enum,
    Array,
    Other,
}

pub(in super::super) const fn category(base: &Base) -> Category {
    match base {
        Base::Bool => Category::Bool,
        Base::Int2 | Base::Int4 | Base::Int8 | Base::Numeric | Base::Float4 | Base::Float8 => {
            Category::Number
        }
        Base::Text | Base::Varchar | Base::Bpchar | Base::Name => Category::Text,
        Base::Date | Base::Time | Base::Timestamp | Base::TimestampTz => Category::Moment,
        Base::Interval => Category::Interval,
        Base::Enum(_) => Category::Enum,
        Base::Array(_) => Category::Array,
        Base::Uuid | Base::Json | Base::Jsonb | Base::Bytea | Base::Other(_) => Category::Other,
    }
}

/// PostgreSQL's preferred type within a category.
pub(super) const fn is_preferred(base: &Base) -> bool {
    matches!(base, Base::Bool | Base::Float8 | Base::Text | Base::TimestampTz | Base::Interval)
}

pub(super) const fn width(base: &Base) -> Option<Width> {
    match base {
        Base::Int2 => Some(Width::Two),
        Base::Int4 => Some(Width::Four),
        Base::Int8 => Some(Width::Eight),
        _ => None,
    }
}

/// Rank of a number type. A lower rank is cast to a higher one implicitly.
pub(super) const fn rank(base: &Base) -> Option<u8> {
    match base {
        Base::Int2 => Some(0),
        Base::Int4 => Some(1),
        Base::Int8 => Some(2),
        Base::Numeric => Some(3),
        Base::Float4 => Some(4),
        Base::Float8 => Some(5),
        _ => None,
    }
}

/// Whether PostgreSQL casts implicitly.
pub(super) fn is_implicit(from: &Base, to: &Base) -> bool {
    if from == to {
        return true;
    }
    match (from, to) {
        (Base::Text | Base::Varchar, Base::Text | Base::Varchar | Base::Bpchar | Base::Name)
        | (Base::Bpchar, Base::Text | Base::Varchar | Base::Name)
        | (Base::Name, Base::Text)
        | (Base::Date, Base::Timestamp | Base::TimestampTz)
        | (Base::Timestamp, Base::TimestampTz)
        | (Base::Time, Base::Interval) => true,
        _ => matches!((rank(from), rank(to)), (Some(from), Some(to)) if from < to),
    }
}

/// The steps of an explicit cast; `None` if it is not supported.
pub(super) fn cast(from: &Base, to: &Base) -> Option<Vec<Cast>> {
    let one = |cast| Some(vec![cast]);
    if from == to {
        return Some(Vec::new());
    }
    if let Some(steps) = numbers(from, to) {
        return Some(steps);
    }
    match (from, to) {
        (Base::Array(element), Base::Array(wanted)) => {
            let casts = cast(element, wanted)?;
            let kept = casts.iter().all(|cast| *cast == Cast::Relabel);
            let (from, to) = ((**element).clone(), (**wanted).clone());
            one(if kept { Cast::Relabel } else { Cast::Elements { from, casts, to } })
        }
        (Base::Bpchar, Base::Name) => Some(vec![Cast::TrimBlanks, Cast::NameFit]),
        (Base::Text | Base::Varchar, Base::Name) => one(Cast::NameFit),
        (Base::Bpchar, Base::Text | Base::Varchar) => one(Cast::TrimBlanks),
        (Base::Text | Base::Varchar | Base::Name, Base::Text | Base::Varchar | Base::Bpchar) => {
            one(Cast::Relabel)
        }
        (Base::Bool, Base::Int4) => one(Cast::BoolToInt),
        (Base::Int4, Base::Bool) => one(Cast::IntToBool),
        (Base::Date, Base::Timestamp | Base::TimestampTz) => one(Cast::DateToTimestamp),
        (Base::Timestamp, Base::TimestampTz)
        | (Base::TimestampTz, Base::Timestamp)
        | (Base::Jsonb, Base::Json) => one(Cast::Relabel),
        (Base::Timestamp | Base::TimestampTz, Base::Date) => one(Cast::TimestampToDate),
        (Base::Timestamp | Base::TimestampTz, Base::Time) => one(Cast::TimestampToTime),
        (Base::Time, Base::Interval) => one(Cast::TimeToInterval),
        (Base::Interval, Base::Time) => one(Cast::IntervalToTime),
        (Base::Json, Base::Jsonb) => one(Cast::Jsonb),
        (Base::Jsonb, Base::Bool) => one(Cast::JsonbToBool),
        (Base::Jsonb, Base::Numeric) => one(Cast::JsonbToNumeric),
        (Base::Jsonb, to) if rank(to).is_some() => {
            let mut steps = vec![Cast::JsonbToNumeric];
            steps.extend(numbers(&Base::Numeric, to)?);
            Some(steps)
        }
        // The text of an inet has a netmask that its output omits.
        (Base::Other(named), _) if named.name == "inet" => None,
        (from, Base::Text | Base::Varchar | Base::Bpchar) => one(Cast::ToText(from.clone())),
        (
            Base::Text | Base::Varchar | Base::Name | Base::Bpchar,
            Base::Interval | Base::Bytea | Base::Array(_) | Base::Other(_) | Base::Name,
        ) => None,
        (Base::Text | Base::Varchar | Base::Name | Base::Bpchar, to) => one(Cast::FromText(to.clone())),
        _ => None,
    }
}

fn numbers(from: &Base, to: &Base) -> Option<Vec<Cast>> {
    let single = *to == Base::Float4;
    let cast = match (width(from), width(to), from, to) {
        (Some(_), Some(to), ..) => Cast::IntToInt(to),
        (Some(_), None, _, Base::Numeric) => Cast::IntToNumeric,
        (Some(_), None, _, Base::Float4 | Base::Float8) => Cast::IntToFloat { single },
        (None, Some(to), Base::Numeric, _) => Cast::NumericToInt(to),
        (None, None, Base::Numeric, Base::Float4 | Base::Float8) => Cast::NumericToFloat { single },
        (None, Some(to), Base::Float4 | Base::Float8, _) => Cast::FloatToInt(to),
        (None, None, Base::Float4 | Base::Float8, Base::Numeric) => {
            Cast::FloatToNumeric { single: *from == Base::Float4 }
        }
        (None, None, Base::Float8, Base::Float4) => Cast::FloatToSingle,
        (None, None, Base::Float4, Base::Float8) => Cast::Relabel,
        _ => return None,
    };
    Some(vec![cast])
}

/// The cast that applies a type modifier.
pub(super) fn fit(data_type: &SqlType) -> Option<Cast> {
    let length = data_type.modifier.checked_sub(4).filter(|length| *length >= 0)?;
    let characters = usize::try_from(length).unwrap_or_default();
    match data_type.base {
        Base::Numeric => {
            let scale = ((length & 0x7FF) ^ 1024) - 1024;
            Some(Cast::NumericFit { precision: (length >> 16 & 0xFFFF).into(), scale: scale.into() })
        }
        Base::Varchar => Some(Cast::TextFit(characters)),
        Base::Bpchar => Some(Cast::BlankFit(characters)),
        _ => None,
    }
}

/// Resolves a type name. The error suggests an alternative.
pub(super) fn named(data_type: &DataType, scope: &Scope) -> Result<SqlType, String> {
    let plain = |base| Ok(SqlType::plain(base));
    match data_type {
        DataType::Bool | DataType::Boolean => plain(Base::Bool),
        DataType::SmallInt(None) | DataType::Int2(None) => plain(Base::Int2),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => plain(Base::Int4),
        DataType::BigInt(None) | DataType::Int8(None) => plain(Base::Int8),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => decimal(*info),
        DataType::Real | DataType::Float4 => plain(Base::Float4),
        DataType::Float8
        | DataType::DoublePrecision
        | DataType::Double(ExactNumberInfo::None)
        | DataType::Float(ExactNumberInfo::None) => plain(Base::Float8),
        DataType::Text => plain(Base::Text),
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            characters(Base::Varchar, length.as_ref())
        }
        DataType::Character(length) | DataType::Char(length) => {
            let one = CharacterLength::IntegerLength { length: 1, unit: None };
            characters(Base::Bpchar, Some(length.as_ref().unwrap_or(&one)))
        }
        DataType::Date => plain(Base::Date),
        DataType::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => plain(Base::Time),
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            plain(Base::Timestamp)
        }
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => plain(Base::TimestampTz),
        DataType::Time(Some(_), _) | DataType::Timestamp(Some(_), _) => {
            Err("types with a precision are not supported".to_owned())
        }
        DataType::Interval { fields: None, precision: None } => plain(Base::Interval),
        DataType::Uuid => plain(Base::Uuid),
        DataType::JSON => plain(Base::Json),
        DataType::JSONB => plain(Base::Jsonb),
        DataType::Bytea => plain(Base::Bytea),
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => {
            let element = named(element, scope)?;
            if matches!(element.base, Base::Array(_)) || element.modifier >= 0 {
                return Err("an array type has the form type[]".to_owned());
            }
            plain(Base::Array(Arc::new(element.base)))
        }
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let parts: Vec<_> = name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
            let name: Vec<_> =
                parts.iter().map(|part| super::parse::identifier(&part.value, part.quote_style)).collect();
            custom(&name, scope)
        }
        other => Err(format!("type {other} is not supported")),
    }
}

fn decimal(info: ExactNumberInfo) -> Result<SqlType, String> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(SqlType::plain(Base::Numeric)),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let precision = i32::try_from(precision).ok().filter(|precision| (1..=1000).contains(precision));
    let scale = i32::try_from(scale).ok();
    match (precision, scale) {
        // PostgreSQL 14 has no other scales.
        (Some(precision), Some(scale)) if (0..=precision).contains(&scale) => {
            Ok(SqlType { base: Base::Numeric, modifier: (precision << 16 | scale) + 4 })
        }
        _ => Err("a numeric must have 1 to 1000 digits, and at most as many after the decimal \
            point"
            .to_owned()),
    }
}

fn characters(base: Base, length: Option<&CharacterLength>) -> Result<SqlType, String> {
    const LONGEST: u64 = 10_485_760;
    match length {
        None => Ok(SqlType::plain(base)),
        Some(CharacterLength::IntegerLength { length: length @ 1..=LONGEST, unit: None }) => {
            Ok(SqlType { base, modifier: i32::try_from(*length).unwrap_or_default() + 4 })
        }
        Some(_) => Err(format!("a length must be 1 to {LONGEST} characters")),
    }
}

fn custom(parts: &[String], scope: &Scope) -> Result<SqlType, String> {
    let name = parts.join(".");
    if let Some(builtin) = match name.strip_prefix("pg_catalog.").unwrap_or(&name) {
        "bpchar" => Some(Base::Bpchar),
        "timestamptz" => Some(Base::TimestampTz),
        "bool" => Some(Base::Bool),
        "name" => Some(Base::Name),
        _ => None,
    } {
        return Ok(SqlType::plain(builtin));
    }
    let same = |base: &Base| {
        let Base::Enum(enumeration) = base else { return false };
        let known = names(&enumeration.name);
        known == parts || parts.len() == 1 && known.last() == parts.first()
    };
    scope.bases().find(|base| same(base)).map(SqlType::plain).ok_or_else(|| {
        format!("type {name} is not supported; an enum must be the type of a column of {}", scope.of)
    })
}

/// The parts of a name as the catalogue writes it: `lab."State"` is lab and State.
fn names(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => {}
            '"' => {
                quoted = !quoted;
                continue;
            }
            '.' if !quoted => {
                names.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(name) = names.last_mut() {
            name.push(letter);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Expression, Meaning, Name, PseudonymOrigin, ScopeColumn};
    use crate::types::{Enumeration, Kind};

    #[test]
    fn enum_type_name_is_quoted_as_in_sql() {
        for (name, written, known) in [
            ("lab.state", "lab.state", true),
            ("lab.state", "state", true),
            ("lab.state", "LAB.State", true),
            ("lab.state", "other.state", false),
            ("\"OrderStatus\"", "\"OrderStatus\"", true),
            ("\"OrderStatus\"", "OrderStatus", false),
            ("\"The Shop\".\"a.b \"\"c\"\"\"", "\"The Shop\".\"a.b \"\"c\"\"\"", true),
        ] {
            let labels = vec!["new".to_owned()];
            let base = Base::Enum(Enumeration { oid: 0, name: name.to_owned(), labels }.into());
            let column = ScopeColumn {
                index: Some(0),
                kind: Kind::Text,
                data_type: SqlType::plain(base),
                not_null: false,
                in_identity: true,
                tagged: false,
            };
            let names = vec![Name { name: "status".to_owned(), meaning: Meaning::Column(column) }];
            let scope = Scope { of: "shop.orders".to_owned(), names, origin: PseudonymOrigin::default() };
            let cast = Expression::parse(&format!("coalesce(status, 'new'::{written})"), &scope);
            assert_eq!(cast.is_ok(), known, "{written} for {name}: {:?}", cast.err());
        }
    }
}
