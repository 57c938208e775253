//! A server's message as a line of text, with whatever may differ between two runs masked: process ids, keys, object
//! ids.

use crate::support::raw::Message;

/// The first object id that is not PostgreSQL's own (`FirstNormalObjectId`).
const OWN: u32 = 16_384;

/// The line.
pub(crate) fn line(message: &Message) -> String {
    let body = &message.body[..];
    let text = match message.tag {
        'K' => "masked".to_owned(),
        'T' => columns(body).unwrap_or_else(|| bytes(body)),
        't' => types(body).unwrap_or_else(|| bytes(body)),
        'D' => row(body).unwrap_or_else(|| bytes(body)),
        'A' => notification(body),
        'E' => without_line(bytes(body)),
        _ => bytes(body),
    };
    format!("{} {text}", message.tag)
}

/// Puts ParameterStatus messages that follow one another in the order of their names. PostgreSQL tells in one go of all
/// that changed since it last told: up to 15 by name, from 16 on as its table of parameters has them. What poolwatch gives
/// back behind a DISCARD ALL is told in a second go.
pub(crate) fn statuses_by_name(lines: &mut [String]) {
    let is_status = |line: &String| line.starts_with("S ");
    for run in lines.chunk_by_mut(|one, next| is_status(one) && is_status(next)) {
        // Stable, so that two values of one parameter stay in their order.
        run.sort_by_key(|line| line.split('|').next().map(str::to_owned));
    }
}

/// The channel of a NotificationResponse.
pub(crate) fn channel(message: &Message) -> Option<String> {
    let rest = (message.tag == 'A').then(|| message.body.get(4..))??;
    let name = rest.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Text with NULs as `|`; what is long is told by its length, beginning and sum.
fn bytes(body: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).replace('\0', "|");
    let shown = shown.escape_debug();
    if body.len() > 200 {
        let sum = body
            .iter()
            .fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
        format!("{shown}… {} bytes, sum {sum:x}", body.len())
    } else {
        shown.to_string()
    }
}

/// poolwatch may tell of a stale plan in PostgreSQL's place. It does not know on which line of its source that stands. And a
/// Describe or a Bind in a failed transaction is refused at the Parse that goes ahead of it.
fn without_line(error: String) -> String {
    if let Some((before, after)) = error.split_once("|Fpostgres.c|L")
        && before.contains("|C25P02|")
        && [
            "Rexec_parse",
            "Rexec_describe_statement",
            "Rexec_bind_message",
        ]
        .iter()
        .any(|routine| after.contains(routine))
    {
        return before.to_owned();
    }
    match error.split_once("|Fplancache.c|L") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}|Fplancache.c{after}")
        }
        None => error,
    }
}

fn notification(body: &[u8]) -> String {
    body.get(4..).map_or_else(|| bytes(body), bytes)
}

/// Takes from the front of a message's body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (string, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(string)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn short(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn object(&mut self) -> Option<String> {
        let id = u32::from_be_bytes(self.array()?);
        Some(if id < OWN {
            id.to_string()
        } else {
            "own".to_owned()
        })
    }
}

fn columns(body: &[u8]) -> Option<String> {
    let mut reader = Reader(body);
    let mut columns = Vec::new();
    for _ in 0..reader.short()? {
        let name = String::from_utf8_lossy(reader.string()?);
        let (table, number) = (reader.object()?, reader.short()?);
        let (kind, size) = (reader.object()?, reader.short()?);
        let modifier = i32::from_be_bytes(reader.array()?);
        let format = reader.short()?;
        columns.push(format!(
            "{name}({table}.{number} {kind}/{size}/{modifier}/{format})"
        ));
    }
    reader.0.is_empty().then(|| columns.join(" "))
}

fn types(body: &[u8]) -> Option<String> {
    let mut reader = Reader(body);
    let mut types = Vec::new();
    for _ in 0..reader.short()? {
        types.push(reader.object()?);
    }
    reader.0.is_empty().then(|| types.join(" "))
}

fn row(body: &[u8]) -> Option<String> {
    let mut reader = Reader(body);
    let mut values = Vec::new();
    for _ in 0..reader.short()? {
        let Ok(length) = usize::try_from(i32::from_be_bytes(reader.array()?)) else {
            values.push("NULL".to_owned());
            continue;
        };
        let (value, rest) = reader.0.split_at_checked(length)?;
        reader.0 = rest;
        values.push(bytes(value));
    }
    reader.0.is_empty().then(|| values.join(" | "))
}

#[test]
fn ids_of_ones_own_objects_are_masked() {
    let column = |table: u32, kind: u32| {
        let mut body = vec![0, 1];
        body.extend_from_slice(b"n\0");
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&[0, 1]);
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&[0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        line(&Message { tag: 'T', body })
    };
    assert_eq!(column(20_000, 23), column(30_000, 23));
    assert_ne!(column(20_000, 23), column(20_000, 25));
    assert_ne!(column(0, 23), column(20_000, 23));
}

#[test]
fn statuses_are_in_the_order_of_their_names_only_where_nothing_stands_between() {
    let mut lines = ["S b|1", "S a|2", "S a|1", "Z I", "S c|", "C SET|", "S a|"].map(String::from);
    statuses_by_name(&mut lines);
    assert_eq!(
        lines,
        ["S a|2", "S a|1", "S b|1", "Z I", "S c|", "C SET|", "S a|"]
    );
}
