//! libpq's `require_auth`: the methods by which the server may request authentication.

use std::str::FromStr;

/// How a server authenticates a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all (`trust`), by the socket's user (`peer`), or by a client certificate.
    None,
    /// The password in clear text.
    Password,
    /// A hash of the password.
    Md5,
    /// Both sides prove that they know the password, and neither reveals it.
    Scram,
}

/// The configured methods. By default every method is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequireAuth {
    /// With `!` the listed methods are excluded and all others allowed. Otherwise only the listed ones are
    /// allowed.
    excludes: bool,
    methods: Vec<Method>,
    is_set: bool,
}

impl RequireAuth {
    /// Whether the server may use this method.
    pub fn allows(&self, method: Method) -> bool {
        !self.is_set || self.methods.contains(&method) != self.excludes
    }

    /// Whether this method is explicitly allowed.
    pub fn names(&self, method: Method) -> bool {
        !self.excludes && self.methods.contains(&method)
    }
}

impl FromStr for RequireAuth {
    type Err = ();

    /// Parses a list such as `scram-sha-256,md5`, or `!password,!none`. Methods that Forebay does not support
    /// are accepted and have no effect.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let excludes = text.starts_with('!');
        let mut methods = Vec::new();
        for name in text.split(',') {
            let name = match name.strip_prefix('!') {
                Some(name) if excludes => name,
                None if !excludes => name,
                _ => return Err(()),
            };
            methods.push(match name {
                "none" => Method::None,
                "password" => Method::Password,
                "md5" => Method::Md5,
                "scram-sha-256" => Method::Scram,
                "gss" | "sspi" | "oauth" => continue,
                _ => return Err(()),
            });
        }
        Ok(Self { excludes, methods, is_set: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn require_auth_is_read_as_by_libpq() {
        let all = [Method::None, Method::Password, Method::Md5, Method::Scram];
        for (text, allowed, named) in [
            ("", "1111", "0000"),
            ("scram-sha-256", "0001", "0001"),
            ("password,md5", "0110", "0110"),
            ("none", "1000", "1000"),
            ("gss", "0000", "0000"),
            ("!password", "1011", "0000"),
            ("!none,!md5", "0101", "0000"),
            ("!oauth", "1111", "0000"),
        ] {
            let set: RequireAuth = text.parse().unwrap();
            let bits = |is: &dyn Fn(Method) -> bool| all.map(|method| if is(method) { '1' } else { '0' });
            assert_eq!(bits(&|method| set.allows(method)).iter().collect::<String>(), allowed, "{text}");
            assert_eq!(bits(&|method| set.names(method)).iter().collect::<String>(), named, "{text}");
        }
        for text in ["scram", "md5,!password", "!md5,password", "md5,", " md5", "!"] {
            assert_eq!(text.parse::<RequireAuth>(), Err(()), "{text}");
        }
    }
}
