//! The table of commands: what each is called, who may use it, and what it does.

use super::orders;
use super::refusal::Refusal;
use super::show::{self, View};
use super::table::Table;
use super::text::Text;
use super::{Answer, Role, Shared};
use std::sync::Arc;

/// One command.
pub(super) struct Command {
    /// The verb, and for SHOW what is shown, in upper case.
    pub(super) name: &'static str,
    /// What may stand behind it, as HELP writes it.
    pub(super) argument: &'static str,
    /// What somebody must be to use it.
    pub(super) needs: Role,
    pub(super) does: Does,
}

/// What a command does.
pub(super) enum Does {
    /// Shows a table.
    Show(fn(&View<'_>) -> Table),
    /// Shows a parameter of the session, which drivers ask for and nothing can change.
    Parameter(&'static str),
    /// Tells the commands.
    Help,
    /// Says why there is no such thing.
    Absent(&'static str),
    /// Changes something. Answers when it is done.
    Order(fn(Arc<Shared>, Argument) -> Answer<Result<(), Refusal>>),
}

/// What stands behind a command's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// Nothing.
    None,
    /// A name, a number or a word.
    Word(String),
    /// A setting and its new value.
    Setting(String, String),
}

const fn show(name: &'static str, table: fn(&View<'_>) -> Table) -> Command {
    Command {
        name,
        argument: "",
        needs: Role::Stats,
        does: Does::Show(table),
    }
}

const fn parameter(name: &'static str, value: &'static str) -> Command {
    Command {
        name,
        argument: "",
        needs: Role::Stats,
        does: Does::Parameter(value),
    }
}

const fn absent(name: &'static str, why: &'static str) -> Command {
    Command {
        name,
        argument: "",
        needs: Role::Stats,
        does: Does::Absent(why),
    }
}

type Order = fn(Arc<Shared>, Argument) -> Answer<Result<(), Refusal>>;

const fn order(name: &'static str, argument: &'static str, does: Order) -> Command {
    Command {
        name,
        argument,
        needs: Role::Admin,
        does: Does::Order(does),
    }
}

/// The argument of commands that need a database.
const A_DATABASE: &str = "<db>";

/// In the order of HELP.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "SHOW HELP",
        argument: "",
        needs: Role::Stats,
        does: Does::Help,
    },
    show("SHOW CONFIG", show::config),
    show("SHOW DATABASES", show::databases),
    show("SHOW POOLS", show::pools),
    show("SHOW CLIENTS", show::clients),
    show("SHOW SERVERS", show::servers),
    show("SHOW USERS", show::users),
    show("SHOW VERSION", show::version),
    show("SHOW PEERS", show::peers),
    show("SHOW PEER_POOLS", show::peer_pools),
    show("SHOW SOCKETS", show::sockets),
    show("SHOW ACTIVE_SOCKETS", show::active_sockets),
    show("SHOW LISTS", show::lists),
    show("SHOW MEM", show::mem),
    show("SHOW STATE", show::state),
    show("SHOW DNS_HOSTS", show::dns_hosts),
    show("SHOW DNS_ZONES", show::dns_zones),
    show("SHOW STATS", show::stats),
    show("SHOW STATS_TOTALS", show::stats_totals),
    show("SHOW STATS_AVERAGES", show::stats_averages),
    show("SHOW TOTALS", show::totals),
    show("SHOW HOLDERS", show::holders),
    show("SHOW PINS", show::pins),
    show("SHOW QUERIES", show::queries),
    show("SHOW SLOW", show::slow),
    order("SET", "key = value", orders::set),
    order("RELOAD", "", orders::reload),
    order("PAUSE", "[<db>]", orders::pause),
    order("RESUME", "[<db>]", orders::resume),
    order("DISABLE", A_DATABASE, orders::disable),
    order("ENABLE", A_DATABASE, orders::enable),
    order("RECONNECT", "[<db>]", orders::reconnect),
    order("KILL", "[<db>]", orders::kill),
    order("KILL_CLIENT", "<client_id>", orders::kill_client),
    order("SUSPEND", "", orders::suspend),
    order("WAIT_CLOSE", "[<db>]", orders::wait_close),
    order(
        "SHUTDOWN",
        "[WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
        orders::shutdown,
    ),
    parameter("SHOW CLIENT_ENCODING", "UTF8"),
    parameter("SHOW DEFAULT_TRANSACTION_ISOLATION", "read committed"),
    parameter("SHOW STANDARD_CONFORMING_STRINGS", "on"),
    parameter("SHOW DATESTYLE", "ISO"),
    parameter("SHOW TIMEZONE", "GMT"),
    Command {
        needs: Role::Admin,
        ..absent("SHOW FDS", "it would show secrets of clients")
    },
    absent(
        "SHOW DIAGNOSIS",
        "this version makes no diagnosis of its figures",
    ),
];

impl Command {
    /// The command that is meant, and what stands behind its name.
    pub(super) fn of(text: &str) -> Result<(&'static Command, Argument), Refusal> {
        let unknown = || Refusal::unknown(text);
        let (verb, argument) = match Text::parse(text).ok_or_else(unknown)? {
            Text::Set { key, value } => ("SET".to_owned(), Argument::Setting(key, value)),
            Text::Command { verb, argument } => {
                (verb.to_ascii_uppercase(), Argument::from(argument))
            }
        };
        let (name, argument) = match (verb.as_str(), argument) {
            ("SHOW" | "SELECT", Argument::Word(what)) => (
                format!("SHOW {}", what.to_ascii_uppercase()),
                Argument::None,
            ),
            (_, argument) => (verb, argument),
        };
        let mut commands = COMMANDS.iter();
        let command = commands.find(|command| command.name == name);
        let command = command.ok_or_else(unknown)?;
        match command.takes(&argument) {
            true => Ok((command, argument)),
            false if command.argument == A_DATABASE => Err(Refusal::DatabaseRequired),
            false => Err(Refusal::Usage(command.usage())),
        }
    }

    fn takes(&self, argument: &Argument) -> bool {
        match argument {
            Argument::None => self.argument.is_empty() || self.argument.starts_with('['),
            Argument::Word(_) => self.argument.contains('<') || self.argument.contains('|'),
            Argument::Setting(..) => self.argument.contains('='),
        }
    }

    fn usage(&self) -> String {
        match self.argument {
            "" => self.name.to_owned(),
            argument => format!("{} {argument}", self.name),
        }
    }

    /// What is answered when it was carried out: its verb.
    pub(super) fn tag(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or(self.name)
    }

    /// What the column of a parameter is called: as it was asked for, in lower case.
    pub(super) fn shown(&self) -> String {
        let name = self.name.trim_start_matches("SHOW ");
        name.to_ascii_lowercase()
    }
}

impl From<Option<String>> for Argument {
    fn from(argument: Option<String>) -> Self {
        argument.map_or(Argument::None, Argument::Word)
    }
}

/// All that can be asked for, for people.
pub(super) fn help() -> String {
    const ON_A_LINE: usize = 6;
    let shown: Vec<String> = COMMANDS
        .iter()
        .filter(|command| matches!(command.does, Does::Show(_) | Does::Help))
        .map(|command| command.name.replacen("SHOW ", "", 1))
        .collect();
    let mut text = String::new();
    for line in shown.chunks(ON_A_LINE) {
        text.push_str(&format!("\n\tSHOW {}", line.join("|")));
    }
    let orders = COMMANDS.iter();
    for command in orders.filter(|command| matches!(command.does, Does::Order(_))) {
        text.push_str(&format!("\n\t{}", command.usage()));
    }
    text
}
