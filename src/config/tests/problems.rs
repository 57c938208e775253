//! What is wrong is told all at once, with its place.

use std::path::PathBuf;

use super::world::World;

#[test]
fn everything_wrong_is_reported_at_once_with_its_place() {
    let problems = World::new()
        .config(
            "/c.toml",
            "[pool]\nsize = \"many\"\ntimeout = 30\nsise = 1\n[pol]\nx = 1\n",
        )
        .config("/absent.toml.d", "not = [toml")
        .env("POOLWATCH_POOL__PRE_PING", "perhaps")
        .env("POOLWATCH_LISTEN__ADDRES", "127.0.0.1:1")
        .env("LETTA_PG_POOL_RECYCLE", "often")
        .env("DATABASE_URL", "mysql://u@h/d")
        .set("pool.mode", "statement")
        .set("pool.max_pools", "0")
        .problems();
    for expected in [
        "/c.toml:2: pool.size: \"many\" is not a whole number from 0 to 4294967295",
        "/c.toml:3: pool.timeout: \"30\" is not a duration; write a number with its unit, such as 500ms, 30s or 5m",
        "/c.toml:4: pool.sise: there is no such key; did you mean pool.size?",
        "/c.toml:6: pol.x: there is no such key",
        "environment POOLWATCH_POOL__PRE_PING: pool.pre_ping: \"perhaps\" is neither true nor false",
        "environment POOLWATCH_LISTEN__ADDRES: listen.addres: there is no such key; did you mean listen.address?",
        "environment LETTA_PG_POOL_RECYCLE: pool.recycle: \"often\" is not a number of seconds",
        "environment DATABASE_URL: upstream.url: mysql:// is not PostgreSQL; the URL must begin with postgresql:// or another of its forms",
        "command line --set pool.mode: pool.mode: \"statement\" is not one of transaction, session",
        "command line --set pool.max_pools: pool.max_pools: it must be at least 1",
    ] {
        assert!(
            problems.iter().any(|problem| problem == expected),
            "{expected}\nis not in\n{}",
            problems.join("\n")
        );
    }
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("/absent.toml.d: not TOML: ")),
        "{}",
        problems.join("\n")
    );
    assert_eq!(problems.len(), 11, "{}", problems.join("\n"));
}

#[test]
fn a_file_that_cannot_be_used_says_why_without_showing_its_lines() {
    let mut world = World::new();
    world.config_files.push(PathBuf::from("/absent.toml"));
    let problems = world.problems();
    assert!(problems[0].starts_with("/absent.toml: cannot read it: "));

    for text in [
        "[upstream]\nurl = \"postgresql://u:hunter2@h/d",
        "[upstream]\nurl = postgresql://u:hunter2@h/d",
        "[upstream\nurl = \"postgresql://u:hunter2@h/d\"",
        "[upstream]\nurl = \"postgresql://u:hunter2|x@h/d",
        "[upstream]\n\"hunter2|hunter2\" \"hunter2",
    ] {
        let problems = World::new().config("/c.toml", text).problems();
        let shown = problems.join("\n");
        assert!(
            shown.contains("not TOML") && shown.contains("line"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let problems = World::new().config("/c.toml", "size = 25").problems();
    assert_eq!(
        problems,
        ["/c.toml:1: size: keys stand in a section, such as [pool] with size = 25"]
    );
    let problems = World::new()
        .config("/c.toml", "[pool.size]\nx = 1")
        .problems();
    assert!(
        problems[0].ends_with("pool.size: this must be one value, not a table or a list of tables")
    );
}
