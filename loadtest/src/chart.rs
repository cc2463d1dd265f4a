//! The chart of a report: lines/s and CPU per line of every scenario, one bar for each forwarder.
//!
//! Pure. The drawing is made once, as SVG by hand; the PNG is that SVG rendered with a font that
//! is built in, so that it looks the same on a machine without any.

use std::fmt::Write;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::civil::Civil;
use crate::report::{Machine, Report, Row};
use crate::stats::Spread;

/// What is drawn. An empty chart is drawn too: title and axes without bars.
struct Chart {
    /// The first line.
    title: String,
    /// The second: the date, the machine, how it was measured.
    subtitle: String,
    /// The forwarders, in the order of their bars and colours.
    forwarders: Vec<String>,
    /// From top to bottom.
    scenarios: Vec<Scenario>,
}

/// The bars of one scenario.
struct Scenario {
    /// What stands beside them.
    name: String,
    /// One for each of [`Chart::forwarders`], in that order.
    bars: Vec<Bar>,
}

/// What one forwarder did in one scenario. What was not measured is `None`: no bar.
#[derive(Clone, Copy, Default)]
struct Bar {
    lines_per_second: Option<Spread>,
    cpu_per_million: Option<Spread>,
}

impl Chart {
    /// Scenarios in the order they were played; logchute first, then the relay, then the others.
    /// Scenarios without lines are left out: they have neither figure.
    fn of(report: &Report) -> Chart {
        let rows = || report.rows.iter().filter(|row| row.lines_per_second.median > 0.0);
        let mut forwarders: Vec<String> = Vec::new();
        let mut scenarios: Vec<&Row> = Vec::new();
        for row in rows() {
            if !forwarders.contains(&row.forwarder) {
                forwarders.push(row.forwarder.clone());
            }
            if scenarios.iter().all(|other| other.scenario != row.scenario) {
                scenarios.push(row);
            }
        }
        let place = |name: &String| ["logchute", "relay"].iter().position(|known| known == name);
        forwarders.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
        let bar = |scenario: &str, forwarder: &str| {
            let row = rows().find(|r| r.scenario == scenario && r.forwarder == forwarder);
            row.map_or(Bar::default(), |row| Bar {
                lines_per_second: Some(row.lines_per_second),
                cpu_per_million: row.cpu_s_per_million_lines,
            })
        };
        let scenarios = scenarios.iter().map(|first| Scenario {
            name: first.title.clone(),
            bars: forwarders.iter().map(|name| bar(&first.scenario, name)).collect(),
        });
        Chart {
            title: format!("logchute {}: lines per second, and what they cost", report.version),
            subtitle: subtitle(report),
            scenarios: scenarios.collect(),
            forwarders,
        }
    }
}

fn subtitle(report: &Report) -> String {
    let Machine { cpu, cores, kernel, .. } = &report.machine;
    let moment = Civil::of(report.begun_at).to_string();
    let date = moment.split('T').next().unwrap_or_default();
    let cores = if *cores == 1 { "1 core".into() } else { format!("{cores} cores") };
    let runs = match report.runs {
        1 => "one run".into(),
        runs => format!("medians of {runs} runs, thin lines from the least to the most"),
    };
    format!("{date} · {cpu}, {cores}, Linux {kernel} · {runs}")
}

/// One half of the chart: a figure of the bars, and how it is said.
struct Panel {
    heading: &'static str,
    note: &'static str,
    pick: fn(&Bar) -> Option<Spread>,
    left: f64,
}

const WIDTH: f64 = 1280.0;
const MARGIN: f64 = 32.0;
/// Of the scenarios' names, at the left of the first panel.
const NAMES: f64 = 270.0;
/// Between the panels, and right of the second: the longest bar's figure has to fit there.
const GAP: f64 = 84.0;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - NAMES - 2.0 * GAP) / 2.0;
const TOP: f64 = 178.0;
const BAR: f64 = 14.0;
const BETWEEN_BARS: f64 = 2.0;
const BETWEEN_SCENARIOS: f64 = 16.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#616e7c";
const GRID: &str = "#e4e7eb";
/// Told apart by the colour-blind too (Okabe and Ito); from the eighth on they come again.
const COLOURS: &[&str] =
    &["#0072b2", "#9aa5b1", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];

/// A linear axis makes the small bars invisible where the largest value is so many times the
/// smallest.
const LINEAR_UP_TO: f64 = 20.0;

/// Pixels of the PNG for each of the SVG.
const SCALE: f32 = 2.0;

/// The report's chart as an SVG document of its own, with its texts as text.
pub fn svg(report: &Report) -> String {
    draw(&Chart::of(report))
}

fn draw(chart: &Chart) -> String {
    let scenario_height =
        |scenario: &Scenario| scenario.bars.len() as f64 * (BAR + BETWEEN_BARS) + BETWEEN_SCENARIOS;
    let height = TOP + chart.scenarios.iter().map(scenario_height).sum::<f64>() + MARGIN + 24.0;
    let mut out = Svg::new(WIDTH, height, &chart.title);
    out.text(MARGIN, 52.0, 26.0, INK, "start", &chart.title);
    out.text(MARGIN, 76.0, 14.0, FAINT, "start", &chart.subtitle);
    legend(&mut out, &chart.forwarders);
    let first = MARGIN + NAMES;
    let panels = [
        Panel {
            heading: "lines/s",
            note: "longer is better",
            pick: |bar| bar.lines_per_second,
            left: first,
        },
        Panel {
            heading: "CPU-seconds per million lines",
            note: "shorter is better",
            pick: |bar| bar.cpu_per_million,
            left: first + PANEL + GAP,
        },
    ];
    let mut top = TOP;
    for scenario in &chart.scenarios {
        let bottom = top + scenario_height(scenario) - BETWEEN_SCENARIOS;
        name(&mut out, &scenario.name, first - 16.0, (top + bottom) / 2.0);
        top = bottom + BETWEEN_SCENARIOS;
    }
    for panel in &panels {
        draw_panel(&mut out, chart, panel, top - BETWEEN_SCENARIOS + 6.0);
    }
    out.end()
}

/// A scenario's, in one line or two, that end at `right` and have `middle` halfway down.
fn name(out: &mut Svg, name: &str, right: f64, middle: f64) {
    let lines = two_lines(name, NAMES - 16.0, 14.0);
    let first = middle + 5.0 - 8.5 * (lines.len() - 1) as f64;
    for (line, text) in lines.iter().enumerate() {
        out.text(right, first + 17.0 * line as f64, 14.0, INK, "end", text);
    }
}

fn legend(out: &mut Svg, forwarders: &[String]) {
    let mut left = MARGIN;
    for (forwarder, colour) in forwarders.iter().zip(COLOURS.iter().cycle()) {
        let forwarder = shortened(forwarder, 220.0, 14.0);
        out.rect(left, 94.0, 14.0, 14.0, colour);
        out.text(left + 20.0, 106.0, 14.0, INK, "start", &forwarder);
        left += 20.0 + text_width(&forwarder, 14.0) + 26.0;
    }
}

fn draw_panel(out: &mut Svg, chart: &Chart, panel: &Panel, bottom: f64) {
    let bars = chart.scenarios.iter().flat_map(|scenario| &scenario.bars);
    let values = bars.filter_map(panel.pick).flat_map(|spread| [spread.median, spread.max]);
    let axis = Axis::of(values);
    let note = panel.note.to_owned() + if axis.log { ", logarithmic" } else { "" };
    out.heading(panel.left, TOP - 34.0, panel.heading, &note);
    for tick in axis.ticks() {
        let x = panel.left + axis.place(tick) * PANEL;
        out.rect(x - 0.5, TOP - 8.0, 1.0, bottom - TOP + 8.0, GRID);
        out.text(x, TOP - 13.0, 11.0, FAINT, "middle", &short(tick));
        out.text(x, bottom + 15.0, 11.0, FAINT, "middle", &short(tick));
    }
    let mut top = TOP;
    for scenario in &chart.scenarios {
        for (bar, colour) in scenario.bars.iter().zip(COLOURS.iter().cycle()) {
            if let Some(spread) = (panel.pick)(bar).filter(|spread| spread.median.is_finite()) {
                draw_bar(out, &axis, panel.left, top, colour, spread);
            }
            top += BAR + BETWEEN_BARS;
        }
        top += BETWEEN_SCENARIOS;
    }
}

/// The median, and over it a thin line from the least to the most of the runs.
fn draw_bar(out: &mut Svg, axis: &Axis, left: f64, top: f64, colour: &str, spread: Spread) {
    let at = |value: f64| axis.place(value) * PANEL;
    let length = at(spread.median).max(1.0);
    out.rect(left, top, length, BAR, colour);
    let (from, to) = (at(spread.min), at(spread.max));
    if to - from > 2.0 {
        out.rect(left + from, top + BAR / 2.0 - 0.5, to - from, 1.0, INK);
    }
    let right = left + length.max(to) + 6.0;
    out.text(right, top + BAR - 3.0, 12.0, INK, "start", &short(spread.median));
}

/// From a value to its place on the panel.
struct Axis {
    /// Where it begins and ends: 0, or a power of ten, up to no less than the largest value.
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// Logarithmic where the values lie too far apart for bars that begin at zero.
    fn of(values: impl Iterator<Item = f64>) -> Axis {
        let (mut least, mut most) = (f64::INFINITY, 0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            least = least.min(value);
            most = most.max(value);
        }
        if most == 0.0 {
            return Axis { low: 0.0, high: 1.0, log: false };
        }
        if most / least <= LINEAR_UP_TO {
            let step = step(most);
            return Axis { low: 0.0, high: (most / step).ceil() * step, log: false };
        }
        // A third below the least, so that its bar is more than a line.
        let low = 10_f64.powf((least / 1.5).log10().floor());
        Axis { low, high: most, log: true }
    }

    /// 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        let next: Box<dyn Fn(f64) -> f64> = if self.log {
            Box::new(|value| value * 10.0)
        } else {
            let step = step(self.high);
            Box::new(move |value| value + step)
        };
        // A little more than the end, for what adding up has rounded.
        let ticks = std::iter::successors(Some(self.low), |value| Some(next(*value)));
        ticks.take_while(|value| *value <= self.high * 1.000_001).collect()
    }
}

/// Between the ticks of a linear axis up to `most`: 1, 2 or 5 times a power of ten, so that there
/// are three to six.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    match most / power {
        share if share <= 1.5 => power * 0.5,
        share if share <= 4.0 => power,
        _ => power * 2.0,
    }
}

/// With three significant digits and a unit's prefix: `18.9 M`, `0.042`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 999.5e6 => (v / 1e9, " G"),
        v if v >= 999.5e3 => (v / 1e6, " M"),
        v if v >= 999.5 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).max(0) };
    let text = format!("{value:.*}", digits as usize);
    let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
    format!("{}{unit}", text.trim_end_matches('.'))
}

/// About as wide as the text is drawn: the built-in font's mean advance, rounded up.
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.5
}

/// A text that would be wider than `width` loses its end.
fn shortened(text: &str, width: f64, size: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let room = (width / text_width("x", size)) as usize;
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Broken between words where it is wider than `width`; what two lines cannot hold is cut off.
fn two_lines(text: &str, width: f64, size: f64) -> Vec<String> {
    let fits = |at: &usize| text_width(text[..*at].trim_end(), size) <= width;
    if fits(&text.len()) {
        return vec![text.to_owned()];
    }
    let mut breaks = text.char_indices().filter(|(_, c)| *c == ' ').map(|(at, _)| at);
    let Some(at) = breaks.by_ref().take_while(fits).last() else {
        return vec![shortened(text, width, size)];
    };
    vec![text[..at].to_owned(), shortened(text[at..].trim_start(), width, size)]
}

/// An SVG document in the making.
struct Svg(String);

impl Svg {
    fn new(width: f64, height: f64, title: &str) -> Svg {
        let title = escaped(title);
        Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"Ubuntu, 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        ))
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"/>"
        );
    }

    /// `anchor` is `start`, `middle` or `end`; `y` is the base line.
    fn text(&mut self, x: f64, y: f64, size: f64, fill: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\" \
             text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// A heading with a smaller note behind it.
    fn heading(&mut self, x: f64, y: f64, heading: &str, note: &str) {
        let (heading, note) = (escaped(heading), escaped(note));
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"16\" fill=\"{INK}\">{heading}\
             <tspan dx=\"10\" font-size=\"12\" fill=\"{FAINT}\">{note}</tspan></text>"
        );
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// For XML; what XML has no way to write is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// The SVG as a PNG image, twice its size.
///
/// # Errors
/// Where it is no SVG, or has no size.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first());
    let family = family.map(|(name, _)| name.clone()).ok_or("the font is not readable")?;
    fonts.set_sans_serif_family(family);
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("the chart is too large")?;
    let mut image = tiny_skia::Pixmap::new(size.width(), size.height())
        .ok_or("the chart is too large for an image")?;
    let transform = tiny_skia::Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, transform, &mut image.as_mut());
    image.encode_png().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread { median, min: median * 0.9, max: median * 1.1 }
    }

    fn row(scenario: &str, forwarder: &str, lines: f64, cpu: f64) -> Row {
        Row {
            scenario: scenario.into(),
            title: format!("{scenario}: 124 B, filter of 4 words in any case, 1 % of lines hit"),
            forwarder: forwarder.into(),
            lines_per_second: spread(lines),
            cpu_s_per_million_lines: (cpu > 0.0).then(|| spread(cpu)),
            ..Row::default()
        }
    }

    /// Of the usual magnitudes, but not measured.
    fn made_up() -> Report {
        Report {
            version: "0.1.0".into(),
            begun_at: 1_795_305_600,
            runs: 5,
            machine: Machine {
                cpu: "A <processor> & more".into(),
                cores: 2,
                kernel: "6.18".into(),
                memory_mib: 24_576,
            },
            rows: vec![
                row("one", "relay", 18.9e6, 0.042),
                row("one", "Logspout", 52e3, 20.8),
                row("one", "logchute", 14.2e6, 0.058),
                row("two", "relay", 15.1e6, 0.035),
                row("two", "logchute", 14.9e6, 0.036),
                row("silent", "logchute", 0.0, 0.0),
            ],
            ..Report::default()
        }
    }

    #[test]
    fn drawn_as_well_formed_svg_with_every_name_and_figure() {
        let text = svg(&made_up());
        let document = usvg::roxmltree::Document::parse(&text).unwrap();
        let texts: Vec<_> = document.descendants().filter_map(|node| node.text()).collect();
        let has = |wanted: &str| texts.iter().any(|text| text.contains(wanted));
        for wanted in ["2026-11-22 · A <processor> & more, 2 cores", "medians of 5 runs"] {
            assert!(has(wanted), "{wanted}: {texts:?}");
        }
        for wanted in ["14.2 M", "52 k", "20.8", "0.035", "logarithmic", "one: 124 B"] {
            assert!(has(wanted), "{wanted}: {texts:?}");
        }
        assert!(!has("silent"), "{texts:?}");
        // In each panel a bar a scenario (but Logspout played one alone), and in the legend.
        let of = |colour: &str| {
            document.descendants().filter(|node| node.attribute("fill") == Some(colour)).count()
        };
        assert_eq!([of(COLOURS[0]), of(COLOURS[1]), of(COLOURS[2])], [5, 5, 3]);
        let order: Vec<_> = ["logchute", "relay", "Logspout"]
            .map(|name| texts.iter().position(|text| *text == name))
            .into_iter()
            .collect();
        assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
    }

    #[test]
    fn rendered_with_the_font_that_is_built_in() {
        let decoded =
            |report: &Report| tiny_skia::Pixmap::decode_png(&png(&svg(report)).unwrap()).unwrap();
        let mut report = made_up();
        report.rows.truncate(2);
        let image = decoded(&report);
        assert_eq!(image.width(), (WIDTH * f64::from(SCALE)) as u32);
        // Without a font both titles would be the same: nothing.
        report.version = "0.2.0".into();
        assert!(decoded(&report) != image);
        assert!(png("<svg").is_err());
    }

    #[test]
    fn odd_figures_do_no_harm() {
        let odd = [Some(0.0), Some(f64::NAN), Some(f64::INFINITY), Some(-1.0), None];
        for value in odd.map(|value| value.map(|v| Spread { median: v, min: v, max: v })) {
            let bars = vec![Bar { lines_per_second: value, cpu_per_million: value }];
            let scenarios = vec![Scenario { name: "x\u{0}y".into(), bars }];
            let text = draw(&Chart { scenarios, ..Chart::of(&made_up()) });
            assert!(!text.contains("NaN") && !text.contains("inf"), "{value:?}: {text}");
            usvg::roxmltree::Document::parse(&text).unwrap();
        }
        assert!(png(&svg(&Report::default())).is_ok());
    }

    #[test]
    fn names_are_broken_between_words() {
        let broken = |text: &str| two_lines(text, 10.0 * text_width("x", 14.0), 14.0);
        assert_eq!(broken("one line"), ["one line"]);
        assert_eq!(broken("one or two lines"), ["one or two", "lines"]);
        assert_eq!(broken("one or two lines and more"), ["one or two", "lines and…"]);
        assert_eq!(broken("words-without-space"), ["words-wit…"]);
        assert_eq!(broken("éééééééééé éé"), ["éééééééééé", "éé"]);
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.042, "0.042"),
            (0.041_96, "0.042"),
            (1.5, "1.5"),
            (20.83, "20.8"),
            (608.0, "608"),
            (52_000.0, "52 k"),
            (999_700.0, "1 M"),
            (18_900_000.0, "18.9 M"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn ticks_are_round_and_cover_all_values() {
        for most in [0.0011, 0.042, 1.0, 1.5, 3.9, 8.0, 18.9e6] {
            let axis = Axis::of([most, most / 2.0].into_iter());
            let ticks = axis.ticks();
            assert!(!axis.log && (3..=7).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(axis.high >= most && ticks.last().unwrap() / axis.high > 0.99, "{most}");
        }
        let axis = Axis::of([0.035, 20.8].into_iter());
        let shown: Vec<_> = axis.ticks().into_iter().map(short).collect();
        assert_eq!(shown, ["0.01", "0.1", "1", "10"]);
        assert!(axis.log && axis.place(0.035) > 0.1);
    }
}
