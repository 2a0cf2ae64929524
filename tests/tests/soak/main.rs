//! What takes minutes: the same things that the ordinary tests do a few times, done by the hundred.

#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

mod containers;
mod faults;
mod timing;
mod upgrades;
