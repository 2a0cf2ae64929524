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
    Choice, Tab,
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
    let (rows, header, widths): (_, Vec<&str>, Vec<Constraint>) = match choice.tab {
        Tab::Ports => (
            &look.ports,
            vec![
                "LISTEN",
                "TO",
                "OWNER",
                "BYTES/s",
                "PACKETS/s",
                "FLOWS/s",
                "BYTES",
                "PACKETS",
            ],
            [28, 24, 14, 10, 10, 8, 10, 10]
                .map(Constraint::Length)
                .to_vec(),
        ),
        Tab::Flows => (
            &look.flows,
            vec![
                "PROTO",
                "STATE",
                "FROM",
                "TO",
                "ANSWERED BY",
                "BYTES/s",
                "PACKETS/s",
                "BYTES",
                "PACKETS",
            ],
            [6, 11, 22, 22, 22, 10, 10, 10, 10]
                .map(Constraint::Length)
                .to_vec(),
        ),
        Tab::Drops => (
            &look.drops,
            vec!["REASON", "PACKETS/s", "PACKETS", "MEANING"],
            vec![
                Constraint::Length(24),
                Constraint::Length(10),
                Constraint::Length(10),
                Constraint::Min(20),
            ],
        ),
    };
    // The last row stays in sight.
    let from = choice.scroll.min(rows.len().saturating_sub(1));
    let shown = rows.iter().skip(from).take(area.height.into());
    let table = Table::new(shown.map(|row| Cells::new(cells(row, choice.tab))), widths)
        .header(Cells::new(header).style(BOLD));
    frame.render_widget(table, area);
}

fn cells(row: &Row, tab: Tab) -> Vec<String> {
    let mut cells = row.words.clone();
    let (rate, packet_rate) = (human(row.rate), human(row.packet_rate));
    let (bytes, packets) = (human(row.bytes), human(row.packets));
    match tab {
        Tab::Ports => cells.extend([rate, packet_rate, human(row.flow_rate), bytes, packets]),
        Tab::Flows => cells.extend([rate, packet_rate, bytes, packets]),
        Tab::Drops => {
            cells.insert(1, packets);
            cells.insert(1, packet_rate);
        }
    }
    cells
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
    use crate::cli::top::Sort;

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

    #[test]
    fn every_tab_fits_any_screen() {
        let row = |words: &[&str]| Row {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            rate: 1_000_000,
            packet_rate: 1_000_000,
            ..Row::default()
        };
        let look = Look {
            ports: vec![row(&["0.0.0.0:8080/tcp", "172.17.0.2:80", "web"])],
            flows: vec![row(&["tcp", "ESTABLISHED", "a", "b", "c"]); 100],
            drops: vec![row(&["unpublished", "From outside."])],
            ..Look::default()
        };
        for tab in Tab::ALL {
            for (width, height) in [(1, 1), (20, 3), (80, 24), (200, 60)] {
                let choice = Choice {
                    tab,
                    sort: Sort::Bytes,
                    scroll: 1000,
                    ..Choice::default()
                };
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal
                    .draw(|frame| draw(frame, &look, &choice, Path::new("/x"), 1))
                    .unwrap();
                let text = terminal.backend().to_string();
                if width == 200 {
                    assert!(text.contains("1000k"), "{text}");
                }
            }
        }
    }
}
