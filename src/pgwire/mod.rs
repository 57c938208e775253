//! PostgreSQL's wire protocol as bytes: messages built and taken apart, no sockets.

pub mod fields;
pub mod frontend;
