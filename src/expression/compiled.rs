//! A compiled expression: its properties, and its value for a row.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::change::Value;
use crate::json;
use crate::types::{Kind, SqlType};

use super::check::Checker;
use super::eval::{Evaluator, Failure};
use super::fault::NOT_TEXT;
use super::parse::{Item, MistakeReport};
use super::tree::{Datum, Function, Node, Op, Side};
use super::{Context, EvalError, EvalOutcome, Mistakes, Row, Scope, SelectField, SourceSpan, Truth, value};

/// A compiled expression. It is valid for the columns of its [`Scope`]: a new relation message requires a new
/// compilation.
#[derive(Clone, Debug)]
pub struct Expression {
    node: Arc<Node>,
    kind: Kind,
    reads_new: Vec<String>,
    reads_old: Vec<String>,
    reads_old_in_delete: Vec<String>,
    uses_hmac: bool,
}

impl Expression {
    /// Compiles a single expression.
    ///
    /// # Errors
    /// All mistakes in the text.
    pub fn parse(text: &str, scope: &Scope) -> Result<Self, Mistakes> {
        Self::one(text, scope, |checker, expression, item| checker.whole(expression, item.place))
    }

    /// Compiles a condition, which must be of type boolean.
    ///
    /// # Errors
    /// All mistakes in the text.
    pub fn parse_condition(text: &str, scope: &Scope) -> Result<Self, Mistakes> {
        Self::one(text, scope, |checker, expression, item| checker.condition(expression, item.place))
    }

    fn one(
        text: &str,
        scope: &Scope,
        check: impl FnOnce(&mut Checker<'_, '_>, &sqlparser::ast::Expr, &Item) -> Option<Node> + Send,
    ) -> Result<Self, Mistakes> {
        with_room(text, || {
            let mut report = MistakeReport::new(text);
            let node = report.expression().and_then(|item| {
                let expression = report.parse(&item)?;
                check(&mut Checker::new(scope, &mut report), &expression, &item)
            });
            match (node, report.mistakes.is_empty()) {
                (Some(node), true) => Ok(Self::new(node)),
                _ => Err(Mistakes(report.mistakes)),
            }
        })
    }

    /// Compiles a select list: `a, b as c, expression as name -- comment`.
    ///
    /// # Errors
    /// All mistakes in the text.
    pub fn parse_list(text: &str, scope: &Scope) -> Result<Vec<SelectField>, Mistakes> {
        with_room(text, || Self::list(text, scope, true))
    }

    /// Compiles the parts of a key: `a, b || c`. Names are optional and may repeat.
    ///
    /// # Errors
    /// All mistakes in the text.
    pub fn parse_parts(text: &str, scope: &Scope) -> Result<Vec<SelectField>, Mistakes> {
        with_room(text, || Self::list(text, scope, false))
    }

    fn list(text: &str, scope: &Scope, named: bool) -> Result<Vec<SelectField>, Mistakes> {
        let mut report = MistakeReport::new(text);
        let mut fields: Vec<SelectField> = Vec::new();
        for item in report.list() {
            let Some(expression) = report.parse(&item) else { continue };
            let node = Checker::new(scope, &mut report).whole(&expression, item.place);
            let own = item.alias.clone().or_else(|| super::parse::own_name(&expression));
            let name = if named { own } else { Some(own.unwrap_or_default()) };
            match (node, name) {
                (Some(_), None) => {
                    report.add(item.place, "unnamed field", Some("add `as name`".to_owned()));
                }
                (_, Some(name)) if named && fields.iter().any(|field| field.name == name) => {
                    report.add(
                        item.place,
                        format!("duplicate name {name}"),
                        Some("add `as name`".to_owned()),
                    );
                }
                (Some(node), Some(name)) => {
                    let Item { comment, place, .. } = item;
                    fields.push(SelectField { name, expression: Self::new(node), comment, place });
                }
                (None, _) => {}
            }
        }
        report.mistakes.sort_by_key(|mistake| mistake.place.start);
        if report.mistakes.is_empty() { Ok(fields) } else { Err(Mistakes(report.mistakes)) }
    }

    fn new(node: Node) -> Self {
        let mut facts = Facts::default();
        facts.gather(&node);
        let kind = node.kind();
        Self {
            node: Arc::new(node),
            kind,
            reads_new: facts.new.into_iter().collect(),
            reads_old: facts.old.into_iter().collect(),
            // An expression that uses `op` may read the column only for other operations.
            reads_old_in_delete: if facts.operation { Vec::new() } else { facts.bare.into_iter().collect() },
            uses_hmac: facts.hmac,
        }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The type, as PostgreSQL describes it.
    pub fn data_type(&self) -> &SqlType {
        &self.node.data_type
    }

    /// How the value is written as JSON.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether the value can be NULL.
    pub fn is_nullable(&self) -> bool {
        self.node.nullable
    }

    /// Whether the value can be unavailable: the expression reads the old row or a column that may be
    /// TOASTed.
    pub fn may_be_unavailable(&self) -> bool {
        self.node.unavailable
    }

    /// A personal-data column that the value reveals; `None` if the value may be published.
    pub fn tagged(&self) -> Option<&str> {
        self.node.tagged.as_deref()
    }

    /// The column, if the expression is just `x` or `new.x`.
    pub fn column(&self) -> Option<&str> {
        match &self.node.op {
            Op::Column(column) if column.side != Side::Old => Some(&column.name),
            _ => None,
        }
    }

    /// Names of the columns that it reads from the new row (in a delete, from the old row).
    pub fn reads_new(&self) -> &[String] {
        &self.reads_new
    }

    /// Names of the columns that it reads by `old.`; `changed()` reads all.
    pub fn reads_old(&self) -> &[String] {
        &self.reads_old
    }

    /// Names of the columns that it reads from the old row in a delete, because they have no `new.` or `old.`
    /// before them.
    pub fn reads_old_in_delete(&self) -> &[String] {
        &self.reads_old_in_delete
    }

    /// Whether the expression does not depend on the change.
    pub fn is_constant(&self) -> bool {
        super::check::is_constant(&self.node)
    }

    /// Whether it uses `hmac()`.
    pub fn uses_hmac(&self) -> bool {
        self.uses_hmac
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// The errors that PostgreSQL raises.
    pub fn holds(&self, row: &Row<'_>, context: &mut Context) -> Result<Truth, EvalError> {
        let mut value = Datum::Null;
        Evaluator { row, macs: &context.macs }.evaluate(&self.node, &mut value).map_err(eval_error)?;
        match value {
            Datum::Bool(true) => Ok(Truth::True),
            Datum::Unavailable => Ok(Truth::Unavailable),
            _ => Ok(Truth::False),
        }
    }

    /// Appends the value as JSON, as `to_jsonb()` writes it, except for the differences listed in `json`.
    ///
    /// # Errors
    /// The errors that PostgreSQL raises; `out` is then unchanged.
    #[inline]
    pub fn write_json(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<EvalOutcome, EvalError> {
        let Op::Column(column) = &self.node.op else { return self.write_computed(row, context, out) };
        match column.cell(row) {
            Value::Text(text) => self.write_kind(text, out),
            Value::Null => {
                out.extend_from_slice(b"null");
                Ok(EvalOutcome::Null)
            }
            Value::Unavailable => Ok(EvalOutcome::Unavailable),
        }
    }

    fn write_computed(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<EvalOutcome, EvalError> {
        if self.kind == Kind::Number
            && let Some(short) = self.node.short(row)
        {
            short.write(out);
            return Ok(EvalOutcome::Value);
        }
        let mut value = Datum::Null;
        let Context { macs, text } = context;
        Evaluator { row, macs }.evaluate(&self.node, &mut value).map_err(eval_error)?;
        match value {
            Datum::Null => {
                out.extend_from_slice(b"null");
                Ok(EvalOutcome::Null)
            }
            Datum::Unavailable => Ok(EvalOutcome::Unavailable),
            value => {
                text.clear();
                value::write(text, &self.node.data_type.base, &value);
                self.write_kind(text.as_bytes(), out)
            }
        }
    }

    #[inline]
    fn write_kind(&self, text: &[u8], out: &mut Vec<u8>) -> Result<EvalOutcome, EvalError> {
        match json::write_value(out, &self.kind, text) {
            Ok(()) => Ok(EvalOutcome::Value),
            Err(error) => Err(self.misread(error)),
        }
    }

    #[cold]
    fn misread(&self, error: json::ValueError) -> EvalError {
        EvalError { sqlstate: "XX000", message: error.to_string(), place: self.node.place }
    }

    /// Appends the value in PostgreSQL's text form.
    ///
    /// # Errors
    /// The errors that PostgreSQL raises; `out` is then unchanged.
    pub fn write_text(
        &self,
        row: &Row<'_>,
        context: &mut Context,
        out: &mut String,
    ) -> Result<EvalOutcome, EvalError> {
        if let Op::Column(column) = &self.node.op {
            return match column.cell(row) {
                Value::Text(text) => match std::str::from_utf8(text) {
                    Ok(text) => {
                        out.push_str(text);
                        Ok(EvalOutcome::Value)
                    }
                    Err(_) => Err(eval_error(Failure { fault: NOT_TEXT, place: &self.node.place })),
                },
                Value::Null => Ok(EvalOutcome::Null),
                Value::Unavailable => Ok(EvalOutcome::Unavailable),
            };
        }
        let mut value = Datum::Null;
        Evaluator { row, macs: &context.macs }.evaluate(&self.node, &mut value).map_err(eval_error)?;
        match value {
            Datum::Null => Ok(EvalOutcome::Null),
            Datum::Unavailable => Ok(EvalOutcome::Unavailable),
            value => {
                value::write(out, &self.node.data_type.base, &value);
                Ok(EvalOutcome::Value)
            }
        }
    }
}

/// Stack size for `sqlparser`, whose tree is as deep as a sum has terms. Only the used part takes memory.
const STACK: usize = 64 << 20;

/// Compiles on a thread with a stack that is large enough for every accepted text.
fn with_room<T: Send>(
    text: &str,
    compile: impl FnOnce() -> Result<T, Mistakes> + Send,
) -> Result<T, Mistakes> {
    let compiled = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("compile".to_owned()).stack_size(STACK);
        thread.spawn_scoped(scope, compile).ok().and_then(|thread| thread.join().ok())
    });
    compiled.unwrap_or_else(|| {
        let mut report = MistakeReport::new(text);
        let place = SourceSpan { line: 1, column: 1, ..SourceSpan::default() };
        report.add(place, "not enough memory to compile the text", None);
        Err(Mistakes(report.mistakes))
    })
}

#[cold]
fn eval_error(Failure { fault, place }: Failure<'_>) -> EvalError {
    EvalError { sqlstate: fault.sqlstate(), message: fault.message().to_owned(), place: *place }
}

/// The columns that a tree reads.
#[derive(Default)]
struct Facts {
    new: BTreeSet<String>,
    old: BTreeSet<String>,
    bare: BTreeSet<String>,
    operation: bool,
    hmac: bool,
}

impl Facts {
    fn gather(&mut self, node: &Node) {
        match &node.op {
            Op::Column(column) if column.side == Side::Old => {
                self.old.insert(column.name.to_string());
            }
            Op::Column(column) => {
                self.new.insert(column.name.to_string());
                if column.side == Side::Current {
                    self.bare.insert(column.name.to_string());
                }
            }
            Op::Operation => self.operation = true,
            Op::Changed(columns) => {
                self.new.extend(columns.iter().map(|column| column.name.to_string()));
                self.old.extend(columns.iter().map(|column| column.name.to_string()));
            }
            Op::Call { function: Function::Hmac { .. }, .. } => self.hmac = true,
            _ => {}
        }
        for child in node.children() {
            self.gather(child);
        }
    }
}
