//! Results as drawings: bars for contenders, lines where a figure grows with a size. Written as SVG; the PNG is drawn
//! from that.

use std::fmt::Write as _;

use super::{
    contender::{Contender, OURS},
    results::{Better, Measurement, PartResult, Row},
    text::number,
};

/// One panel, and the room around it.
const WIDTH: f64 = 560.0;
const LEFT: f64 = 200.0;
const TITLE: f64 = 34.0;
const STEP: f64 = 24.0;
/// A panel of lines.
const HEIGHT: f64 = 260.0;
const AXIS: f64 = 70.0;
/// Latencies' medians say what the rates say.
const NOT_DRAWN: [&str; 3] = ["TCP median", "UDP median", "processes"];

/// A part's drawings, each with its file's name: one for each group of measurements.
pub(super) fn drawings(part: &str, result: &PartResult) -> Vec<(String, String)> {
    let mut groups: Vec<(&str, Vec<String>, f64)> = Vec::new();
    for measurement in &result.measurements {
        let (group, name) = measurement.group_and_name();
        if NOT_DRAWN.contains(&name) || !is_drawn(measurement) {
            continue;
        }
        let group = group.split(',').next().unwrap_or_default();
        let (panel, height) = if measurement.sizes().is_empty() {
            bars(name, measurement)
        } else {
            lines(name, measurement)
        };
        match groups.iter_mut().find(|(known, ..)| *known == group) {
            Some((_, panels, most)) => {
                panels.push(panel);
                *most = most.max(height);
            }
            None => groups.push((group, vec![panel], height)),
        }
    }
    groups
        .into_iter()
        .map(|(group, panels, height)| {
            let name = if group.is_empty() {
                part.to_owned()
            } else {
                format!("{part}-{group}")
            };
            (name, side_by_side(&panels, height))
        })
        .collect()
}

/// Of figures at one size only nothing grows, and a contender alone stands beside nobody.
fn is_drawn(measurement: &Measurement) -> bool {
    if measurement.contenders.len() < 2 {
        return false;
    }
    let most = measurement
        .contenders
        .iter()
        .map(|row| row.points.len())
        .max();
    measurement.sizes().is_empty() || most > Some(1)
}

/// Panels in two columns.
fn side_by_side(panels: &[String], height: f64) -> String {
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(2);
    let (width, whole) = (WIDTH * columns as f64, height * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{whole}\" \
         viewBox=\"0 0 {width} {whole}\" font-family=\"DejaVu Sans, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (number % 2) as f64, height * (number / 2) as f64);
        // Writing to a string does not fail.
        let _infallible = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{panel}</g>");
    }
    svg + "</svg>\n"
}

fn title(name: &str, measurement: &Measurement) -> String {
    let better = match measurement.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    let unit = &measurement.unit;
    format!(
        "<text x=\"10\" y=\"20\"><tspan font-weight=\"bold\">{name}</tspan> ({unit}; {better})</text>\n"
    )
}

/// A contender's colour: ours green, its siblings lighter, limits grey, the others each its own.
fn colour(contender: &str) -> &'static str {
    const PALETTE: [(Contender, &str); 10] = [
        (Contender::Direct, "#b5b5b5"),
        (Contender::Redirect, "#b5b5b5"),
        (Contender::Routed, "#8c8c8c"),
        (Contender::IptablesLegacy, "#c8553d"),
        (Contender::IptablesNft, "#e08e45"),
        (Contender::NftablesMap, "#4a6fa5"),
        (Contender::DockerProxy, "#8e5ea2"),
        (Contender::DatapathKernel, "#9fd3b4"),
        (Contender::Datapath, "#1f9d62"),
        (Contender::DatapathXdp, "#0b6e4f"),
    ];
    PALETTE
        .iter()
        .find(|(known, _)| known.name() == contender)
        .map_or("#000000", |(_, colour)| colour)
}

/// Bars with whiskers from the least to the most round.
fn bars(name: &str, measurement: &Measurement) -> (String, f64) {
    let rows = &measurement.contenders;
    let room = WIDTH - LEFT - 80.0;
    let most = rows
        .iter()
        .flat_map(|row| &row.points)
        .map(|point| point.spread().1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = title(name, measurement);
    for (place, row) in rows.iter().enumerate() {
        let Some(point) = row.points.first() else {
            continue;
        };
        let top = TITLE + STEP * place as f64;
        let middle = top + STEP / 2.0;
        let base = middle + 4.0;
        let along = |value: f64| LEFT + value.max(0.0) / most * room;
        let (low, high) = point.spread();
        let weight = weight(&row.contender);
        let _infallible = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\"{weight}>{}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#333\"/>\
             <text x=\"{:.1}\" y=\"{base:.1}\"{weight}>{}</text>",
            LEFT - 8.0,
            row.contender,
            top + 3.0,
            along(point.median) - LEFT,
            STEP - 6.0,
            colour(&row.contender),
            along(low),
            along(high),
            along(point.median.max(high)) + 6.0,
            number(point.median),
        );
    }
    (svg, TITLE + STEP * rows.len() as f64 + 12.0)
}

fn weight(contender: &str) -> &'static str {
    if contender == OURS {
        " font-weight=\"bold\""
    } else {
        ""
    }
}

/// Lines over sizes, both axes logarithmic, names at the right end.
fn lines(name: &str, measurement: &Measurement) -> (String, f64) {
    let all = |pick: fn(&super::results::Point) -> f64| {
        let points = measurement.contenders.iter().flat_map(|row| &row.points);
        points
            .map(pick)
            .filter(|value| *value > 0.0)
            .collect::<Vec<_>>()
    };
    let x = Scale::new(
        &all(|point| point.at.unwrap_or(1) as f64),
        AXIS,
        WIDTH - LEFT,
    );
    let y = Scale::new(&all(|point| point.median), HEIGHT - 30.0, TITLE);
    let mut svg = title(name, measurement);
    for size in measurement.sizes() {
        let at = x.place(size as f64);
        let _infallible = writeln!(
            svg,
            "<path d=\"M{at:.1} {TITLE}V{:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 30.0,
            HEIGHT - 14.0,
            number(size as f64),
        );
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        let _infallible = writeln!(
            svg,
            "<path d=\"M{AXIS} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - LEFT,
            AXIS - 6.0,
            at + 4.0,
            number(tick),
        );
    }
    for row in &measurement.contenders {
        line(&mut svg, row, &x, &y);
    }
    names(&mut svg, measurement, &x, &y);
    (svg, HEIGHT)
}

fn line(svg: &mut String, row: &Row, x: &Scale, y: &Scale) {
    let colour = colour(&row.contender);
    let places: Vec<_> = row
        .points
        .iter()
        .map(|point| (x.place(point.at.unwrap_or(1) as f64), y.place(point.median)))
        .collect();
    let path: Vec<_> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let width = if row.contender == OURS { 3.0 } else { 1.8 };
    let _infallible = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
        path.join(" ")
    );
    for (x, y) in places {
        let _infallible = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
}

/// Each line's name beside its last point, none upon another.
fn names(svg: &mut String, measurement: &Measurement, x: &Scale, y: &Scale) {
    let mut names: Vec<_> = measurement
        .contenders
        .iter()
        .filter_map(|row| {
            let last = row.points.last()?;
            let at = last.at.unwrap_or(1) as f64;
            Some((
                y.place(last.median) + 4.0,
                x.place(at) + 8.0,
                &row.contender,
            ))
        })
        .collect();
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::MIN;
    for (wished, at, name) in names {
        let base = wished.max(free);
        free = base + 13.0;
        let _infallible = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{base:.1}\" fill=\"{}\"{}>{name}</text>",
            colour(name),
            weight(name)
        );
    }
}

/// A logarithmic axis.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Over these values, with some room at both ends of a narrow range.
    fn new(values: &[f64], from: f64, to: f64) -> Self {
        let low = values.iter().copied().fold(f64::MAX, f64::min).log10();
        let high = values
            .iter()
            .copied()
            .fold(f64::MIN_POSITIVE, f64::max)
            .log10();
        let room = ((1.0 - (high - low)) / 2.0).max(0.0);
        Self {
            low: low - room,
            high: high + room,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - self.low) / (self.high - self.low);
        self.from + part * (self.to - self.from)
    }

    /// 1, 2 and 5 of every power of ten within.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        powers
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .filter(|tick| (self.low..=self.high).contains(&tick.log10()))
            .collect()
    }
}

/// The drawing as PNG, twice as large, for screens of today.
///
/// # Errors
/// When there is no letter to write with.
#[cfg(feature = "png")]
pub(super) fn png(svg: &str) -> std::io::Result<Vec<u8>> {
    use resvg::{tiny_skia, usvg};
    const TIMES: f32 = 2.0;
    let error = |what: &dyn std::fmt::Display| std::io::Error::other(what.to_string());
    let mut options = usvg::Options::default();
    options.fontdb_mut().load_system_fonts();
    if options.fontdb.is_empty() {
        return Err(error(
            &"no font is installed: install Debian's fonts-dejavu-core",
        ));
    }
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| error(&e))?;
    let size = tree.size().to_int_size();
    let scale = |length: u32| (length as f32 * TIMES) as u32;
    let mut pixels = tiny_skia::Pixmap::new(scale(size.width()), scale(size.height()))
        .ok_or_else(|| error(&"a drawing of no size"))?;
    let transform = tiny_skia::Transform::from_scale(TIMES, TIMES);
    resvg::render(&tree, transform, &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| error(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_logarithmic_and_marks_round_numbers() {
        let scale = Scale::new(&[10.0, 1000.0], 0.0, 100.0);
        for (value, place) in [(10.0, 0.0), (100.0, 50.0), (1000.0, 100.0)] {
            assert!((scale.place(value) - place).abs() < 1e-9, "{value}");
        }
        assert_eq!(
            scale.ticks(),
            [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        );
    }

    #[test]
    fn figures_of_one_kind_have_a_scale_too() {
        let scale = Scale::new(&[500.0, 500.0], 0.0, 100.0);
        assert!((scale.place(500.0) - 50.0).abs() < 1e-9);
    }
}
