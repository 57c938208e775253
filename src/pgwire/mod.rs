//! The PostgreSQL wire protocol as bytes: frames, startup packets, the few messages that are looked into, error
//! fields. Pure functions over slices and one input buffer; nothing here owns a socket, a clock or a policy.
//!
//! Source for all of it: PostgreSQL documentation, "Message Formats" and "Message Flow" (protocol 3.0 to 3.2).

mod description;
mod fields;
mod frame;
mod inbox;
mod outbox;
mod replies;
mod rows;
mod sasl;
mod startup;

pub use description::{Description, DescriptionReader};
pub use fields::ServerMessage;
pub use frame::{FrameError, HEADER, Header, backend, cstr, frontend};
pub use inbox::Inbox;
pub use outbox::Outbox;
pub use replies::{Replies, Severity};
pub use rows::ColumnType;
pub use sasl::{SaslInitialResponse, password};
pub use startup::{
    CancelKey, MAX_SECRET, MAX_STARTUP, MINOR, StartupError, StartupPacket, StartupParameters,
    parse_startup, startup_length,
};
