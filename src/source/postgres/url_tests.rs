//! Connection strings, passwords and files, as libpq reads them.

use crate::failure::Problem;

use super::*;

/// All texts of an error.
fn said(error: SettingsError) -> String {
    let debug = format!("{error:?}");
    format!("{debug} {}", Problem::from(error))
}

fn read(url: &str) -> Settings {
    Settings::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn url_yields_host_database_and_user() {
    let tcp = |host: &str| Host::Tcp(host.to_owned());
    let socket = |path: &str| Host::Socket(path.into());
    let cases = [
        ("postgres://u:p@db.example:5433/lab", tcp("db.example"), 5433, "u", "lab"),
        ("postgresql://u@db.example", tcp("db.example"), 5432, "u", "u"),
        ("postgres://u@[::1]:6000/lab", tcp("::1"), 6000, "u", "lab"),
        ("postgres://u@[fe80::1]/lab", tcp("fe80::1"), 5432, "u", "lab"),
        ("postgres://u@/lab?host=%2Frun%2Fpostgresql&port=1", socket("/run/postgresql"), 1, "u", "lab"),
        ("postgres://u@%2Frun%2Fpg:7/lab", socket("/run/pg"), 7, "u", "lab"),
        ("postgres://a%40b:x@h/d%2Fe", tcp("h"), 5432, "a@b", "d/e"),
        ("postgres:///?user=u&dbname=lab&host=h", tcp("h"), 5432, "u", "lab"),
        ("postgres://u@/lab", tcp("localhost"), 5432, "u", "lab"),
    ];
    for (url, host, port, user, database) in cases {
        let settings = read(url);
        assert_eq!(
            (settings.host, settings.port, settings.user.as_str(), settings.database.as_str()),
            (host, port, user, database),
            "{url}"
        );
    }
}

#[test]
fn password_is_decoded_and_never_printed() {
    let settings = read("postgres://u:p%40ss%20w%C3%B6rd:x@h/d");
    assert_eq!(settings.password.as_ref().unwrap().reveal(), "p@ss wörd:x".as_bytes());
    assert!(!format!("{settings:?}").contains("ss w"));
    for url in
        ["postgres://u:hush@h:x/d", "postgres://u:hush@h/d?x=1", "mysql://u:hush@h/d", "postgres://u:hush%@h"]
    {
        let error = said(Settings::from_url(url).unwrap_err());
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn url_password_takes_precedence() {
    let given = || Some(Password::new("other"));
    assert_eq!(read("postgres://u:url@h").with_password(given()).password, Some(Password::new("url")));
    assert_eq!(read("postgres://u@h").with_password(given()).password, given());
}

#[test]
fn unknown_parameter_is_named() {
    for (url, named) in [
        ("postgres://u@h?sslmod=require", "\"sslmod\""),
        ("postgres://u@h?sslmode=on", "\"on\""),
        ("postgres://u@h?channel_binding=yes", "\"yes\""),
        ("postgres://u@h?require_auth=scram", "require_auth=\"scram\""),
        ("postgres://u@h:0/d", "1 to 65535"),
        ("postgres://u@h:99999/d", "1 to 65535"),
        ("postgres://u@h?sslmode=verify-ca", "no sslrootcert"),
        ("postgres://u@h?sslmode=verify-ca&sslrootcert=system", "verify-full"),
        ("postgres://u@h?sslmode=allow&sslrootcert=system", "verify-full"),
        ("host=h user=u dbname=d", "postgres://"),
        ("postgres://u@h?connect_timeout=soon", "\"soon\""),
        ("postgres://u@h?sslrootcert=system&sslmode=require", "verify-full"),
        ("postgres://u@h?sslcert=/c", "sslkey"),
        ("postgres://u@h1,h2/d", "several hosts"),
        ("postgres://u@[::1/d", "more than one way"),
        ("postgres://u@h/%zz", "%25"),
        ("postgres://u@h/%00", "UTF-8"),
    ] {
        let error = said(Settings::from_url(url).unwrap_err());
        assert!(error.contains(named) || error.contains(&named.escape_debug().to_string()), "{url}: {error}");
    }
}

#[test]
fn tls_settings_match_libpq() {
    let settings = read("postgres://u@h");
    assert_eq!((settings.ssl_mode, settings.channel_binding), (SslMode::Prefer, ChannelBinding::Prefer));
    let settings = read("postgres://u@h?sslrootcert=system");
    assert_eq!((settings.ssl_mode, settings.root_cert), (SslMode::VerifyFull, Some(RootCert::System)));
    let settings = read("postgres://u@h?sslmode=verify-ca&sslrootcert=%2Fca.pem&sslcert=c&sslkey=k");
    assert_eq!(settings.ssl_mode, SslMode::VerifyCa);
    assert_eq!(settings.root_cert, Some(RootCert::File("/ca.pem".into())));
    assert_eq!(settings.client_cert, Some(("c".into(), "k".into())));
    // A socket has no TLS, so its settings are ignored.
    assert_eq!(read("postgres://u@/d?host=/run&sslmode=verify-ca").ssl_mode, SslMode::VerifyCa);
    assert_eq!(read("postgres://u@h?sslmode=verify-full").root_cert, None);
}

#[test]
fn target_round_trips() {
    assert_eq!(read("postgres://u@[::1]:6/d").target(), "[::1]:6");
    assert_eq!(read("postgres://u@h/d").target(), "h:5432");
    assert_eq!(read("postgres://u@/d?host=/run").target(), "/run/.s.PGSQL.5432");
}

/// A user name in Azure's form, as libpq accepts it.
#[test]
fn at_sign_in_user_parameter_is_read() {
    assert_eq!(read("postgres://h/d?user=me@server").user, "me@server");
}

/// Half a password must not be shown either: two halves around a character that should be escaped, wherever
/// people put passwords. Either the URL is rejected, or both halves are in the password. No text contains any
/// of them.
#[test]
fn no_form_of_url_prints_its_password() {
    let breaks = [
        "@", "/", "?", "#", ":", "%", "&", "=", ";", " ", ",", "[", "]", "+", "\\", "\"", "@h/", "/@", "?@",
        ":@", "@:1/", "%zz", "%40", "%2F", "%3F", "%00", "//", "://", "?a=", "&a=", "?host=", "@h?port=",
    ];
    let forms = [
        "postgres://u:PASSWORD@db.example:5432/d",
        "postgres://u:PASSWORD@db.example/d?sslmode=require",
        "postgres://u:PASSWORD@[::1]/d",
        "postgres://:PASSWORD@db.example/d",
        "postgres://u:PASSWORD@/d?host=/run",
        "postgres://u:PASSWORD",
        "postgres://u:PASSWORD/d",
        "postgres://db.example/d?user=u&password=PASSWORD",
        "postgres://db.example/d?password=PASSWORD&user=u",
        "postgres://db.example/d?user=u&PASSWORD=PASSWORD",
        "postgres://db.example/d?user=u&passwd=PASSWORD",
        "postgres://db.example/d?user=u;password=PASSWORD",
        "postgres://db.example/d?sslmode=require;password=PASSWORD",
        "postgres://db.example/d?user=u&options=-c%20x.password=PASSWORD",
        "postgresql+psycopg2://u:PASSWORD@h/d",
        "jdbc:postgresql://h/d?user=u&password=PASSWORD",
        "postgres:/u:PASSWORD@h/d",
        "u:PASSWORD@h/d",
        "host=h user=u password=PASSWORD dbname=d",
        "postgres://u:PASSWORD@h:port/d",
        "postgres://u:PASSWORD@h:99999/d",
        "postgres://u:PASSWORD@h1,h2/d",
        "postgres://u:PASSWORD@h/d?sslmode=none",
    ];
    for form in forms {
        for middle in breaks.iter().chain(&[""]) {
            if middle.contains('@') && !form.contains('?') && !form.contains('@') {
                // This is a valid URL: the first half is the password, the second is the host.
                continue;
            }
            let url = form.replace("PASSWORD", &format!("S3CR{middle}ET77"));
            let printed = match Settings::from_url(&url) {
                Ok(settings) => format!("{settings:?} {} {}", settings.target(), settings.user),
                Err(error) => said(error),
            };
            assert!(!printed.contains("S3CR") && !printed.contains("ET77"), "{url}: {printed}");
        }
    }
}

proptest::proptest! {
    /// The same, for any password at any place.
    #[test]
    fn arbitrary_password_is_never_printed(
        middle in "[ -~]{0,6}", form in 0_usize..4, escaped in proptest::bool::ANY,
    ) {
        let password = format!("S3CR{middle}ET77");
        let password = if escaped {
            percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC).to_string()
        } else {
            password
        };
        let url = match form {
            0 => format!("postgres://u:{password}@db.example:5432/d"),
            1 => format!("postgres://u:{password}@db.example/d?sslmode=require&application_name=a"),
            2 => format!("postgres://db.example/d?user=u&password={password}"),
            _ => format!("postgres://u@db.example/d?password={password}&sslmode=require"),
        };
        let printed = match Settings::from_url(&url) {
            Ok(settings) => {
                let given = settings.password.clone().map(|password| password.reveal().to_vec()).unwrap_or_default();
                if escaped {
                    proptest::prop_assert_eq!(given, format!("S3CR{middle}ET77").into_bytes());
                }
                format!("{settings:?} {} {} {} {}", settings.target(), settings.user, settings.database, settings.application_name)
            }
            Err(error) => {
                proptest::prop_assert!(!escaped, "{}", error);
                said(error)
            }
        };
        proptest::prop_assert!(!printed.contains("S3CR") && !printed.contains("ET77"), "{}: {}", url, printed);
    }

    #[test]
    fn arbitrary_url_never_panics(rest in "[ -~äß%@:/?#&=\\[\\]]{0,40}") {
        let _read = Settings::from_url(&format!("postgres://{rest}"));
        let _read = Settings::from_url(&rest);
    }
}
