//! Functions over numbers, dates and times: argument and result types.

use sqlparser::ast::DateTimeField;

use crate::types::Base;

use super::super::SourceSpan;
use super::super::tree::{Arithmetic, Function, Of, Op, PatternPiece, Rounding, Shown, Unit};
use super::casts::rank;
use super::operators::class;
use super::{Checked, Checker, Term};

impl Checker<'_, '_> {
    /// The server rounds an integer as double precision, unless places are given.
    pub(super) fn rounding(
        &mut self,
        rounding: Rounding,
        terms: Vec<Term>,
        place: SourceSpan,
    ) -> Checked<Term> {
        let mut terms = terms.into_iter();
        let (Some(value), places, None) = (terms.next(), terms.next(), terms.next()) else {
            return self.count_is_wrong(rounding.name(), place);
        };
        let Some(base) = value.base().filter(|base| rank(base).is_some()).cloned() else {
            return self.wrong(place, "only numbers can be rounded", "cast it: (…)::numeric");
        };
        let takes_places = matches!(rounding, Rounding::Round | Rounding::Truncate);
        let to = match (&base, &places) {
            (_, Some(_)) if !takes_places => return self.count_is_wrong(rounding.name(), place),
            (Base::Float4 | Base::Float8, Some(_)) => {
                return self.wrong(
                    place,
                    "only numeric can be rounded to a number of places",
                    "cast it: \
                    (…)::numeric",
                );
            }
            (_, Some(_)) | (Base::Numeric, None) => Base::Numeric,
            (_, None) => Base::Float8,
        };
        let class = class(&to)?;
        let mut arguments = vec![self.coerce(value, &to, Some("the number"))?];
        if let Some(places) = places {
            arguments.push(self.coerce(places, &Base::Int4, Some("the number of places"))?);
        }
        Some(self.node(Op::Call { function: Function::Rounded(rounding, class), arguments }, to, place))
    }

    pub(super) fn number_function(
        &mut self,
        name: &str,
        terms: Vec<Term>,
        place: SourceSpan,
    ) -> Checked<Term> {
        let bases: Vec<_> = terms.iter().filter_map(Term::base).cloned().collect();
        let highest = bases.iter().max_by_key(|base| rank(base)).filter(|base| rank(base).is_some()).cloned();
        let (Some(base), true) = (highest, bases.iter().all(|base| rank(base).is_some())) else {
            return self.wrong(place, format!("{name}() requires numbers"), "cast a text: (…)::numeric");
        };
        let class = class(&base)?;
        match (name, <[Term; 2]>::try_from(terms)) {
            ("mod", Ok(sides)) if !matches!(base, Base::Float4 | Base::Float8) => {
                self.computed(Function::Arithmetic(Arithmetic::Modulo, class), base, sides, place)
            }
            ("mod", Ok(_)) => {
                self.wrong(place, "mod() requires integers or numeric", "cast it: (…)::numeric")
            }
            ("abs", Err(terms)) if terms.len() == 1 => {
                let term = terms.into_iter().next()?;
                let argument = self.coerce(term, &base, Some("the number"))?;
                Some(self.node(
                    Op::Call { function: Function::Absolute(class), arguments: vec![argument] },
                    base,
                    place,
                ))
            }
            _ => self.count_is_wrong(name, place),
        }
    }

    /// A literal that names a field.
    pub(super) fn field(&mut self, term: &Term) -> Checked<String> {
        match term {
            Term::Unknown { text: Some(text), .. } => Some(text.to_ascii_lowercase()),
            _ => self.wrong(term.place(), "the field must be a literal such as 'day'", ""),
        }
    }

    pub(super) fn date_trunc(&mut self, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let mut terms = terms.into_iter();
        let (Some(field), Some(moment), zone, None) =
            (terms.next(), terms.next(), terms.next(), terms.next())
        else {
            return self.count_is_wrong("date_trunc", place);
        };
        if let Some(zone) = &zone
            && self.field(zone)? != "utc"
        {
            return self.wrong(zone.place(), "time zone rules change: only UTC is supported", "write 'UTC'");
        }
        let name = self.field(&field)?;
        let unit = unit_of(&name).filter(|unit| {
            !matches!(
                unit,
                Unit::Epoch | Unit::DayOfWeek | Unit::IsoDayOfWeek | Unit::DayOfYear | Unit::IsoYear
            )
        });
        let Some(unit) = unit else {
            return self.wrong(
                field.place(),
                format!("date_trunc() has no field {name}"),
                "write 'day', 'week', 'month', 'quarter', 'year', 'hour', 'minute' or 'second'",
            );
        };
        let to = match moment.base() {
            Some(Base::Interval) if zone.is_none() && unit != Unit::Week => {
                let argument = self.coerce(moment, &Base::Interval, Some("the interval"))?;
                let op = Op::Call { function: Function::TruncatedInterval(unit), arguments: vec![argument] };
                return Some(self.node(op, Base::Interval, place));
            }
            Some(Base::Timestamp) if zone.is_none() => Base::Timestamp,
            Some(Base::Timestamp | Base::TimestampTz | Base::Date) => Base::TimestampTz,
            _ => {
                let hint = "an interval has no weeks; cast a text: (…)::timestamp";
                return self.wrong(place, "date_trunc() requires a timestamp, a date or an interval", hint);
            }
        };
        let argument = self.coerce(moment, &to, Some("the moment"))?;
        Some(self.node(
            Op::Call { function: Function::Truncated(unit), arguments: vec![argument] },
            to,
            place,
        ))
    }

    /// `to_char(moment, pattern)`: the pattern is a literal, and nothing in it depends on a locale.
    pub(super) fn formatted(&mut self, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let Ok([moment, pattern]) = <[Term; 2]>::try_from(terms) else {
            return self.count_is_wrong("to_char", place);
        };
        let to = match moment.base() {
            Some(Base::Timestamp) => Base::Timestamp,
            Some(Base::TimestampTz | Base::Date) => Base::TimestampTz,
            _ => {
                let hint = "for a number write round(x, 2)::text, for a text lpad()";
                return self.wrong(place, "to_char() requires a date or a timestamp", hint);
            }
        };
        let Term::Unknown { text: Some(text), .. } = &pattern else {
            return self.wrong(pattern.place(), "the pattern must be a literal such as 'YYYY-MM-DD'", "");
        };
        let pieces = match pattern_of(text) {
            Ok(pieces) => pieces,
            Err(rest) => {
                let begun: String = rest.chars().take(12).collect();
                let message = format!("the pattern '{begun}' is not supported");
                let known: Vec<_> = PATTERNS.iter().map(|(name, ..)| *name).collect();
                let hint = format!("write {}, or \"text\" in double quotes", known.join(" "));
                return self.wrong(pattern.place(), message, &hint);
            }
        };
        let argument = self.coerce(moment, &to, Some("the moment"))?;
        let op = Op::Call { function: Function::ToChar(pieces.into()), arguments: vec![argument] };
        Some(self.node_nullable(op, Base::Text, place, true))
    }

    pub(super) fn date_part(&mut self, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let Ok([field, moment]) = <[Term; 2]>::try_from(terms) else {
            return self.count_is_wrong("date_part", place);
        };
        let name = self.field(&field)?;
        self.extract(&name, moment, true, place)
    }

    pub(super) fn extract(
        &mut self,
        name: &str,
        moment: Term,
        float: bool,
        place: SourceSpan,
    ) -> Checked<Term> {
        let of = match moment.base() {
            // date_part() has no variant for dates.
            Some(Base::Date) if float => Of::Timestamp,
            Some(Base::Date) => Of::Date,
            Some(Base::Time) => Of::Time,
            Some(Base::Timestamp | Base::TimestampTz) => Of::Timestamp,
            Some(Base::Interval) => Of::Interval,
            _ => {
                return self.wrong(
                    place,
                    "a field requires a date, time, timestamp or interval",
                    "cast the text",
                );
            }
        };
        let Some(unit) = unit_of(name).filter(|unit| has_field(of, *unit)) else {
            return self.wrong(place, format!("field {name} is not supported for this type"), "");
        };
        let Term::Node(mut argument) = moment else { return None };
        if of == Of::Timestamp && argument.data_type.base == Base::Date {
            argument = self.stepped(argument, &Base::Timestamp)?;
        }
        let nullable = argument.nullable || matches!(of, Of::Date | Of::Timestamp);
        let function = Function::Extracted { unit, of, float };
        let result = if float { Base::Float8 } else { Base::Numeric };
        let op = Op::Call { function, arguments: vec![argument] };
        Some(self.node_nullable(op, result, place, nullable))
    }
}

/// Patterns of `to_char()`, longer ones first: name, number, digits.
const PATTERNS: &[(&str, Shown, usize)] = &[
    ("YYYY", Shown::Unit(Unit::Year), 4),
    ("MM", Shown::Unit(Unit::Month), 2),
    ("DDD", Shown::Unit(Unit::DayOfYear), 3),
    ("DD", Shown::Unit(Unit::Day), 2),
    ("HH24", Shown::Unit(Unit::Hour), 2),
    ("HH12", Shown::Hour12, 2),
    ("MI", Shown::Unit(Unit::Minute), 2),
    ("SS", Shown::Unit(Unit::Second), 2),
    ("MS", Shown::Milliseconds, 3),
    ("US", Shown::Microseconds, 6),
    ("IYYY", Shown::Unit(Unit::IsoYear), 4),
    ("IW", Shown::Unit(Unit::Week), 2),
    ("ID", Shown::Unit(Unit::IsoDayOfWeek), 1),
    ("Q", Shown::Unit(Unit::Quarter), 1),
];

/// The parts of a pattern; the error is what is not supported. A letter after a field would change how the
/// server reads it (`DDth`, `SSSS`), so that another field must follow a separator.
fn pattern_of(text: &str) -> Result<Vec<PatternPiece>, &str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(letter) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').ok_or(rest)?;
            let (literal, after) = quoted.split_at(end);
            if literal.contains('\\') {
                return Err(rest);
            }
            pieces.push(PatternPiece::Literal(literal.to_owned()));
            rest = after.get(1..).unwrap_or_default();
        } else if matches!(letter, ' ' | '-' | '/' | '.' | ',' | ':' | ';' | '_') {
            pieces.push(PatternPiece::Literal(letter.to_string()));
            rest = rest.get(1..).unwrap_or_default();
        } else {
            // Two fields of the server that begin as others do.
            if rest.starts_with("SSSS") || rest.starts_with("IDDD") {
                return Err(rest);
            }
            let known = PATTERNS.iter().find(|(name, ..)| rest.starts_with(name)).ok_or(rest)?;
            let after = rest.get(known.0.len()..).unwrap_or_default();
            let goes_on = after.starts_with(|letter: char| letter.is_alphanumeric());
            if goes_on && !PATTERNS.iter().any(|(name, ..)| after.starts_with(name)) {
                return Err(rest);
            }
            pieces.push(PatternPiece::Field(known.1, known.2));
            rest = after;
        }
    }
    Ok(pieces)
}

pub(super) fn field_name(field: &DateTimeField) -> String {
    let name = field.to_string().to_ascii_lowercase();
    name.trim_matches('\'').to_owned()
}

fn unit_of(name: &str) -> Option<Unit> {
    Some(match name {
        "microsecond" | "microseconds" => Unit::Microsecond,
        "millisecond" | "milliseconds" => Unit::Millisecond,
        "second" | "seconds" => Unit::Second,
        "minute" | "minutes" => Unit::Minute,
        "hour" | "hours" => Unit::Hour,
        "day" | "days" => Unit::Day,
        "week" | "weeks" => Unit::Week,
        "month" | "months" => Unit::Month,
        "quarter" => Unit::Quarter,
        "year" | "years" => Unit::Year,
        "decade" | "decades" => Unit::Decade,
        "century" | "centuries" => Unit::Century,
        "millennium" | "millennia" => Unit::Millennium,
        "epoch" => Unit::Epoch,
        "dow" => Unit::DayOfWeek,
        "isodow" => Unit::IsoDayOfWeek,
        "doy" => Unit::DayOfYear,
        "isoyear" => Unit::IsoYear,
        _ => return None,
    })
}

const fn has_field(of: Of, unit: Unit) -> bool {
    let within_day =
        matches!(unit, Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour);
    match of {
        Of::Timestamp => true,
        Of::Date => !within_day,
        Of::Time => within_day || matches!(unit, Unit::Epoch),
        Of::Interval => within_day || matches!(unit, Unit::Epoch | Unit::Day | Unit::Month | Unit::Year),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extract_field_is_checked_against_type() {
        assert!(has_field(Of::Date, Unit::Week) && !has_field(Of::Date, Unit::Hour));
        assert!(has_field(Of::Time, Unit::Epoch) && !has_field(Of::Time, Unit::Day));
    }
}
