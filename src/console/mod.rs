//! The console: a pure model, a pure update, pure views; one task talks to the network, one guard
//! gives the terminal back.
//!
//! `event` is everything that may change the screen; `update` turns an event into a new model and
//! commands, `go` is its part that moves around; `view` draws a model: what it says comes from
//! `picture`, what it looks like from `theme`. Keys become named commands through the keymap in
//! force; help, the last row and the palette are made from the same list. `confirm` is the gate,
//! `sure` the question before a vote is taken away, `hands` what carries a change out.
//!
//! Deliberately absent: any key that changes production, I/O outside `link` and `terminal`, a clock
//! inside update or view.

mod alarm;
pub mod command;
pub mod confirm;
pub mod contrast;
pub mod event;
pub mod export;
mod go;
mod ground;
mod hands;
mod history;
mod kept;
pub mod keymap;
mod link;
pub mod model;
mod paint;
mod runner;
pub mod settings;
pub mod sure;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod view;
mod watched;

#[cfg(test)]
mod tests;

pub use runner::{Options, Source, Step, run};
