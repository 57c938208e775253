//! What programs rely on: the rules that prometheus-community's pgbouncer_exporter 0.12 applies to what it reads, and psql.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use super::shown::columns;
use crate::support::raw::{self, Message, Raw};
use crate::support::{Postgres, Sidecar};

/// A table as the exporter reads it.
struct Read {
    columns: Vec<(String, u32)>,
    rows: Vec<Vec<String>>,
}

impl Read {
    fn of(answer: &[Message]) -> Self {
        let rows = answer.iter().filter(|message| message.tag == 'D');
        Self {
            columns: columns(&answer[0]),
            rows: rows.map(Message::row).collect(),
        }
    }

    fn at(&self, name: &str) -> usize {
        let mut columns = self.columns.iter();
        columns
            .position(|(column, _)| column == name)
            .unwrap_or_else(|| panic!("no column {name}"))
    }

    /// A column that becomes a figure.
    fn is_number(&self, name: &str) {
        let at = self.at(name);
        for row in &self.rows {
            assert!(row[at].parse::<f64>().is_ok(), "{name} = {}", row[at]);
        }
    }

    /// Columns that become labels: of types that arrive as texts or numbers, and together different in each row.
    fn are_labels(&self, names: &[&str]) {
        const TEXT_VARCHAR_INT: [u32; 5] = [25, 1043, 20, 21, 23];
        let places: Vec<_> = names.iter().map(|name| self.at(name)).collect();
        for at in &places {
            let (name, oid) = &self.columns[*at];
            assert!(TEXT_VARCHAR_INT.contains(oid), "{name} is of type {oid}");
        }
        let labels = self
            .rows
            .iter()
            .map(|row| places.iter().map(|at| &row[*at]).collect::<Vec<_>>());
        let distinct: BTreeSet<_> = labels.collect();
        assert_eq!(distinct.len(), self.rows.len(), "{names:?} are not unique");
    }
}

#[tokio::test]
async fn pgbouncer_exporter_finds_all_it_looks_for() {
    let server = Postgres::shared().await;
    let (database, other) = (server.database().await, server.database().await);
    let sidecar = Sidecar::start(&database).await;
    let mut config = sidecar.client_config();
    for name in [&database.name, &other.name] {
        super::connect(config.dbname(name))
            .await
            .batch_execute("SELECT 1")
            .await
            .expect("an answer");
    }
    let mut config = sidecar.client_config();
    let _here = super::connect(config.application_name("here")).await;
    // Older versions of its driver send this, and its README asks to ignore it.
    let startup = [
        ("extra_float_digits", "2"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO, MDY"),
    ];
    let mut console = Raw::login_with(sidecar.proxy_addr(), "pgbouncer", &startup).await;
    let mut read = async |what: &str| Read::of(&console.ask(&raw::query(what)).await);

    let probe = read("SHOW STATS").await;
    assert!(!probe.rows.is_empty());
    let version = read("SHOW VERSION;").await;
    assert_eq!(
        (
            version.columns.len(),
            version.columns[0].0.as_str(),
            version.rows.len()
        ),
        (1, "version", 1)
    );
    let lists = read("SHOW LISTS;").await;
    assert_eq!(lists.columns.len(), 2);
    lists.is_number("items");
    for name in [
        "databases",
        "users",
        "pools",
        "free_clients",
        "used_clients",
        "login_clients",
        "free_servers",
        "used_servers",
        "dns_names",
        "dns_zones",
        "dns_queries",
    ] {
        assert!(
            lists.rows.iter().any(|row| row[0] == name),
            "no list {name}"
        );
    }
    let settings = read("SHOW CONFIG;").await;
    assert!([3, 4].contains(&settings.columns.len()));
    for name in ["max_client_conn", "max_user_connections"] {
        let row = settings.rows.iter().find(|row| row[0] == name).expect(name);
        assert!(row[1].parse::<f64>().is_ok(), "{row:?}");
    }
    let clients = read("SHOW CLIENTS;").await;
    for name in ["database", "user", "state", "application_name"] {
        assert_eq!(clients.columns[clients.at(name)].1, 25, "{name} is text");
    }
    let databases = read("SHOW databases;").await;
    databases.are_labels(&[
        "name",
        "host",
        "port",
        "database",
        "force_user",
        "pool_mode",
    ]);
    assert_eq!(databases.rows.len(), 3);
    for name in [
        "pool_size",
        "reserve_pool_size",
        "max_connections",
        "current_connections",
        "paused",
        "disabled",
    ] {
        databases.is_number(name);
    }
    assert!(
        databases
            .columns
            .iter()
            .all(|(name, _)| name != "reserve_pool"),
        "both would be one metric"
    );
    let totals = read("SHOW stats_totals;").await;
    totals.are_labels(&["database"]);
    for (name, _) in totals.columns.iter().skip(1) {
        totals.is_number(name);
    }
    let pools = read("SHOW pools;").await;
    pools.are_labels(&["database", "user"]);
    for name in [
        "cl_active",
        "cl_active_cancel_req",
        "cl_waiting",
        "cl_waiting_cancel_req",
        "sv_active",
        "sv_active_cancel",
        "sv_being_canceled",
        "sv_idle",
        "sv_used",
        "sv_tested",
        "sv_login",
        "maxwait",
    ] {
        pools.is_number(name);
    }
}

/// psql at the console, with this on its standard input; what it wrote on both outputs.
async fn psql(sidecar: &Sidecar, program: &Path, arguments: &[&str], input: &str) -> String {
    let mut url = sidecar.url();
    url.truncate(url.rfind('/').expect("a database in the URL"));
    let mut command = tokio::process::Command::new(program);
    command
        .args(["-X", "-d", &format!("{url}/pgbouncer")])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut psql = command.spawn().expect("start psql");
    let mut stdin = psql.stdin.take().expect("its standard input");
    stdin.write_all(input.as_bytes()).await.expect("write");
    drop(stdin);
    let output = tokio::time::timeout(super::LIMIT, psql.wait_with_output()).await;
    let output = output.expect("psql did not end").expect("psql's output");
    let errors = String::from_utf8_lossy(&output.stderr);
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors
}

#[tokio::test]
async fn psql_shows_tables_and_errors_and_goes_on() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let psql = |arguments: &'static [&'static str], input: &'static str| {
        psql(&sidecar, &database.program, arguments, input)
    };
    let said = psql(
        &[
            "-A",
            "-t",
            "-c",
            "SHOW VERSION",
            "-c",
            "nonsense",
            "-c",
            "SHOW STATE",
        ],
        "",
    )
    .await;
    let (shown, errors) = said.split_once("ERROR:  ").expect("an error");
    assert!(
        shown.starts_with("poolwatch ") && shown.ends_with("active|yes\npaused|no\nsuspended|no\n"),
        "{said}"
    );
    assert_eq!(
        errors.trim_end(),
        "invalid command 'nonsense', use SHOW HELP;"
    );

    let said = psql(&["-c", "SHOW POOLS"], "").await;
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0]
            .trim_start()
            .starts_with("database  |   user    | cl_active "),
        "{said}"
    );
    assert!(lines[1].starts_with("-----------+-----------+"), "{said}");
    assert!(
        lines[2].starts_with(" pgbouncer | pgbouncer |         1 |          0 |"),
        "{said}"
    );
    assert_eq!(lines[3], "(1 row)");
    let numbers_stand_right = lines[0].find("cl_active").expect("a column") + "cl_active".len();
    assert_eq!(
        &lines[2][numbers_stand_right - 2..numbers_stand_right],
        " 1"
    );
}

#[tokio::test]
async fn psql_can_be_worked_with_as_usual() {
    let database = Postgres::shared().await.database().await;
    let sidecar = Sidecar::start(&database).await;
    let psql = |input: &'static str| psql(&sidecar, &database.program, &["-q"], input);
    let said = psql("\\x\nSHOW STATE;\n\\x\nSHOW LISTS \\gx\n").await;
    assert!(
        said.contains("-[ RECORD 1 ]----\nkey   | active\nvalue | yes\n"),
        "{said}"
    );
    assert!(said.contains("list  | used_clients\nitems | 1\n"), "{said}");
    let said = psql("SHOW CLIENTS \\gx\n").await;
    assert!(
        said.contains("| TLSv1.3/TLS_AES_256_GCM_SHA384\n"),
        "{said}"
    );
    // Several commands in one text are sent one by one; over several lines too.
    let said = psql("\\pset format csv\nSHOW\n  dns_zones;SHOW peers;\n").await;
    assert_eq!(said, "zonename,serial,count\npeer_id,host,port,pool_size\n");
    // What asks PostgreSQL's catalog is refused, and the session goes on.
    let said = psql("\\d\n\\pset tuples_only\nSHOW timezone;\n\\conninfo\n").await;
    assert!(
        said.contains("ERROR:  invalid command 'SELECT n.nspname"),
        "{said}"
    );
    assert!(said.contains(" GMT\n"), "{said}");
    assert!(
        said.contains("connected to database \"pgbouncer\""),
        "{said}"
    );
    let said = psql("SHOW HELP;\n").await;
    assert!(
        said.starts_with("NOTICE:  Console usage\nDETAIL:  \n\tSHOW HELP|CONFIG|"),
        "{said}"
    );
    // `\gdesc` prepares, which ends the session.
    let said = psql("SHOW STATE \\gdesc\n").await;
    assert!(
        said.contains("ERROR:  extended query protocol not supported by admin console"),
        "{said}"
    );
    assert!(said.contains("FATAL:  bad packet"), "{said}");
}
