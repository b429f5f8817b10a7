//! Functions: names, argument types and result types, resolved as PostgreSQL does.

use sqlparser::ast::{
    CeilFloorKind, DateTimeField, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart,
    TrimWhereField,
};

use crate::types::Base;

use super::super::SourceSpan;
use super::super::parse::identifier;
use super::super::scope::Meaning;
use super::super::tree::{ColumnRead, Datum, Function, Node, Op, Rounding, Side, Test};
use super::casts::{Category, category};
use super::measures::field_name;
use super::meet::{agreed, is_collated, is_of_bytes};
use super::{Checked, Checker, Term, names};

/// Functions that would break a promise, with the reason.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &[
            "now",
            "clock_timestamp",
            "statement_timestamp",
            "transaction_timestamp",
            "timeofday",
            "age",
            "current_date",
            "current_time",
            "current_timestamp",
            "localtime",
            "localtimestamp",
        ],
        "the clock is not available: use a column, or the event's own time",
    ),
    (
        &["user", "current_user", "session_user", "current_role", "current_schema", "current_catalog"],
        "session functions are not available; quote the name to read a column",
    ),
    (
        &["random", "gen_random_uuid", "uuid_generate_v4", "nextval", "currval"],
        "a repeat must give the same event: use a column",
    ),
    (
        &[
            "count",
            "sum",
            "avg",
            "min",
            "max",
            "string_agg",
            "array_agg",
            "jsonb_agg",
            "json_agg",
            "bool_and",
            "bool_or",
        ],
        "an event describes one row: aggregates are not available",
    ),
    (
        &["regexp_match", "regexp_matches", "regexp_split_to_array", "regexp_like", "regexp_substr"],
        "write x ~ 'pattern', substring(x from '[0-9]+') or regexp_replace(x, '[^0-9]', '', 'g')",
    ),
    (
        &["initcap"],
        "the result depends on the server's locale: publish the value and let consumers format it",
    ),
    (
        &["power", "pow", "exp", "ln", "log", "log10", "cbrt", "sin", "cos", "tan", "pi"],
        "the last digit depends on the machine: multiply, or store the value in a column",
    ),
    (&["digest", "mask"], "use hmac(): a plain digest of personal data can be guessed"),
];

impl Checker<'_, '_> {
    pub(super) fn function(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Term> {
        match expression {
            Expr::Function(function) => {
                let name: Vec<_> = function.name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
                let name = match name.as_slice() {
                    [name] => identifier(&name.value, name.quote_style),
                    [schema, name] if schema.value == "pg_catalog" => {
                        identifier(&name.value, name.quote_style)
                    }
                    _ => return self.unknown_function(&function.name.to_string(), place),
                };
                let plain = function.over.is_none()
                    && function.filter.is_none()
                    && function.null_treatment.is_none()
                    && function.within_group.is_empty()
                    && function.parameters == FunctionArguments::None;
                let arguments = match (&function.args, plain) {
                    (FunctionArguments::List(list), true)
                        if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
                    {
                        &list.args
                    }
                    _ => return self.unknown_function(&name, place),
                };
                self.listed(&name, arguments, place)
            }
            Expr::Extract { field, expr, .. } => {
                let term = self.term(expr, place)?;
                self.extract(&field_name(field), term, false, place)
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                let term = self.term(expr, place)?;
                self.rounding(Rounding::Ceiling, vec![term], place)
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                let term = self.term(expr, place)?;
                self.rounding(Rounding::Floor, vec![term], place)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut terms = vec![self.term(expr, place)?];
                match (substring_from, substring_for) {
                    (Some(from), _) => terms.push(self.term(from, place)?),
                    (None, Some(_)) => terms.push(Term::Node(self.one(place))),
                    (None, None) => {}
                }
                if let Some(count) = substring_for {
                    terms.push(self.term(count, place)?);
                }
                self.named("substr", terms, place)
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters } => {
                let mut terms = vec![self.term(expr, place)?];
                let listed = trim_characters.iter().flatten();
                for what in trim_what.iter().map(|what| &**what).chain(listed) {
                    terms.push(self.term(what, place)?);
                }
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    Some(TrimWhereField::Both) | None => "btrim",
                };
                self.named(name, terms, place)
            }
            Expr::Position { expr, r#in } => {
                let (part, text) = (self.term(expr, place), self.term(r#in, place));
                self.named("position", vec![text?, part?], place)
            }
            _ => self.unknown_function("this function", place),
        }
    }

    fn listed(&mut self, name: &str, arguments: &[FunctionArg], place: SourceSpan) -> Checked<Term> {
        if let "hmac" | "hmac_previous" = name {
            return self.pseudonym(name == "hmac_previous", arguments, place);
        }
        let mut terms = Vec::new();
        let mut wrong = false;
        for argument in arguments {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                let FunctionArg::Unnamed(_) = argument else {
                    return self.named_arguments(name, arguments, place);
                };
                return self.unknown_function(name, place);
            };
            let term = self.term(argument, place);
            wrong |= term.is_none();
            terms.extend(term);
        }
        if wrong { None } else { self.named(name, terms, place) }
    }

    fn one(&mut self, place: SourceSpan) -> Node {
        self.over(Op::Constant(Datum::Int(1)), Base::Int4, place)
    }

    fn unknown_function(&mut self, name: &str, place: SourceSpan) -> Checked<Term> {
        let reason = REFUSED.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason);
        if reason.is_none()
            && let Some(advice) = super::super::advice::for_function(name)
        {
            return self.wrong(place, format!("{name}() is not a function of PostgreSQL's"), advice);
        }
        if let Some((value, method)) = name.rsplit_once('.')
            && !value.contains('.')
        {
            let function = super::super::advice::for_function(&method.to_ascii_lowercase());
            let call = || format!("write the value inside the function: {method}({value})");
            let hint = function.map_or_else(call, ToOwned::to_owned);
            return self.wrong(place, format!("{name}() is not a function"), &hint);
        }
        let known = super::super::advice::known_functions().chain(super::super::function::names());
        if reason.is_none()
            && let Some(near) = names::nearest(name, known)
        {
            let hint = format!("did you mean {near}()?");
            return self.wrong(place, format!("{name}() is not supported"), &hint);
        }
        let hint = reason.unwrap_or("store the value in a column, or publish the event through an outbox");
        self.wrong(place, format!("{name}() is not supported"), hint)
    }

    fn named(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        use Base::{Int4, Text};
        let text_function = |function, rest: &[Base], least: usize, result: Base| {
            Some((function, [&[Text][..], rest].concat(), least, result))
        };
        let signature = match name {
            "coalesce" | "greatest" | "least" => return self.choice(name, terms, place),
            "nullif" => return self.null_if(terms, place),
            "concat" | "concat_ws" => return self.concat(name == "concat_ws", terms, place),
            "length" | "char_length" | "character_length" => return self.length(name, terms, place),
            "round" => return self.rounding(Rounding::Round, terms, place),
            "trunc" => return self.rounding(Rounding::Truncate, terms, place),
            "ceil" | "ceiling" => return self.rounding(Rounding::Ceiling, terms, place),
            "floor" => return self.rounding(Rounding::Floor, terms, place),
            "sign" => return self.rounding(Rounding::Sign, terms, place),
            "abs" | "mod" => return self.number_function(name, terms, place),
            "date_trunc" => return self.date_trunc(terms, place),
            "date_part" => return self.date_part(terms, place),
            "to_char" => return self.formatted(terms, place),
            "to_jsonb" => {
                let Ok([term]) = <[Term; 1]>::try_from(terms) else {
                    return self.count_is_wrong(name, place);
                };
                return self.as_jsonb(term).map(Term::Node);
            }
            "jsonb_build_object" | "jsonb_build_array" => return self.built_json(name, terms, place),
            // With one argument it reads the clock.
            "age" if terms.len() < 2 => return self.unknown_function(name, place),
            "md5" | "encode" | "decode" | "convert_to" => return self.bytes_function(name, terms, place),
            "cardinality" | "array_length" => return self.array_function(name, terms, place),
            "changed" => return self.changed(&terms, place),
            "lower" => text_function(Function::Lower, &[], 1, Text),
            "upper" => text_function(Function::Upper, &[], 1, Text),
            "left" => text_function(Function::Left, &[Int4], 2, Text),
            "right" => text_function(Function::Right, &[Int4], 2, Text),
            "regexp_replace" => return self.substitute(terms, place),
            "substr" | "substring" if is_pattern(&terms) => return self.matched(terms, place),
            "substr" | "substring" => text_function(Function::Substring, &[Int4, Int4], 2, Text),
            "replace" => text_function(Function::Replace, &[Text, Text], 3, Text),
            "split_part" => text_function(Function::SplitPart, &[Text, Int4], 3, Text),
            "btrim" => text_function(Function::Trim { leading: true, trailing: true }, &[Text], 1, Text),
            "ltrim" => text_function(Function::Trim { leading: true, trailing: false }, &[Text], 1, Text),
            "rtrim" => text_function(Function::Trim { leading: false, trailing: true }, &[Text], 1, Text),
            _ => None,
        };
        let Some((function, wanted, least, result)) = signature else {
            let is_name = name.starts_with(|letter: char| letter.is_ascii_alphabetic());
            let known = if is_name { self.plain(name, terms, place) } else { None };
            return known.unwrap_or_else(|| self.unknown_function(name, place));
        };
        if !(least..=wanted.len()).contains(&terms.len()) {
            return self.count_is_wrong(name, place);
        }
        let mut arguments = Vec::new();
        for (term, base) in terms.into_iter().zip(&wanted) {
            arguments.push(self.coerce(term, base, Some(&format!("an argument of {name}()")))?);
        }
        if let Function::Lower | Function::Upper = function {
            self.not_of_bytes(&arguments, name, place)?;
        }
        Some(self.node(Op::Call { function, arguments }, result, place))
    }

    /// Under the collation "C" the server changes ASCII letters only.
    pub(super) fn not_of_bytes(&mut self, sides: &[Node], name: &str, place: SourceSpan) -> Checked<()> {
        if sides.iter().any(is_of_bytes) {
            let message = format!("{name} changes only ASCII letters under the collation \"C\"");
            return self.wrong(
                place,
                message,
                "remove collate; values of type name always have this collation",
            );
        }
        Some(())
    }

    pub(super) fn count_is_wrong(&mut self, name: &str, place: SourceSpan) -> Checked<Term> {
        let hint =
            super::super::advice::usage(name).map(|usage| format!("write {usage}")).unwrap_or_default();
        self.wrong(place, format!("wrong number of arguments for {name}()"), &hint)
    }

    fn choice(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        if terms.is_empty() {
            return self.count_is_wrong(name, place);
        }
        let (base, items) = self.common(terms, place, name)?;
        let nullable = items.iter().all(|item| item.nullable);
        let data_type = agreed(&items, base.clone());
        let op = if name == "coalesce" {
            Op::Coalesce(items)
        } else {
            let how = self.how(&base, Test::Less, place)?;
            let by_bytes = base == Base::Name || items.iter().any(is_collated);
            if category(&base) == Category::Text && !by_bytes {
                let hint = "the order of texts depends on the database's collation: write x collate \"C\"";
                return self.wrong(place, format!("{name}() of texts is not supported"), hint);
            }
            Op::Extreme { how, greatest: name == "greatest", items }
        };
        let mut node = self.over(op, base, place);
        node.nullable = nullable;
        node.data_type = data_type;
        Some(Term::Node(node))
    }

    fn null_if(&mut self, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let Ok([left, right]) = <[Term; 2]>::try_from(terms) else {
            return self.count_is_wrong("nullif", place);
        };
        let result = match &left {
            Term::Node(node) => node.clone(),
            Term::Unknown { .. } => {
                self.coerce(left.clone(), &right.base().cloned().unwrap_or(Base::Text), Some("nullif"))?
            }
        };
        let (how, sides) = self.comparable(left, right, Test::Equal, place)?;
        // The left side in the operator's type: an integer beside a bigint stays an integer, beside a numeric
        // it is cast.
        let [taken, _] = &sides;
        let result = if family(&taken.data_type.base) == family(&result.data_type.base) {
            result
        } else {
            taken.clone()
        };
        let data_type = result.data_type.clone();
        let op = Op::NullIf { how, sides: Box::new(sides), result: Box::new(result) };
        let mut node = self.over(op, data_type.base.clone(), place);
        node.nullable = true;
        Some(Term::Node(node))
    }

    fn concat(&mut self, separator: bool, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        if terms.len() < 1 + usize::from(separator) {
            return self.count_is_wrong(if separator { "concat_ws" } else { "concat" }, place);
        }
        let mut items = Vec::new();
        for (nth, term) in terms.into_iter().enumerate() {
            items.push(if separator && nth == 0 {
                self.coerce(term, &Base::Text, Some("a separator"))?
            } else {
                self.output(term)?
            });
        }
        let nullable = separator && items.first().is_some_and(|first| first.nullable);
        Some(self.node_nullable(Op::Concat { separator, items }, Base::Text, place, nullable))
    }

    fn length(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let Ok([term]) = <[Term; 1]>::try_from(terms) else { return self.count_is_wrong(name, place) };
        let (function, to) = match term.base() {
            Some(Base::Bpchar) => (Function::LengthOfBlanks, Base::Bpchar),
            Some(Base::Bytea) if name == "length" => (Function::LengthOfBytes, Base::Bytea),
            _ => (Function::Length, Base::Text),
        };
        let argument = self.coerce(term, &to, Some("the argument of length()"))?;
        Some(self.node(Op::Call { function, arguments: vec![argument] }, Base::Int4, place))
    }

    fn bytes_function(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        if name == "decode" && terms.len() > 2 {
            return self.wrong(
                place,
                "decode() makes bytes of a text",
                "for a choice write case x when 1 then 'a' … end",
            );
        }
        let mut terms = terms.into_iter();
        let (Some(value), format, None) = (terms.next(), terms.next(), terms.next()) else {
            return self.count_is_wrong(name, place);
        };
        let bytes = value.base() == Some(&Base::Bytea);
        if name == "md5" && format.is_none() {
            let to = if bytes { Base::Bytea } else { Base::Text };
            let argument = self.coerce(value, &to, Some("the argument of md5()"))?;
            return Some(self.node(
                Op::Call { function: Function::Md5 { bytes }, arguments: vec![argument] },
                Base::Text,
                place,
            ));
        }
        if name == "decode" && bytes {
            return self.wrong(
                place,
                "decode() makes bytes of a text",
                "for the text of bytes write encode(x, 'hex')",
            );
        }
        let (Some(format), "encode" | "decode" | "convert_to") = (format, name) else {
            return self.count_is_wrong(name, place);
        };
        if name == "convert_to" {
            if !matches!(self.field(&format)?.as_str(), "utf8" | "utf-8") {
                return self.wrong(format.place(), "the encoding must be 'UTF8'", "");
            }
            let argument = self.coerce(value, &Base::Text, Some("the argument of convert_to()"))?;
            let op = Op::Call { function: Function::BytesOfText, arguments: vec![argument] };
            return Some(self.node(op, Base::Bytea, place));
        }
        let base64 = match self.field(&format)?.as_str() {
            "hex" => false,
            "base64" => true,
            _ => return self.wrong(format.place(), "the format must be 'hex' or 'base64'", ""),
        };
        let (function, from, to) = match name {
            "encode" => (Function::Encode { base64 }, Base::Bytea, Base::Text),
            _ => (Function::Decode { base64 }, Base::Text, Base::Bytea),
        };
        let argument = self.coerce(value, &from, Some(&format!("the argument of {name}()")))?;
        Some(self.node(Op::Call { function, arguments: vec![argument] }, to, place))
    }

    fn array_function(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let mut terms = terms.into_iter();
        let (Some(Term::Node(list)), dimension, None) = (terms.next(), terms.next(), terms.next()) else {
            return self.count_is_wrong(name, place);
        };
        if !matches!(list.data_type.base, Base::Array(_)) {
            return self.wrong(place, format!("{name}() requires an array"), "");
        }
        let nullable = list.nullable || name == "array_length";
        let (function, arguments) = match (name, dimension) {
            ("cardinality", None) => (Function::Cardinality, vec![list]),
            ("array_length", Some(dimension)) => {
                let dimension = self.coerce(dimension, &Base::Int4, Some("the dimension"))?;
                (Function::ArrayLength, vec![list, dimension])
            }
            _ => return self.count_is_wrong(name, place),
        };
        Some(self.node_nullable(Op::Call { function, arguments }, Base::Int4, place, nullable))
    }

    fn changed(&mut self, terms: &[Term], place: SourceSpan) -> Checked<Term> {
        if !terms.is_empty() {
            return self.wrong(
                place,
                "changed() takes no arguments",
                "for one column write old.x is distinct from new.x",
            );
        }
        let mut columns = Vec::new();
        let mut unavailable = false;
        for name in &self.scope.names {
            let Meaning::Column(column) = &name.meaning else {
                return self.wrong(place, "changed() is only available in rules that read a table", "");
            };
            // The fact that a column has changed reveals something about it.
            if column.tagged {
                continue;
            }
            unavailable |= !column.in_identity;
            let Op::Column(read) = names::read(&name.name, column, Side::New, place).op else { continue };
            columns.push(ColumnRead { side: Side::Old, ..read });
        }
        let text_array = Base::Array(Base::Text.into());
        let mut node = self.over(Op::Changed(columns.into()), text_array, place);
        (node.nullable, node.unavailable) = (true, unavailable);
        Some(Term::Node(node))
    }
}

/// Whether `substring` searches a pattern: the server takes a literal without a type for one.
fn is_pattern(terms: &[Term]) -> bool {
    let is_text = |term: &Term| term.base().is_none_or(|base| category(base) == Category::Text);
    matches!(terms, [_, rest @ ..] if !rest.is_empty() && rest.iter().all(is_text))
}

/// Groups of types that can be compared with each other.
const fn family(base: &Base) -> u8 {
    match base {
        Base::Int2 | Base::Int4 | Base::Int8 => 0,
        Base::Float4 | Base::Float8 => 1,
        Base::Date | Base::Timestamp | Base::TimestampTz => 2,
        Base::Numeric => 3,
        Base::Varchar => 4,
        Base::Bpchar => 5,
        Base::Interval => 6,
        Base::Time => 7,
        _ => 8,
    }
}
