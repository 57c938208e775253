//! The demo ends by itself, with a report whose figures are not made up, and leaves nothing behind.

use std::time::Duration;

use poolwatch::ops::demo::{Options, run};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_reports_what_happened_and_cleans_up() {
    let options = Options {
        // Long enough for the first burst.
        duration: Some(Duration::from_secs(5)),
        any_port: true,
    };
    let mut out = Vec::new();
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, run(&options, &mut out))
        .await
        .expect("it ends by itself")
        .expect("it succeeds");
    let text = String::from_utf8(out).expect("text");
    let figure = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let rest = line.and_then(|line| line.trim_start().strip_prefix(name));
        let first = rest.and_then(|rest| rest.split_whitespace().next());
        first
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    assert!(figure("transactions ") > 100.0, "{text}");
    assert!(figure("queries ") > figure("transactions "), "{text}");
    assert!(figure("checkouts ") >= figure("transactions "), "{text}");
    assert!(
        figure("connections opened ") > 25.0,
        "a burst overflows:\n{text}"
    );
    assert!(
        figure("connections opened ") >= figure("connections closed "),
        "{text}"
    );
    let most = figure("most seen in use ");
    assert!((1.0..=35.0).contains(&most), "{text}");
    let port = text
        .split("PostgreSQL listens on 127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(';').next())
        .and_then(|port| port.parse::<u16>().ok())
        .unwrap_or_else(|| panic!("no address in\n{text}"));
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}
