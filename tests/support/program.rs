//! poolwatch's one-shot commands as processes, in an environment that only the test speaks in.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// The longest a one-shot command may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Panics with all that it printed, unless that is part of its standard error.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(self.err.contains(text), "not said: {text}\n{self:#?}");
    }

    /// Panics with all that it printed, unless that is part of its standard output.
    #[track_caller]
    pub fn prints(&self, text: &str) {
        assert!(self.out.contains(text), "not printed: {text}\n{self:#?}");
    }

    /// Panics with all that it printed, unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// The command, not started. Dropping what it starts kills it.
pub fn poolwatch(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    clean(env!("CARGO_BIN_EXE_poolwatch"), arguments, environment)
}

/// Any program, without the variables that would steer it or poolwatch elsewhere.
pub fn clean(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let steers = ["PG", "POSTGRES_", "LETTA_", "POOLWATCH_", "DATABASE_URL"];
        if steers.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn run(mut command: Command) -> Ended {
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    Ended::of(output.expect("it ends in time").expect("it starts"))
}
