//! The pool's rules, one file a topic, under paused time and with a manager that fails on order.

mod budget;
mod cancel;
mod chaos;
mod checks;
mod control;
mod fake;
mod gate;
mod trace;
