use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::dsn::HostPort;

/// A world for settings: an environment and files, nothing of this machine.
#[derive(Default)]
struct World {
    environment: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
    config_files: Vec<PathBuf>,
    arguments: Vec<Argument>,
    upstream_required: bool,
}

impl World {
    fn new() -> Self {
        Self::default()
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(PathBuf::from(path), text.to_owned());
        self
    }

    fn config(mut self, path: &str, text: &str) -> Self {
        self.config_files.push(PathBuf::from(path));
        self.file(path, text)
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.push(Argument {
            flag: format!("--set {key}"),
            key: key.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    fn upstream_required(mut self) -> Self {
        self.upstream_required = true;
        self
    }

    fn load(self) -> Result<Loaded, Problems> {
        let files = self.files;
        load(&Sources {
            environment: self.environment,
            config_files: self.config_files,
            arguments: self.arguments,
            upstream_required: self.upstream_required,
            read: Box::new(move |path| {
                files
                    .get(path)
                    .cloned()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            }),
        })
    }

    fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn problems(self) -> Vec<String> {
        let problems = self.load().expect_err("it was to be refused");
        problems.0.iter().map(Problem::to_string).collect()
    }

    /// The upstream's host and the place it came from.
    fn upstream(self) -> (String, String) {
        let loaded = self.loaded();
        let dsn = loaded.settings.upstream.url.as_ref().expect("an upstream");
        (
            dsn.first_host().to_string(),
            loaded.origin("upstream.url").to_string(),
        )
    }
}

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

#[test]
fn what_a_row_shows_it_also_reads() {
    let defaults = Settings::default();
    for row in ROWS {
        let mut settings = Settings::default();
        (row.set)(&mut settings, &row.show(&defaults)).unwrap();
        assert_eq!(settings, defaults, "{}", row.name);
    }
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
