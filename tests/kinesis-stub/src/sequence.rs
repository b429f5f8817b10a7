//! Sequence numbers: 56 decimal digits, increasing over the whole stream, so over every shard of it.

/// Its first digits, as the real service's of today.
const PREFIX: &str = "49";
/// What is lower than any of those.
const PREFIX_BELOW: &str = "48";
const DIGITS: usize = 54;

/// The text of a number.
pub(crate) fn text(number: u64) -> String {
    format!("{PREFIX}{number:0DIGITS$}")
}

/// The text of a number below all of [`text`]'s: the higher the number, the lower.
pub(crate) fn falling(number: u64) -> String {
    format!("{PREFIX_BELOW}{:0DIGITS$}", u64::MAX - number)
}

/// The number of a text that [`text`] made.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.strip_prefix(PREFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_number_has_56_digits_and_sorts_as_text() {
        assert_eq!(text(7).len(), 56);
        assert!(text(9) < text(10));
        assert_eq!(parse(&text(u64::MAX)), Some(u64::MAX));
        assert_eq!(falling(7).len(), 56);
        assert!(falling(0) < text(0) && falling(10) < falling(9));
        for bad in ["", "49", "7", &text(1).replace('1', "x"), &format!("{}0", text(1))] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
