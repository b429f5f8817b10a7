//! Scalars. Each function appends one value or fails; on failure the caller removes what was appended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ValueError;

/// Writes `t` and `f` as `true` and `false`.
pub(super) fn boolean(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    let word: &[u8] = match text {
        b"t" => b"true",
        b"f" => b"false",
        _ => return Err(ValueError::Malformed("boolean")),
    };
    out.extend_from_slice(word);
    Ok(())
}

/// Integers and numeric: the digits are unchanged, because scale and precision carry meaning.
pub(super) fn number(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    if is_plain_number(text) {
        out.extend_from_slice(text);
        return Ok(());
    }
    not_finite(out, text).ok_or(ValueError::Malformed("number"))
}

/// Floats, in jsonb's form: without an exponent and without a negative zero.
pub(super) fn float(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    if text == b"-0" {
        out.push(b'0');
        return Ok(());
    }
    if is_plain_number(text) {
        out.extend_from_slice(text);
        return Ok(());
    }
    write_exponent(out, text).or_else(|| not_finite(out, text)).ok_or(ValueError::Malformed("float"))
}

/// NaN and infinities, which JSON numbers cannot represent: strings, as in `to_jsonb()`.
fn not_finite(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    if !matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        return None;
    }
    write_quoted(out, &[text]);
    Some(())
}

/// JSON's number grammar without the exponent.
#[inline]
fn is_plain_number(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let whole = unsigned.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(unsigned.len());
    let begins_well = match unsigned {
        [b'0', ..] => whole == 1,
        _ => whole > 0,
    };
    begins_well && unsigned.get(whole..).is_some_and(is_fraction)
}

/// Writes `-1.5e-07` as `-0.00000015`.
fn write_exponent(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let at = text.iter().position(|&byte| byte == b'e')?;
    let (mantissa, exponent) = text.split_at(at);
    let exponent = exponent_of(exponent.get(1..)?)?;
    if !is_plain_number(mantissa) {
        return None;
    }
    let (sign, digits): (&[u8], _) =
        mantissa.strip_prefix(b"-").map_or((b"", mantissa), |digits| (b"-", digits));
    if digits.first() == Some(&b'0') {
        return None; // Shifted, a leading zero would be no JSON; Postgres prints an exponent behind 1 to 9 only.
    }
    let (whole, fraction) = match digits.iter().position(|&byte| byte == b'.') {
        Some(point) => (digits.get(..point)?, digits.get(point + 1..)?),
        None => (digits, &[][..]),
    };
    out.extend_from_slice(sign);
    let zeros = |out: &mut Vec<u8>, count: usize| out.resize(out.len() + count, b'0');
    if exponent >= 0 {
        let shift = exponent.unsigned_abs();
        out.extend_from_slice(whole);
        let (moved, left) = fraction.split_at(shift.min(fraction.len()));
        out.extend_from_slice(moved);
        zeros(out, shift - moved.len());
        if !left.is_empty() {
            out.push(b'.');
            out.extend_from_slice(left);
        }
    } else {
        let shift = exponent.unsigned_abs();
        let (kept, moved) = whole.split_at(whole.len().saturating_sub(shift));
        out.extend_from_slice(if kept.is_empty() { b"0" } else { kept });
        out.push(b'.');
        zeros(out, shift - moved.len());
        out.extend_from_slice(moved);
        out.extend_from_slice(fraction);
    }
    Some(())
}

/// An exponent of up to three digits, enough for a float8. More digits would let a few bytes expand to
/// megabytes.
fn exponent_of(text: &[u8]) -> Option<isize> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => return None,
    };
    if !(1..=3).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0, |sum, digit| sum * 10 + isize::from(digit - b'0'));
    Some(if negative { -size } else { size })
}

/// Writes a date such as `2026-10-01`, `0044-03-15 BC` or `infinity`.
pub(super) fn date(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    let (day, _) = split_era(text);
    if !is_infinite(text) && !is_day(day) {
        return Err(ValueError::Malformed("date in DateStyle ISO"));
    }
    write_quoted(out, &[text]);
    Ok(())
}

/// Writes a timestamp such as `2026-10-01 12:00:00.5`, with a `T`.
pub(super) fn timestamp(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    if is_usual_moment(text) {
        write_usual_moment(out, text, b"\"");
        return Ok(());
    }
    if is_infinite(text) {
        write_quoted(out, &[text]);
        return Ok(());
    }
    let (moment, era) = split_era(text);
    let (day, time) = split_moment(moment).ok_or(ValueError::Malformed("timestamp in DateStyle ISO"))?;
    write_quoted(out, &[day, b"T", time, era]);
    Ok(())
}

/// Writes a timestamp such as `2026-10-01 12:00:00.5+00`, with `T` and `Z`. Another offset means a wrong
/// session setting and is rejected.
pub(super) fn timestamptz(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    if let Some(moment) = text.strip_suffix(b"+00").filter(|moment| is_usual_moment(moment)) {
        write_usual_moment(out, moment, b"Z\"");
        return Ok(());
    }
    if is_infinite(text) {
        write_quoted(out, &[text]);
        return Ok(());
    }
    let (moment, era) = split_era(text);
    let (day, time) = moment
        .strip_suffix(b"+00")
        .and_then(split_moment)
        .ok_or(ValueError::Malformed("timestamp in DateStyle ISO and TimeZone UTC"))?;
    write_quoted(out, &[day, b"T", time, b"Z", era]);
    Ok(())
}

/// Offset of the blank between a date with a four-digit year and the time.
const BLANK: usize = 10;

/// Whether a timestamp has the usual form: a year of four digits and nothing after the fraction.
fn is_usual_moment(text: &[u8]) -> bool {
    let Some((whole, fraction)) = text.split_first_chunk::<19>() else { return false };
    let &[y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b' ', h1, h2, b':', mi1, mi2, b':', s1, s2] = whole
    else {
        return false;
    };
    let digits = [y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2];
    digits.iter().all(u8::is_ascii_digit) && is_fraction(fraction)
}

/// Appends such a timestamp, with a `T`.
fn write_usual_moment(out: &mut Vec<u8>, text: &[u8], end: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(text);
    if let Some(blank) = out.get_mut(start + BLANK) {
        *blank = b'T';
    }
    out.extend_from_slice(end);
}

fn is_infinite(text: &[u8]) -> bool {
    matches!(text, b"infinity" | b"-infinity")
}

/// Splits off ` BC`.
fn split_era(text: &[u8]) -> (&[u8], &[u8]) {
    text.strip_suffix(b" BC").map_or((text, b""), |before| (before, b" BC"))
}

fn split_moment(moment: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = moment.iter().position(|&byte| byte == b' ')?;
    let (day, time) = (moment.get(..blank)?, moment.get(blank + 1..)?);
    (is_day(day) && is_time(time)).then_some((day, time))
}

/// Whether a text is a year of four or more digits, month and day.
fn is_day(text: &[u8]) -> bool {
    let Some((year, month_and_day)) = text.split_last_chunk::<6>() else { return false };
    let [b'-', month @ .., b'-', day1, day2] = month_and_day else { return false };
    let is_digit = u8::is_ascii_digit;
    year.len() >= 4 && year.iter().chain(month).chain([day1, day2]).all(is_digit)
}

/// Whether a text is `12:00:00` with an optional fraction.
fn is_time(text: &[u8]) -> bool {
    let Some(([h1, h2, b':', m1, m2, b':', s1, s2], fraction)) = text.split_first_chunk::<8>() else {
        return false;
    };
    [h1, h2, m1, m2, s1, s2].into_iter().all(u8::is_ascii_digit) && is_fraction(fraction)
}

/// Whether a text is empty or a point and digits.
fn is_fraction(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b'.', places @ ..] => !places.is_empty() && places.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Writes a string of parts that need no escapes.
fn write_quoted(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.push(b'"');
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

/// Writes `\x6869` as base64 with padding (RFC 4648 §4), which JSON Schema calls `contentEncoding: base64`.
pub(super) fn bytea(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    // Multiples of three bytes have no base64 padding, so that the pieces can be joined.
    const PIECE: usize = 3 * 64;
    const MALFORMED: ValueError = ValueError::Malformed("bytea in bytea_output hex");
    let hex = text.strip_prefix(b"\\x").filter(|hex| hex.len().is_multiple_of(2)).ok_or(MALFORMED)?;
    out.reserve(hex.len() / 6 * 4 + 6);
    out.push(b'"');
    let mut raw = [0; PIECE];
    let mut encoded = [0; PIECE / 3 * 4];
    for piece in hex.chunks(2 * PIECE) {
        let (pairs, _) = piece.as_chunks::<2>();
        for (byte, [high, low]) in raw.iter_mut().zip(pairs) {
            *byte = nibble(*high).ok_or(MALFORMED)? << 4 | nibble(*low).ok_or(MALFORMED)?;
        }
        let decoded = raw.get(..pairs.len()).ok_or(MALFORMED)?;
        let length = STANDARD.encode_slice(decoded, &mut encoded).map_err(|_| MALFORMED)?;
        out.extend_from_slice(encoded.get(..length).ok_or(MALFORMED)?);
    }
    out.push(b'"');
    Ok(())
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
