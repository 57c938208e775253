use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Dsn {
    Dsn::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn hosts(text: &str) -> Vec<String> {
    parse(text).hosts.iter().map(HostPort::to_string).collect()
}

fn password(dsn: &Dsn) -> Option<&str> {
    dsn.password.as_ref().map(Secret::expose)
}

#[test]
fn every_dialect_of_one_connection_reads_the_same() {
    let expected = parse("postgresql://ann:s3cret@db.example:5433/shop?sslmode=require");
    assert_eq!(expected.user.as_deref(), Some("ann"));
    assert_eq!(password(&expected), Some("s3cret"));
    assert_eq!(expected.database.as_deref(), Some("shop"));
    assert_eq!(expected.hosts, [HostPort::tcp("db.example", 5433)]);
    assert_eq!(expected.ssl_mode, SslMode::Require);
    for text in [
        "postgres://ann:s3cret@db.example:5433/shop?sslmode=require",
        "  POSTGRESQL://ann:s3cret@db.example:5433/shop?sslmode=require\n",
        "postgresql+asyncpg://ann:s3cret@db.example:5433/shop?ssl=require",
        "postgres+asyncpg://ann:s3cret@db.example:5433/shop?ssl=require",
        "postgresql+psycopg://ann:s3cret@db.example:5433/shop?sslmode=require",
        "postgresql+psycopg2://ann:s3cret@db.example:5433/shop?sslmode=require",
        "postgresql+pg8000://ann:s3cret@db.example:5433/shop?sslmode=require",
        "postgresql+psycopg://ann:s3cret@/shop?host=db.example:5433&sslmode=require",
        "postgresql://db.example:5433/shop?user=ann&password=s3cret&sslmode=require",
        "jdbc:postgresql://db.example:5433/shop?user=ann&password=s3cret&sslmode=require",
        "host=db.example port=5433 user=ann password=s3cret dbname=shop sslmode=require",
        "host = 'db.example' port = 5433 user = ann password='s3cret'\n dbname=shop sslmode=require",
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_written_has_a_default() {
    let dsn = parse("postgresql://");
    assert_eq!(dsn.hosts, [HostPort::tcp("localhost", 5432)]);
    assert_eq!(dsn.ssl_mode, SslMode::Prefer);
    assert_eq!(
        (dsn.user, dsn.password, dsn.database, dsn.connect_timeout),
        (None, None, None, None)
    );
    assert_eq!(hosts("jdbc:postgresql:shop"), ["localhost:5432"]);
    assert_eq!(
        parse("jdbc:postgresql:shop").database.as_deref(),
        Some("shop")
    );
    assert_eq!(parse("jdbc:postgresql:/").database, None);
    assert_eq!(parse("postgresql://ann:@h/").password, None);
}

#[test]
fn several_hosts_in_each_spelling() {
    let expected = ["a:5432", "b:5433"];
    assert_eq!(hosts("postgresql://a,b:5433/d"), expected);
    assert_eq!(hosts("postgresql:///d?host=a,b&port=5432,5433"), expected);
    assert_eq!(
        hosts("postgresql+asyncpg://u@/d?host=a:5432&host=b:5433"),
        expected
    );
    assert_eq!(
        hosts("postgresql+psycopg2://u@/d?host=a,b&port=5432,5433"),
        expected
    );
    assert_eq!(hosts("jdbc:postgresql://a,b:5433/d"), expected);
    assert_eq!(hosts("host=a,b port=,5433"), expected);
    assert_eq!(hosts("host=a,b port=6000"), ["a:6000", "b:6000"]);
    assert_eq!(hosts("hostaddr=10.0.0.1"), ["10.0.0.1:5432"]);
    assert_eq!(
        Dsn::parse("host=a,b,c port=1,2"),
        Err(ParseError::PortCount { hosts: 3, ports: 2 })
    );
}

#[test]
fn ipv6_addresses_stand_in_brackets_in_urls_only() {
    assert_eq!(
        hosts("postgresql://u@[2001:db8::1]:6000/d"),
        ["[2001:db8::1]:6000"]
    );
    assert_eq!(
        hosts("postgresql://[::1],[::2]:1/d"),
        ["[::1]:5432", "[::2]:1"]
    );
    assert_eq!(hosts("host=::1"), ["[::1]:5432"]);
    assert_eq!(
        hosts("postgresql+asyncpg://u@/d?host=[::1]:6000"),
        ["[::1]:6000"]
    );
    assert_eq!(
        Dsn::parse("postgresql://[::1/d"),
        Err(ParseError::Brackets { host: 1 })
    );
    assert_eq!(
        Dsn::parse("postgresql://[::1]x/d"),
        Err(ParseError::Brackets { host: 1 })
    );
}

#[test]
fn unix_sockets_by_directory_and_by_file() {
    let expected = HostPort::unix("/var/run/postgresql", 5433);
    assert_eq!(expected.to_string(), "/var/run/postgresql/.s.PGSQL.5433");
    for text in [
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql:5433/d",
        "postgresql://u@/d?host=/var/run/postgresql&port=5433",
        "postgresql+psycopg://u@/d?host=%2Fvar%2Frun%2Fpostgresql&port=5433",
        "postgresql+pg8000://u@/d?unix_sock=/var/run/postgresql/.s.PGSQL.5433",
        "postgresql+asyncpg://u@/d?host=/var/run/postgresql/.s.PGSQL.5433",
        "host=/var/run/postgresql port=5433 user=u dbname=d",
    ] {
        assert_eq!(parse(text).hosts, std::slice::from_ref(&expected), "{text}");
    }
    assert_eq!(Dsn::parse("host=@hidden"), Err(ParseError::AbstractSocket));
    let nested =
        Dsn::parse("postgresql+pg8000://u@/d?unix_sock=/tmp/.s.PGSQL.1/.s.PGSQL.2/").unwrap();
    assert_eq!(nested.hosts[0].to_string(), "/tmp/.s.PGSQL.2");
}

#[test]
fn awkward_passwords_are_read_as_their_writers_meant() {
    for (text, expected) in [
        ("postgresql://u:p%40ss%2Fw%25@h/d", "p@ss/w%"),
        ("postgresql://u:p+w@h/d", "p+w"),
        ("postgresql://u:p@ss@h/d", "p@ss"),
        ("postgresql://u:a:b@h/d", "a:b"),
        // SQLAlchemy reads these two so; libpq would find a bad port.
        ("postgresql+asyncpg://u:p/ss?x@h/d", "p/ss?x"),
        ("postgresql://u:p/ss@h/d", "p/ss"),
        ("postgresql+asyncpg://u:12/34@h/d", "12/34"),
        ("jdbc:postgresql://h/d?user=u&password=p%2Bw", "p+w"),
        (
            "user=u host=h dbname=d password='it\\'s \\\\ here'",
            "it's \\ here",
        ),
        ("user=u host=h dbname=d password=a\\ b", "a b"),
    ] {
        let dsn = parse(text);
        assert_eq!(password(&dsn), Some(expected), "{text}");
        assert_eq!(dsn.user.as_deref(), Some("u"), "{text}");
        assert_eq!(dsn.hosts, [HostPort::tcp("h", 5432)], "{text}");
        assert_eq!(dsn.database.as_deref(), Some("d"), "{text}");
    }
}

#[test]
fn an_at_sign_in_a_query_is_no_password() {
    let dsn = parse("postgresql://h:5433/d?user=ann@corp");
    assert_eq!(dsn.user.as_deref(), Some("ann@corp"));
    assert_eq!(dsn.hosts, [HostPort::tcp("h", 5433)]);
}

#[test]
fn a_plus_is_a_space_where_python_and_java_say_so() {
    let name = |text| parse(text).application_name;
    assert_eq!(
        name("postgresql://h/d?application_name=a+b").as_deref(),
        Some("a+b")
    );
    assert_eq!(
        name("postgresql+psycopg://h/d?application_name=a+b").as_deref(),
        Some("a b")
    );
    assert_eq!(
        name("jdbc:postgresql://h/d?ApplicationName=a+b").as_deref(),
        Some("a b")
    );
}

#[test]
fn tls_parameters_of_each_dialect() {
    for (text, expected) in [
        ("postgresql://h?sslmode=verify-ca", SslMode::VerifyCa),
        ("postgresql://h?ssl=true", SslMode::Require),
        ("postgresql+asyncpg://h/d?ssl=true", SslMode::VerifyFull),
        (
            "postgresql+asyncpg://h/d?ssl=verify_full",
            SslMode::VerifyFull,
        ),
        ("postgresql+asyncpg://h/d?ssl=false", SslMode::Disable),
        ("jdbc:postgresql://h/d?ssl=true", SslMode::VerifyFull),
        ("jdbc:postgresql://h/d?ssl", SslMode::VerifyFull),
        ("jdbc:postgresql://h/d?ssl=false", SslMode::Prefer),
        ("host=h sslmode=disable", SslMode::Disable),
    ] {
        assert_eq!(parse(text).ssl_mode, expected, "{text}");
    }
    let dsn = parse("postgresql://h/d?sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem");
    assert_eq!(dsn.ssl_root_cert, Some(PathBuf::from("/ca.pem")));
    assert_eq!(dsn.ssl_cert, Some(PathBuf::from("/c.pem")));
    assert_eq!(dsn.ssl_key, Some(PathBuf::from("/k.pem")));
    assert_eq!(
        Dsn::parse("postgresql://h?sslmode=reqire"),
        Err(ParseError::SslMode {
            parameter: "sslmode"
        })
    );
}

#[test]
fn timeouts_in_seconds() {
    let timeout = |text| parse(text).connect_timeout;
    assert_eq!(
        timeout("host=h connect_timeout=7"),
        Some(Duration::from_secs(7))
    );
    assert_eq!(timeout("host=h connect_timeout=0"), None);
    assert_eq!(timeout("host=h connect_timeout=-1"), None);
    assert_eq!(
        timeout("jdbc:postgresql://h/d?connectTimeout=7"),
        Some(Duration::from_secs(7))
    );
    assert_eq!(
        timeout("postgresql+asyncpg://h/d?timeout=1.5"),
        Some(Duration::from_millis(1500))
    );
    for wrong in ["soon", "1e300", "NaN", "inf"] {
        let text = format!("host=h connect_timeout={wrong}");
        assert!(Dsn::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn parameters_of_other_programs_are_kept_apart() {
    let dsn = parse("postgresql+asyncpg://h/d?prepared_statement_cache_size=0&application_name=x");
    assert_eq!(
        dsn.params,
        [("prepared_statement_cache_size".to_owned(), "0".to_owned())]
    );
    let rendered = dsn.render(Form::Postgres);
    assert_eq!(rendered.text, "postgresql://h:5432/d?application_name=x");
    assert_eq!(rendered.notes.len(), 1);
}

#[test]
fn sqlite_is_answered_with_one_sentence() {
    for text in [
        "sqlite:///letta.db",
        "sqlite+aiosqlite:///x",
        "SQLite://",
        "jdbc:sqlite:x.db",
    ] {
        assert_eq!(Dsn::parse(text), Err(ParseError::Sqlite), "{text}");
    }
    let sentence = ParseError::Sqlite.to_string();
    assert!(sentence.contains("nothing to pool"), "{sentence}");
    assert!(!sentence.contains('\n'));
}

#[test]
fn errors_say_what_is_wrong() {
    let error = |text| Dsn::parse(text).unwrap_err();
    assert_eq!(error(" "), ParseError::Empty);
    assert_eq!(error("localhost"), ParseError::NoScheme);
    assert_eq!(
        error("mysql://u@h/d"),
        ParseError::Scheme {
            scheme: "mysql".to_owned()
        }
    );
    assert_eq!(error("jdbc:mysql://h/d"), ParseError::Jdbc);
    assert_eq!(error("postgresql://h:0/d"), ParseError::Port { host: 1 });
    assert_eq!(
        error("postgresql://h,i:65536/d"),
        ParseError::Port { host: 2 }
    );
    assert_eq!(error("postgresql://h:+1/d"), ParseError::Port { host: 1 });
    assert_eq!(
        error("postgresql://u:%zz@h"),
        ParseError::Percent { part: "password" }
    );
    assert_eq!(
        error("postgresql://u:%ff@h"),
        ParseError::NotUtf8 { part: "password" }
    );
    assert_eq!(
        error("postgresql://u@h/%00"),
        ParseError::ZeroByte { part: "parameters" }
    );
    assert_eq!(error("host='h"), ParseError::Quote);
    assert_eq!(error("host=h user"), ParseError::Pair { pair: 2 });
}

#[test]
fn an_error_never_repeats_the_password() {
    for text in [
        "postgresql://u:hunter2@h:port/d",
        "postgresql://u:hunter2/h",
        "postgresql://u:%zzhunter2@h/d",
        "postgresql://u@h:hunter2/d",
        "postgresql://u:x@y@hunter2:z/d",
        "postgresql://h/d?password=hunter2&sslmode=hunter2",
        "password=hunter2 sslmode=x",
        "password='hunter2",
        "user=u hunter2",
        "hunter2",
        "u:hunter2@h/d",
        "jdbc:hunter2",
    ] {
        let error = Dsn::parse(text).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_printed_url_shows_no_secret() {
    let dsn = parse("postgresql://ann:hunter2@h/d?sslpassword=hunter2&sslkey=/k");
    for form in Form::ALL {
        let shown = format!("{:?}", dsn.render(form));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
    let shown = format!("{dsn} {dsn:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("ann:***@h:5432/d"), "{shown}");
}

#[test]
fn each_form_as_its_readers_want_it() {
    let dsn = parse(
        "postgresql://ann:a b@db:5433/shop?sslmode=require&application_name=web&connect_timeout=3",
    );
    let shown = |form| dsn.render(form).text;
    assert_eq!(
        shown(Form::Postgres),
        "postgresql://ann:***@db:5433/shop?sslmode=require&connect_timeout=3&application_name=web"
    );
    assert_eq!(
        shown(Form::SqlalchemyAsyncpg),
        "postgresql+asyncpg://ann:***@db:5433/shop?ssl=require"
    );
    assert_eq!(dsn.render(Form::SqlalchemyAsyncpg).notes.len(), 2);
    assert_eq!(
        shown(Form::SqlalchemyPg8000),
        "postgresql+pg8000://ann:***@db:5433/shop?application_name=web"
    );
    assert_eq!(
        shown(Form::Jdbc),
        "jdbc:postgresql://db:5433/shop?user=ann&password=***&sslmode=require&connectTimeout=3&ApplicationName=web"
    );
    assert_eq!(
        dsn.render_exposing_password(Form::KeyValue).expose(),
        "host=db port=5433 user=ann password='a b' dbname=shop sslmode=require connect_timeout=3 application_name=web"
    );
    let unix = parse("postgresql://u@%2Ftmp/d");
    assert_eq!(
        unix.render(Form::SqlalchemyAsyncpg).text,
        "postgresql+asyncpg://u@/d?host=/tmp&port=5432"
    );
    assert_eq!(
        unix.render(Form::SqlalchemyPg8000).text,
        "postgresql+pg8000://u@/d?unix_sock=/tmp/.s.PGSQL.5432"
    );
    assert_eq!(unix.render(Form::Jdbc).notes.len(), 1);
}

/// Any text but the empty one, which means "not given", and the zero byte, which no connection can carry.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]{1,12}",
        "[ -~]{1,12}",
        "[^\0]{1,6}",
        Just("p@s:/?#[]%'\\ w+&=".to_owned()),
    ]
}

fn host_port() -> impl Strategy<Value = HostPort> {
    let host = prop_oneof![
        "[a-z][a-z0-9.-]{0,10}".prop_map(Host::Tcp),
        any::<std::net::Ipv4Addr>().prop_map(|ip| Host::Tcp(ip.to_string())),
        any::<std::net::Ipv6Addr>().prop_map(|ip| Host::Tcp(ip.to_string())),
        "/[a-zA-Z0-9 ._%@/-]{0,10}[a-z]".prop_map(|path| Host::Unix(PathBuf::from(path))),
    ];
    (host, 1..=u16::MAX).prop_map(|(host, port)| HostPort { host, port })
}

fn file() -> impl Strategy<Value = Option<PathBuf>> {
    proptest::option::of(text().prop_map(PathBuf::from))
}

prop_compose! {
    fn dsn()(
        hosts in proptest::collection::vec(host_port(), 1..4),
        user in proptest::option::of(text()),
        password in proptest::option::of(text()),
        database in proptest::option::of(text()),
        ssl_mode in proptest::sample::select(SslMode::ALL.as_slice()),
        ssl_root_cert in file(), ssl_cert in file(), ssl_key in file(),
        timeout in proptest::option::of(1u64..1000),
        application_name in proptest::option::of(text()),
        options in proptest::option::of(text()),
        sslpassword in proptest::option::of(text()),
    ) -> Dsn {
        Dsn {
            hosts, user, password: password.map(Secret::from), database, ssl_mode, ssl_root_cert, ssl_cert, ssl_key,
            connect_timeout: timeout.map(Duration::from_secs), application_name, options,
            params: sslpassword.into_iter().map(|value| ("sslpassword".to_owned(), value)).collect(),
        }
    }
}

proptest! {
    #[test]
    fn libpq_forms_carry_everything(dsn in dsn()) {
        for form in Form::ALL.into_iter().filter(|form| form.name().contains("libpq") || form.name().contains("psycopg") || *form == Form::Go) {
            let written = dsn.render_exposing_password(form);
            let read = Dsn::parse(written.expose());
            prop_assert_eq!(read.as_ref(), Ok(&dsn), "{}", written.expose());
        }
    }

    #[test]
    fn every_form_carries_who_and_where(mut dsn in dsn()) {
        for form in [Form::Asyncpg, Form::SqlalchemyAsyncpg, Form::SqlalchemyPg8000, Form::Jdbc] {
            if form == Form::SqlalchemyPg8000 {
                dsn.hosts.truncate(1);
            }
            let written = dsn.render_exposing_password(form);
            let read = Dsn::parse(written.expose());
            prop_assert!(read.is_ok(), "{}: {:?}", written.expose(), read);
            let read = read.unwrap();
            prop_assert_eq!(&read.hosts, &dsn.hosts, "{}", written.expose());
            prop_assert_eq!(&read.user, &dsn.user);
            prop_assert_eq!(password(&read), password(&dsn));
            prop_assert_eq!(&read.database, &dsn.database);
            if form != Form::SqlalchemyPg8000 {
                prop_assert_eq!(read.ssl_mode, dsn.ssl_mode);
            }
        }
    }

    #[test]
    fn a_masked_url_holds_no_password(mut dsn in dsn(), secret in "[a-z]{4}Q[0-9]{4}Z[a-z]{4}") {
        dsn.password = Some(Secret::from(secret.as_str()));
        for form in Form::ALL {
            prop_assert!(!dsn.render(form).text.contains(&secret));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        let _ = Dsn::parse(&text);
    }

    #[test]
    fn nearly_a_url_does_not_make_it_panic(
        scheme in proptest::sample::select(&["postgresql://", "postgresql+asyncpg://", "jdbc:postgresql:", "jdbc:postgresql://", "host=", ""][..]),
        rest in "[a-z0-9@:/?#&=%,'\\\\ +\\[\\]\u{e9}\0]{0,40}",
    ) {
        if let Ok(dsn) = Dsn::parse(&format!("{scheme}{rest}")) {
            prop_assert!(!dsn.hosts.is_empty());
            for form in Form::ALL {
                dsn.render(form);
            }
        }
    }
}
