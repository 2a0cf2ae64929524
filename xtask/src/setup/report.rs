//! What set-up tells: one line for each thing, with the reason it is wanted.

/// Collects what was found and what was installed, and prints it in one form.
pub(super) struct Report {
    everything: bool,
    found: Vec<String>,
    installed: usize,
}

impl Report {
    /// For the task itself, whose user wants to see all of it.
    pub(super) fn of_everything() -> Self {
        Self {
            everything: true,
            found: Vec::new(),
            installed: 0,
        }
    }

    /// For other tasks, whose user wants to see only what is being changed on the machine.
    pub(super) fn of_changes() -> Self {
        Self {
            everything: false,
            ..Self::of_everything()
        }
    }

    /// `thing` is there already.
    pub(super) fn found(&mut self, thing: &str, why: &str) {
        if self.everything {
            println!("found    {thing:<28} {why}");
        }
        self.found.push(thing.to_owned());
    }

    /// `thing` is not there and is about to be installed.
    pub(super) fn installs(&mut self, thing: &str, why: &str) {
        println!("installs {thing:<28} {why}");
        self.installed += 1;
    }

    /// Something that explains a choice.
    pub(super) fn note(&self, note: &str) {
        println!("note     {note}");
    }

    /// The summary, in the last line.
    pub(super) fn close(self) {
        let found = self.found.len();
        match self.installed {
            0 => println!("setup: nothing to install, {found} things found"),
            installed => println!("setup: {installed} things installed, {found} found"),
        }
    }
}
