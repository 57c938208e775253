//! x
use poolwatch::config::{Argument, Sources};
fn main() {
    let mut arguments = Vec::new();
    let mut args = std::env::args().skip(2);
    while let (Some(flag), Some(value)) = (args.next(), args.next()) {
        let key = match flag.as_str() {
            "--upstream-url" => "upstream.url",
            "--listen" => "listen.address",
            "--http" => "http.address",
            other => other.trim_start_matches("--"),
        }
        .to_owned();
        arguments.push(Argument { flag, key, value });
    }
    let result =
        poolwatch::ops::serve::serve(move || Sources::of_process(vec![], arguments.clone()));
    if let Err(e) = result {
        eprintln!("{e:#}");
        std::process::exit(1)
    }
}
