//! What takes minutes: the same things that the ordinary tests do a few times, done by the hundred.

mod upgrades;
