//! Writing a [`Dsn`] in each dialect, and saying what a dialect cannot carry.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::conninfo::quote;
use super::{Dsn, Host, HostPort, SslMode};
use crate::secret::Secret;

/// A way to write a connection down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// libpq's URL: psql, pgbench, psycopg, most libraries.
    Postgres,
    /// asyncpg's own (0.32, `connect_utils.py`).
    Asyncpg,
    /// SQLAlchemy with asyncpg.
    SqlalchemyAsyncpg,
    /// SQLAlchemy with psycopg 3.
    SqlalchemyPsycopg,
    /// SQLAlchemy with psycopg 2.
    SqlalchemyPsycopg2,
    /// SQLAlchemy with pg8000.
    SqlalchemyPg8000,
    /// Java.
    Jdbc,
    /// Go's pgx (`pgconn/config.go`).
    Go,
    /// libpq's key=value string.
    KeyValue,
}

impl Form {
    /// All forms, in the order in which `poolwatch uri` prints them.
    pub const ALL: [Form; 9] = [
        Form::Postgres,
        Form::Asyncpg,
        Form::SqlalchemyAsyncpg,
        Form::SqlalchemyPsycopg,
        Form::SqlalchemyPsycopg2,
        Form::SqlalchemyPg8000,
        Form::Jdbc,
        Form::Go,
        Form::KeyValue,
    ];

    /// What uses this form.
    pub fn name(self) -> &'static str {
        match self {
            Form::Postgres => "libpq URL, psycopg",
            Form::Asyncpg => "asyncpg",
            Form::SqlalchemyAsyncpg => "SQLAlchemy + asyncpg",
            Form::SqlalchemyPsycopg => "SQLAlchemy + psycopg",
            Form::SqlalchemyPsycopg2 => "SQLAlchemy + psycopg2",
            Form::SqlalchemyPg8000 => "SQLAlchemy + pg8000",
            Form::Jdbc => "JDBC",
            Form::Go => "Go (pgx)",
            Form::KeyValue => "libpq key=value",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Form::Postgres | Form::Asyncpg | Form::Go => "postgresql://",
            Form::SqlalchemyAsyncpg => "postgresql+asyncpg://",
            Form::SqlalchemyPsycopg => "postgresql+psycopg://",
            Form::SqlalchemyPsycopg2 => "postgresql+psycopg2://",
            Form::SqlalchemyPg8000 => "postgresql+pg8000://",
            Form::Jdbc => "jdbc:postgresql://",
            Form::KeyValue => "",
        }
    }

    /// Parameters that it takes and poolwatch does not use; most forms' readers refuse others.
    fn more(self) -> &'static [&'static str] {
        match self {
            Form::Postgres
            | Form::SqlalchemyPsycopg
            | Form::SqlalchemyPsycopg2
            | Form::KeyValue => &LIBPQ_ONLY,
            Form::Asyncpg => &ASYNCPG_ONLY,
            Form::Go => &PGX_ONLY,
            Form::SqlalchemyAsyncpg | Form::SqlalchemyPg8000 | Form::Jdbc => &[],
        }
    }
}

/// A connection written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The URL or string, its secrets masked.
    pub text: String,
    /// What this form cannot carry, and where to say it instead.
    pub notes: Vec<String>,
}

impl Dsn {
    /// Writes the connection in a form, its password masked.
    pub fn render(&self, form: Form) -> Rendered {
        let (text, notes) = Renderer::new(self, form, false).run();
        Rendered { text, notes }
    }

    /// Writes the connection in a form with its password in clear text. [`Dsn::render`] is the one for people.
    pub fn render_exposing_password(&self, form: Form) -> Secret {
        Secret::new(Renderer::new(self, form, true).run().0)
    }
}

/// Stands where a secret would. Not percent-encoded, so that it cannot be mistaken for one.
const MASK: &str = "***";

/// What is left as it is in a URL: letters, digits, and what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path or a list in a query stays readable.
const ENCODED_IN_QUERY: &AsciiSet = &ENCODED.remove(b'/').remove(b',').remove(b':');

struct Renderer<'a> {
    dsn: &'a Dsn,
    form: Form,
    expose: bool,
    /// Parameters after `?`, or the pairs of a key=value string.
    pairs: Vec<(&'a str, String)>,
    notes: Vec<String>,
}

impl<'a> Renderer<'a> {
    fn new(dsn: &'a Dsn, form: Form, expose: bool) -> Self {
        Self {
            dsn,
            form,
            expose,
            pairs: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn run(mut self) -> (String, Vec<String>) {
        let authority = self.authority();
        self.tls();
        self.session();
        self.others();
        let text = if self.form == Form::KeyValue {
            let pairs: Vec<_> = self
                .pairs
                .iter()
                .map(|(name, value)| format!("{name}={}", quote(value)))
                .collect();
            pairs.join(" ")
        } else {
            let mut text = format!("{}{authority}", self.form.scheme());
            for (at, (name, value)) in self.pairs.iter().enumerate() {
                text.push(if at == 0 { '?' } else { '&' });
                text.push_str(name);
                text.push('=');
                // A mask holds nothing to encode.
                if value == MASK {
                    text.push_str(MASK);
                } else {
                    text.extend(utf8_percent_encode(value, ENCODED_IN_QUERY));
                }
            }
            text
        };
        (text, self.notes)
    }

    fn password(&self) -> Option<&'a str> {
        let password = self.dsn.password.as_ref()?;
        Some(if self.expose { password.expose() } else { MASK })
    }

    /// User, password, hosts and database: before the `?`, or as pairs where the form wants them so.
    fn authority(&mut self) -> String {
        let dsn = self.dsn;
        match self.form {
            Form::KeyValue => {
                self.host_pairs();
                self.pair("user", dsn.user.as_deref());
                self.pair("password", self.password());
                self.pair("dbname", dsn.database.as_deref());
                String::new()
            }
            Form::Jdbc => {
                if dsn.hosts.iter().any(is_unix) {
                    self.note("Unix socket: pgjdbc needs a socketFactory for it; use TCP");
                }
                let hosts = self.host_list();
                self.pair("user", dsn.user.as_deref());
                self.pair("password", self.password());
                format!("{hosts}/{}", encoded(dsn.database.as_deref()))
            }
            Form::Postgres => {
                let hosts = self.host_list();
                self.with_credentials(&hosts)
            }
            // asyncpg takes a list of addresses here, and a socket only from the query.
            Form::Asyncpg if !dsn.hosts.iter().any(is_unix) => {
                let hosts = self.host_list();
                self.with_credentials(&hosts)
            }
            Form::SqlalchemyPg8000 => self.pg8000_authority(),
            Form::Asyncpg
            | Form::SqlalchemyAsyncpg
            | Form::SqlalchemyPsycopg
            | Form::SqlalchemyPsycopg2
            | Form::Go => match dsn.hosts.as_slice() {
                [one] if !is_unix(one) => self.with_credentials(&url_host(one)),
                _ => {
                    self.host_pairs();
                    self.with_credentials("")
                }
            },
        }
    }

    /// pg8000 knows one host, and a socket by its file.
    fn pg8000_authority(&mut self) -> String {
        if self.dsn.hosts.len() > 1 {
            self.note("several hosts: pg8000 takes one; only the first is written");
        }
        let first = self.dsn.first_host();
        match first.socket_path() {
            Some(path) => {
                self.pairs.push(("unix_sock", path.display().to_string()));
                self.with_credentials("")
            }
            None => self.with_credentials(&url_host(first)),
        }
    }

    fn with_credentials(&self, hosts: &str) -> String {
        let user = encoded(self.dsn.user.as_deref());
        let password = match self.password() {
            Some(MASK) if !self.expose => format!(":{MASK}"),
            Some(password) => format!(":{}", encoded(Some(password))),
            None => String::new(),
        };
        let at = if user.is_empty() && password.is_empty() {
            ""
        } else {
            "@"
        };
        let database = encoded(self.dsn.database.as_deref());
        format!("{user}{password}{at}{hosts}/{database}")
    }

    fn host_list(&self) -> String {
        let hosts: Vec<_> = self.dsn.hosts.iter().map(url_host).collect();
        hosts.join(",")
    }

    /// `host=a,b` and `port=1,2`, which libpq and SQLAlchemy's asyncpg both take.
    fn host_pairs(&mut self) {
        let hosts: Vec<_> = self
            .dsn
            .hosts
            .iter()
            .map(|at| match &at.host {
                // asyncpg would take what is behind a colon for a port.
                Host::Tcp(ip) if self.form == Form::Asyncpg && ip.contains(':') => {
                    format!("[{ip}]")
                }
                host => host.to_string(),
            })
            .collect();
        let ports: Vec<_> = self
            .dsn
            .hosts
            .iter()
            .map(|at| at.port.to_string())
            .collect();
        self.pairs.push(("host", hosts.join(",")));
        self.pairs.push(("port", ports.join(",")));
    }

    fn tls(&mut self) {
        let dsn = self.dsn;
        let mode = Some(dsn.ssl_mode)
            .filter(|mode| *mode != SslMode::default())
            .map(SslMode::as_str);
        match self.form {
            Form::SqlalchemyPg8000 => {
                if mode.is_some() {
                    self.note(
                        "TLS: pg8000 takes connect_args={\"ssl_context\": …}, not a URL parameter",
                    );
                }
            }
            Form::SqlalchemyAsyncpg => self.pair("ssl", mode),
            _ => self.pair("sslmode", mode),
        }
        let files = [
            ("sslrootcert", &dsn.ssl_root_cert),
            ("sslcert", &dsn.ssl_cert),
            ("sslkey", &dsn.ssl_key),
        ];
        for (name, file) in files {
            let Some(file) = file else { continue };
            match self.form {
                Form::SqlalchemyAsyncpg => {
                    self.note(format!("{name}: asyncpg reads PG{}", name.to_uppercase()))
                }
                Form::SqlalchemyPg8000 => {
                    self.note(format!("{name}: load it into pg8000's ssl_context"))
                }
                _ => self.pairs.push((name, file.display().to_string())),
            }
        }
    }

    fn session(&mut self) {
        let dsn = self.dsn;
        // libpq and pgjdbc count whole seconds.
        let timeout = dsn
            .connect_timeout
            .map(|timeout| timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0));
        match (self.form, timeout) {
            (_, None) => {}
            (Form::Asyncpg, Some(seconds)) => {
                self.note(format!("connect timeout: pass timeout={seconds}"));
            }
            (Form::SqlalchemyAsyncpg | Form::SqlalchemyPg8000, Some(seconds)) => {
                self.note(format!(
                    "connect timeout: pass connect_args={{\"timeout\": {seconds}}}"
                ));
            }
            (Form::Jdbc, Some(seconds)) => self.pairs.push(("connectTimeout", seconds.to_string())),
            (_, Some(seconds)) => self.pairs.push(("connect_timeout", seconds.to_string())),
        }
        let name = dsn.application_name.as_deref();
        match self.form {
            Form::SqlalchemyAsyncpg if name.is_some() => self.note(
                "application_name: pass connect_args={\"server_settings\": {\"application_name\": …}}",
            ),
            Form::SqlalchemyAsyncpg => {}
            Form::Jdbc => self.pair("ApplicationName", name),
            _ => self.pair("application_name", name),
        }
        match self.form {
            Form::SqlalchemyAsyncpg | Form::SqlalchemyPg8000 if dsn.options.is_some() => {
                self.note("options: set them in the application, or with ALTER ROLE … SET");
            }
            Form::SqlalchemyAsyncpg | Form::SqlalchemyPg8000 => {}
            _ => self.pair("options", dsn.options.as_deref()),
        }
    }

    /// Parameters of the application's own driver are left out: another driver would refuse them.
    fn others(&mut self) {
        for (name, value) in &self.dsn.params {
            if !self.form.more().contains(&name.as_str()) {
                let shown: String = name.chars().filter(|c| !c.is_control()).collect();
                self.note(format!(
                    "{shown}: left out, this form has no such parameter"
                ));
                continue;
            }
            let value = if is_secret(name) && !self.expose {
                MASK
            } else {
                value.as_str()
            };
            self.pairs.push((name, value.to_owned()));
        }
    }

    fn pair(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.pairs.push((name, value.to_owned()));
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// Parameters that libpq takes and poolwatch does not use (PostgreSQL 18, `src/interfaces/libpq/fe-connect.c`).
const LIBPQ_ONLY: [&str; 32] = [
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// The same of asyncpg's DSN (0.32, `connect_utils.py`); others become settings of the session, which PostgreSQL refuses.
const ASYNCPG_ONLY: [&str; 10] = [
    "client_encoding",
    "gsslib",
    "krbsrvname",
    "passfile",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcrl",
    "sslpassword",
    "target_session_attrs",
];

/// The same of pgx (4 and 5, `pgconn/config.go`).
const PGX_ONLY: [&str; 5] = [
    "client_encoding",
    "passfile",
    "service",
    "sslpassword",
    "target_session_attrs",
];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token"]
        .iter()
        .any(|word| name.contains(word))
}

fn is_unix(at: &HostPort) -> bool {
    matches!(at.host, Host::Unix(_))
}

/// A host as it stands before the path: brackets around IPv6, a socket's directory percent-encoded.
fn url_host(at: &HostPort) -> String {
    match &at.host {
        Host::Tcp(host) if host.contains(':') => {
            format!("[{}]:{}", encoded(Some(host)).replace("%3A", ":"), at.port)
        }
        host => format!("{}:{}", encoded(Some(&host.to_string())), at.port),
    }
}

fn encoded(text: Option<&str>) -> String {
    utf8_percent_encode(text.unwrap_or(""), ENCODED).to_string()
}
