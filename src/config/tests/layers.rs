//! Which layer wins, and what values mean.

use std::time::Duration;

use super::world::World;
use crate::config::*;
use crate::dsn::HostPort;

#[test]
fn nothing_set_gives_the_defaults() {
    let loaded = World::new().loaded();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.rows().all(|(_, origin)| *origin == Origin::Default));
}

#[test]
fn each_layer_wins_over_those_below() {
    let size = |world: World| {
        let loaded = world.loaded();
        (
            loaded.settings.pool.size,
            loaded.origin("pool.size").to_string(),
        )
    };
    let world = || World::new().env("LETTA_PG_POOL_SIZE", "1");
    assert_eq!(size(world()), (1, "environment LETTA_PG_POOL_SIZE".into()));
    let world = || world().config("/a.toml", "[pool]\nsize = 2");
    assert_eq!(size(world()), (2, "/a.toml:2".into()));
    let world = || world().config("/b.toml", "# more\n\n[pool]\nsize = 3");
    assert_eq!(size(world()), (3, "/b.toml:4".into()));
    let world = || world().env("POOLWATCH_POOL__SIZE", "4");
    assert_eq!(
        size(world()),
        (4, "environment POOLWATCH_POOL__SIZE".into())
    );
    let world = || world().set("pool.size", "5");
    assert_eq!(size(world()), (5, "command line --set pool.size".into()));
}

#[test]
fn values_have_their_types() {
    let settings = World::new()
        .config(
            "/c.toml",
            "pool.recycle = \"off\"\npool.timeout = \"1m 30s\"\npool.use_lifo = true\n\
             [listen]\naddress = [\"127.0.0.1:1\", \"[::1]:2\"]\nunix_socket_dir = \"/run/pw\"",
        )
        .env("POOLWATCH_POOL__MODE", "Session")
        .env("POOLWATCH_LOG__FORMAT", "json")
        .env("POOLWATCH_POOL__MAX_OVERFLOW", "-1")
        .loaded()
        .settings;
    assert_eq!(settings.pool.recycle, None);
    assert_eq!(settings.pool.timeout, Duration::from_secs(90));
    assert!(settings.pool.use_lifo);
    assert_eq!(settings.pool.mode, PoolMode::Session);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.pool.max_overflow, -1);
    assert_eq!(
        settings.listen.address.0,
        [HostPort::tcp("127.0.0.1", 1), HostPort::tcp("::1", 2)]
    );
    assert_eq!(
        settings.listen.unix_socket(),
        Some(HostPort::unix("/run/pw", 1))
    );
}

#[test]
fn variables_that_only_look_like_ours_are_ignored() {
    let loaded = World::new()
        .env("POOLWATCH_PORT", "tcp://10.0.0.1:6432")
        .env("POOLWATCH_PORT_6432_TCP_ADDR", "10.0.0.1")
        .env("POOLWATCH_SERVICE_HOST", "10.0.0.1")
        .env("POOLWATCH_SIDECAR__X", "1")
        .env("POOLWATCH_POOL__SIZE", "")
        .env("PATH", "/bin")
        .loaded();
    assert_eq!(loaded.settings, Settings::default());
}

#[test]
fn what_a_row_shows_it_also_reads() {
    let defaults = Settings::default();
    for row in ROWS {
        let mut settings = Settings::default();
        (row.set)(&mut settings, &row.show(&defaults)).unwrap();
        assert_eq!(settings, defaults, "{}", row.name);
    }
}
