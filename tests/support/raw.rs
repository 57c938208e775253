//! A PostgreSQL client that knows messages and nothing else: for what a well-behaved driver would never send, and for
//! comparing answers byte by byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The longest any one message may be awaited on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: char,
    /// What comes after the length.
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse; empty if it is not there.
    pub fn field(&self, code: u8) -> String {
        self.body
            .split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&code))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
            .unwrap_or_default()
    }

    /// SQLSTATE of an ErrorResponse.
    pub fn code(&self) -> String {
        self.field(b'C')
    }

    /// The fields of a DataRow as text; NULL is `~`.
    pub fn row(&self) -> Vec<String> {
        let mut rest = &self.body[2..];
        let mut fields = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                fields.push("~".to_owned());
                rest = after;
                continue;
            };
            fields.push(String::from_utf8_lossy(&after[..length]).into_owned());
            rest = &after[length..];
        }
        fields
    }

    /// The body as text, NULs as spaces, for messages made of strings.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .replace('\0', " ")
            .trim()
            .to_owned()
    }
}

/// The types of messages, in order.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| message.tag).collect()
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// What the server said at login.
    pub greeting: Vec<Message>,
}

impl Raw {
    /// Connects, and sends nothing.
    pub async fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connect");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let (read, write) = stream.into_split();
        Self {
            read,
            write,
            greeting: Vec::new(),
        }
    }

    /// Logs in over a connection that takes in as little as the system allows.
    pub async fn login_narrow(address: SocketAddr, database: &str) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("SO_RCVBUF");
        let stream = socket.connect(address).await.expect("connect");
        let (read, write) = stream.into_split();
        let mut raw = Self {
            read,
            write,
            greeting: Vec::new(),
        };
        raw.send(&startup(196_608, database, &[])).await;
        let greeting = raw.greeted().await;
        assert_eq!(greeting.last().map(|m| m.tag), Some('Z'), "{greeting:?}");
        raw
    }

    /// Logs in as the superuser `postgres`, who must be trusted.
    pub async fn login(address: SocketAddr, database: &str) -> Self {
        Self::login_with(address, database, &[]).await
    }

    /// Logs in with further startup parameters.
    pub async fn login_with(
        address: SocketAddr,
        database: &str,
        parameters: &[(&str, &str)],
    ) -> Self {
        let mut raw = Self::dial(address).await;
        raw.send(&startup(196_608, database, parameters)).await;
        let greeting = raw.greeted().await;
        assert_eq!(greeting.last().map(|m| m.tag), Some('Z'), "{greeting:?}");
        raw
    }

    /// Reads what follows a startup packet, up to ReadyForQuery or the end of the connection.
    pub async fn greeted(&mut self) -> Vec<Message> {
        let mut greeting = Vec::new();
        while let Some(message) = self.next().await {
            let last = message.tag == 'Z';
            greeting.push(message);
            if last {
                break;
            }
        }
        self.greeting.clone_from(&greeting);
        greeting
    }

    /// A parameter that the login reported.
    pub fn reported(&self, name: &str) -> Option<String> {
        self.greeting
            .iter()
            .filter(|message| message.tag == 'S')
            .find_map(|message| {
                let mut parts = message.body.split(|byte| *byte == 0);
                (parts.next()? == name.as_bytes())
                    .then(|| String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned())
            })
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("send");
    }

    /// Sends bytes to somebody who may hang up.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// The next message; `None` when the other side closed or reset the connection.
    pub async fn next(&mut self) -> Option<Message> {
        match tokio::time::timeout(LIMIT, read_message(&mut self.read)).await {
            Ok(Ok(message)) => Some(message),
            Ok(Err(_)) => None,
            Err(_) => panic!("no message within {LIMIT:?}"),
        }
    }

    /// One byte, as the answer to SSLRequest is.
    pub async fn byte(&mut self) -> io::Result<u8> {
        tokio::time::timeout(LIMIT, self.read.read_u8())
            .await
            .expect("an answer in time")
    }

    /// Reads so many messages.
    pub async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.next().await {
                Some(message) => messages.push(message),
                None => break,
            }
        }
        messages
    }

    /// Reads up to and with the first message of a type, or to the end of the connection.
    pub async fn until(&mut self, tag: char) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            let last = message.tag == tag;
            messages.push(message);
            if last {
                break;
            }
        }
        messages
    }

    /// Sends, and reads up to ReadyForQuery.
    pub async fn ask(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.send(bytes).await;
        self.until('Z').await
    }

    /// As [`Raw::ask`], reading while it still sends: for more bytes than the sockets between can hold.
    pub async fn ask_while_reading(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        let Self { read, write, .. } = self;
        let sending = async { write.write_all(bytes).await.expect("send") };
        let reading = async {
            while messages.last().is_none_or(|last: &Message| last.tag != 'Z') {
                messages.push(read_message(read).await.expect("a message"));
            }
        };
        tokio::time::timeout(LIMIT, async { tokio::join!(sending, reading) })
            .await
            .expect("the answers in time");
        messages
    }

    /// Runs simple queries and gives the rows of all of them, fields joined by `|`. Panics on an error.
    pub async fn rows(&mut self, sql: &str) -> Vec<String> {
        let answer = self.ask(&query(sql)).await;
        assert!(tags(&answer).ends_with('Z'), "{sql}: {answer:?}");
        if let Some(error) = answer.iter().find(|message| message.tag == 'E') {
            panic!("{sql}: {}", error.text());
        }
        answer
            .iter()
            .filter(|message| message.tag == 'D')
            .map(|message| message.row().join("|"))
            .collect()
    }

    /// The one value of a query.
    pub async fn value(&mut self, sql: &str) -> String {
        self.rows(sql).await.pop().expect("a row")
    }

    /// Reads to the end of the connection and says whether it came; everything read is thrown away.
    pub async fn drain(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match tokio::time::timeout(LIMIT, self.read.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    /// Both halves, for a test that reads and writes at its own pace.
    pub fn into_halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.read, self.write)
    }
}

async fn read_message(read: &mut OwnedReadHalf) -> io::Result<Message> {
    let tag = read.read_u8().await?;
    let length = usize::try_from(read.read_i32().await?).expect("a length") - 4;
    let mut body = vec![0; length];
    read.read_exact(&mut body).await?;
    Ok(Message {
        tag: char::from(tag),
        body,
    })
}

/// A startup packet; the user is `postgres`.
pub fn startup(version: u32, database: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in [("user", "postgres"), ("database", database)]
        .iter()
        .chain(parameters)
    {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(&body)
}

/// A packet without a type: length and body.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short packet");
    [&length.to_be_bytes(), body].concat()
}

/// A message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(packet(body));
    bytes
}

fn strings(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &strings(&[sql]))
}

/// Parse, the types of parameters left to the server.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut body = strings(&[name, sql]);
    body.extend_from_slice(&[0, 0]);
    message(b'P', &body)
}

/// Bind with parameters and results as text.
pub fn bind(portal: &str, statement: &str, parameters: &[&str]) -> Vec<u8> {
    let mut body = strings(&[portal, statement]);
    body.extend_from_slice(&[0, 0]);
    let count = u16::try_from(parameters.len()).expect("few parameters");
    body.extend_from_slice(&count.to_be_bytes());
    for parameter in parameters {
        body.extend(packet_value(parameter));
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

fn packet_value(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("a short value");
    [&length.to_be_bytes(), value.as_bytes()].concat()
}

/// Describe of a statement (`S`) or a portal (`P`).
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind], &strings(&[name])[..]].concat())
}

/// Close of a statement (`S`) or a portal (`P`).
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[kind], &strings(&[name])[..]].concat())
}

/// Execute, of so many rows; 0 is all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(
        b'E',
        &[&strings(&[portal])[..], &rows.to_be_bytes()].concat(),
    )
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// Parse, Bind and Execute of the unnamed statement, without Sync.
pub fn run(sql: &str, parameters: &[&str]) -> Vec<u8> {
    [parse("", sql), bind("", "", parameters), execute("", 0)].concat()
}

/// Bind and Execute of a named statement, and Sync.
pub fn use_of(name: &str, parameters: &[&str]) -> Vec<u8> {
    [bind("", name, parameters), execute("", 0), sync()].concat()
}

/// Parse of a named statement, and Sync.
pub fn prepare(name: &str, sql: &str) -> Vec<u8> {
    [parse(name, sql), sync()].concat()
}

/// How many ReadyForQuery messages are answered with.
pub fn ends(messages: &[u8]) -> usize {
    let (mut at, mut ends) = (0, 0);
    while at < messages.len() {
        ends += usize::from(matches!(messages[at], b'S' | b'Q'));
        let length = messages[at + 1..at + 5].try_into().expect("four bytes");
        at += 1 + u32::from_be_bytes(length) as usize;
    }
    ends
}

/// What a client sees of an answer, but for where in PostgreSQL's source an error comes from.
pub fn seen(answer: &[Message]) -> Vec<String> {
    answer
        .iter()
        .map(|message| match message.tag {
            // Drivers know this one by its routine.
            'E' if message.code() == "0A000" => {
                format!("E {} {}", message.field(b'M'), message.field(b'R'))
            }
            'E' => format!("E {} {}", message.code(), message.field(b'M')),
            tag => format!("{tag} {:?}", message.body),
        })
        .collect()
}
