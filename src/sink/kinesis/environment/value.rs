//! Checks a value of the AWS environment, whether it comes from a variable or a profile.

use crate::failure::Problem;

/// Checks a value by its purpose: the name of its variable, or its key in a profile.
pub(super) fn check(name: &str, value: &str) -> Result<(), Problem> {
    let name_is = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if name_is(&[
        "AWS_USE_FIPS_ENDPOINT",
        "use_fips_endpoint",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "use_dualstack_endpoint",
    ]) {
        // The SDK would silently ignore the value.
        if !value.is_empty() && !["true", "false"].iter().any(|word| word.eq_ignore_ascii_case(value)) {
            return Err(Problem::new(format!("{name} is {value:?}")).with_hint("Write true or false."));
        }
    }
    if name_is(&["AWS_ACCESS_KEY_ID"]) {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !value.bytes().all(allowed) {
            let fact = format!("{name} has a character that no access key id has (not shown)");
            return Err(Problem::new(fact).with_hint("Write it without quotes, blanks and placeholders."));
        }
    }
    if name_is(&["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
        && ['"', '\'']
            .iter()
            .any(|quote| value.len() > 1 && value.starts_with(*quote) && value.ends_with(*quote))
    {
        return Err(
            Problem::new(format!("{name} is in quotes (not shown)")).with_hint("Write it without quotes.")
        );
    }
    Ok(())
}
