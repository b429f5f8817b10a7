//! Parses PostgreSQL's advanced regular expressions (ARE) and writes them for `regex`.
//!
//! Supported is the syntax that means the same under every locale and needs no backtracking: characters, `.`,
//! brackets, groups, alternatives, repetitions and both anchors. Everything else is refused, with a hint.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use super::super::text::{lower_of, upper_of};
use super::set::CharacterSet;

/// PostgreSQL's limit of a repetition.
const REPEATED_MAX: u32 = 255;
/// Deepest nesting of groups: each is a level of recursion.
const DEPTH_MAX: usize = 30;
/// Largest number of characters to match, each counted as often as it is repeated.
const COST_MAX: usize = 2_000;
/// Largest range in a case-insensitive pattern. Its characters are folded one by one.
const FOLDED_MAX: u32 = 10_000;

/// A message, and how to fix it.
pub(super) type Refusal = (String, &'static str);

/// A repeated set of characters.
#[derive(Clone, Debug)]
pub(super) struct PatternAtom {
    pub(super) set: CharacterSet,
    pub(super) least: u32,
    /// `None`: any number.
    pub(super) most: Option<u32>,
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Translated {
    /// The pattern in the syntax of `regex`.
    pub(super) text: String,
    /// Characters to match, each counted as often as it is repeated.
    pub(super) cost: usize,
    /// Its pieces, unless it has groups, alternatives or reluctant repetitions.
    pub(super) sequence: Option<Vec<PatternAtom>>,
}

struct Reader<'p> {
    rest: Peekable<Chars<'p>>,
    fold: bool,
    out: String,
    cost: usize,
    sequence: Option<Vec<PatternAtom>>,
}

enum Escaped {
    Set(CharacterSet),
    Anchor(&'static str),
}

pub(super) fn translated(pattern: &str, fold: bool) -> Result<Translated, Refusal> {
    if pattern.starts_with("***") {
        return refused("*** at the beginning of a pattern is not supported", "remove it");
    }
    let mut reader = Reader {
        rest: pattern.chars().peekable(),
        fold,
        out: String::new(),
        cost: 0,
        sequence: Some(Vec::new()),
    };
    reader.alternatives(0)?;
    Ok(Translated { text: reader.out, cost: reader.cost, sequence: reader.sequence })
}

fn refused<T>(message: impl Into<String>, hint: &'static str) -> Result<T, Refusal> {
    Err((message.into(), hint))
}

impl Reader<'_> {
    /// Parses up to the end of a group or of the pattern.
    fn alternatives(&mut self, depth: usize) -> Result<(), Refusal> {
        while let Some(letter) = self.rest.next() {
            match letter {
                ')' if depth > 0 => return Ok(()),
                ')' => return refused("the pattern has a ) that is not opened", "write \\)"),
                '|' => {
                    self.sequence = None;
                    self.out.push('|');
                }
                '*' | '+' | '?' => {
                    return refused(format!("there is nothing that {letter} repeats"), "write \\ before it");
                }
                '{' if self.rest.peek().is_some_and(char::is_ascii_digit) => {
                    return refused("there is nothing that { repeats", "write \\{");
                }
                '^' | '$' => self.out.push(letter),
                '(' => self.group(depth)?,
                '[' => {
                    let set = self.bracket()?;
                    self.atom(set)?;
                }
                '.' => self.atom(CharacterSet::all())?,
                '\\' => match self.escape()? {
                    Escaped::Set(set) => self.atom(set)?,
                    Escaped::Anchor(anchor) => self.out.push_str(anchor),
                },
                letter => {
                    let set = self.single(letter);
                    self.atom(set)?;
                }
            }
        }
        if depth > 0 {
            refused("a group of the pattern is not closed", "write ), or \\( for the letter")
        } else {
            Ok(())
        }
    }

    fn group(&mut self, depth: usize) -> Result<(), Refusal> {
        if depth == DEPTH_MAX {
            return refused("the groups of the pattern are nested too deeply", "write fewer groups");
        }
        if self.rest.next_if_eq(&'?').is_some() && self.rest.next_if_eq(&':').is_none() {
            return refused(
                "the pattern has (? that is not (?:",
                "look-ahead, look-behind and options are not supported: write ~* to ignore case",
            );
        }
        self.sequence = None;
        let before = self.cost;
        self.out.push_str("(?:");
        self.alternatives(depth + 1)?;
        self.out.push(')');
        let (_, most) = self.repetition()?;
        self.count(before, most)
    }

    /// A set of characters and its repetition.
    fn atom(&mut self, set: CharacterSet) -> Result<(), Refusal> {
        let before = self.cost;
        self.cost += 1;
        set.write(&mut self.out);
        let (least, most) = self.repetition()?;
        if let Some(sequence) = &mut self.sequence {
            sequence.push(PatternAtom { set, least, most });
        }
        self.count(before, Some(most.unwrap_or(least)))
    }

    fn count(&mut self, before: usize, repeated: Option<u32>) -> Result<(), Refusal> {
        let times = usize::try_from(repeated.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        self.cost = before.saturating_add((self.cost - before).saturating_mul(times));
        if self.cost > COST_MAX {
            let message =
                format!("the pattern matches more than {COST_MAX} characters, repetitions included");
            return refused(message, "write + or * instead of a large repetition");
        }
        Ok(())
    }

    /// Parses `*`, `+`, `?` or `{m,n}` if one follows. A reluctant repetition does not change whether a whole
    /// pattern matches.
    fn repetition(&mut self) -> Result<(u32, Option<u32>), Refusal> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let mut ahead = self.rest.clone();
                ahead.next();
                if !ahead.peek().is_some_and(char::is_ascii_digit) {
                    return Ok((1, Some(1)));
                }
                self.rest = ahead;
                let bounds = self.bounds()?;
                return self.repeated(bounds);
            }
            _ => return Ok((1, Some(1))),
        };
        self.rest.next();
        self.repeated((least, most))
    }

    fn repeated(&mut self, (least, most): (u32, Option<u32>)) -> Result<(u32, Option<u32>), Refusal> {
        let written = match most {
            Some(most) => write!(self.out, "{{{least},{most}}}"),
            None => write!(self.out, "{{{least},}}"),
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        if self.rest.next_if_eq(&'?').is_some() {
            self.sequence = None;
        }
        let again = match self.rest.peek() {
            Some('*' | '+' | '?') => true,
            Some('{') => {
                let mut ahead = self.rest.clone();
                ahead.next();
                ahead.peek().is_some_and(char::is_ascii_digit)
            }
            _ => false,
        };
        if again {
            refused("a repetition is repeated", "put the first one into a group: (a+)*")
        } else {
            Ok((least, most))
        }
    }

    /// `m}`, `m,}` or `m,n}`
    fn bounds(&mut self) -> Result<(u32, Option<u32>), Refusal> {
        const HINT: &str = "write {m}, {m,} or {m,n} with numbers of at most 255";
        let least = self.number();
        let most = if self.rest.next_if_eq(&',').is_none() {
            Some(least)
        } else if self.rest.peek() == Some(&'}') {
            None
        } else {
            Some(self.number())
        };
        let (Some(least), most @ (None | Some(Some(_)))) = (least, most) else {
            return refused("a repetition of the pattern is not valid", HINT);
        };
        let most = most.flatten();
        if self.rest.next() != Some('}') || most.is_some_and(|most| most < least) {
            return refused("a repetition of the pattern is not valid", HINT);
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Option<u32> {
        let mut number: Option<u32> = None;
        while let Some(digit) = self.rest.peek().and_then(|letter| letter.to_digit(10)) {
            self.rest.next();
            number = Some((number.unwrap_or(0) * 10 + digit).min(REPEATED_MAX + 1));
        }
        number.filter(|number| *number <= REPEATED_MAX)
    }

    /// One character. A case-insensitive match of the server matches its lower and its upper case.
    fn single(&self, letter: char) -> CharacterSet {
        if self.fold {
            CharacterSet::of([lower_of(letter), upper_of(letter)])
        } else {
            CharacterSet::of([letter])
        }
    }

    fn escape(&mut self) -> Result<Escaped, Refusal> {
        let Some(letter) = self.rest.next() else {
            return refused("the pattern ends with \\", "write \\\\ for the letter");
        };
        Ok(match letter {
            'D' => Escaped::Set(CharacterSet::range('0', '9').complement()),
            'A' => Escaped::Anchor("^"),
            'Z' => Escaped::Anchor("$"),
            letter => Escaped::Set(self.escaped(letter)?),
        })
    }

    /// An escape that is also valid in brackets.
    fn escaped(&mut self, letter: char) -> Result<CharacterSet, Refusal> {
        let plain = match letter {
            'd' => return Ok(CharacterSet::range('0', '9')),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'f' => '\u{C}',
            'v' => '\u{B}',
            'w' | 'W' => {
                return refused(
                    format!(
                        "\\{letter} is not supported: which letters it matches depends on the database's locale"
                    ),
                    "write [A-Za-z0-9_] with the letters that you mean",
                );
            }
            's' | 'S' => {
                return refused(
                    format!(
                        "\\{letter} is not supported: which blanks it matches depends on the database's locale"
                    ),
                    "write [ \\t\\r\\n]",
                );
            }
            'm' | 'M' | 'y' | 'Y' => {
                return refused(
                    format!("\\{letter} is not supported: which letters make a word depends on the locale"),
                    "write (^|[^A-Za-z]) before the word",
                );
            }
            'b' | 'B' => {
                return refused(
                    format!("\\{letter} is no word boundary here"),
                    "write (^|[^A-Za-z]) before the word",
                );
            }
            '1'..='9' => {
                return refused(
                    "a pattern that refers to its groups needs backtracking",
                    "compare two split_part()",
                );
            }
            letter if letter.is_alphanumeric() => {
                return refused(
                    format!("\\{letter} in a pattern is not supported"),
                    "write the character itself, \\n, \\t or \\d",
                );
            }
            letter => letter,
        };
        Ok(self.single(plain))
    }

    /// The rest of `[…]`.
    fn bracket(&mut self) -> Result<CharacterSet, Refusal> {
        const CLOSE: &str = "write ], or \\[ for the letter";
        let negated = self.rest.next_if_eq(&'^').is_some();
        let (mut set, mut first) = (CharacterSet::default(), true);
        loop {
            let Some(letter) = self.rest.next() else {
                return refused("a bracket of the pattern is not closed", CLOSE);
            };
            let start = match letter {
                ']' if !first => break,
                '[' if matches!(self.rest.peek(), Some(':' | '.' | '=')) => {
                    set = set.joined(self.class()?);
                    first = false;
                    self.no_range()?;
                    continue;
                }
                '-' if !first && self.rest.peek() != Some(&']') => {
                    return refused("a - between two ranges is ambiguous", "put it first or last: [-a-z]");
                }
                '\\' => {
                    let Some(escaped) = self.rest.next() else {
                        return refused("a bracket of the pattern is not closed", CLOSE);
                    };
                    if escaped == 'd'
                        || !matches!(escaped, 'n' | 't' | 'r' | 'f' | 'v') && escaped.is_alphanumeric()
                    {
                        set = set.joined(self.escaped(escaped)?);
                        first = false;
                        self.no_range()?;
                        continue;
                    }
                    plain(escaped)
                }
                letter => letter,
            };
            first = false;
            set = set.joined(match self.end_of_range()? {
                Some(end) => self.range(start, end)?,
                None => self.single(start),
            });
        }
        Ok(if negated { set.complement() } else { set })
    }

    /// A character class cannot be an end of a range.
    fn no_range(&mut self) -> Result<(), Refusal> {
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.next() != Some(']') {
            return refused("a class cannot begin a range", "put - first or last: [-a-z]");
        }
        Ok(())
    }

    /// The end of a range, if a range follows.
    fn end_of_range(&mut self) -> Result<Option<char>, Refusal> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || ahead.peek() == Some(&']') {
            return Ok(None);
        }
        self.rest = ahead;
        match (self.rest.next(), self.rest.peek()) {
            (Some('\\'), Some(&escaped)) => {
                self.rest.next();
                let known = matches!(escaped, 'n' | 't' | 'r' | 'f' | 'v') || !escaped.is_alphanumeric();
                if known { Ok(Some(plain(escaped))) } else { refused("a range has no such end", "write a-z") }
            }
            (Some('[' | '-') | None, _) => refused("a range of the pattern has no end", "write a-z"),
            (end, _) => Ok(end),
        }
    }

    fn range(&self, first: char, last: char) -> Result<CharacterSet, Refusal> {
        if first > last {
            return refused(format!("the range {first}-{last} is empty"), "write the lower end first");
        }
        let set = CharacterSet::range(first, last);
        if !self.fold {
            return Ok(set);
        }
        if u32::from(last) - u32::from(first) > FOLDED_MAX {
            return refused("a range is too large to ignore case", "write ~ with both cases");
        }
        Ok(set
            .joined(CharacterSet::of((first..=last).flat_map(|letter| [lower_of(letter), upper_of(letter)]))))
    }

    /// Classes such as `[:digit:]` that do not depend on a locale.
    fn class(&mut self) -> Result<CharacterSet, Refusal> {
        const HINT: &str =
            "write the characters, as in [A-Za-z]; only [:digit:], [:xdigit:] and [:blank:] are known";
        let mark = self.rest.next();
        let mut name = String::new();
        while let Some(letter) = self.rest.next_if(|letter| letter.is_ascii_alphabetic() && name.len() < 9) {
            name.push(letter);
        }
        let closed = self.rest.next() == mark && self.rest.next() == Some(']');
        let set = match (mark, name.as_str()) {
            (Some(':'), "digit") => CharacterSet::range('0', '9'),
            (Some(':'), "xdigit") => CharacterSet::range('0', '9')
                .joined(CharacterSet::range('a', 'f'))
                .joined(CharacterSet::range('A', 'F')),
            (Some(':'), "blank") => CharacterSet::of([' ', '\t']),
            _ => {
                let message = "a class of the pattern depends on the database's locale, or is not known";
                return refused(message, HINT);
            }
        };
        if closed { Ok(set) } else { refused("a class of the pattern is not closed", HINT) }
    }
}

/// The character that a single letter after `\` stands for.
const fn plain(escaped: char) -> char {
    match escaped {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'f' => '\u{C}',
        'v' => '\u{B}',
        other => other,
    }
}
