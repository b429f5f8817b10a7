//! Random regular expressions: most are valid, some are not, and some have what a server reads in its own way.

use crate::json::generate::Random;

const ATOMS: &[&str] = &[
    "a",
    "b",
    "c",
    "x",
    "A",
    "é",
    "ß",
    "1",
    " ",
    ",",
    ".",
    "[abc]",
    "[^abc]",
    "[a-c]",
    "[^a-z0-9]",
    "[A-Z]",
    "[0-9]",
    "\\d",
    "\\D",
    "\\.",
    "[[:digit:]]",
    "[[:xdigit:]b]",
    "[]a]",
    "[^]a]",
    "[-a]",
    "[a-]",
    "[\\d,]",
    "[.*]",
    "[a\\]b]",
    "{",
    "}",
    "]",
    "[b-é]",
    "İ",
    "ǅ",
    "[^ ]",
    "\\n",
    "[\\t ]",
    "k",
    "s",
    "[k-s]",
];
const REPEATED: &[&str] =
    &["", "", "", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,3}", "{1,}", "{0}", "*?", "+?", "{1,2}?", "??"];
/// What is refused, by the server or by us.
const ODD: &[&str] = &[
    "*",
    "(",
    ")",
    "[",
    "|",
    "{1",
    "{2,1}",
    "\\",
    "\\w",
    "\\s",
    "[[:alpha:]]",
    "(?=a)",
    "\\1",
    "(?i)",
    "***",
    "^*",
    "$+",
    "()",
    "(^)*",
    "a**",
    "[b-a]",
    "[a-c-e]",
    "\\q",
    "[\\w]",
    "\\A",
    "\\Z",
    "\\y",
    "[[.a.]]",
    "[[:digit:]-a]",
    "[a-[:digit:]]",
    "x{,3}",
    "[--a]",
    "[+--]",
];

/// A pattern as a literal.
pub(super) fn pattern(random: &mut Random) -> String {
    format!("'{}'", branches(random, 2).replace('\'', "''"))
}

fn branches(random: &mut Random, depth: u64) -> String {
    let count = 1 + u64::from(random.one_in(4)) + u64::from(random.one_in(9));
    (0..count).map(|_| branch(random, depth)).collect::<Vec<_>>().join("|")
}

fn branch(random: &mut Random, depth: u64) -> String {
    let mut out = String::from(if random.one_in(5) { "^" } else { "" });
    for _ in 0..random.below(4) {
        let atom = match random.below(24) {
            0 => random.pick(ODD).to_owned(),
            1..=4 if depth > 0 => {
                let open = if random.one_in(3) { "(?:" } else { "(" };
                format!("{open}{})", branches(random, depth - 1))
            }
            _ => random.pick(ATOMS).to_owned(),
        };
        out.push_str(&atom);
        out.push_str(random.pick(REPEATED));
    }
    out.push_str(if random.one_in(6) { "$" } else { "" });
    out
}

/// A sequence of pieces, which `regexp_replace` takes.
pub(super) fn sequence(random: &mut Random) -> String {
    let mut out = String::from(if random.one_in(5) { "^" } else { "" });
    for _ in 0..=random.below(3) {
        out.push_str(random.pick(ATOMS));
        out.push_str(random.pick(REPEATED));
    }
    out.push_str(if random.one_in(6) { "$" } else { "" });
    format!("'{}'", out.replace('\'', "''"))
}
