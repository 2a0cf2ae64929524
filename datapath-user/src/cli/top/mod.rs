//! `top`: ports, flows and drops as they go, in a terminal. It reads the pinned maps, and needs no service.

mod draw;
mod rates;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::{
    signal::unix::{SignalKind, signal},
    task,
    time::{self, Instant},
};

use self::rates::{Former, Look, look};
use crate::kernel::pinned::Pinned;

/// How long a key waits for its answer.
const KEYS: Duration = Duration::from_millis(50);
/// The maps are read for a tenth of the time at the most, however many flows there are.
const SHARE: u32 = 10;

/// What `top` takes.
#[derive(Args, Debug)]
pub(super) struct Top {
    /// Seconds from one look at the maps to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
}

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Ports,
    Flows,
    Drops,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Rate,
    Bytes,
    Packets,
}

/// What the keys have made of it.
#[derive(Debug, Default)]
struct Choice {
    tab: Tab,
    sort: Sort,
    /// Only rows that have this in them.
    filter: String,
    /// A filter being typed.
    typing: Option<String>,
    paused: bool,
    scroll: usize,
    quit: bool,
}

impl Top {
    /// Shows it until `q`, Ctrl-C, SIGTERM or the end of the terminal.
    pub(super) async fn exec(self, pin_dir: &Path) -> Result<()> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            bail!(
                "top needs a terminal; `datapath ports`, `datapath flows` and `datapath stats` print the same numbers, \
                 also with --json"
            );
        }
        let pinned = Pinned::open(pin_dir)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Puts the terminal back also when something panics.
        let mut terminal = ratatui::try_init().context("the terminal")?;
        let shown = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = hangup.recv() => Ok(()),
            shown = self.show(pinned, pin_dir, &mut terminal) => shown,
        };
        ratatui::restore();
        shown
    }

    async fn show(
        &self,
        pinned: Pinned,
        pin_dir: &Path,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> Result<()> {
        let interval = Duration::from_secs(self.interval);
        let mut choice = Choice::default();
        let mut last = Look::default();
        let mut former = Former::default();
        let mut next = Instant::now();
        while !choice.quit {
            if Instant::now() >= next && !choice.paused {
                let (from, sort, filter) = (pinned.clone(), choice.sort, choice.filter.clone());
                let began = Instant::now();
                let reading =
                    task::spawn_blocking(move || look(&from, former, began, sort, &filter));
                (last, former) = reading.await??;
                next = began + interval.max(began.elapsed() * SHARE);
            }
            terminal.draw(|frame| draw::draw(frame, &last, &choice, pin_dir, self.interval))?;
            time::sleep(KEYS).await;
            while event::poll(Duration::ZERO)? {
                if let Event::Key(key) = event::read()?
                    && key.kind != KeyEventKind::Release
                    && choice.press(key)
                {
                    // Another order or another choice of flows has to be read anew.
                    next = Instant::now();
                }
            }
        }
        Ok(())
    }
}

/// The keys that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Char(char),
    Enter,
    Esc,
    Backspace,
    Tab,
    BackTab,
    Down,
    Up,
    PageDown,
    PageUp,
    Home,
    Other,
}

impl From<KeyCode> for Key {
    fn from(code: KeyCode) -> Self {
        const NAMED: [(KeyCode, Key); 10] = [
            (KeyCode::Enter, Key::Enter),
            (KeyCode::Esc, Key::Esc),
            (KeyCode::Backspace, Key::Backspace),
            (KeyCode::Tab, Key::Tab),
            (KeyCode::BackTab, Key::BackTab),
            (KeyCode::Down, Key::Down),
            (KeyCode::Up, Key::Up),
            (KeyCode::PageDown, Key::PageDown),
            (KeyCode::PageUp, Key::PageUp),
            (KeyCode::Home, Key::Home),
        ];
        if let KeyCode::Char(letter) = code {
            return Self::Char(letter);
        }
        let named = NAMED.iter().find(|(known, _)| *known == code);
        named.map_or(Self::Other, |(_, key)| *key)
    }
}

impl Choice {
    /// Does what a key asks for. Says whether the maps have to be looked at for it.
    fn press(&mut self, key: KeyEvent) -> bool {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.quit = true;
            return false;
        }
        if let Some(mut text) = self.typing.take() {
            return self.type_on(key.code.into(), &mut text);
        }
        match Key::from(key.code) {
            Key::Char('q') | Key::Esc => self.quit = true,
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Char('f' | '/') => self.typing = Some(self.filter.clone()),
            Key::Char('s') => {
                self.sort = self.sort.next();
                return true;
            }
            Key::Tab => self.turn_to(self.tab.next()),
            Key::BackTab => self.turn_to(self.tab.next().next()),
            Key::Char('1') => self.turn_to(Tab::Ports),
            Key::Char('2') => self.turn_to(Tab::Flows),
            Key::Char('3') => self.turn_to(Tab::Drops),
            Key::Char('j') | Key::Down => self.scroll = self.scroll.saturating_add(1),
            Key::Char('k') | Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::PageDown => self.scroll = self.scroll.saturating_add(20),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(20),
            Key::Home => self.scroll = 0,
            Key::Char(_) | Key::Enter | Key::Backspace | Key::Other => {}
        }
        false
    }

    fn type_on(&mut self, key: Key, text: &mut String) -> bool {
        match key {
            Key::Enter => {
                self.filter = std::mem::take(text);
                self.scroll = 0;
                return true;
            }
            Key::Esc => return false,
            Key::Backspace => drop(text.pop()),
            Key::Char(letter) => text.push(letter),
            Key::Tab
            | Key::BackTab
            | Key::Down
            | Key::Up
            | Key::PageDown
            | Key::PageUp
            | Key::Home
            | Key::Other => {}
        }
        self.typing = Some(std::mem::take(text));
        false
    }

    fn turn_to(&mut self, tab: Tab) {
        (self.tab, self.scroll) = (tab, 0);
    }
}

impl Tab {
    const ALL: [Self; 3] = [Self::Ports, Self::Flows, Self::Drops];

    const fn next(self) -> Self {
        match self {
            Self::Ports => Self::Flows,
            Self::Flows => Self::Drops,
            Self::Drops => Self::Ports,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Flows => "flows",
            Self::Drops => "drops",
        }
    }
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Bytes,
            Self::Bytes => Self::Packets,
            Self::Packets => Self::Rate,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bytes => "bytes",
            Self::Packets => "packets",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(choice: &mut Choice, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            choice.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn keys_do_what_the_last_line_says() {
        let mut choice = Choice::default();
        press(&mut choice, "\ts");
        assert_eq!((choice.tab, choice.sort), (Tab::Flows, Sort::Bytes));
        // What is typed into a filter is no command.
        press(&mut choice, "fqp80x\u{8}\n");
        assert_eq!(
            (choice.filter.as_str(), choice.quit, choice.paused),
            ("qp80", false, false)
        );
        press(&mut choice, "fnothing\u{1b}");
        assert_eq!(choice.filter, "qp80");
        press(&mut choice, "p\t\t");
        assert!(choice.paused && choice.tab == Tab::Ports);
        press(&mut choice, "q");
        assert!(choice.quit);
    }
}
