//! A payload as the validator sees it: the JSON text itself, without a tree. A tree can have ninety times the
//! size of the text (`{"a":1}` is an allocation of 600 bytes), and payloads have up to 10 MiB.
//!
//! A value is represented by its beginning in the text. Its parts are found by scanning, each time they are
//! requested. Nothing here allocates more than one string, or more than [`AT_ONCE`] elements.
//!
//! The text must be valid JSON without white space between its tokens, as the module `json` and `serde_json`
//! write it. Any other text is read to some end, without a panic.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp};
use serde_json::{Number, Value};

/// Deepest nesting, because the validator is recursive.
const DEPTH_MAX: usize = 127;
/// `uniqueItems` compares the hashes of this many elements at a time.
const AT_ONCE: usize = 1 << 19;
/// Longest value in bytes that a message of the validator may contain.
const SHOWN_MAX: usize = 1 << 10;

/// JSON as text, for [`jsonschema::options_for`].
#[derive(Debug)]
pub(super) struct PayloadText;

/// One value of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) enum PayloadNode<'a> {
    /// The text from the value's first byte to the end of the document.
    At(&'a str),
    /// The name of an object's member, without quotes.
    Name(&'a str),
}

/// The text after the opening bracket of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a>(&'a str);

/// The text after the opening bracket of an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(&'a str);

/// Whether the text is nested no deeper than the validator allows.
pub(super) fn is_shallow(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(&byte) = rest.as_bytes().first() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
        rest = after(rest, if byte == b'"' { string_length(rest) } else { 1 });
    }
    true
}

/// The text without its first bytes; empty if it is shorter.
fn after(text: &str, bytes: usize) -> &str {
    text.get(bytes..).unwrap_or_default()
}

/// Length of the string at the start, with its quotes.
fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.iter().position(|&byte| byte == b'"' || byte == b'\\') {
            Some(special) if rest.get(special) == Some(&b'"') => return at + special + 1,
            Some(special) => at += special + 2,
            None => return bytes.len(),
        }
    }
}

/// Length of the value at the start.
fn length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += string_length(after(text, at));
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The string at the start.
fn string(text: &str) -> Cow<'_, str> {
    let quoted = text.get(..string_length(text)).unwrap_or_default();
    let plain = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    if plain.contains('\\') {
        serde_json::from_str(quoted).map_or(Cow::Borrowed(plain), Cow::Owned)
    } else {
        Cow::Borrowed(plain)
    }
}

/// The number at the start. A number beyond the range of a double is the largest double.
fn number(text: &str) -> Number {
    let digits = text.get(..length(text)).unwrap_or_default();
    let largest = if digits.starts_with('-') { f64::MIN } else { f64::MAX };
    serde_json::from_str(digits).ok().or_else(|| Number::from_f64(largest)).unwrap_or_else(|| Number::from(0))
}

impl Json for PayloadText {
    type Node<'a> = PayloadNode<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    // A look-up reads the whole object, like an iteration over it.
    const KEYS_PER_LOOKUP: usize = 1 << 24;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(PayloadNode<'_>) -> T) -> T {
        f(PayloadNode::Name(string))
    }
}

impl<'a> Node<'a, PayloadText> for PayloadNode<'a> {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = Number;

    fn as_object(&self) -> Option<Members<'a>> {
        let Self::At(text) = self else { return None };
        text.strip_prefix('{').map(Members)
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        let Self::At(text) = self else { return None };
        text.strip_prefix('[').map(Elements)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Name(name) => Some(Cow::Borrowed(name)),
            Self::At(text) => text.starts_with('"').then(|| string(text)),
        }
    }

    fn as_number(&self) -> Option<Number> {
        let Self::At(text) = self else { return None };
        self.is_number().then(|| number(text))
    }

    fn is_number(&self) -> bool {
        self.json_type() == JsonType::Number
    }

    fn as_boolean(&self) -> Option<bool> {
        let Self::At(text) = self else { return None };
        (self.json_type() == JsonType::Boolean).then(|| text.starts_with('t'))
    }

    fn is_null(&self) -> bool {
        self.json_type() == JsonType::Null
    }

    fn json_type(&self) -> JsonType {
        let Self::At(text) = self else { return JsonType::String };
        match text.as_bytes().first() {
            Some(b'{') => JsonType::Object,
            Some(b'[') => JsonType::Array,
            Some(b'"') => JsonType::String,
            Some(b't' | b'f') => JsonType::Boolean,
            Some(b'n') | None => JsonType::Null,
            Some(_) => JsonType::Number,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match expected {
            Value::Null => self.is_null(),
            Value::Bool(expected) => self.as_boolean() == Some(*expected),
            Value::Number(expected) => {
                self.as_number().is_some_and(|number| cmp::equal_numbers(&number, expected))
            }
            Value::String(expected) => self.as_string().is_some_and(|string| string == *expected),
            Value::Array(expected) => self.as_array().is_some_and(|array| {
                let mut elements = array.elements();
                let equal = expected
                    .iter()
                    .all(|expected| elements.next().is_some_and(|element| element.equals_value(expected)));
                equal && elements.next().is_none()
            }),
            Value::Object(expected) => self.as_object().is_some_and(|object| {
                object.members().all(|(name, _)| expected.contains_key(&*name))
                    && expected.iter().all(|(name, expected)| {
                        object.get(name).is_some_and(|member| member.equals_value(expected))
                    })
            }),
        }
    }

    /// Only messages of the validator contain it, and those are not shown. A long value is null.
    fn to_value(&self) -> Cow<'a, Value> {
        let text = match self {
            Self::Name(name) => return Cow::Owned(Value::from(*name)),
            Self::At(text) => text,
        };
        let short = text.get(..text.floor_char_boundary(SHOWN_MAX)).unwrap_or_default();
        let value = short.get(..length(short)).and_then(|text| serde_json::from_str(text).ok());
        Cow::Owned(value.unwrap_or_default())
    }

    /// Two values never begin at the same place, and the text outlives the validation.
    fn identity(&self) -> Option<NodeIdentity> {
        match self {
            Self::At(text) => Some(NodeIdentity::new(text.as_ptr().addr())),
            Self::Name(name) => Some(NodeIdentity::tagged(name.as_ptr().addr(), 1)),
        }
    }
}

impl<'a> Object<'a, PayloadText> for Members<'a> {
    type Node = PayloadNode<'a>;
    type MemberName = Cow<'a, str>;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        self.members().count()
    }

    fn is_empty(&self) -> bool {
        self.0.starts_with('}')
    }

    /// The last of repeated names counts, as in most parsers.
    fn get(&self, key: &String) -> Option<PayloadNode<'a>> {
        self.members().filter(|(name, _)| name == key).map(|(_, value)| value).last()
    }

    fn members(&self) -> MembersIter<'a> {
        MembersIter(self.0)
    }
}

/// The members of an object.
#[derive(Debug)]
pub(super) struct MembersIter<'a>(&'a str);

impl<'a> Iterator for MembersIter<'a> {
    type Item = (Cow<'a, str>, PayloadNode<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.0.starts_with('"') {
            self.0 = "";
            return None;
        }
        let name = string(self.0);
        let value = after(self.0, string_length(self.0) + 1);
        self.0 = next(value);
        Some((name, PayloadNode::At(value)))
    }
}

/// The text after the first value and its comma; empty after the last value.
fn next(value: &str) -> &str {
    after(value, length(value)).strip_prefix(',').unwrap_or_default()
}

impl<'a> Array<'a, PayloadText> for Elements<'a> {
    type Node = PayloadNode<'a>;
    type ElementsIter = ElementsIter<'a>;

    fn len(&self) -> usize {
        self.elements().count()
    }

    fn elements(&self) -> ElementsIter<'a> {
        ElementsIter(self.0)
    }

    /// Compares keyed hashes of a limited number of elements at a time, so that memory is bounded for any
    /// array.
    fn is_unique(&self) -> bool {
        let state = (RandomState::new(), RandomState::new());
        let rounds = self.len().div_ceil(AT_ONCE) as u64;
        let mut hashes = Vec::with_capacity(AT_ONCE.min(self.len()));
        (0..rounds).all(|round| {
            hashes.clear();
            let all = self.elements().map(|element| (hash(&state.0, element), element));
            let some = all.filter(|(first, _)| first % rounds == round);
            hashes.extend(some.map(|(first, element)| (first, hash(&state.1, element))));
            hashes.sort_unstable();
            hashes.windows(2).all(|pair| pair.first() != pair.last())
        })
    }
}

/// The elements of an array.
#[derive(Debug)]
pub(super) struct ElementsIter<'a>(&'a str);

impl<'a> Iterator for ElementsIter<'a> {
    type Item = PayloadNode<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.0;
        if value.is_empty() || value.starts_with(']') {
            return None;
        }
        self.0 = next(value);
        Some(PayloadNode::At(value))
    }
}

/// The hash of a value. Equal values have the same hash, whatever the order of members and the form of
/// numbers.
fn hash(state: &RandomState, node: PayloadNode<'_>) -> u64 {
    let mut hasher = state.build_hasher();
    if let Some(object) = node.as_object() {
        // A sum, because the order of members does not matter.
        let sum = object.members().fold(0_u64, |sum, (name, value)| {
            let mut member = state.build_hasher();
            member.write(name.as_bytes());
            member.write_u64(hash(state, value));
            sum.wrapping_add(member.finish())
        });
        hasher.write_u8(1);
        hasher.write_u64(sum);
    } else if let Some(array) = node.as_array() {
        hasher.write_u8(2);
        array.elements().for_each(|element| hasher.write_u64(hash(state, element)));
    } else if let Some(string) = node.as_string() {
        hasher.write_u8(3);
        hasher.write(string.as_bytes());
    } else if let Some(number) = node.as_number() {
        // A double without a fraction equals the integer. Adding zero removes a negative zero.
        let whole = number.as_f64().filter(|double| number.is_f64() && double.fract() == 0.0);
        let digits = whole.map_or_else(|| number.to_string(), |double| format!("{:.0}", double + 0.0));
        hasher.write_u8(4);
        hasher.write(digits.as_bytes());
    } else {
        hasher.write_u8(5 + u8::from(node.is_null()) + 2 * u8::from(node.as_boolean() == Some(true)));
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
