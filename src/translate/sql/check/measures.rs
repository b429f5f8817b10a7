//! Functions over numbers and moments: which type they take, which they give.

use sqlparser::ast::DateTimeField;

use crate::types::Base;

use super::super::Place;
use super::super::tree::{Arithmetic, Function, Of, Op, Rounding, Unit};
use super::casts::rank;
use super::operators::class;
use super::{Checked, Checker, Term};

impl Checker<'_, '_> {
    /// Of an integer, the server takes the function over double precision, unless places are given.
    pub(super) fn rounding(&mut self, rounding: Rounding, terms: Vec<Term>, place: Place) -> Checked<Term> {
        let mut terms = terms.into_iter();
        let (Some(value), places, None) = (terms.next(), terms.next(), terms.next()) else {
            return self.count_is_wrong("a rounding function", place);
        };
        let Some(base) = value.base().filter(|base| rank(base).is_some()).cloned() else {
            return self.wrong(place, "only numbers are rounded", "cast it: (…)::numeric");
        };
        let takes_places = matches!(rounding, Rounding::Round | Rounding::Truncate);
        let to = match (&base, &places) {
            (_, Some(_)) if !takes_places => return self.count_is_wrong("this function", place),
            (Base::Float4 | Base::Float8, Some(_)) => {
                return self.wrong(place, "only numeric is rounded to places", "cast it: (…)::numeric");
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

    pub(super) fn number_function(&mut self, name: &str, terms: Vec<Term>, place: Place) -> Checked<Term> {
        let bases: Vec<_> = terms.iter().filter_map(Term::base).cloned().collect();
        let highest = bases.iter().max_by_key(|base| rank(base)).filter(|base| rank(base).is_some()).cloned();
        let (Some(base), true) = (highest, bases.iter().all(|base| rank(base).is_some())) else {
            return self.wrong(place, format!("{name}() takes numbers"), "cast a text: (…)::numeric");
        };
        let class = class(&base)?;
        match (name, <[Term; 2]>::try_from(terms)) {
            ("mod", Ok(sides)) if !matches!(base, Base::Float4 | Base::Float8) => {
                self.computed(Function::Arithmetic(Arithmetic::Modulo, class), base, sides, place)
            }
            ("mod", Ok(_)) => self.wrong(place, "mod() takes integers and numeric", "cast it: (…)::numeric"),
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
            _ => self.wrong(term.place(), "the field is a literal, as in 'day'", ""),
        }
    }

    pub(super) fn date_trunc(&mut self, terms: Vec<Term>, place: Place) -> Checked<Term> {
        let Ok([field, moment]) = <[Term; 2]>::try_from(terms) else {
            return self.count_is_wrong("date_trunc", place);
        };
        let name = self.field(&field)?;
        let unit = unit_of(&name).filter(|unit| {
            !matches!(
                unit,
                Unit::Epoch | Unit::DayOfWeek | Unit::IsoDayOfWeek | Unit::DayOfYear | Unit::IsoYear
            )
        });
        let Some(unit) = unit else {
            return self.wrong(field.place(), format!("date_trunc() has no field {name}"), "");
        };
        let to = match moment.base() {
            Some(Base::Timestamp) => Base::Timestamp,
            Some(Base::TimestampTz | Base::Date) => Base::TimestampTz,
            _ => return self.wrong(place, "date_trunc() takes a timestamp or a date", ""),
        };
        let argument = self.coerce(moment, &to, Some("the moment"))?;
        Some(self.node(
            Op::Call { function: Function::Truncated(unit), arguments: vec![argument] },
            to,
            place,
        ))
    }

    pub(super) fn date_part(&mut self, terms: Vec<Term>, place: Place) -> Checked<Term> {
        let Ok([field, moment]) = <[Term; 2]>::try_from(terms) else {
            return self.count_is_wrong("date_part", place);
        };
        let name = self.field(&field)?;
        self.extract(&name, moment, true, place)
    }

    pub(super) fn extract(&mut self, name: &str, moment: Term, float: bool, place: Place) -> Checked<Term> {
        let of = match moment.base() {
            // date_part() has no date of its own.
            Some(Base::Date) if float => Of::Timestamp,
            Some(Base::Date) => Of::Date,
            Some(Base::Time) => Of::Time,
            Some(Base::Timestamp | Base::TimestampTz) => Of::Timestamp,
            Some(Base::Interval) => Of::Interval,
            _ => {
                return self.wrong(
                    place,
                    "a field is taken of a date, time, timestamp or interval",
                    "cast the text",
                );
            }
        };
        let Some(unit) = unit_of(name).filter(|unit| has_field(of, *unit)) else {
            return self.wrong(place, format!("there is no field {name} of it here"), "");
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
    fn fields_belong_to_what_has_them() {
        assert!(has_field(Of::Date, Unit::Week) && !has_field(Of::Date, Unit::Hour));
        assert!(has_field(Of::Time, Unit::Epoch) && !has_field(Of::Time, Unit::Day));
    }
}
