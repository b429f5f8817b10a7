//! Evaluates a typed tree over a row. Recursion is bounded by the depth of the tree, work by the length of
//! row and text. Copying or comparing a column allocates nothing.

mod call;
mod cast;
mod extract;
mod lists;
mod pseudonym;
mod registers;

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::change::Value;

use super::fault::{Fault, TOO_MUCH};
use super::number::Numeric;
use super::row::Macs;
use super::tree::{ColumnRead, Datum, Function, How, Node, NullTest, Op, Side, Test};
use super::{Row, SourceSpan, array, document, float, text, value};

/// A fault and its position in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    pub(super) fault: Fault,
    pub(super) place: &'a SourceSpan,
}

/// Unit: the value is written to the place that the caller passes.
type Evaluated<'a> = Result<(), Failure<'a>>;

/// The state that evaluation needs besides the tree.
#[derive(Clone, Copy)]
pub(super) struct Evaluator<'a> {
    pub(super) row: &'a Row<'a>,
    /// The keys of `hmac()`.
    pub(super) macs: &'a Macs,
}

impl ColumnRead {
    /// The column's text.
    #[inline]
    pub(super) fn cell<'a>(&self, row: &Row<'a>) -> Value<'a> {
        let Some(index) = self.index else { return Value::Null };
        match self.side {
            Side::Current => row.current(index, self.in_identity),
            Side::New => row.after(index, self.in_identity),
            Side::Old => row.before(index, self.in_identity),
        }
    }
}

/// A truth value as a datum; NULL is unknown.
const fn truth<'a>(value: bool) -> Datum<'a> {
    Datum::Bool(value)
}

impl<'a> Evaluator<'a> {
    /// Evaluates a node into `out`. Returning values would move them at every node, which costs more than
    /// most operations: the processor stalls when it reads parts of a value that it has just written.
    #[inline]
    pub(super) fn evaluate(&self, node: &'a Node, out: &mut Datum<'a>) -> Evaluated<'a> {
        match &node.op {
            Op::Column(column) => self.column(column, node, out),
            Op::Constant(constant) => {
                *out = borrowed(constant);
                Ok(())
            }
            _ => self.compute(node, out),
        }
    }

    fn value(&self, node: &'a Node) -> Result<Datum<'a>, Failure<'a>> {
        let mut value = Datum::Null;
        self.evaluate(node, &mut value)?;
        Ok(value)
    }

    fn compute(&self, node: &'a Node, out: &mut Datum<'a>) -> Evaluated<'a> {
        let at = |fault: Fault| Failure { fault, place: &node.place };
        match &node.op {
            Op::Constant(_) | Op::Column(_) => return self.evaluate(node, out),
            Op::Call { function, arguments } => return self.call(function, arguments, &node.place, out),
            Op::Cast { cast, value } => {
                self.evaluate(value, out)?;
                return cast::apply(cast, out).map_err(at);
            }
            Op::Compare { how, test, sides } => {
                let (left, right) = self.both(sides)?;
                *out = tested(how, *test, &left, &right);
            }
            Op::And(nodes) => return self.all(nodes, false, out),
            Op::Or(nodes) => return self.all(nodes, true, out),
            Op::Not(value) => {
                self.evaluate(value, out)?;
                if let Datum::Bool(value) = out {
                    *value = !*value;
                }
            }
            Op::Is { asked, negated, value } => *out = self.is(*asked, *negated, value)?,
            Op::Operation => *out = Datum::Text(Cow::Borrowed(self.row.operation())),
            Op::Changed(columns) => *out = self.changed(columns),
            Op::Distinct { how, negated, sides } => {
                let (left, right) = self.both(sides)?;
                *out = match (&left, &right) {
                    (Datum::Unavailable, _) | (_, Datum::Unavailable) => Datum::Unavailable,
                    (Datum::Null, Datum::Null) => truth(*negated),
                    (Datum::Null, _) | (_, Datum::Null) => truth(!negated),
                    _ => truth(compare(how, &left, &right).is_eq() == *negated),
                };
            }
            Op::In { how, value, items } => *out = self.is_in(how, value, items)?,
            Op::AnyOf { how, test, every, value, array, element, lift } => {
                let (left, list) = (self.value(value)?, self.value(array)?);
                let any = lists::AnyOf { how, test: *test, every: *every, element, lift };
                *out = any.of(&left, &list).map_err(at)?;
            }
            Op::Shared { how, test, sides, element } => {
                let (left, right) = self.both(sides)?;
                *out = lists::shared(how, *test, (&left, &right), element).map_err(at)?;
            }
            Op::Run { def, arguments } => return self.run(def, arguments, &node.place, out),
            Op::Case { arms, otherwise } => return self.case(arms, otherwise.as_deref(), out),
            Op::Coalesce(nodes) => {
                *out = Datum::Null;
                for node in nodes {
                    self.evaluate(node, out)?;
                    if !matches!(out, Datum::Null) {
                        break;
                    }
                }
            }
            Op::Extreme { how, greatest, items } => *out = self.extreme(how, *greatest, items)?,
            Op::NullIf { how, sides, result } => return self.null_if(how, sides, result, out),
            Op::Concat { separator, items } => *out = self.concat(*separator, items, &node.place)?,
        }
        Ok(())
    }

    #[inline]
    fn both(&self, sides: &'a [Node; 2]) -> Result<(Datum<'a>, Datum<'a>), Failure<'a>> {
        let [left, right] = sides;
        let mut values = (Datum::Null, Datum::Null);
        self.evaluate(left, &mut values.0)?;
        self.evaluate(right, &mut values.1)?;
        Ok(values)
    }

    fn call(
        &self,
        function: &'a Function,
        arguments: &'a [Node],
        place: &'a SourceSpan,
        out: &mut Datum<'a>,
    ) -> Evaluated<'a> {
        let mut values = [Datum::Null, Datum::Null, Datum::Null];
        let (mut null, mut unavailable) = (false, false);
        for (nth, (slot, argument)) in values.iter_mut().zip(arguments).enumerate() {
            self.evaluate(argument, slot)?;
            match slot {
                // The server does not evaluate a subscript of a NULL array.
                Datum::Null if nth == 0 && matches!(function, Function::Element(_) | Function::Slice) => {
                    null = true;
                    break;
                }
                Datum::Null => null = true,
                Datum::Unavailable => unavailable = true,
                _ => {}
            }
        }
        match (null, unavailable) {
            (true, _) => *out = Datum::Null,
            (_, true) => *out = Datum::Unavailable,
            _ => {
                let made = call::apply(function, &mut values, self.macs);
                *out = made.map_err(|fault| Failure { fault, place })?;
            }
        }
        Ok(())
    }

    fn column(&self, column: &ColumnRead, node: &'a Node, out: &mut Datum<'a>) -> Evaluated<'a> {
        match column.cell(self.row) {
            Value::Null => *out = Datum::Null,
            Value::Unavailable => *out = Datum::Unavailable,
            Value::Text(text) => value::read(&node.data_type.base, text, out)
                .map_err(|fault| Failure { fault, place: &node.place })?,
        }
        Ok(())
    }

    /// Names of the columns whose text differs. Empty for inserts and deletes.
    fn changed(&self, columns: &[ColumnRead]) -> Datum<'a> {
        if self.row.operation() != "update" {
            return Datum::Null;
        }
        let mut out = String::from("{");
        for column in columns {
            let Some(index) = column.index else { continue };
            let (new, old) =
                (self.row.after(index, column.in_identity), self.row.before(index, column.in_identity));
            if self.row.is_untouched(index) || new == old && new != Value::Unavailable {
                continue;
            }
            if new == Value::Unavailable || old == Value::Unavailable {
                return Datum::Unavailable;
            }
            if out.len() > 1 {
                out.push(',');
            }
            array::write_element(&mut out, Some(&column.name));
        }
        out.push('}');
        Datum::Text(Cow::Owned(out))
    }

    /// AND stops at the first false value, OR at the first true one.
    fn all(&self, nodes: &'a [Node], decisive: bool, out: &mut Datum<'a>) -> Evaluated<'a> {
        let mut result = truth(!decisive);
        for node in nodes {
            self.evaluate(node, out)?;
            match out {
                Datum::Bool(value) if *value == decisive => return Ok(()),
                Datum::Bool(_) => {}
                Datum::Null if matches!(result, Datum::Unavailable) => {}
                _ => result = std::mem::replace(out, Datum::Null),
            }
        }
        *out = result;
        Ok(())
    }

    fn is(&self, asked: NullTest, negated: bool, node: &'a Node) -> Result<Datum<'a>, Failure<'a>> {
        if let (NullTest::Null, Op::Column(column)) = (asked, &node.op) {
            // Nothing is decoded. A TOASTed value that was not sent is not NULL.
            return Ok(match column.cell(self.row) {
                Value::Null => truth(!negated),
                Value::Text(_) => truth(negated),
                Value::Unavailable if column.is_toasted(self.row) => truth(negated),
                Value::Unavailable => Datum::Unavailable,
            });
        }
        let value = self.value(node)?;
        let holds = match (asked, value) {
            (_, Datum::Unavailable) => return Ok(Datum::Unavailable),
            (NullTest::Null, value) => matches!(value, Datum::Null),
            (NullTest::NoField, Datum::Null) => true,
            (NullTest::NoField, Datum::Text(row)) => {
                !row.contains(|letter| !matches!(letter, '(' | ',' | ')'))
            }
            (NullTest::AllFields, Datum::Text(row)) => has_all_fields(&row),
            (NullTest::NoField | NullTest::AllFields, _) => false,
            (NullTest::True, value) => matches!(value, Datum::Bool(true)),
            (NullTest::False, value) => matches!(value, Datum::Bool(false)),
        };
        Ok(truth(holds != negated))
    }

    fn is_in(&self, how: &How, value: &'a Node, items: &'a [Node]) -> Result<Datum<'a>, Failure<'a>> {
        let value = self.value(value)?;
        let mut result = truth(false);
        for item in items {
            match tested(how, Test::Equal, &value, &self.value(item)?) {
                Datum::Bool(true) => return Ok(truth(true)),
                Datum::Bool(false) => {}
                Datum::Null if matches!(result, Datum::Unavailable) => {}
                other => result = other,
            }
        }
        Ok(result)
    }

    fn case(
        &self,
        arms: &'a [(Node, Node)],
        otherwise: Option<&'a Node>,
        out: &mut Datum<'a>,
    ) -> Evaluated<'a> {
        for (when, then) in arms {
            self.evaluate(when, out)?;
            match out {
                Datum::Bool(true) => return self.evaluate(then, out),
                Datum::Unavailable => return Ok(()),
                _ => {}
            }
        }
        *out = Datum::Null;
        otherwise.map_or(Ok(()), |node| self.evaluate(node, out))
    }

    fn extreme(&self, how: &How, greatest: bool, items: &'a [Node]) -> Result<Datum<'a>, Failure<'a>> {
        let mut best = Datum::Null;
        let wanted = if greatest { Ordering::Greater } else { Ordering::Less };
        let mut unavailable = false;
        for item in items {
            match self.value(item)? {
                Datum::Unavailable => unavailable = true,
                Datum::Null => {}
                value if matches!(best, Datum::Null) || compare(how, &value, &best) == wanted => best = value,
                _ => {}
            }
        }
        Ok(if unavailable { Datum::Unavailable } else { best })
    }

    fn null_if(
        &self,
        how: &How,
        sides: &'a [Node; 2],
        result: &'a Node,
        out: &mut Datum<'a>,
    ) -> Evaluated<'a> {
        let (left, right) = self.both(sides)?;
        match (&left, tested(how, Test::Equal, &left, &right)) {
            (Datum::Null, _) | (_, Datum::Bool(true)) => *out = Datum::Null,
            (_, Datum::Unavailable) => *out = Datum::Unavailable,
            _ => return self.evaluate(result, out),
        }
        Ok(())
    }

    fn concat(
        &self,
        separator: bool,
        items: &'a [Node],
        place: &'a SourceSpan,
    ) -> Result<Datum<'a>, Failure<'a>> {
        let mut out = String::new();
        let mut items = items.iter();
        let mut between = Datum::Text(Cow::Borrowed(""));
        if separator && let Some(first) = items.next() {
            between = self.value(first)?;
        }
        let (mut first, mut unavailable) = (true, matches!(between, Datum::Unavailable));
        for item in items {
            match (self.value(item)?, &between) {
                (Datum::Text(text), Datum::Text(between)) => {
                    if !first {
                        out.push_str(between);
                    }
                    first = false;
                    out.push_str(&text);
                }
                (Datum::Unavailable, _) => unavailable = true,
                _ => {}
            }
            if out.len() > text::LENGTH_MAX {
                return Err(Failure { fault: TOO_MUCH, place });
            }
        }
        if matches!(between, Datum::Null) {
            return Ok(Datum::Null);
        }
        if unavailable {
            return Ok(Datum::Unavailable);
        }
        Ok(Datum::Text(Cow::Owned(out)))
    }
}

impl ColumnRead {
    /// Whether the value exists but was not sent.
    fn is_toasted(&self, row: &Row<'_>) -> bool {
        self.side != Side::Old && self.index.is_some_and(|index| row.is_untouched(index))
    }
}

/// Whether no field of a composite value is NULL. A NULL field is written as an empty text; values with
/// commas are quoted.
fn has_all_fields(row: &str) -> bool {
    let (mut quoted, mut before) = (false, b'(');
    for &byte in row.as_bytes().get(1..).unwrap_or_default() {
        if !quoted && matches!(byte, b',' | b')') && matches!(before, b'(' | b',') {
            return false;
        }
        quoted ^= byte == b'"';
        // Commas inside quotes do not separate.
        before = if quoted { b'"' } else { byte };
    }
    true
}

/// A constant, borrowing its text.
#[inline]
fn borrowed<'a>(constant: &'a Datum<'static>) -> Datum<'a> {
    match constant {
        Datum::Text(text) => Datum::Text(Cow::Borrowed(text)),
        other => other.clone(),
    }
}

/// A comparison with NULL and unavailable operands.
#[inline]
fn tested<'a>(how: &How, test: Test, left: &Datum<'_>, right: &Datum<'_>) -> Datum<'a> {
    match (left, right) {
        (Datum::Null, _) | (_, Datum::Null) => Datum::Null,
        (Datum::Unavailable, _) | (_, Datum::Unavailable) => Datum::Unavailable,
        _ => truth(match test {
            Test::Equal => equal(how, left, right),
            Test::NotEqual => !equal(how, left, right),
            Test::Less => compare(how, left, right).is_lt(),
            Test::LessOrEqual => compare(how, left, right).is_le(),
            Test::Greater => compare(how, left, right).is_gt(),
            Test::GreaterOrEqual => compare(how, left, right).is_ge(),
        }),
    }
}

/// Whether [`compare`] finds no difference. Different enum labels need not be looked up for that.
fn equal(how: &How, left: &Datum<'_>, right: &Datum<'_>) -> bool {
    match (how, left, right) {
        (How::Text | How::Enum(_), Datum::Text(a), Datum::Text(b)) => a == b,
        _ => compare(how, left, right).is_eq(),
    }
}

/// Compares two values that are neither NULL nor unavailable, in the representation that `how` expects.
fn compare(how: &How, left: &Datum<'_>, right: &Datum<'_>) -> Ordering {
    match (left, right) {
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
        (Datum::Numeric(a), Datum::Numeric(b)) => Numeric::compare(a, b),
        (Datum::Float(a), Datum::Float(b)) => float::compare(*a, *b),
        (Datum::Interval(a), Datum::Interval(b)) => a.compare(*b),
        (Datum::Text(a), Datum::Text(b)) => match how {
            How::Blanks => a.trim_end_matches(' ').cmp(b.trim_end_matches(' ')),
            How::Json if document::equal(a, b) => Ordering::Equal,
            How::Enum(enumeration) if a != b => {
                let place = |wanted: &str| enumeration.labels.iter().position(|label| label == wanted);
                place(a).cmp(&place(b))
            }
            _ => a.cmp(b),
        },
        _ => Ordering::Less,
    }
}
