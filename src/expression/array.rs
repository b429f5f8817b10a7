//! Arrays in PostgreSQL's text form, such as `{1,NULL,"a b"}`, of any dimensions and bounds.

use super::fault::{CELL, Computed};
use super::units::write;

/// Dimensions of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Length of each dimension. Empty for an empty array.
    pub(super) lengths: Vec<i64>,
    /// First subscript of the first dimension.
    pub(super) lower: i64,
}

/// PostgreSQL's limit of dimensions (`MAXDIM`).
const DIMENSIONS_MAX: usize = 6;

/// Visits all elements in order, `None` for NULL, until `visit` returns false.
pub(super) fn walk(text: &str, mut visit: impl FnMut(Option<&str>) -> bool) -> Computed<Shape> {
    let (lower, body) = bounds(text)?;
    let mut shape = Shape { lengths: Vec::new(), lower };
    // For each open brace: the number of items so far.
    let mut open: Vec<i64> = Vec::new();
    let mut element = String::new();
    let mut rest = body;
    let mut done = false;
    loop {
        let first = rest.chars().next().ok_or(CELL)?;
        match first {
            '{' => {
                if let Some(count) = open.last_mut() {
                    *count += 1;
                }
                if open.len() == DIMENSIONS_MAX {
                    return Err(CELL);
                }
                open.push(0);
                rest = rest.get(1..).ok_or(CELL)?;
                if !rest.starts_with('}') {
                    continue;
                }
            }
            '}' | ',' => return Err(CELL),
            _ => {
                let (is_null, after) = take(rest, &mut element)?;
                *open.last_mut().ok_or(CELL)? += 1;
                done |= !visit((!is_null).then_some(element.as_str()));
                rest = after;
            }
        }
        while let Some(after) = rest.strip_prefix('}') {
            let count = open.pop().ok_or(CELL)?;
            let depth = open.len();
            if shape.lengths.len() <= depth {
                shape.lengths.resize(depth + 1, 0);
            }
            if let Some(length) = shape.lengths.get_mut(depth) {
                *length = count;
            }
            rest = after;
        }
        if open.is_empty() || done {
            let closed = rest.is_empty() || done;
            shape.lengths.retain(|&length| length > 0);
            return if closed { Ok(shape) } else { Err(CELL) };
        }
        rest = rest.strip_prefix(',').ok_or(CELL)?;
    }
}

/// Parses bounds such as `[2:3]=`.
fn bounds(text: &str) -> Computed<(i64, &str)> {
    let Some(after) = text.strip_prefix('[') else { return Ok((1, text)) };
    let (bounds, body) = after.split_once('=').ok_or(CELL)?;
    let lower = bounds.split(':').next().and_then(|lower| lower.parse().ok()).ok_or(CELL)?;
    Ok((lower, body))
}

/// Lower bounds of the dimensions, if they are written, and the items of the first dimension as they are
/// written.
pub(super) fn items(text: &str) -> Computed<(Vec<i64>, Vec<&str>)> {
    let body = bounds(text)?.1;
    let written = text.strip_suffix(body).unwrap_or_default().trim_end_matches('=');
    let lowers =
        written.split(']').filter_map(|part| part.strip_prefix('[')?.split_once(':')?.0.parse().ok());
    let inner = body.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or(CELL)?;
    let (mut all, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_i32, false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth -= 1,
            b',' if !quoted && depth == 0 => {
                all.push(inner.get(start..at).ok_or(CELL)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner.is_empty() {
        all.push(inner.get(start..).ok_or(CELL)?);
    }
    Ok((lowers.collect(), all))
}

/// An array of these bounds: lower bound and length of each dimension.
pub(super) fn with_bounds(bounds: &[(i64, i64)], items: &str) -> String {
    let mut out = String::new();
    if bounds.iter().any(|(lower, _)| *lower != 1) {
        for (lower, length) in bounds {
            write(&mut out, format_args!("[{lower}:{}]", lower + length - 1));
        }
        out.push('=');
    }
    out + "{" + items + "}"
}

/// Parses one element into `element`; returns whether it is NULL.
fn take<'a>(text: &'a str, element: &mut String) -> Computed<(bool, &'a str)> {
    element.clear();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '}']).ok_or(CELL)?;
        let (plain, rest) = text.split_at(end);
        if plain.contains(['"', '{', '\\']) {
            return Err(CELL);
        }
        element.push_str(plain);
        return Ok((plain.eq_ignore_ascii_case("null"), rest));
    };
    let mut letters = quoted.chars();
    loop {
        match letters.next().ok_or(CELL)? {
            '"' => return Ok((false, letters.as_str())),
            '\\' => element.push(letters.next().ok_or(CELL)?),
            letter => element.push(letter),
        }
    }
}

/// How an array is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
    pub(super) separator: &'static str,
    /// Whether bounds such as `[2:3]=` are kept.
    pub(super) bounds: bool,
}

/// PostgreSQL's own form.
pub(super) const PLAIN: Form = Form { open: "{", close: "}", separator: ",", bounds: true };

/// Writes an array of the same shape in another form. `write` appends an element; `None` is NULL.
pub(super) fn rewritten(
    text: &str,
    form: &Form,
    mut write: impl FnMut(&mut String, Option<&str>) -> Computed<()>,
) -> Computed<String> {
    let body = bounds(text)?.1;
    let mut out = String::from(if form.bounds { text.strip_suffix(body).unwrap_or_default() } else { "" });
    let (mut element, mut rest, mut depth) = (String::new(), body, 0_usize);
    while let Some(letter) = rest.chars().next() {
        match letter {
            '{' => {
                depth += 1;
                out.push_str(form.open);
            }
            '}' => {
                depth = depth.checked_sub(1).ok_or(CELL)?;
                out.push_str(form.close);
            }
            ',' => out.push_str(form.separator),
            _ if depth == 0 => return Err(CELL),
            _ => {
                let (is_null, after) = take(rest, &mut element)?;
                write(&mut out, (!is_null).then_some(element.as_str()))?;
                rest = after;
                if out.len() > super::text::LENGTH_MAX {
                    return Err(super::fault::TOO_MUCH);
                }
                continue;
            }
        }
        rest = rest.get(1..).ok_or(CELL)?;
    }
    if depth == 0 { Ok(out) } else { Err(CELL) }
}

/// Appends an element as PostgreSQL writes it.
pub(super) fn write_element(out: &mut String, element: Option<&str>) {
    let Some(element) = element else { return out.push_str("NULL") };
    let is_special =
        |letter: char| matches!(letter, '"' | '\\' | '{' | '}' | ',') || super::text::is_space(letter);
    if !element.is_empty() && !element.eq_ignore_ascii_case("null") && !element.contains(is_special) {
        return out.push_str(element);
    }
    out.push('"');
    for letter in element.chars() {
        if matches!(letter, '"' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_elements_are_visited_in_order() {
        for (text, elements, lengths, lower) in [
            ("{}", vec![], vec![], 1),
            ("{1,NULL,\"a \\\"b\"}", vec![Some("1"), None, Some("a \"b")], vec![3], 1),
            ("[2:3]={x,\"\"}", vec![Some("x"), Some("")], vec![2], 2),
            (
                "{{1,2},{3,4},{5,6}}",
                vec![Some("1"), Some("2"), Some("3"), Some("4"), Some("5"), Some("6")],
                vec![3, 2],
                1,
            ),
        ] {
            let mut found = Vec::new();
            let shape = walk(text, |element| {
                found.push(element.map(str::to_owned));
                true
            });
            assert_eq!(shape, Ok(Shape { lengths, lower }), "{text}");
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), elements);
        }
        for text in ["", "{", "a", "{a", "{a}b", "{a,}", "{,a}", "{\"a}", "[1:1]{a}", "{{{{{{{1}}}}}}}"] {
            assert_eq!(walk(text, |_| true), Err(CELL), "{text}");
        }
    }
}
