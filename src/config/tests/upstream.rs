//! Which server is meant: URLs, parts, and the names that others give.

use std::time::Duration;

use super::world::World;

#[test]
fn the_names_that_letta_gives_are_honoured() {
    let loaded = World::new()
        .env("LETTA_PG_POOL_SIZE", "7")
        .env("LETTA_PG_MAX_OVERFLOW", "3")
        .env("LETTA_PG_POOL_TIMEOUT", "1.5")
        .env("LETTA_PG_POOL_RECYCLE", "-1")
        .env("LETTA_POOL_PRE_PING", "False")
        .env("LETTA_POOL_USE_LIFO", "true")
        .env("LETTA_DISABLE_SQLALCHEMY_POOLING", "true")
        .loaded();
    let pool = &loaded.settings.pool;
    assert_eq!((pool.size, pool.max_overflow), (7, 3));
    assert_eq!(pool.timeout, Duration::from_millis(1500));
    assert_eq!(pool.recycle, None);
    assert!(!pool.pre_ping && pool.use_lifo && !pool.enabled);
    assert_eq!(
        loaded.origin("pool.enabled").to_string(),
        "environment LETTA_DISABLE_SQLALCHEMY_POOLING"
    );
    let problems = World::new().env("LETTA_PG_POOL_TIMEOUT", "-1").problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_drop_in_that_is_overridden_need_not_make_sense() {
    let loaded = World::new()
        .env("LETTA_PG_POOL_SIZE", "many")
        .env("DATABASE_URL", "mysql://h")
        .config(
            "/c.toml",
            "[pool]\nsize = 2\n[upstream]\nurl = \"postgresql://h/d\"",
        )
        .loaded();
    assert_eq!(loaded.settings.pool.size, 2);
}

#[test]
fn the_upstream_is_looked_for_in_this_order() {
    let (host, origin) = World::new().env("PGHOST", "libpq").upstream();
    assert_eq!(
        (host.as_str(), origin.as_str()),
        ("libpq:5432", "environment PGHOST")
    );
    let world = || World::new().env("PGHOST", "libpq").env("HOME", "/home/ann");
    let world = || world().file("/home/ann/.letta/pg_uri", "postgresql://file/d\n");
    assert_eq!(
        world().upstream(),
        ("file:5432".into(), "/home/ann/.letta/pg_uri".into())
    );
    let world = || {
        world()
            .env("LETTA_PG_HOST", "parts")
            .env("LETTA_PG_USER", "ann")
            .env("LETTA_PG_DB", "d")
            .env("LETTA_PG_PORT", "6000")
    };
    assert_eq!(
        world().upstream(),
        ("parts:6000".into(), "environment LETTA_PG_HOST".into())
    );
    let world = || world().env("LETTA_PG_URI", "postgresql+asyncpg://uri/d");
    assert_eq!(
        world().upstream(),
        ("uri:5432".into(), "environment LETTA_PG_URI".into())
    );
    let world = || world().env("DATABASE_URL", "postgresql://generic/d");
    assert_eq!(
        world().upstream(),
        ("generic:5432".into(), "environment DATABASE_URL".into())
    );
    let world = || world().config("/c.toml", "[upstream]\nurl = \"postgresql://toml/d\"");
    assert_eq!(world().upstream(), ("toml:5432".into(), "/c.toml:2".into()));
    let world = || {
        world().file(
            "/run/secrets/poolwatch_upstream__url",
            "postgresql://secret/d\n",
        )
    };
    assert_eq!(
        world().upstream(),
        (
            "secret:5432".into(),
            "/run/secrets/poolwatch_upstream__url".into()
        )
    );
    let world = || world().env("POOLWATCH_UPSTREAM__URL", "postgresql://ours/d");
    assert_eq!(
        world().upstream(),
        (
            "ours:5432".into(),
            "environment POOLWATCH_UPSTREAM__URL".into()
        )
    );
}

#[test]
fn an_incomplete_set_of_parts_names_no_server() {
    let problems = World::new()
        .env("LETTA_PG_HOST", "h")
        .env("LETTA_PG_USER", "u")
        .upstream_required()
        .problems();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].contains("no PostgreSQL server is named"),
        "{}",
        problems[0]
    );
    assert_eq!(World::new().loaded().settings.upstream.url, None);
}

#[test]
fn libpq_variables_make_one_connection() {
    let dsn = World::new()
        .env("PGHOST", "/tmp")
        .env("PGPORT", "5433")
        .env("PGUSER", "ann")
        .env("PGPASSWORD", "pw")
        .env("PGDATABASE", "shop")
        .env("PGSSLMODE", "disable")
        .env("PGCONNECT_TIMEOUT", "3")
        .env("PGAPPNAME", "web")
        .loaded()
        .settings
        .upstream
        .url
        .unwrap();
    let expected = "host=/tmp port=5433 user=ann password=pw dbname=shop sslmode=disable connect_timeout=3 application_name=web";
    assert_eq!(dsn, expected.parse().unwrap());
    let none = World::new().env("PGSSLMODE", "require").loaded();
    assert_eq!(none.settings.upstream.url, None);
}

#[test]
fn the_shorter_connect_timeout_counts() {
    let limit = |url: &str| {
        World::new()
            .set("upstream.url", url)
            .loaded()
            .settings
            .upstream
            .connect_limit()
    };
    assert_eq!(limit("host=h"), Duration::from_secs(10));
    assert_eq!(limit("host=h connect_timeout=3"), Duration::from_secs(3));
    assert_eq!(limit("host=h connect_timeout=60"), Duration::from_secs(10));
}
