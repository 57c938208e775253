//! One-shot commands. What they print is their answer, so this folder and `main` alone may print.

pub mod config_cmd;
pub mod uri;
