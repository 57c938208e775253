//! Certificates: clients that prove themselves by one, ours read again while running, the oldest version, and TLS without
//! asking first.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use poolwatch::dsn::SslMode;
use poolwatch::tls::{ClientTls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth::{PASSWORD, failures, guarded, psql};
use crate::support::raw::{Message, startup};
use crate::support::{Database, Postgres, Sidecar, eventually};
use crate::tls::Directory;

const LIMIT: Duration = Duration::from_secs(20);

/// Signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("rcgen");
        let mut own = CertificateParams::new(Vec::new()).expect("rcgen");
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        own.distinguished_name
            .push(DnType::CommonName, "an authority");
        Self {
            pem: own.self_signed(&key).expect("rcgen").pem(),
            issuer: Issuer::new(own, key),
        }
    }

    /// A certificate with its key, for this common name and these hosts.
    fn sign(&self, name: &str, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("rcgen");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut leaf = CertificateParams::new(hosts).expect("rcgen");
        leaf.distinguished_name.push(DnType::CommonName, name);
        let signed = leaf.signed_by(&key, &self.issuer).expect("rcgen");
        (signed.pem(), key.serialize_pem())
    }
}

/// libpq wants a key that others cannot read.
fn key_file(directory: &Directory, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.file(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    path
}

#[tokio::test]
async fn a_certificate_with_the_users_name_comes_in() {
    let (_server, database) = guarded().await;
    let directory = Directory::new();
    let (ours, foreign) = (Authority::new(), Authority::new());
    let ca = directory.file("ca.crt", &ours.pem);
    let files = |name: &str, authority: &Authority| {
        let (certificate, key) = authority.sign(name, &[]);
        let certificate = directory.file(&format!("{name}.crt"), &certificate);
        let key = key_file(&directory, &format!("{name}.key"), &key);
        format!("sslcert={certificate} sslkey={key}")
    };
    let environment = [
        ("POOLWATCH_AUTH__METHOD", "cert"),
        ("POOLWATCH_LISTEN__TLS_CLIENT_CA", ca.as_str()),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let log_in = async |user: &str, more: &str| {
        let info = format!("user={user} {more}");
        psql(&sidecar, &database, &info, &[], "SELECT current_user").await
    };
    let postgres = files("postgres", &ours);
    let said = log_in("postgres", &format!("sslmode=require {postgres}")).await;
    assert_eq!(said.as_deref(), Ok("postgres"));
    let ann = files("ann", &ours);
    for (user, more, expected) in [
        (
            "postgres",
            format!("sslmode=require {ann}"),
            "certificate authentication failed for user \"postgres\"",
        ),
        (
            "postgres",
            "sslmode=require".to_owned(),
            "connection requires a valid client certificate",
        ),
        (
            "postgres",
            "sslmode=disable".to_owned(),
            "connection requires a valid client certificate",
        ),
        (
            "ann",
            format!("sslmode=require {ann}"),
            "no credentials for user \"ann\"",
        ),
    ] {
        let said = log_in(user, &more).await.unwrap_err();
        assert!(said.contains(expected), "{user} {more}: {said}");
    }
    assert_eq!(failures(&sidecar, "certificate").await, 3.0);
    // Somebody else's authority: the handshake itself fails.
    let forged = files("postgres", &foreign);
    let said = log_in("postgres", &format!("sslmode=require {forged}"))
        .await
        .unwrap_err();
    assert!(said.contains("SSL") || said.contains("alert"), "{said}");
    assert_eq!(failures(&sidecar, "certificate").await, 3.0);
}

#[tokio::test]
async fn certificates_are_read_again_and_a_bad_one_changes_nothing() {
    let (_server, database) = guarded().await;
    let directory = Directory::new();
    let (first, second) = (Authority::new(), Authority::new());
    let roots = [
        directory.file("first.crt", &first.pem),
        directory.file("second.crt", &second.pem),
    ];
    let write = |(certificate, key): (String, String)| {
        (
            directory.file("server.crt", &certificate),
            directory.file("server.key", &key),
        )
    };
    let (certificate, key) = write(first.sign("a server", &["localhost"]));
    let environment = [
        ("POOLWATCH_LISTEN__TLS_CERT", certificate.as_str()),
        ("POOLWATCH_LISTEN__TLS_KEY", key.as_str()),
    ];
    let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
    let trusts = async |root: &str| {
        let info = format!("user=postgres sslmode=verify-full sslrootcert={root}");
        // The binding is to the certificate of this very connection.
        let environment = [("PGPASSWORD", PASSWORD), ("PGCHANNELBINDING", "require")];
        psql(&sidecar, &database, &info, &environment, "SELECT 1").await
    };
    assert!(trusts(&roots[0]).await.is_ok());
    assert!(trusts(&roots[1]).await.is_err());
    let session = sidecar.connect().await;

    // A key that is another certificate's.
    directory.file("server.crt", &second.sign("a server", &["localhost"]).0);
    sidecar.signal(Signal::SIGHUP);
    eventually(LIMIT, || async {
        sidecar
            .logs()
            .iter()
            .any(|line| line.contains("TLS with clients not changed"))
    })
    .await;
    assert!(trusts(&roots[0]).await.is_ok());

    write(second.sign("a server", &["localhost"]));
    sidecar.signal(Signal::SIGHUP);
    eventually(LIMIT, || trusts(&roots[1])).await;
    assert!(trusts(&roots[0]).await.is_err());
    session
        .batch_execute("SELECT 1")
        .await
        .expect("the session of before");
}

#[tokio::test]
async fn an_old_version_of_tls_is_refused_where_a_newer_one_is_wanted() {
    let (_server, database) = guarded().await;
    let only_13 = ["--set", "listen.tls_min_version=1.3"];
    let sidecar = Sidecar::start_with(&database, &database.url, &only_13, &[]).await;
    let default = Sidecar::start(&database).await;
    let info = "user=postgres sslmode=require";
    let old = format!("{info} ssl_max_protocol_version=TLSv1.2");
    let password = [("PGPASSWORD", PASSWORD)];
    for (sidecar, info, fine) in [
        (&sidecar, info, true),
        (&sidecar, &old, false),
        (&default, &old, true),
    ] {
        let said = psql(sidecar, &database, info, &password, "SELECT 1").await;
        assert_eq!(said.is_ok(), fine, "{info}: {said:?}");
    }
}

/// TLS from the first byte, with these names in ALPN; then a startup packet, and the first answer.
async fn direct(
    sidecar: &Sidecar,
    database: &Database,
    alpn: &[&[u8]],
) -> std::io::Result<Message> {
    let mut config = ClientTls::new(SslMode::Require, &TlsFiles::default())
        .expect("TLS")
        .config();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(sidecar.proxy_addr()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    stream
        .write_all(&startup(196_608, &database.name, &[]))
        .await?;
    let tag = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; usize::try_from(length).expect("a length") - 4];
    stream.read_exact(&mut body).await?;
    Ok(Message {
        tag: char::from(tag),
        body,
    })
}

#[tokio::test]
async fn tls_may_begin_at_once_by_its_name() {
    let (_server, database) = guarded().await;
    let sidecar = Sidecar::start(&database).await;
    let asked = direct(&sidecar, &database, &[b"postgresql"])
        .await
        .expect("an answer");
    assert_eq!(asked.tag, 'R');
    assert_eq!(
        asked.body,
        b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    );
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let error = direct(&sidecar, &database, alpn).await;
        assert!(error.is_err(), "{alpn:?}: {error:?}");
    }
    let scrape = sidecar.scrape().await;
    // The first one left when it was asked.
    eventually(LIMIT, || async {
        let scrape = sidecar.scrape().await;
        scrape.sum("poolwatch_logins_total", &[("outcome", "gone")]) == 3.0
    })
    .await;
    assert_eq!(
        scrape.sum("poolwatch_logins_total", &[("outcome", "ok")]),
        0.0
    );
}

#[tokio::test]
async fn a_client_may_show_a_certificate_that_nobody_asked_for() {
    let database = Postgres::shared().await.database().await;
    let directory = Directory::new();
    let authority = Authority::new();
    let (certificate, key) = authority.sign("somebody", &[]);
    let certificate = directory.file("client.crt", &certificate);
    let key = key_file(&directory, "client.key", &key);
    let sidecar = Sidecar::start(&database).await;
    let info = format!("user=postgres sslmode=require sslcert={certificate} sslkey={key}");
    let said = psql(&sidecar, &database, &info, &[], "SELECT 1").await;
    assert_eq!(said.as_deref(), Ok("1"));
}
