//! What a command that takes long shows meanwhile: on a terminal, from half a second on, and gone when it is done.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less shows nothing.
const LONG: Duration = Duration::from_millis(500);
/// How many things are counted between two looks at the clock.
const STEP: u64 = 4096;

/// Counts what was looked at.
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    seen: Cell<u64>,
    terminal: bool,
}

impl Progress {
    /// One that is shown where nothing else is: `quiet` says that standard output shows nothing meanwhile.
    pub(super) fn new(what: &'static str, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(ProgressStyle::default_spinner());
        Self {
            bar,
            what,
            seen: Cell::new(0),
            terminal: io::stderr().is_terminal() && (quiet || !io::stdout().is_terminal()),
        }
    }

    /// One more was looked at.
    pub(super) fn step(&self) {
        let seen = self.seen.get() + 1;
        self.seen.set(seen);
        if !seen.is_multiple_of(STEP) || !self.terminal || self.bar.elapsed() < LONG {
            return;
        }
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            // It goes on turning while nothing is counted.
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
        self.bar.set_message(format!("{seen} {}", self.what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
