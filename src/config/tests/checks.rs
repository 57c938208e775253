//! Settings that are fine one by one and not together.

use super::world::World;

#[test]
fn an_upstream_that_is_our_own_listener_is_refused() {
    for (listen, url, refused) in [
        ("127.0.0.1:6432", "postgresql://u@127.0.0.1:6432/d", true),
        ("127.0.0.1:6432", "postgresql://u@localhost:6432/d", true),
        ("localhost:6432", "postgresql://u@[::1]:6432/d", true),
        (
            "127.0.0.1:1,[::1]:6432",
            "postgresql://u@a:1,[::1]:6432/d",
            true,
        ),
        ("127.0.0.1:6432", "postgresql://u@0.0.0.0:6432/d", true),
        (
            "127.0.0.1:6432",
            "postgresql://u@[::ffff:127.0.0.1]:6432/d",
            true,
        ),
        ("127.0.0.1:6432", "postgresql://u@[::1]:6432/d", false),
        ("127.0.0.1:6432", "postgresql://u@127.0.0.1:5432/d", false),
        ("127.0.0.1:6432", "postgresql://u@db:6432/d", false),
        ("127.0.0.1:0", "postgresql://u@127.0.0.1:6432/d", false),
        ("127.0.0.1:6432", "host=/run/pw port=6432", true),
        ("127.0.0.1:0", "host=/run/pw/ port=6432", true),
        ("127.0.0.1:6432", "host=/run/pw port=5432", false),
    ] {
        let result = World::new()
            .env("POOLWATCH_LISTEN__ADDRESS", listen)
            .env("POOLWATCH_LISTEN__UNIX_SOCKET_DIR", "/run/pw")
            .env("DATABASE_URL", url)
            .load();
        assert_eq!(result.is_err(), refused, "{listen} {url}: {result:?}");
        if let Err(problems) = result {
            let text = problems.to_string();
            assert!(
                text.starts_with("environment DATABASE_URL: upstream.url: it points at "),
                "{text}"
            );
        }
    }
}

#[test]
fn methods_that_cannot_work_are_refused() {
    let method = |method: &str, url: &str| {
        World::new()
            .set("auth.method", method)
            .set("upstream.url", url)
    };
    for (name, url, expected) in [
        ("cert", "postgres://a:b@h/d", "listen.tls_client_ca"),
        ("scram-sha-256", "postgres://a@h/d", "no password to check"),
        ("password", "postgres://a@h/d", "no password to check"),
    ] {
        let problems = method(name, url).problems();
        assert!(problems[0].contains(expected), "{name}: {problems:?}");
    }
    method("cert", "postgres://a@h/d")
        .set("listen.tls_client_ca", "/etc/ca.crt")
        .loaded();
    method("scram-sha-256", "postgres://a:b@h/d").loaded();
    method("password", "postgres://a@h/d")
        .set("auth.users_file", "/etc/users")
        .loaded();
}

#[test]
fn it_refuses_to_listen_where_others_could_come_in() {
    for address in [
        "0.0.0.0:6432",
        "[::]:6432",
        "10.0.0.1:6432",
        "db.example:6432",
    ] {
        let world = |url: &str, more: &[(&str, &str)]| {
            let world = World::new()
                .set("listen.address", address)
                .set("upstream.url", url);
            more.iter()
                .fold(world, |world, (key, value)| world.set(key, value))
        };
        let (with, without) = ("postgres://a:b@h/d", "postgres://a@h/d");
        let trust: &[(&str, &str)] = &[("auth.method", "trust")];
        for (url, more) in [(without, &[][..]), (with, trust)] {
            let problems = world(url, more).problems();
            assert!(problems[0].contains("loopback"), "{address}: {problems:?}");
        }
        for (url, more) in [
            (with, &[][..]),
            (without, &[("auth.users_file", "/etc/users")]),
            (without, &[("auth.query", "SELECT 1, $1")]),
        ] {
            world(url, more).loaded();
        }
    }
    for address in ["127.0.0.2:0", "[::1]:6432", "LocalHost:6432"] {
        World::new().set("listen.address", address).loaded();
    }
    for address in [
        "6432",
        ":6432",
        "127.0.0.1",
        "[::1",
        "::1:6432",
        "a b:1",
        "h:+1",
        "h:65536",
    ] {
        let problems = World::new().set("listen.address", address).problems();
        assert!(
            problems[0].contains("is not an address"),
            "{address}: {problems:?}"
        );
    }
}

#[test]
fn keys_that_need_each_other() {
    for (key, value) in [
        ("listen.tls_cert", "/c.pem"),
        ("listen.tls_key", "/k.pem"),
        ("listen.address", ""),
        ("http.address", "127.0.0.1:6432"),
        ("pool.max_overflow", "-2"),
        ("pool.reset_timeout", "0s"),
        ("listen.unix_socket_dir", "sockets"),
    ] {
        let problems = World::new().set(key, value).problems();
        assert_eq!(problems.len(), 1, "{key}: {problems:?}");
    }
    World::new()
        .set("listen.address", "")
        .set("listen.unix_socket_dir", "/run/pw")
        .set("listen.tls_cert", "/c.pem")
        .set("listen.tls_key", "/k.pem")
        .set("pool.size", "0")
        .set("pool.timeout", "0s")
        .loaded();
}
