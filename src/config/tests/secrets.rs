//! Secrets come from files, and are shown nowhere.

use super::world::World;
use crate::config::*;

#[test]
fn secrets_come_from_files() {
    let url = "postgresql://u:pw@h/d";
    let expected = Some(url.parse().unwrap());
    let by_variable = World::new()
        .env("POOLWATCH_UPSTREAM__URL_FILE", "/s/url")
        .file("/s/url", "postgresql://u:pw@h/d\r\n")
        .loaded();
    assert_eq!(by_variable.settings.upstream.url, expected);
    assert_eq!(
        by_variable.origin("upstream.url").to_string(),
        "/s/url (named by POOLWATCH_UPSTREAM__URL_FILE)"
    );
    for path in [
        "/run/secrets/POOLWATCH_UPSTREAM__URL",
        "/var/run/secrets/poolwatch_upstream__url",
        "/run/secrets/DATABASE_URL",
        "/run/secrets/letta_pg_uri",
    ] {
        let loaded = World::new().file(path, url).loaded();
        assert_eq!(loaded.settings.upstream.url, expected, "{path}");
        assert_eq!(loaded.origin("upstream.url").to_string(), path);
    }
    let password = World::new()
        .env("PGHOST", "h")
        .env("PGPASSWORD_FILE", "/s/pw")
        .file("/s/pw", "hunter2\n")
        .loaded();
    let dsn = password.settings.upstream.url.unwrap();
    assert_eq!(dsn.password.unwrap().expose(), "hunter2");
}

#[test]
fn a_secret_that_is_given_twice_or_cannot_be_read_is_an_error() {
    let problems = World::new()
        .env("POOLWATCH_UPSTREAM__URL", "postgresql://u:hunter2@h/d")
        .env("POOLWATCH_UPSTREAM__URL_FILE", "/s/url")
        .problems();
    assert_eq!(
        problems,
        [
            "/s/url (named by POOLWATCH_UPSTREAM__URL_FILE): POOLWATCH_UPSTREAM__URL is set as well; set one of the two"
        ]
    );
    let problems = World::new()
        .env("POOLWATCH_UPSTREAM__URL_FILE", "/s/absent")
        .problems();
    assert!(problems[0].contains("cannot read it"), "{problems:?}");
    // Only keys that hold secrets are read from files.
    let problems = World::new()
        .env("POOLWATCH_POOL__SIZE_FILE", "/s/size")
        .problems();
    assert!(
        problems[0].contains("pool.size_file: there is no such key"),
        "{problems:?}"
    );
}

#[test]
fn the_difference_hides_secrets_and_tells_what_a_reload_applies() {
    let load = |size: &str, mode: &str, url: &str| {
        World::new()
            .set("pool.size", size)
            .set("pool.mode", mode)
            .set("upstream.url", url)
            .loaded()
            .settings
    };
    let old = load("25", "transaction", "postgresql://u:hunter2@h/d");
    assert_eq!(old.diff(&old), []);
    let new = load("30", "session", "postgresql://u:hunter3@h/d");
    let shown: Vec<_> = old
        .diff(&new)
        .into_iter()
        .map(|change| (change.key, change.old, change.new, change.reloadable))
        .collect();
    let url = "postgresql://u:***@h:5432/d";
    assert_eq!(
        shown,
        [
            (
                "upstream.url",
                url.to_owned(),
                format!("{url} (another secret)"),
                false
            ),
            (
                "pool.mode",
                "transaction".to_owned(),
                "session".to_owned(),
                false
            ),
            ("pool.size", "25".to_owned(), "30".to_owned(), true),
        ]
    );
    let reloaded = old.reloaded(&new);
    assert_eq!(reloaded.pool.size, 30);
    assert_eq!(reloaded.pool.mode, PoolMode::Transaction);
    assert_eq!(reloaded.upstream, old.upstream);
}

#[test]
fn nothing_printed_holds_a_secret() {
    let loaded = World::new()
        .set("upstream.url", "postgresql://u:hunter2@h/d")
        .loaded();
    let argument = Argument {
        flag: "--upstream-url".to_owned(),
        key: "upstream.url".to_owned(),
        value: "postgresql://u:hunter2@h/d".to_owned(),
    };
    let mut sources = Sources::of_process(Vec::new(), vec![argument]);
    sources
        .environment
        .insert("PGPASSWORD".to_owned(), "hunter2".to_owned());
    let shown = format!("{loaded:?} {sources:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
