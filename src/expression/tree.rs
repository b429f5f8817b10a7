//! The typed tree: an expression with names, types and implicit casts resolved.

use std::sync::Arc;

use crate::types::{Base, Enumeration, Kind, SqlType};

use super::SourceSpan;
pub(super) use super::datum::Datum;
use super::def::Def;
use super::regular::RegularExpression;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) data_type: SqlType,
    pub(super) place: SourceSpan,
    pub(super) nullable: bool,
    pub(super) unavailable: bool,
    /// A personal-data column that the value reveals.
    pub(super) tagged: Option<Arc<str>>,
    /// A personal-data column whose pseudonym the value is: it may be passed on as it is.
    pub(super) pseudonym: Option<Arc<str>>,
}

/// The row version that a column is read from.
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
    /// Without trailing blanks.
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

/// The operand of `IS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NullTest {
    Null,
    /// Composite type: all fields are NULL.
    NoField,
    /// Composite type: no field is NULL. This is not the opposite of `NoField`.
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
        asked: NullTest,
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
    /// `= ANY (array)` and `= ALL (array)`, with this element type.
    AnyOf {
        how: How,
        test: Test,
        every: bool,
        value: Box<Node>,
        array: Box<Node>,
        element: Base,
        /// Casts of an element to the type in which it is compared.
        lift: Vec<Cast>,
    },
    /// `&&`, `@>` and `<@` of arrays.
    Shared {
        how: How,
        test: Sharing,
        sides: Box<[Node; 2]>,
        element: Base,
    },
    /// A function of the table.
    Run {
        def: &'static Def,
        arguments: Vec<Node>,
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
    /// A strict function: NULL if an argument is NULL.
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
    /// `concat` and `concat_ws`, which skip NULLs.
    Concat {
        separator: bool,
        items: Vec<Node>,
    },
}

/// The question that an operator answers about two arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// `&&`: whether they have an element in common.
    Overlaps,
    /// `@>`: whether the first has all elements of the second.
    Contains,
    /// `<@`: whether the second has all elements of the first.
    IsContained,
}

/// Width of an integer type, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
    Eight,
}

/// A conversion between two representations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// Only the type changes.
    Relabel,
    /// `COLLATE "C"`: the same value, ordered by bytes.
    Collate,
    /// `::text`
    ToText(Base),
    /// The output function, used by `concat`: `t` and `f` for booleans.
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
    /// For a comparison with a timestamp: a date is never out of range.
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
    /// `to_jsonb()`
    ToJsonb(Base),
    /// The casts of each element of an array, and the type that they end with.
    Elements {
        from: Base,
        casts: Vec<Self>,
        to: Base,
    },
    /// The length of type name.
    NameFit,
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

/// The operand type of arithmetic.
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

impl Rounding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Truncate => "trunc",
            Self::Ceiling => "ceil",
            Self::Floor => "floor",
            Self::Sign => "sign",
        }
    }
}

/// A field of a date or time.
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

/// A part of a pattern of `to_char()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatternPiece {
    Literal(String),
    /// A number with this many digits.
    Field(Shown, usize),
}

/// A number of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Unit(Unit),
    /// Hours of a 12-hour clock.
    Hour12,
    /// Milliseconds within the second.
    Milliseconds,
    Microseconds,
}

/// The operand type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Date,
    Time,
    Timestamp,
    Interval,
}

/// What makes a pseudonym different from that of the same value elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PseudonymDomain {
    /// The text before the value. Empty: no domain.
    pub(super) text: String,
    /// The text for contracts, without the parts that differ between installations.
    pub(super) shown: String,
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
    TruncatedInterval(Unit),
    ToChar(Arc<[PatternPiece]>),
    Extracted {
        unit: Unit,
        of: Of,
        float: bool,
    },
    Like {
        fold: bool,
        escape: Option<char>,
    },
    /// `~` and `~*`
    Matches(Arc<RegularExpression>),
    /// `substring(x from pattern)`: NULL without a match.
    Matched(Arc<RegularExpression>),
    /// `regexp_replace`
    Substitute {
        pattern: Arc<RegularExpression>,
        to: Arc<str>,
        every: bool,
    },
    JsonKey {
        as_text: bool,
    },
    /// In jsonb, a scalar is its own only element.
    JsonElement {
        as_text: bool,
        scalars: bool,
    },
    JsonPath {
        path: Arc<[Option<String>]>,
        as_text: bool,
        /// Type jsonb, whose keys are unique.
        binary: bool,
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
    /// NULL if it uses the previous key and there is none.
    Hmac {
        domain: Arc<PseudonymDomain>,
        previous: bool,
    },
    /// `convert_to(…, 'UTF8')`
    BytesOfText,
    Cardinality,
    ArrayLength,
    Element(Base),
    /// `a[m:n]`: array, upper bound, lower bound.
    Slice,
}

impl Node {
    /// The child nodes.
    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.op {
            Op::Constant(_) | Op::Column(_) | Op::Operation | Op::Changed(_) => Vec::new(),
            Op::Not(value) | Op::Is { value, .. } | Op::Cast { value, .. } => vec![value],
            Op::And(nodes) | Op::Or(nodes) | Op::Coalesce(nodes) => nodes.iter().collect(),
            Op::Extreme { items, .. } | Op::Concat { items, .. } => items.iter().collect(),
            Op::Call { arguments, .. } | Op::Run { arguments, .. } => arguments.iter().collect(),
            Op::Compare { sides, .. } | Op::Distinct { sides, .. } | Op::Shared { sides, .. } => {
                sides.iter().collect()
            }
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
