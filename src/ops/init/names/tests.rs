//! Where each value is looked for.

use super::*;

const UPSTREAM: &str = "upstream";

fn sources(environment: &[(&str, &str)], files: &'static [(&str, &str)]) -> Sources {
    let mut sources = Sources::of_process(Vec::new(), Vec::new());
    sources.environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    sources.read = Box::new(move |path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        match found {
            Some((_, "DENIED")) => Err(io::ErrorKind::PermissionDenied.into()),
            Some((_, text)) => Ok((*text).to_owned()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    });
    sources
}

/// Role, password and database, then their origins.
fn find(
    environment: &[(&str, &str)],
    files: &'static [(&str, &str)],
    url: Option<&str>,
) -> Result<([String; 3], [String; 3]), Vec<String>> {
    let dsn = url.map(|url| Dsn::parse(url).unwrap());
    let origin = Origin::DropIn {
        name: UPSTREAM.to_owned(),
    };
    let given = Given {
        upstream: dsn.as_ref().map(|dsn| (dsn, &origin)),
        ..Given::default()
    };
    match Names::find(&sources(environment, files), &given) {
        Ok(names) => Ok((
            [
                names.role.value,
                names.password.value.expose().to_owned(),
                names.database.value,
            ],
            [
                names.role.origin,
                names.password.origin,
                names.database.origin,
            ]
            .map(|origin| origin.to_string()),
        )),
        Err(wrong) => Err(wrong.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn each_value_is_taken_from_the_first_place_that_has_it() {
    let environment = [
        ("POSTGRES_USER", "of-variable"),
        ("POSTGRES_PASSWORD_FILE", "/elsewhere"),
    ];
    let (values, origins) = find(
        &environment,
        &[
            ("/elsewhere", "of-named-file\r\n"),
            ("/run/secrets/letta-db", "of-letta\n"),
            ("/var/run/secrets/poolwatch-db", "of-poolwatch\n"),
            ("/run/secrets/poolwatch-user", "\n"),
        ],
        Some("postgresql://url-user:url-password@h/url-db"),
    )
    .unwrap();
    assert_eq!(values, ["of-variable", "of-named-file", "of-poolwatch"]);
    assert_eq!(
        origins,
        [
            "environment POSTGRES_USER",
            "/elsewhere (named by POSTGRES_PASSWORD_FILE)",
            "/var/run/secrets/poolwatch-db"
        ]
    );
}

#[test]
fn secrets_rank_above_variables() {
    let environment = [
        ("POSTGRES_USER", "a"),
        ("POSTGRES_PASSWORD", "b"),
        ("POSTGRES_DB", "c"),
    ];
    let files = &[
        ("/run/secrets/letta-user", "d"),
        ("/var/run/secrets/letta-password", "e"),
        ("/run/secrets/letta-db", "f"),
    ];
    assert_eq!(find(&environment, files, None).unwrap().0, ["d", "e", "f"]);
}

#[test]
fn without_any_of_them_the_url_counts_and_then_the_default() {
    let url = "postgresql://ann:secret@h/shop";
    assert_eq!(
        find(&[], &[], Some(url)).unwrap().0,
        ["ann", "secret", "shop"]
    );
    let (values, origins) = find(&[], &[], None).unwrap();
    assert_eq!(values, ["letta"; 3]);
    assert_eq!(origins, ["default"; 3]);
    // Somebody else's password is not taken.
    let other = find(&[("POSTGRES_USER", "bob")], &[], Some(url)).unwrap();
    assert_eq!(other.0, ["bob", "letta", "shop"]);
    let named_alike = find(&[("POSTGRES_USER", "bob")], &[], None).unwrap();
    assert_eq!(named_alike.0, ["bob", "letta", "bob"]);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = find(
        &[
            ("POSTGRES_PASSWORD", "a"),
            ("POSTGRES_PASSWORD_FILE", "/b"),
            ("POSTGRES_DB", "pg_shop"),
        ],
        &[("/run/secrets/letta-user", "DENIED")],
        None,
    )
    .unwrap_err();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(
        wrong[0].starts_with("/run/secrets/letta-user cannot be read"),
        "{wrong:?}"
    );
    assert!(
        wrong[1].contains("POSTGRES_PASSWORD_FILE are both set"),
        "{wrong:?}"
    );
    assert!(
        wrong[2].contains("POSTGRES_DB) begins with pg_"),
        "{wrong:?}"
    );
    for name in ["public", "template1", &"x".repeat(64)] {
        let wrong = find(&[("POSTGRES_DB", name)], &[], None).unwrap_err();
        assert_eq!(wrong.len(), 1, "{name}");
    }
    assert_eq!(
        find(&[("POSTGRES_DB", &"x".repeat(63))], &[], None).map(|_| ()),
        Ok(())
    );
}

#[test]
fn only_this_machine_is_local() {
    for name in ["localhost", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
        assert!(is_local(&Host::Tcp(name.to_owned())), "{name}");
    }
    for name in ["db", "10.0.0.1", "0.0.0.0", "127.0.0.1.example"] {
        assert!(!is_local(&Host::Tcp(name.to_owned())), "{name}");
    }
    assert!(is_local(&Host::Unix("/run/postgresql".into())));
}
