//! A server that breaks the protocol costs the client that it was serving, and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Bench, ONE};
use crate::hostile::lying;
use crate::support::raw::{message, query, tags};
use crate::support::{Postgres, Sidecar};

const LIMIT: Duration = Duration::from_secs(20);

/// Something that speaks enough of the protocol to let poolwatch in, and then misbehaves: what follows `bad ` in a
/// query's text is the number of the misbehaviour.
struct Impostor {
    address: SocketAddr,
    logins: Arc<AtomicU64>,
}

impl Impostor {
    async fn start(misbehaviours: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let logins = Arc::new(AtomicU64::new(0));
        let (counted, misbehaviours) = (logins.clone(), Arc::new(misbehaviours));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let misbehaviours = misbehaviours.clone();
                tokio::spawn(async move { serve(stream, &misbehaviours).await });
            }
        });
        Self { address, logins }
    }
}

async fn serve(mut stream: TcpStream, misbehaviours: &[Vec<u8>]) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await?;
    let mut greeting = message(b'R', &[0; 4]);
    for (name, value) in [
        ("server_version", "15.1"),
        ("client_encoding", "UTF8"),
        ("application_name", "poolwatch"),
    ] {
        greeting.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    greeting.extend(message(b'K', &[0, 0, 0, 1, 1, 2, 3, 4]));
    greeting.extend(message(b'Z', b"I"));
    stream.write_all(&greeting).await?;
    loop {
        let tag = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await?;
        let text = String::from_utf8_lossy(&body).replace('\0', "");
        match (tag, text.strip_prefix("bad ")) {
            (b'X', _) => return Ok(()),
            (_, Some(number)) => {
                let number: usize = number.parse().expect("a number");
                stream.write_all(&misbehaviours[number]).await?;
                // And then it hangs up, in the middle of whatever that was.
                return Ok(());
            }
            _ => {
                let done = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
                stream.write_all(&done).await?;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_costs_its_client_only() {
    let good = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
    let misbehaviours = vec![
        Vec::new(),
        vec![0xff; 100],
        vec![0; 100],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        message(b'T', b"\0\x01")[..5].to_vec(),
        lying(b'D', i32::MAX, &vec![0; 200_000]),
        lying(b'D', -1, b"abc"),
        lying(b'D', 3, b""),
        lying(b'C', 100_000_000, &vec![b'x'; 200_000]),
        lying(b'E', i32::MAX, &vec![b'x'; 200_000]),
        lying(b'Z', 1000, &[b'I'; 996]),
        lying(b'S', i32::MAX, &vec![b'x'; 200_000]),
        lying(b'N', i32::MAX, &vec![b'x'; 200_000]),
        message(b'Z', b"?"),
        message(b'Z', b""),
        message(b'R', &[0, 0, 0, 3]),
        message(b'K', &[0; 8]),
        message(b'1', b""),
        message(b'C', b""),
        message(b'E', b""),
        message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"),
        message(b'E', b"SERROR\0VERROR\0C22012\0Mno end"),
        message(b'S', b"no value"),
        message(b'A', b"\0"),
        message(b'G', b""),
        [message(b'D', b"\0\0"), message(b'v', b"\0\0\0\0\0\0\0\0")].concat(),
        // More than was asked for: this client is served, and the connection is not used again.
        [good.clone(), good.clone()].concat(),
        [good.clone(), vec![0xff; 20]].concat(),
    ];
    let count = misbehaviours.len();
    let impostor = Impostor::start(misbehaviours).await;
    let database = Postgres::shared().await.database().await;
    let url = format!(
        "postgres://postgres@{}/{}?sslmode=disable",
        impostor.address, database.name
    );
    let sidecar = Sidecar::start_with(&database, &url, &[], &ONE).await;
    let bench = Bench::of(database, sidecar, impostor.address);
    for number in 0..count {
        let mut client = bench.pooled().await;
        assert_eq!(tags(&client.ask(&query("good")).await), "CZ", "{number}");
        client.send(&query(&format!("bad {number}"))).await;
        // Whatever was passed on of it, the client is not left to wait.
        let mut said = Vec::new();
        while let Some(message) = tokio::time::timeout(LIMIT, client.next())
            .await
            .expect("an end")
        {
            let last = message.tag == 'Z';
            said.push(message);
            if last {
                break;
            }
        }
        drop(client);
        bench.settled().await;
        let mut next = bench.pooled().await;
        let answer = next.ask(&query("good")).await;
        assert_eq!(tags(&answer), "CZ", "after {number}: {said:?} {answer:?}");
        drop(next);
    }
    assert!(impostor.logins.load(Ordering::Relaxed) > count as u64 / 2);
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.sidecar.pid())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 128 * 1024, "{peak} KiB");
    assert!(
        !bench
            .sidecar
            .logs()
            .iter()
            .any(|line| line.contains("panicked"))
    );
}
