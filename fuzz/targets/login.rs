//! What a server says at login: authentication requests, SASL, parameters, the cancel key.

use std::cell::OnceCell;
use std::time::Duration;

use poolwatch::backend::{Credentials, Protocol, Server, Target};
use poolwatch::dsn::{HostPort, SslMode};
use poolwatch::secret::Secret;
use poolwatch::tls::{ClientTls, TlsFiles};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static STAGE: OnceCell<(Runtime, TcpListener, Target)> = const { OnceCell::new() };
}

/// Logs in to a server that says these bytes and hangs up: an answer within the limit, whatever they are.
pub fn login(data: &[u8]) {
    STAGE.with(|stage| {
        let (runtime, listener, target) = stage.get_or_init(set);
        runtime.block_on(async {
            let mut answers = Vec::new();
            // A server that was let in is dropped at once: the other side reads to the end.
            let connecting = async { Server::connect(target).await.map(drop) };
            let mut connecting = std::pin::pin!(connecting);
            // Whoever refuses the protocol's newest version is called once more.
            let connected = loop {
                let mut saying = std::pin::pin!(say(listener, data, &mut answers));
                tokio::select! {
                    connected = &mut connecting => {
                        // Unless nobody called again, the rest is there in a moment.
                        let _ = tokio::time::timeout(Duration::from_millis(20), saying).await;
                        break connected;
                    }
                    () = &mut saying => {}
                }
            };
            if let Err(error) = &connected {
                assert!(!error.to_string().is_empty());
            }
            let clear = asks_for_clear_text(data);
            let shown = answers.windows(8).any(|window| window == b"tr0ub4do");
            assert!(
                clear || !shown,
                "a password goes out only where it is asked for"
            );
        });
    });
}

/// Takes one call, says these bytes, hangs up, and hears what is answered.
async fn say(listener: &TcpListener, data: &[u8], answers: &mut Vec<u8>) {
    let (mut stream, _) = listener.accept().await.expect("poolwatch connects");
    // It may have left in the middle.
    let _ = stream.write_all(data).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(answers).await;
}

/// AuthenticationCleartextPassword anywhere in it.
fn asks_for_clear_text(data: &[u8]) -> bool {
    data.windows(9)
        .any(|window| window[0] == b'R' && window[5..] == [0, 0, 0, 3])
}

fn set() -> (Runtime, TcpListener, Target) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let target = Target {
        hosts: vec![HostPort::tcp("127.0.0.1", port)],
        user: "fuzz".to_owned(),
        credentials: Credentials::password(Some(Secret::new("tr0ub4dor"))),
        database: "fuzz".to_owned(),
        tls: ClientTls::new(SslMode::Disable, &TlsFiles::default()).expect("no TLS"),
        connect_timeout: Duration::from_secs(10),
        startup: Vec::new(),
        protocol: Protocol::default(),
    };
    (runtime, listener, target)
}
