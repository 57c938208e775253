//! The types of values: reading them from text, writing them back.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::dsn::{Dsn, Host, HostPort, ParseError};
use crate::query::{SlowRule, SlowRuleError};

/// A type that a key can have. Every layer hands over text, so that a value means the same wherever it stands.
pub(super) trait Value: Sized + Clone + PartialEq {
    /// Whether TOML writes it without quotes.
    const BARE: bool = false;

    fn read(text: &str) -> Result<Self, ValueError>;

    /// What [`Value::read`] reads back; secrets are masked.
    fn show(&self) -> String;
}

/// Why a text is no value of its key's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not true or false.
    #[error("{text:?} is neither true nor false")]
    Switch {
        /// What was written.
        text: String,
    },
    /// No rule about slow queries.
    #[error("{text:?} is no rule: {problem}")]
    SlowRule {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: SlowRuleError,
    },
    /// Not a whole number of the type's range.
    #[error("{text:?} is not a whole number from {min} to {max}")]
    Number {
        /// What was written.
        text: String,
        /// The smallest value.
        min: i64,
        /// The largest value.
        max: i64,
    },
    /// Not a duration.
    #[error("{text:?} is not a duration; write a number with its unit, such as 500ms, 30s or 5m")]
    Duration {
        /// What was written.
        text: String,
    },
    /// Not a number of seconds, as a drop-in name wants.
    #[error("{text:?} is not a number of seconds")]
    Seconds {
        /// What was written.
        text: String,
    },
    /// None of the words allowed.
    #[error("{text:?} is not one of {}", allowed.join(", "))]
    Word {
        /// What was written.
        text: String,
        /// The words allowed.
        allowed: Vec<&'static str>,
    },
    /// Not an address to listen on.
    #[error("{text:?} is not an address; write host:port, such as 127.0.0.1:6432 or [::1]:6432")]
    Address {
        /// What was written.
        text: String,
    },
    /// Not an absolute path.
    #[error("{text:?} is not an absolute path")]
    RelativePath {
        /// What was written.
        text: String,
    },
    /// Not a connection URL.
    #[error(transparent)]
    Url(#[from] ParseError),
}

impl Value for bool {
    const BARE: bool = true;

    fn read(text: &str) -> Result<Self, ValueError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err(ValueError::Switch {
                text: text.to_owned(),
            }),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    const BARE: bool = true;

    fn read(text: &str) -> Result<Self, ValueError> {
        number(text, u32::MIN.into(), u32::MAX.into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for i32 {
    const BARE: bool = true;

    fn read(text: &str) -> Result<Self, ValueError> {
        number(text, i32::MIN.into(), i32::MAX.into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

fn number<T: std::str::FromStr>(text: &str, min: i64, max: i64) -> Result<T, ValueError> {
    text.trim().parse().map_err(|_| ValueError::Number {
        text: text.to_owned(),
        min,
        max,
    })
}

impl Value for Duration {
    fn read(text: &str) -> Result<Self, ValueError> {
        humantime::parse_duration(text.trim()).map_err(|_| ValueError::Duration {
            text: text.to_owned(),
        })
    }

    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

/// A duration that can be switched off.
impl Value for Option<Duration> {
    fn read(text: &str) -> Result<Self, ValueError> {
        match text.trim() {
            // SQLAlchemy writes -1.
            "off" | "-1" => Ok(None),
            text => Duration::read(text).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or("off".to_owned(), Value::show)
    }
}

/// A path, or nothing.
impl Value for Option<PathBuf> {
    fn read(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(text);
        if path.is_absolute() {
            return Ok(Some(path));
        }
        Err(ValueError::RelativePath {
            text: text.to_owned(),
        })
    }

    fn show(&self) -> String {
        self.as_ref()
            .map_or(String::new(), |path| path.display().to_string())
    }
}

/// A text, or nothing.
impl Value for Option<String> {
    fn read(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn show(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

impl Value for Option<Dsn> {
    fn read(text: &str) -> Result<Self, ValueError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(Dsn::parse(text)?))
    }

    fn show(&self) -> String {
        self.as_ref().map_or(String::new(), Dsn::to_string)
    }
}

impl Value for HostPort {
    fn read(text: &str) -> Result<Self, ValueError> {
        listen_address(text).ok_or_else(|| ValueError::Address {
            text: text.to_owned(),
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Addresses to listen on, separated by commas; port 0 leaves the choice to the system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses(
    /// In the order written. Never Unix sockets.
    pub Vec<HostPort>,
);

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Value for Addresses {
    fn read(text: &str) -> Result<Self, ValueError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',')
            .map(HostPort::read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Names, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(
    /// In the order written, none of them empty.
    pub Vec<String>,
);

impl Value for Names {
    fn read(text: &str) -> Result<Self, ValueError> {
        let names = text.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self(names.collect()))
    }

    fn show(&self) -> String {
        self.0.join(", ")
    }
}

/// Rules, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlowRules(
    /// In the order written: the first that fits counts.
    pub Vec<SlowRule>,
);

impl Value for SlowRules {
    fn read(text: &str) -> Result<Self, ValueError> {
        let rules = text.split(',').map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty());
        let read = rules.map(|rule| {
            rule.parse().map_err(|problem| ValueError::SlowRule {
                text: rule.to_owned(),
                problem,
            })
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let rules: Vec<_> = self.0.iter().map(SlowRule::to_string).collect();
        rules.join(", ")
    }
}

/// `host:port` or `[v6]:port`.
fn listen_address(text: &str) -> Option<HostPort> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None => host.to_owned(),
    };
    let is_name = bare.is_some()
        || (!host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')));
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_name && digits)?;
    Some(HostPort {
        host: Host::Tcp(host),
        port,
    })
}

/// Declares an enum whose variants are words in a settings file.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The word that settings use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Value for $name {
            fn read(text: &str) -> Result<Self, ValueError> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($word => Ok($name::$variant),)+
                    _ => Err(ValueError::Word {
                        text: text.to_owned(),
                        allowed: vec![$($word),+],
                    }),
                }
            }

            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

words! {
    /// For how long a client keeps a server.
    PoolMode {
        /// From the first statement of a transaction to its end.
        #[default]
        Transaction = "transaction",
        /// From login to logout.
        Session = "session",
    }
}

words! {
    /// What ends a transaction that its client left open.
    ResetOnReturn {
        /// It is rolled back.
        #[default]
        Rollback = "rollback",
        /// It is committed.
        Commit = "commit",
        /// The server is closed, for it is never reused in a transaction.
        None = "none",
    }
}

words! {
    /// When a server's session state is discarded at its return.
    ServerReset {
        /// Where a session had been pinned to it.
        #[default]
        Pinned = "pinned",
        /// At every return.
        Always = "always",
    }
}

words! {
    /// How clients prove who they are.
    AuthMethod {
        /// By what is known of the user.
        #[default]
        Auto = "auto",
        /// Not at all.
        Trust = "trust",
        /// By SCRAM-SHA-256.
        ScramSha256 = "scram-sha-256",
        /// By a password in clear, over TLS.
        Password = "password",
        /// By a certificate.
        Cert = "cert",
    }
}

words! {
    /// Whether the database gets pgvector.
    VectorMode {
        /// It must: a server without it is an error.
        #[default]
        Required = "required",
        /// Where the server has it.
        Optional = "optional",
        /// Not.
        Off = "off",
    }
}

words! {
    /// What becomes of the schema `public`.
    DropPublic {
        /// It is removed if it holds nothing; else that is an error.
        #[default]
        Empty = "empty",
        /// It is removed with all that it holds.
        Cascade = "cascade",
        /// It stays.
        Keep = "keep",
    }
}

words! {
    /// The oldest version of TLS that is spoken.
    TlsVersion {
        /// TLS 1.2.
        #[default]
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
    }
}

words! {
    /// How a log line is written.
    LogFormat {
        /// For people.
        #[default]
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// From which level on events are logged.
    LogLevel {
        /// Something is broken and a person is needed.
        Error = "error",
        /// Something went wrong and was dealt with.
        Warn = "warn",
        /// The life of the process.
        #[default]
        Info = "info",
        /// The life of each connection.
        Debug = "debug",
        /// Each message.
        Trace = "trace",
    }
}
