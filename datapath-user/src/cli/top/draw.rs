//! The screen: a line about everything, a table, and what the keys do. Without colours: they say nothing here that
//! bold and reversed do not.

use std::path::Path;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row as Cells, Table},
};

use super::{
    Choice, Sort, Tab,
    rates::{Look, Row},
};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

pub(super) fn draw(
    frame: &mut Frame<'_>,
    look: &Look,
    choice: &Choice,
    pin_dir: &Path,
    interval: u64,
) {
    let [head, tabs, table, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let paused = if choice.paused { "  PAUSED" } else { "" };
    let line = format!(
        "datapath top  {}  {} ports  {} flows  {} drops/s  every {interval} s{paused}",
        pin_dir.display(),
        look.port_count,
        look.flow_count,
        look.drop_rate
    );
    frame.render_widget(Paragraph::new(Span::styled(line, BOLD)), head);
    frame.render_widget(Paragraph::new(tab_line(choice)), tabs);
    rows(frame, look, choice, table);
    let last = match &choice.typing {
        Some(text) => format!("filter: {text}_  (enter: apply, esc: leave it)"),
        None => "q quit  tab next  s sort  f filter  p pause  up/down scroll".to_owned(),
    };
    frame.render_widget(Paragraph::new(Span::styled(last, REVERSED)), keys);
}

fn tab_line(choice: &Choice) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let style = if tab == choice.tab {
            REVERSED
        } else {
            Style::new()
        };
        spans.push(Span::styled(
            format!(" {} {} ", number + 1, tab.name()),
            style,
        ));
    }
    spans.push(Span::raw(format!("  by {}", choice.sort.name())));
    if !choice.filter.is_empty() {
        spans.push(Span::raw(format!("  only {:?}", choice.filter)));
    }
    Line::from(spans)
}

fn rows(frame: &mut Frame<'_>, look: &Look, choice: &Choice, area: Rect) {
    let rows = match choice.tab {
        Tab::Ports => &look.ports,
        Tab::Flows => &look.flows,
        Tab::Drops => &look.drops,
    };
    // The last row stays in sight.
    let from = choice.scroll.min(rows.len().saturating_sub(1));
    let shown: Vec<_> = rows.iter().skip(from).take(area.height.into()).collect();
    let columns = fitting(columns(&shown, choice.tab), choice, area.width.into());
    let lines = (0..shown.len()).map(|line| {
        let cells = columns.iter().map(|column| column.cell(line));
        Cells::new(cells.collect::<Vec<_>>())
    });
    let widths = columns.iter().map(|column| column.width as u16);
    let table = Table::new(lines, widths.map(Constraint::Length).collect::<Vec<_>>());
    let header = columns.iter().map(|column| column.title);
    let header = Cells::new(header.collect::<Vec<_>>()).style(BOLD);
    frame.render_widget(table.header(header), area);
}

/// A column of the table.
struct Column {
    title: &'static str,
    cells: Vec<String>,
    width: usize,
}

impl Column {
    fn new(title: &'static str, cells: impl Iterator<Item = String>) -> Self {
        let cells: Vec<_> = cells.collect();
        let words = cells.iter().map(|cell| cell.chars().count());
        let width = words.chain([title.len()]).max().unwrap_or_default();
        Self {
            title,
            cells,
            width,
        }
    }

    /// What does not fit is marked: the beginning of an address looks like another address.
    fn cell(&self, line: usize) -> String {
        let text = self.cells.get(line).map_or("", String::as_str);
        if text.chars().count() <= self.width {
            return text.to_owned();
        }
        let beginning = text.chars().take(self.width.saturating_sub(1));
        beginning.chain(['…']).collect()
    }
}

fn columns(rows: &[&Row], tab: Tab) -> Vec<Column> {
    let word = |title, index: usize| {
        let words = rows.iter().map(|row| row.words.get(index).cloned());
        Column::new(title, words.map(Option::unwrap_or_default))
    };
    let number =
        |title, of: fn(&Row) -> u64| Column::new(title, rows.iter().map(|row| human(of(row))));
    let rate = || number("BYTES/s", |row| row.rate);
    let packet_rate = || number("PACKETS/s", |row| row.packet_rate);
    let bytes = || number("BYTES", |row| row.bytes);
    let packets = || number("PACKETS", |row| row.packets);
    match tab {
        Tab::Ports => vec![
            word("LISTEN", 0),
            word("TO", 1),
            word("OWNER", 2),
            rate(),
            packet_rate(),
            number("FLOWS/s", |row| row.flow_rate),
            bytes(),
            packets(),
        ],
        Tab::Flows => vec![
            word("PROTO", 0),
            word("STATE", 1),
            word("FROM", 2),
            word("TO", 3),
            word("ANSWERED BY", 4),
            rate(),
            packet_rate(),
            bytes(),
            packets(),
        ],
        Tab::Drops => vec![
            word("REASON", 0),
            packet_rate(),
            packets(),
            word("MEANING", 1),
        ],
    }
}

/// Those columns that fit a screen. Where not all do, those that are least missed go first, but not the one that the rows
/// are sorted by; then the widest ones are cut.
fn fitting(mut columns: Vec<Column>, choice: &Choice, screen: usize) -> Vec<Column> {
    const LEAST_MISSED: [&str; 7] = [
        "PACKETS",
        "BYTES",
        "ANSWERED BY",
        "FLOWS/s",
        "OWNER",
        "PACKETS/s",
        "STATE",
    ];
    let sorted_by = match (choice.tab, choice.sort) {
        (Tab::Drops, _) => "PACKETS/s",
        (_, Sort::Rate) => "BYTES/s",
        (_, Sort::Bytes) => "BYTES",
        (_, Sort::Packets) => "PACKETS",
    };
    // A blank between two.
    let total = |columns: &[Column]| columns.iter().map(|column| column.width + 1).sum::<usize>();
    for title in LEAST_MISSED {
        if total(&columns) > screen + 1 && title != sorted_by && choice.tab != Tab::Drops {
            columns.retain(|column| column.title != title);
        }
    }
    while total(&columns) > screen + 1
        && let Some(widest) = columns.iter_mut().max_by_key(|column| column.width)
        && widest.width > 1
    {
        widest.width -= 1;
    }
    columns
}

/// A number in four digits and a letter, by thousands.
fn human(number: u64) -> String {
    let mut rest = number as f64;
    for letter in ["", "k", "M", "G", "T", "P"] {
        if rest < 9_999.5 {
            let digits = usize::from(!letter.is_empty() && rest < 99.95);
            return format!("{rest:.digits$}{letter}");
        }
        rest /= 1000.0;
    }
    format!("{rest:.0}E")
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    #[test]
    fn numbers_for_people() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (123_456, "123k"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(human(number), text);
        }
    }

    fn row(words: &[&str]) -> Row {
        Row {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            rate: 1_000_000,
            packet_rate: 1_000_000,
            ..Row::default()
        }
    }

    fn look() -> Look {
        let flow = [
            "tcp",
            "ESTABLISHED",
            "203.0.113.9:40000",
            "203.0.113.2:8080",
            "172.17.0.2:80",
        ];
        let long = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
        Look {
            ports: vec![
                row(&["0.0.0.0:8080/tcp", "172.17.0.2:80", "3f2a9c01d7e4"]),
                row(&["[2001:db8::2]:8080/tcp", "[fd00:17::2]:80", "file"]),
            ],
            flows: vec![row(&flow), row(&["udp", "", long, long, long])],
            drops: vec![row(&["fragment-without-first", "A later fragment."])],
            ..Look::default()
        }
    }

    fn screen(tab: Tab, sort: Sort, scroll: usize, (width, height): (u16, u16)) -> String {
        let choice = Choice {
            tab,
            sort,
            scroll,
            ..Choice::default()
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| draw(frame, &look(), &choice, Path::new("/x"), 1))
            .unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn every_tab_fits_any_screen() {
        for tab in Tab::ALL {
            for size in [(1, 1), (20, 3), (80, 24), (200, 60)] {
                let text = screen(tab, Sort::Bytes, 1000, size);
                if size.0 == 200 {
                    assert!(text.contains("1000k"), "{text}");
                }
            }
        }
    }

    #[test]
    fn eighty_columns_show_what_matters_and_mark_what_is_cut() {
        let ports = screen(Tab::Ports, Sort::Rate, 0, (80, 24));
        for word in [
            "0.0.0.0:8080/tcp",
            "172.17.0.2:80",
            "[2001:db8::2]:8080/tcp",
            "1000k",
        ] {
            assert!(ports.contains(word), "{ports}");
        }
        let flows = screen(Tab::Flows, Sort::Packets, 0, (80, 24));
        for word in [
            "203.0.113.9:40000",
            "203.0.113.2:8080",
            "[2001:db8:",
            "…",
            "BYTES/s",
            "PACKETS",
        ] {
            assert!(flows.contains(word), "{flows}");
        }
        assert!(!flows.contains("ANSWERED BY"), "{flows}");
        let drops = screen(Tab::Drops, Sort::Rate, 0, (80, 24));
        assert!(drops.contains("fragment-without-first"), "{drops}");
    }
}
