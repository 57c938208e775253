//! Who and what is made: the role, its password and the database, from files of secrets, variables, or defaults.
//!
//! The first that is there counts, for each of the three by itself: the command line; a file of secrets
//! (`poolwatch-user`, then `letta-user`, in `/run/secrets`, then `/var/run/secrets`); `POSTGRES_USER`, or the file that
//! `POSTGRES_USER_FILE` names; what `upstream.url` says; the default. `script.sql` looks in the same places.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Origin, Sources};
use crate::dsn::{Dsn, Host};
use crate::secret::Secret;

/// What role, database and password are called where nobody says anything. The name of the database is the role's.
const DEFAULT: &str = "letta";
/// Where container platforms put secrets.
const DIRECTORIES: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
/// What the files there begin with.
const OWNERS: [&str; 2] = ["poolwatch", "letta"];
/// PostgreSQL cuts longer names (`NAMEDATALEN`).
const LONGEST: usize = 63;

/// A value and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub origin: Origin,
}

/// Who and what is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The application's role.
    pub role: Found<String>,
    /// Its password, or a SCRAM verifier of it.
    pub password: Found<Secret>,
    /// The database, and the schema in it.
    pub database: Found<String>,
}

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The role.
    User,
    /// Its password.
    Password,
    /// The database.
    Database,
}

impl Part {
    fn file(self) -> &'static str {
        match self {
            Part::User => "user",
            Part::Password => "password",
            Part::Database => "db",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Part::User => "POSTGRES_USER",
            Part::Password => "POSTGRES_PASSWORD",
            Part::Database => "POSTGRES_DB",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::User => "the role's name",
            Part::Password => "the password",
            Part::Database => "the database's name",
        })
    }
}

/// Why a value cannot be had, or is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The variable and the one that names a file are both set.
    #[error("{0} and {0}_FILE are both set; give one of them")]
    Twice(&'static str),
    /// A file that is there, or is named, cannot be read.
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// No name that PostgreSQL or we can take.
    #[error("{part} (from {origin}) {fault}")]
    Unfit {
        /// Of what.
        part: Part,
        /// Where it was found.
        origin: Origin,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// What the command line and `upstream.url` say.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    /// `--user`
    pub user: Option<&'a str>,
    /// `--database`
    pub database: Option<&'a str>,
    /// `upstream.url`, and where it was found.
    pub upstream: Option<(&'a Dsn, &'a Origin)>,
}

impl Names {
    /// Looks for the three.
    ///
    /// # Errors
    /// All that is wrong.
    pub(super) fn find(sources: &Sources, given: &Given<'_>) -> Result<Self, Vec<NameError>> {
        let mut wrong = Vec::new();
        let upstream = given.upstream;
        let of_url = |value: Option<&String>| {
            let (_, origin) = upstream?;
            let (value, origin) = (value?.clone(), origin.clone());
            Some(Found { value, origin })
        };
        let dsn = upstream.map(|(dsn, _)| dsn);
        let mut look = |part, flag: Option<&str>| {
            flag_value(part, flag).or_else(|| {
                placed(sources, part).unwrap_or_else(|error| {
                    wrong.push(error);
                    None
                })
            })
        };
        let user = look(Part::User, given.user);
        let database = look(Part::Database, given.database);
        let password = look(Part::Password, None);
        let role = user
            .or_else(|| of_url(dsn.and_then(|dsn| dsn.user.as_ref())))
            .unwrap_or_else(|| default(DEFAULT));
        let database = database
            .or_else(|| of_url(dsn.and_then(|dsn| dsn.database.as_ref())))
            .unwrap_or_else(|| default(&role.value));
        // A password of the URL's is that of the URL's user.
        let same = dsn.filter(|dsn| dsn.user.as_ref() == Some(&role.value));
        let password = password.or_else(|| {
            let exposed = same?.password.as_ref()?.expose().to_owned();
            of_url(Some(&exposed))
        });
        let password = password.unwrap_or_else(|| default(DEFAULT));
        wrong.extend(unfit(Part::User, &role));
        wrong.extend(unfit(Part::Database, &database));
        if password.value.contains('\0') {
            let origin = password.origin.clone();
            let fault = "has a zero byte, which PostgreSQL cannot take";
            wrong.push(NameError::Unfit {
                part: Part::Password,
                origin,
                fault,
            });
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let Found { value, origin } = password;
        let password = Found {
            value: Secret::new(value),
            origin,
        };
        Ok(Self {
            role,
            password,
            database,
        })
    }
}

/// Whether nobody but this machine is on the way: loopback addresses and Unix sockets.
pub(super) fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost")
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.to_canonical().is_loopback())
        }
    }
}

fn default(value: &str) -> Found<String> {
    Found {
        value: value.to_owned(),
        origin: Origin::Default,
    }
}

fn flag_value(part: Part, value: Option<&str>) -> Option<Found<String>> {
    let flag = match part {
        Part::User => "--user",
        Part::Database | Part::Password => "--database",
    };
    value.map(|value| Found {
        value: value.to_owned(),
        origin: Origin::CommandLine {
            flag: flag.to_owned(),
        },
    })
}

/// What lies in a file of secrets, else in a variable or in the file that it names. Empty is as good as absent.
fn placed(sources: &Sources, part: Part) -> Result<Option<Found<String>>, NameError> {
    for owner in OWNERS {
        for directory in DIRECTORIES {
            let path = Path::new(directory).join(format!("{owner}-{}", part.file()));
            if let Some(value) = read(sources, &path, true)? {
                let origin = Origin::SecretFile {
                    path,
                    variable: None,
                };
                return Ok(Some(Found { value, origin }));
            }
        }
    }
    let name = part.variable();
    let variable = |name: &str| {
        sources
            .environment
            .get(name)
            .filter(|value| !value.is_empty())
    };
    let by_file = format!("{name}_FILE");
    let value = match (variable(name), variable(&by_file)) {
        (Some(_), Some(_)) => return Err(NameError::Twice(name)),
        (Some(value), None) => {
            let origin = Origin::DropIn {
                name: name.to_owned(),
            };
            Some(Found {
                value: value.clone(),
                origin,
            })
        }
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            read(sources, &path, false)?.map(|value| {
                let variable = Some(by_file.clone());
                Found {
                    value,
                    origin: Origin::SecretFile { path, variable },
                }
            })
        }
        (None, None) => None,
    };
    Ok(value)
}

/// A file's text without the line end that editors put there; a file that need not be there may be absent.
fn read(sources: &Sources, path: &Path, optional: bool) -> Result<Option<String>, NameError> {
    match (sources.read)(path) {
        Ok(text) => {
            let text = text.trim_end_matches(['\n', '\r']);
            Ok((!text.is_empty()).then(|| text.to_owned()))
        }
        Err(error)
            if optional
                && matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
        {
            Ok(None)
        }
        Err(error) => Err(NameError::Unreadable {
            path: path.to_owned(),
            cause: error.to_string(),
        }),
    }
}

fn unfit(part: Part, found: &Found<String>) -> Option<NameError> {
    let name = found.value.as_str();
    let lower = name.to_ascii_lowercase();
    let fault = if name.contains('\0') {
        "has a zero byte, which PostgreSQL cannot take"
    } else if name.len() > LONGEST {
        "is longer than 63 bytes, and PostgreSQL would cut it"
    } else if lower.starts_with("pg_") {
        "begins with pg_, which PostgreSQL keeps for itself"
    } else if matches!(lower.as_str(), "public" | "none") {
        "is a word that PostgreSQL keeps for itself"
    } else if part == Part::Database
        && matches!(
            lower.as_str(),
            "template0" | "template1" | "information_schema"
        )
    {
        "is one of PostgreSQL's own; name a database of the application's"
    } else {
        return None;
    };
    Some(NameError::Unfit {
        part,
        origin: found.origin.clone(),
        fault,
    })
}
