//! Connection strings, passwords and files, as libpq reads them.

use super::*;

fn read(url: &str) -> Settings {
    Settings::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn a_url_says_where_and_who() {
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
fn a_password_is_decoded_and_never_printed() {
    let settings = read("postgres://u:p%40ss%20w%C3%B6rd:x@h/d");
    assert_eq!(settings.password.as_ref().unwrap().reveal(), "p@ss wörd:x".as_bytes());
    assert!(!format!("{settings:?}").contains("ss w"));
    for url in
        ["postgres://u:hush@h:x/d", "postgres://u:hush@h/d?x=1", "mysql://u:hush@h/d", "postgres://u:hush%@h"]
    {
        let error = Settings::from_url(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

#[test]
fn a_password_from_elsewhere_gives_way_to_the_url() {
    let given = || Some(Password::new("other"));
    assert_eq!(read("postgres://u:url@h").with_password(given()).password, Some(Password::new("url")));
    assert_eq!(read("postgres://u@h").with_password(given()).password, given());
}

#[test]
fn what_we_do_not_know_is_named() {
    for (url, named) in [
        ("postgres://u@h?sslmod=require", "\"sslmod\""),
        ("postgres://u@h?sslmode=on", "\"on\""),
        ("postgres://u@h?channel_binding=yes", "\"yes\""),
        ("postgres://u@h:0/d", "\"0\""),
        ("postgres://u@h:99999/d", "\"99999\""),
        ("postgres://u@h?connect_timeout=soon", "\"soon\""),
        ("postgres://u@h?sslrootcert=system&sslmode=require", "verify-full"),
        ("postgres://u@h?sslcert=/c", "sslkey"),
        ("postgres://u@h1,h2/d", "several hosts"),
        ("postgres://u@[::1/d", "`]`"),
        ("postgres://u@h/%zz", "%25"),
        ("postgres://u@h/%00", "UTF-8"),
    ] {
        let error = Settings::from_url(url).unwrap_err().to_string();
        assert!(error.contains(named), "{url}: {error}");
    }
}

#[test]
fn tls_settings_have_libpqs_meanings() {
    let settings = read("postgres://u@h");
    assert_eq!((settings.ssl_mode, settings.channel_binding), (SslMode::Prefer, ChannelBinding::Prefer));
    let settings = read("postgres://u@h?sslrootcert=system");
    assert_eq!((settings.ssl_mode, settings.root_cert), (SslMode::VerifyFull, Some(RootCert::System)));
    let settings = read("postgres://u@h?sslmode=verify-ca&sslrootcert=%2Fca.pem&sslcert=c&sslkey=k");
    assert_eq!(settings.ssl_mode, SslMode::VerifyCa);
    assert_eq!(settings.root_cert, Some(RootCert::File("/ca.pem".into())));
    assert_eq!(settings.client_cert, Some(("c".into(), "k".into())));
}

#[test]
fn a_target_can_be_read_back() {
    assert_eq!(read("postgres://u@[::1]:6/d").target(), "[::1]:6");
    assert_eq!(read("postgres://u@h/d").target(), "h:5432");
    assert_eq!(read("postgres://u@/d?host=/run").target(), "/run/.s.PGSQL.5432");
}

#[test]
fn a_password_that_is_not_escaped_is_never_part_of_the_error() {
    for url in ["postgres://u:s3cr/et@h/d", "postgres://u:s3cr?et@h/d", "postgres://u:s3cr/e?t@h/d"] {
        let error = Settings::from_url(url).unwrap_err().to_string();
        assert!(!error.contains("s3cr") && !error.contains("et@") && !error.contains("t@h"), "{error}");
    }
    assert!(Settings::from_url("postgres://h/d?user=me@server").is_ok());
}
