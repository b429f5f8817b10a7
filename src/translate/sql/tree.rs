//! The typed tree: what is left of a text once names, types and implicit casts are settled.

use std::borrow::Cow;
use std::sync::Arc;

use crate::types::{Base, Enumeration, Kind, SqlType};

use super::Place;
use super::interval::Interval;
use super::number::Numeric;

/// A value. Dates (days), times, timestamps (microseconds) are integers; all that has one text form per value is that text:
/// texts, uuid, bytea in hex, labels of enums, JSON documents, arrays, and types that we do not know.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Null,
    Unavailable,
    Bool(bool),
    Int(i64),
    Numeric(Numeric),
    Float(f64),
    Interval(Interval),
    Text(Cow<'a, str>),
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) data_type: SqlType,
    pub(super) place: Place,
    pub(super) nullable: bool,
    pub(super) unavailable: bool,
    /// A tagged column of which the value tells something.
    pub(super) tagged: Option<Arc<str>>,
}

/// Which row a column is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The new row; in a delete the old one.
    Current,
    New,
    Old,
}

/// A column of the changed table.
#[derive(Clone, Debug)]
pub(super) struct ColumnRead {
    pub(super) side: Side,
    pub(super) index: Option<usize>,
    pub(super) in_identity: bool,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
}

/// How two values are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    Bool,
    Int,
    Numeric,
    Float,
    Interval,
    Text,
    /// Blanks at the end do not count.
    Blanks,
    Json,
    Enum(Arc<Enumeration>),
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What `IS` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Null,
    /// Of a composite type: whether all its fields are NULL.
    NoField,
    /// Of a composite type: whether none of its fields is NULL, which is not the opposite.
    AllFields,
    True,
    False,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Constant(Datum<'static>),
    Column(ColumnRead),
    /// `op`
    Operation,
    /// `changed()`
    Changed(Arc<[ColumnRead]>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Is {
        asked: Asked,
        negated: bool,
        value: Box<Node>,
    },
    Compare {
        how: How,
        test: Test,
        sides: Box<[Node; 2]>,
    },
    Distinct {
        how: How,
        negated: bool,
        sides: Box<[Node; 2]>,
    },
    In {
        how: How,
        value: Box<Node>,
        items: Vec<Node>,
    },
    /// `= ANY (array)`, of which the elements are of this type.
    AnyOf {
        how: How,
        test: Test,
        value: Box<Node>,
        array: Box<Node>,
        element: Base,
    },
    Case {
        arms: Vec<(Node, Node)>,
        otherwise: Option<Box<Node>>,
    },
    Coalesce(Vec<Node>),
    Extreme {
        how: How,
        greatest: bool,
        items: Vec<Node>,
    },
    NullIf {
        how: How,
        sides: Box<[Node; 2]>,
        result: Box<Node>,
    },
    Cast {
        cast: Cast,
        value: Box<Node>,
    },
    /// NULL if one argument is.
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
    /// `concat` and `concat_ws`, which leave NULLs out.
    Concat {
        separator: bool,
        items: Vec<Node>,
    },
}

/// Width of an integer type, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
    Eight,
}

/// A cast from one representation to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// Another name for the same value.
    Relabel,
    /// `COLLATE "C"`: the same value, of which bytes decide the order.
    Collate,
    /// `::text`
    ToText(Base),
    /// The output function, which `concat` uses: of booleans `t` and `f`.
    Output(Base),
    /// The input function.
    FromText(Base),
    IntToInt(Width),
    IntToNumeric,
    IntToFloat {
        single: bool,
    },
    NumericToInt(Width),
    NumericToFloat {
        single: bool,
    },
    FloatToInt(Width),
    FloatToNumeric {
        single: bool,
    },
    FloatToSingle,
    IntToBool,
    BoolToInt,
    DateToTimestamp,
    /// For a comparison, which no date is out of range for.
    DateToCompare,
    TimestampToDate,
    TimestampToTime,
    TimeToInterval,
    IntervalToTime,
    NumericFit {
        precision: i64,
        scale: i64,
    },
    TextFit(usize),
    BlankFit(usize),
    TrimBlanks,
    Jsonb,
    JsonbToNumeric,
    JsonbToBool,
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// What arithmetic works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Int(Width),
    Numeric,
    Float { single: bool },
}

/// Rounding functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Round,
    Truncate,
    Ceiling,
    Floor,
    Sign,
}

/// A field of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    IsoYear,
}

/// What a field is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Date,
    Time,
    Timestamp,
    Interval,
}

/// A strict function: NULL if one argument is NULL.
#[derive(Clone, Debug)]
pub(super) enum Function {
    Arithmetic(Arithmetic, Class),
    Negate(Class),
    Absolute(Class),
    AddDays {
        subtract: bool,
    },
    DateDifference,
    MomentDifference,
    TimeDifference,
    AddInterval {
        subtract: bool,
    },
    AddIntervalToTime {
        subtract: bool,
    },
    IntervalSum {
        subtract: bool,
    },
    NegateInterval,
    DateAndTime,
    Join,
    Lower,
    Upper,
    Length,
    LengthOfBlanks,
    LengthOfBytes,
    Trim {
        leading: bool,
        trailing: bool,
    },
    Left,
    Right,
    Substring,
    Replace,
    SplitPart,
    Rounded(Rounding, Class),
    Truncated(Unit),
    Extracted {
        unit: Unit,
        of: Of,
        float: bool,
    },
    Like {
        fold: bool,
        escape: Option<char>,
    },
    JsonKey {
        as_text: bool,
    },
    /// Of jsonb, a scalar is its own only element.
    JsonElement {
        as_text: bool,
        scalars: bool,
    },
    JsonPath {
        path: Arc<[Option<String>]>,
        as_text: bool,
    },
    JsonHas,
    Md5 {
        bytes: bool,
    },
    Encode {
        base64: bool,
    },
    Decode {
        base64: bool,
    },
    Hmac,
    Cardinality,
    ArrayLength,
    Element(Base),
}

impl Node {
    /// The nodes below.
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.op {
            Op::Constant(_) | Op::Column(_) | Op::Operation | Op::Changed(_) => Vec::new(),
            Op::Not(value) | Op::Is { value, .. } | Op::Cast { value, .. } => vec![value],
            Op::And(nodes) | Op::Or(nodes) | Op::Coalesce(nodes) => nodes.iter().collect(),
            Op::Extreme { items, .. } | Op::Concat { items, .. } => items.iter().collect(),
            Op::Call { arguments, .. } => arguments.iter().collect(),
            Op::Compare { sides, .. } | Op::Distinct { sides, .. } => sides.iter().collect(),
            Op::NullIf { sides, result, .. } => sides.iter().chain([&**result]).collect(),
            Op::In { value, items, .. } => std::iter::once(&**value).chain(items).collect(),
            Op::AnyOf { value, array, .. } => vec![value, array],
            Op::Case { arms, otherwise } => {
                let arms = arms.iter().flat_map(|(when, then)| [when, then]);
                arms.chain(otherwise.as_deref()).collect()
            }
        }
    }
}
