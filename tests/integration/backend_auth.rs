//! Logging in to PostgreSQL in every way it asks for, encrypted in every way libpq knows, and noticing its end.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::PathBuf;
use std::time::Duration;

use bb8::ManageConnection;
use poolwatch::backend::{
    ConnectError, Credentials, HangUp, Protocol, QueryError, Server, ServerManager, Target,
    TxStatus,
};
use poolwatch::dsn::{Host, HostPort, SslMode};
use poolwatch::error::ClientError;
use poolwatch::ops::postgres::{Mode, Options, ServerCertificate};
use poolwatch::tls::{ClientTls, ServerTls, Stream, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::{Postgres, eventually};

const LIMIT: Duration = Duration::from_secs(20);
const PASSWORD: &str = "pass wörd";

fn tls(mode: SslMode, root: Option<PathBuf>) -> ClientTls {
    let files = TlsFiles {
        root,
        ..TlsFiles::default()
    };
    ClientTls::new(mode, &files).unwrap()
}

fn target(postgres: &Postgres, host: &str) -> Target {
    Target {
        hosts: vec![HostPort {
            host: Host::Tcp(host.to_owned()),
            port: postgres.port(),
        }],
        user: postgres.user().to_owned(),
        credentials: Credentials::default(),
        database: "postgres".to_owned(),
        tls: tls(SslMode::Disable, None),
        connect_timeout: LIMIT,
        startup: vec![("application_name".to_owned(), "login test".to_owned())],
        protocol: Protocol::default(),
    }
}

#[tokio::test]
async fn trust_over_tcp_and_over_a_unix_socket() {
    let postgres = Postgres::shared().await;
    let mut target = target(postgres, "127.0.0.1");
    let over_tcp = Server::connect(&target).await.unwrap();
    target.hosts[0].host = Host::Unix(postgres.socket_dir().to_owned());
    // libpq ignores the mode on a Unix socket.
    target.tls = tls(SslMode::Require, None);
    let over_unix = Server::connect(&target).await.unwrap();
    for mut server in [over_tcp, over_unix] {
        assert_eq!(
            server.parameters().get("application_name"),
            Some("login test")
        );
        assert!(server.parameters().get("server_version").is_some());
        assert!(server.process_id() > 0);
        server.simple_query("BEGIN").await.unwrap();
        assert_eq!(server.status(), TxStatus::InTransaction);
        server.simple_query("nonsense").await.unwrap_err();
        assert_eq!(server.status(), TxStatus::Failed);
        server.simple_query("ROLLBACK").await.unwrap();
        assert!(server.is_reusable());
    }
}

#[tokio::test]
async fn every_password_method_takes_the_right_one_and_no_other() {
    for (method, encryption) in [
        ("password", "scram-sha-256"),
        ("md5", "md5"),
        ("scram-sha-256", "scram-sha-256"),
    ] {
        let postgres = Postgres::own(Options {
            conf: format!("password_encryption = '{encryption}'"),
            hba: Some(format!(
                "local all all trust\nhost all guest 127.0.0.1/32 {method}\nhost all postgres 127.0.0.1/32 trust\n"
            )),
            ..Options::default()
        })
        .await;
        let admin = postgres.connect("postgres").await;
        let create = format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'");
        admin.batch_execute(&create).await.unwrap();
        let mut target = target(&postgres, "127.0.0.1");
        target.user = "guest".to_owned();
        let error = Server::connect(&target).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::NoPassword { .. }),
            "{method}: {error}"
        );
        target.credentials = Credentials::password(Some("wrong".into()));
        let error = Server::connect(&target).await.unwrap_err();
        assert_eq!(error.sqlstate(), "28P01", "{method}: {error}");
        assert!(error.client_message().contains("guest"), "{error}");
        target.credentials = Credentials::password(Some(PASSWORD.into()));
        let mut server = Server::connect(&target).await.unwrap();
        server.simple_query("select 1").await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_database_is_refused_in_postgresqls_words() {
    let postgres = Postgres::shared().await;
    let mut target = target(postgres, "127.0.0.1");
    target.database = "nowhere".to_owned();
    let error = Server::connect(&target).await.unwrap_err();
    assert_eq!(error.sqlstate(), "3D000");
    assert_eq!(
        error.client_message(),
        "database \"nowhere\" does not exist"
    );
}

/// A certificate authority, its file, and what it made for a server.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn certify(&self, params: CertificateParams) -> ServerCertificate {
        let key = KeyPair::generate().unwrap();
        ServerCertificate {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem().into(),
        }
    }
}

/// What `openssl req -x509` makes: its own authority, a common name, no alternative names.
fn self_signed(name: &str) -> ServerCertificate {
    let key = KeyPair::generate().unwrap();
    let mut params = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ServerCertificate {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem().into(),
    }
}

fn common_name(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

/// Files of a test, gone with it.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let unique = format!(
            "poolwatch-test-{}-{:x}",
            std::process::id(),
            rand::random::<u64>()
        );
        let directory = std::env::temp_dir().join(unique);
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What libpq makes of the same: whether the connection is encrypted, or what it says.
async fn through_libpq(
    postgres: &Postgres,
    mode: SslMode,
    host: &str,
    root: Option<&PathBuf>,
) -> Result<bool, String> {
    // Without a root: a file that does not exist, so that one in the home directory does not count.
    let root = root.map_or("/nonexistent".into(), |root| root.display().to_string());
    let target = format!(
        "host={host} port={} user={} dbname=postgres sslmode={mode} sslrootcert={root}",
        postgres.port(),
        postgres.user(),
    );
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let psql = Command::new(postgres.binaries().program("psql"))
        .args(["-XAt", "-d", &target, "-c", query])
        .output();
    let answer = psql.await.unwrap();
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "t" => Ok(true),
        "f" => Ok(false),
        _ => Err(String::from_utf8_lossy(&answer.stderr).into_owned()),
    }
}

/// A mode, a host, a root, and what is to come of them.
type Case<'a> = (SslMode, &'a str, Option<&'a PathBuf>, Result<bool, &'a str>);

/// Tries modes, hosts and roots, beside libpq: `Ok` says whether the connection is encrypted, `Err` holds a part of what is told.
async fn expect(postgres: &Postgres, cases: &[Case<'_>]) {
    for (mode, host, root, expected) in cases {
        let by_libpq = through_libpq(postgres, *mode, host, *root).await;
        assert_eq!(
            by_libpq.as_ref().ok(),
            expected.as_ref().ok(),
            "psql: {by_libpq:?}"
        );
        let mut target = target(postgres, host);
        target.tls = tls(*mode, root.cloned());
        let what = format!("{mode:?} {host} {root:?}");
        match (Server::connect(&target).await, expected) {
            (Ok(mut server), Ok(encrypted)) => {
                assert_eq!(server.stream_mut().is_tls(), *encrypted, "{what}");
                server.simple_query("select 1").await.unwrap();
            }
            (Err(error), Err(text)) => {
                let told = error.client_message();
                assert!(told.contains(text), "{what}: {told}");
                assert_eq!(error.sqlstate(), "08001", "{what}");
            }
            (got, _) => panic!("{what}: {got:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn every_sslmode_with_a_certificate_of_an_authority() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = Files::new();
    let right = files.write("right.pem", &ours.pem);
    let wrong = files.write("wrong.pem", &other.pem);
    let postgres = Postgres::own(Options {
        tls: Some(ours.certify(named(&["localhost"]))),
        ..Options::default()
    })
    .await;
    let (right, wrong) = (Some(&right), Some(&wrong));
    expect(
        &postgres,
        &[
            (SslMode::Disable, "localhost", None, Ok(false)),
            (SslMode::Allow, "localhost", None, Ok(false)),
            (SslMode::Prefer, "localhost", None, Ok(true)),
            (SslMode::Require, "127.0.0.1", None, Ok(true)),
            (SslMode::Require, "127.0.0.1", right, Ok(true)),
            (SslMode::Require, "localhost", wrong, Err("UnknownIssuer")),
            (SslMode::VerifyCa, "127.0.0.1", right, Ok(true)),
            (SslMode::VerifyCa, "localhost", wrong, Err("UnknownIssuer")),
            (SslMode::VerifyFull, "localhost", right, Ok(true)),
            (
                SslMode::VerifyFull,
                "127.0.0.1",
                right,
                Err("not valid for name"),
            ),
            (
                SslMode::VerifyFull,
                "localhost",
                wrong,
                Err("UnknownIssuer"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_root_and_its_common_name_counts() {
    let files = Files::new();
    let certificate = self_signed("localhost");
    let root = files.write("root.pem", &certificate.certificate);
    let postgres = Postgres::own(Options {
        tls: Some(certificate),
        ..Options::default()
    })
    .await;
    let root = Some(&root);
    expect(
        &postgres,
        &[
            (SslMode::Require, "127.0.0.1", None, Ok(true)),
            (SslMode::VerifyCa, "127.0.0.1", root, Ok(true)),
            (SslMode::VerifyFull, "localhost", root, Ok(true)),
            (SslMode::VerifyFull, "127.0.0.1", root, Err("certificate")),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_pinned_certificate_is_not_good_past_its_dates() {
    let files = Files::new();
    let key = KeyPair::generate().unwrap();
    let mut params = named(&["localhost"]);
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    let root = files.write("root.pem", &certificate);
    let key = key.serialize_pem().into();
    let postgres = Postgres::own(Options {
        tls: Some(ServerCertificate { certificate, key }),
        ..Options::default()
    })
    .await;
    let cases = [
        (SslMode::Require, "localhost", None, Ok(true)),
        (SslMode::VerifyCa, "localhost", Some(&root), Err("xpired")),
    ];
    expect(&postgres, &cases).await;
}

#[tokio::test]
async fn a_server_without_tls_is_good_for_the_modes_that_do_not_need_it() {
    let postgres = Postgres::shared().await;
    expect(
        postgres,
        &[
            (SslMode::Allow, "127.0.0.1", None, Ok(false)),
            (SslMode::Prefer, "127.0.0.1", None, Ok(false)),
            (
                SslMode::Require,
                "127.0.0.1",
                None,
                Err("does not support TLS"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn allow_and_prefer_take_what_pg_hba_leaves_them() {
    for (line, mode, encrypted) in [
        ("hostssl", SslMode::Allow, true),
        ("hostnossl", SslMode::Prefer, false),
    ] {
        let postgres = Postgres::own(Options {
            tls: Some(self_signed("localhost")),
            hba: Some(format!(
                "local all all trust\n{line} all all 127.0.0.1/32 trust\n"
            )),
            ..Options::default()
        })
        .await;
        expect(&postgres, &[(mode, "127.0.0.1", None, Ok(encrypted))]).await;
    }
}

/// Someone in between, with a certificate of his own: decrypts, looks, encrypts again. Takes one client.
async fn in_between(postgres: &Postgres) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = postgres.port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        client.write_all(b"S").await.unwrap();
        let his_own = ServerTls::self_signed().unwrap();
        let mut client = his_own.accept(Stream::Tcp(client)).await.unwrap().stream;
        let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
        server.write_all(&request).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'S');
        let any = tls(SslMode::Require, None);
        let mut server = any.connect("127.0.0.1", Stream::Tcp(server)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    port
}

#[tokio::test]
async fn scram_is_bound_to_the_channel() {
    let postgres = Postgres::own(Options {
        tls: Some(self_signed("localhost")),
        hba: Some(
            "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
             host all guest 127.0.0.1/32 scram-sha-256\nhost all open 127.0.0.1/32 trust\n"
                .to_owned(),
        ),
        ..Options::default()
    })
    .await;
    let admin = postgres.connect("postgres").await;
    let create = format!("CREATE ROLE open LOGIN; CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'");
    admin.batch_execute(&create).await.unwrap();
    let mut target = target(&postgres, "127.0.0.1");
    target.user = "guest".to_owned();
    target.credentials = Credentials::password(Some(PASSWORD.into()));
    for mode in [SslMode::Require, SslMode::Disable] {
        target.tls = tls(mode, None);
        let mut server = Server::connect(&target).await.unwrap();
        server.simple_query("select 1").await.unwrap();
    }
    // Nobody verifies a certificate here, so someone in between is not seen by TLS: a user without SCRAM gets through him.
    target.tls = tls(SslMode::Require, None);
    target.hosts[0].port = in_between(&postgres).await;
    target.user = "open".to_owned();
    Server::connect(&target).await.unwrap();
    target.hosts[0].port = in_between(&postgres).await;
    target.user = "guest".to_owned();
    let error = Server::connect(&target).await.unwrap_err();
    assert!(
        error.client_message().contains("channel binding"),
        "{}",
        error.client_message()
    );
}

#[tokio::test]
async fn the_end_of_the_server_is_seen_without_asking() {
    let mut postgres = Postgres::own(Options::default()).await;
    let target = target(&postgres, "127.0.0.1");
    let manager = ServerManager::new(target.clone());
    let mut told = Server::connect(&target).await.unwrap();
    manager.is_valid(&mut told).await.unwrap();
    assert!(!manager.has_broken(&mut told));
    postgres.stop(Mode::Fast).await.unwrap();
    eventually(LIMIT, || {
        let seen = told.look().is_err();
        async move { seen }
    })
    .await;
    let hang_up = told.look().unwrap_err();
    assert!(
        matches!(&hang_up, HangUp::Fatal(message) if message.code == "57P01"),
        "{hang_up}"
    );
    assert!(manager.has_broken(&mut told));
    let error = Server::connect(&target).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08001", "{error}");
}

#[tokio::test]
async fn a_killed_backend_is_seen_without_asking() {
    let postgres = Postgres::own(Options::default()).await;
    let mut server = Server::connect(&target(&postgres, "127.0.0.1"))
        .await
        .unwrap();
    postgres.kill_backend(server.process_id()).unwrap();
    eventually(LIMIT, || {
        let seen = server.look().is_err();
        async move { seen }
    })
    .await;
    assert!(server.simple_query("select 1").await.is_err());
    assert!(!server.is_reusable());
}

#[tokio::test]
async fn a_query_is_cancelled_over_tcp_unix_and_tls() {
    let postgres = Postgres::own(Options {
        tls: Some(self_signed("localhost")),
        ..Options::default()
    })
    .await;
    let plain = target(&postgres, "127.0.0.1");
    let mut unix = plain.clone();
    unix.hosts[0].host = Host::Unix(postgres.socket_dir().to_owned());
    let mut encrypted = plain.clone();
    encrypted.tls = tls(SslMode::Require, None);
    for target in [plain, unix, encrypted] {
        let mut server = Server::connect(&target).await.unwrap();
        let cancels = server.cancels().clone();
        let watcher = postgres.connect("postgres").await;
        let pid = server.process_id();
        let cancel = async {
            eventually(LIMIT, || async {
                let running =
                    "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
                watcher.query_opt(running, &[&pid]).await.unwrap().is_some()
            })
            .await;
            cancels.aim().send().await.unwrap();
        };
        let (answer, ()) = tokio::join!(server.simple_query("SELECT pg_sleep(60)"), cancel);
        let error = answer.unwrap_err();
        assert!(
            matches!(&error, QueryError::Server(message) if message.code == "57014"),
            "{error}"
        );
        assert!(
            server.is_reusable(),
            "a cancelled query leaves the connection in step"
        );
    }
}
