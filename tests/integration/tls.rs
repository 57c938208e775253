//! Encryption towards clients and towards PostgreSQL, its authentication methods, and Unix sockets.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use poolwatch::ops::postgres::{Options, ServerCertificate};
use poolwatch::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_postgres::NoTls;

use crate::bench::{Bench, ONE};
use crate::support::raw::{Raw, packet, startup};
use crate::support::{Database, Postgres, Sidecar};

/// A directory that goes with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("poolwatch-tls-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority's certificate, and a certificate with key that it signed for some names.
struct Certified {
    authority: String,
    certificate: String,
    key: String,
}

fn certified(names: &[&str]) -> Certified {
    let authority_key = KeyPair::generate().expect("rcgen");
    let mut authority = CertificateParams::new(Vec::new()).expect("rcgen");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "an authority");
    let pem = authority.self_signed(&authority_key).expect("rcgen").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("rcgen");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut leaf = CertificateParams::new(names).expect("rcgen");
    leaf.distinguished_name.push(DnType::CommonName, "a server");
    Certified {
        authority: pem,
        certificate: leaf.signed_by(&key, &issuer).expect("rcgen").pem(),
        key: key.serialize_pem(),
    }
}

async fn psql(program: &Path, conninfo: &str) -> Output {
    tokio::process::Command::new(program)
        .args([
            "-X",
            "-A",
            "-t",
            "-c",
            "\\conninfo",
            "-c",
            "SELECT 6 * 7",
            conninfo,
        ])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("start psql")
}

fn conninfo(sidecar: &Sidecar, database: &Database, host: &str, more: &str) -> String {
    format!(
        "host={host} hostaddr=127.0.0.1 port={} user=postgres dbname={} {more}",
        sidecar.proxy_addr().port(),
        database.name
    )
}

fn assert_encrypted(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(
        text.contains("SSL connection") && text.contains("42"),
        "{text}"
    );
}

#[tokio::test]
async fn sslmode_require_works_out_of_the_box() {
    let bench = Bench::new().await;
    let info = conninfo(
        &bench.sidecar,
        &bench.database,
        "localhost",
        "sslmode=require",
    );
    assert_encrypted(&psql(&bench.database.program, &info).await);
    let info = conninfo(
        &bench.sidecar,
        &bench.database,
        "localhost",
        "sslmode=disable",
    );
    let output = psql(&bench.database.program, &info).await;
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("SSL"));
}

#[tokio::test]
async fn a_certificate_from_the_settings_is_verified_by_clients() {
    let directory = Directory::new();
    let (ours, other) = (certified(&["localhost"]), certified(&["localhost"]));
    let certificate = directory.file("server.crt", &ours.certificate);
    let key = directory.file("server.key", &ours.key);
    let root = directory.file("root.crt", &ours.authority);
    let wrong = directory.file("wrong.crt", &other.authority);
    let bench = Bench::with(&[
        ("POOLWATCH_LISTEN__TLS_CERT", &certificate),
        ("POOLWATCH_LISTEN__TLS_KEY", &key),
    ])
    .await;
    let with = |host: &str, root: &str| {
        let more = format!("sslmode=verify-full sslrootcert={root}");
        conninfo(&bench.sidecar, &bench.database, host, &more)
    };
    assert_encrypted(&psql(&bench.database.program, &with("localhost", &root)).await);
    for info in [with("localhost", &wrong), with("example.org", &root)] {
        let output = psql(&bench.database.program, &info).await;
        assert!(!output.status.success(), "{info}");
    }
    // psql left its work undone; we are none the worse.
    assert_eq!(bench.pooled().await.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn nothing_in_clear_after_an_ssl_request_becomes_part_of_a_session() {
    let bench = Bench::new().await;
    let request = packet(&80_877_103_u32.to_be_bytes());
    let login = startup(196_608, &bench.database.name, &[]);
    for smuggled in [login, b"junk".to_vec(), vec![0; 100_000]] {
        let mut client = Raw::dial(bench.sidecar.proxy_addr()).await;
        let _ = client.try_send(&[&request[..], &smuggled].concat()).await;
        assert_eq!(client.byte().await.expect("an answer"), b'S');
        if smuggled == b"junk" {
            // Too short to be refused yet; leaving is what ends it.
            continue;
        }
        // What follows is at most a TLS alert, and the end.
        if let Ok(first) = client.byte().await {
            assert_eq!(first, 21, "a TLS alert");
        }
        assert!(client.drain().await);
    }
    let scrape = bench.sidecar.scrape().await;
    assert_eq!(
        scrape.sum("poolwatch_logins_total", &[("outcome", "ok")]),
        0.0
    );
}

/// A server that lets nobody in without TLS and a password.
async fn protected(certified: &Certified) -> Postgres {
    Postgres::own(Options {
        password: Some(Secret::from("p@ss w:rd/%")),
        auth: "scram-sha-256".to_owned(),
        hba: Some("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n".to_owned()),
        tls: Some(ServerCertificate {
            certificate: certified.certificate.clone(),
            key: Secret::from(certified.key.as_str()),
        }),
        ..Options::default()
    })
    .await
}

/// A login through a sidecar in front of this URL, and what `query` says there; or the SQLSTATE.
async fn through(database: &Database, upstream: &str, query: &str) -> Result<String, String> {
    let sidecar = Sidecar::start_with(database, upstream, &[], &ONE).await;
    match sidecar.client_config().connect(NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            let row = client.query_one(query, &[]).await.expect("the query");
            Ok(row.get(0))
        }
        Err(error) => {
            let code = error.code().map(|code| code.code().to_owned());
            Err(code.unwrap_or_else(|| error.to_string()))
        }
    }
}

/// The database that every server has, on a server without one for the test.
async fn existing(name: &str) -> Database {
    let mut database = Postgres::shared().await.database().await;
    name.clone_into(&mut database.name);
    database
}

#[tokio::test]
async fn postgresql_is_reached_by_every_tls_mode() {
    let directory = Directory::new();
    let both = certified(&["localhost", "127.0.0.1"]);
    let root = directory.file("root.crt", &both.authority);
    let wrong = directory.file("wrong.crt", &certified(&["localhost"]).authority);
    let server = protected(&both).await;
    let database = existing("postgres").await;
    let url = |more: &str| format!("{}?{more}", server.url("postgres", "postgres"));
    let encrypted = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for more in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={root}"),
        format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        let said = through(&database, &url(&more), encrypted).await;
        assert_eq!(said.as_deref(), Ok("true"), "{more}");
    }
    for more in [
        format!("sslmode=verify-ca&sslrootcert={wrong}"),
        format!("sslmode=verify-full&sslrootcert={wrong}"),
    ] {
        let said = through(&database, &url(&more), encrypted)
            .await
            .expect_err(&more);
        assert!(said.starts_with("08"), "{more}: {said}");
    }
    let said = through(&database, &url("sslmode=disable"), encrypted).await;
    assert_eq!(said, Err("28000".to_owned()), "pg_hba.conf wants TLS");
}

#[tokio::test]
async fn verify_full_wants_the_name_and_verify_ca_does_not() {
    let directory = Directory::new();
    let other_name = certified(&["db.example.org"]);
    let root = directory.file("root.crt", &other_name.authority);
    let server = protected(&other_name).await;
    let database = existing("postgres").await;
    let url = |mode: &str| {
        let base = server.url("postgres", "postgres");
        format!("{base}?sslmode={mode}&sslrootcert={root}")
    };
    let said = through(&database, &url("verify-ca"), "SELECT 'in'").await;
    assert_eq!(said.as_deref(), Ok("in"));
    let said = through(&database, &url("verify-full"), "SELECT 'in'")
        .await
        .expect_err("the name is wrong");
    assert!(said.starts_with("08"), "{said}");
}

#[tokio::test]
async fn every_password_method_and_wrong_passwords() {
    let hba = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
               host all clear_user 127.0.0.1/32 password\nhost all md5_user 127.0.0.1/32 md5\n\
               host all scram_user 127.0.0.1/32 scram-sha-256\n";
    let server = Postgres::own(Options {
        hba: Some(hba.to_owned()),
        ..Options::default()
    })
    .await;
    let client = server.connect("postgres").await;
    client
        .batch_execute(
            "SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'secret one'; \
             CREATE ROLE clear_user LOGIN PASSWORD 'secret one'; \
             SET password_encryption = 'scram-sha-256'; CREATE ROLE scram_user LOGIN PASSWORD 'secret one'",
        )
        .await
        .expect("roles");
    let database = existing("postgres").await;
    for user in ["clear_user", "md5_user", "scram_user"] {
        let url = |password: &str| {
            let port = server.port();
            format!("postgres://{user}:{password}@127.0.0.1:{port}/postgres")
        };
        let said = through(&database, &url("secret%20one"), "SELECT current_user::text").await;
        assert_eq!(said.as_deref(), Ok(user));
        let said = through(&database, &url("wrong"), "SELECT 1").await;
        assert_eq!(said, Err("28P01".to_owned()), "{user}");
    }
}

#[tokio::test]
async fn unix_sockets_on_both_sides() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let directory = Directory::new();
    let encoded = server
        .socket_dir()
        .to_str()
        .expect("UTF-8")
        .replace('/', "%2F");
    let upstream = format!(
        "postgres://postgres@/{}?host={encoded}&port={}",
        database.name,
        server.port()
    );
    let path = directory.0.to_str().expect("UTF-8").to_owned();
    let mut environment = ONE.to_vec();
    environment.push(("POOLWATCH_LISTEN__UNIX_SOCKET_DIR", &path));
    let sidecar = Sidecar::start_with(&database, &upstream, &[], &environment).await;
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(&directory.0)
        .port(6432)
        .user("postgres")
        .dbname(&database.name);
    for _ in 0..2 {
        let (client, connection) = config.connect(NoTls).await.expect("the socket");
        tokio::spawn(connection);
        let row = client
            .query_one(
                "SELECT inet_server_addr() IS NULL, current_database()::text",
                &[],
            )
            .await
            .expect("a row");
        assert!(row.get::<_, bool>(0), "PostgreSQL is reached by its socket");
        assert_eq!(row.get::<_, String>(1), database.name);
    }
    drop(sidecar);
}
