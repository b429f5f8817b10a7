//! Evaluates an expression of short numbers in registers, without moving values between nodes.
//!
//! Returns `None` for other expressions, for errors and for NULL. The general evaluator then computes the
//! value.

use super::super::row::Row;
use super::super::short::Short;
use super::super::tree::{Arithmetic, Cast, Class, Datum, Function, Node, Op, Rounding};
use super::super::value;
use super::call::integers;
use crate::change::Value;
use crate::types::Base;

impl Node {
    /// The value of an expression that consists of numbers.
    pub(in super::super) fn short(&self, row: &Row<'_>) -> Option<Short> {
        match &self.op {
            Op::Column(column) => match (column.cell(row), &self.data_type.base) {
                (Value::Text(text), Base::Numeric) => Short::read(text),
                (Value::Text(text), Base::Int2 | Base::Int4 | Base::Int8) => {
                    value::digits(text).map(Short::whole)
                }
                _ => None,
            },
            Op::Constant(Datum::Int(int)) => Some(Short::whole(*int)),
            Op::Constant(Datum::Numeric(number)) => number.short(),
            Op::Cast { cast: Cast::IntToNumeric, value } => value.short(row),
            Op::Call { function, arguments } => called(function, arguments, row),
            _ => None,
        }
    }
}

fn called(function: &Function, arguments: &[Node], row: &Row<'_>) -> Option<Short> {
    match (function, arguments) {
        (Function::Arithmetic(operator, Class::Numeric), [a, b]) => {
            let (a, b) = (a.short(row)?, b.short(row)?);
            match operator {
                Arithmetic::Add => a.add(b),
                Arithmetic::Subtract => a.add(Short { size: b.size.checked_neg()?, ..b }),
                Arithmetic::Multiply => a.times(b),
                Arithmetic::Divide => a.divided(b),
                Arithmetic::Modulo => None,
            }
        }
        (Function::Arithmetic(operator, Class::Int(width)), [a, b]) => {
            let (a, b) = (a.short(row)?, b.short(row)?);
            integers(*operator, *width, a.size, b.size).ok().map(Short::whole)
        }
        (Function::Rounded(Rounding::Round, Class::Numeric), [number]) => number.short(row)?.rounded(0),
        (Function::Rounded(Rounding::Round, Class::Numeric), [number, places]) => {
            number.short(row)?.rounded(places.short(row)?.size)
        }
        _ => None,
    }
}
