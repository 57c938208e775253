//! The pool's rules, one file a topic, under paused time and with a manager that fails on order.

mod fake;
mod trace;
