//! Line charts as SVG, with shaded spans of time.

use super::escape::escape;
use crate::clock::{Nanos, SECOND};
use std::fmt::Write;

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 10.0;
const TICKS: f64 = 12.0;
const MARKS: f64 = 5.0;

pub struct Line {
    pub name: &'static str,
    pub colour: &'static str,
    /// One value for each bucket; none breaks the line.
    pub values: Vec<Option<f64>>,
}

pub struct Span {
    pub from: Nanos,
    pub to: Nanos,
    pub colour: &'static str,
    pub title: String,
}

pub struct Chart<'a> {
    pub unit: &'static str,
    pub bucket: Nanos,
    pub lines: &'a [Line],
    pub spans: &'a [Span],
    /// Powers of ten instead of equal steps.
    pub logarithmic: bool,
}

/// The scale of the vertical axis.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(chart: &Chart<'_>) -> Scale {
        let values = || {
            chart
                .lines
                .iter()
                .flat_map(|l| &l.values)
                .flatten()
                .copied()
        };
        let high = values().fold(1.0, f64::max);
        if chart.logarithmic {
            let low = values().filter(|v| *v > 0.0).fold(high, f64::min);
            Scale {
                low: low.log10().floor(),
                high: high.log10().ceil(),
                logarithmic: true,
            }
        } else {
            Scale {
                low: 0.0,
                high: (high / step(high, MARKS)).ceil() * step(high, MARKS),
                logarithmic: false,
            }
        }
    }

    fn y(&self, value: f64) -> f64 {
        let v = if self.logarithmic {
            value.max(1e-9).log10()
        } else {
            value
        };
        let share = (v - self.low) / (self.high - self.low).max(1e-9);
        TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)
    }

    fn marks(&self) -> Vec<f64> {
        if self.logarithmic {
            let (low, high) = (self.low as i32, self.high as i32);
            return (low..=high).map(|e| 10f64.powi(e)).collect();
        }
        every(step(self.high, MARKS), self.high)
    }
}

/// The smallest round distance, a power of ten times 1, 2 or 5, of which this
/// many reach `end`.
fn step(end: f64, most: f64) -> f64 {
    let power = 10f64.powf((end / most).max(1e-9).log10().floor());
    let rounds = [1.0, 2.0, 5.0, 10.0].map(|round| round * power);
    let enough = rounds.into_iter().find(|step| step * most >= end);
    enough.unwrap_or(10.0 * power)
}

/// From zero to `end` in steps of this size.
fn every(step: f64, end: f64) -> Vec<f64> {
    let count = (end / step + 1e-6).floor() as u32;
    (0..=count).map(|i| f64::from(i) * step).collect()
}

pub fn svg(chart: &Chart<'_>) -> String {
    let buckets = chart
        .lines
        .iter()
        .map(|l| l.values.len())
        .max()
        .unwrap_or(0);
    let end = (buckets.max(1) as u64 * chart.bucket) as f64;
    let x = |t: f64| LEFT + t / end * (WIDTH - LEFT - 10.0);
    let scale = Scale::of(chart);
    let floor = HEIGHT - BOTTOM;
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for span in chart.spans {
        let (from, to) = (x(span.from as f64), x((span.to as f64).min(end)));
        let _ = write!(
            out,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" opacity=\"0.25\"><title>{}</title></rect>",
            (to - from).max(1.0),
            floor - TOP,
            span.colour,
            escape(&span.title)
        );
    }
    for mark in scale.marks() {
        let y = scale.y(mark);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 10.0,
            LEFT - 6.0,
            y + 4.0,
            number(mark)
        );
    }
    let seconds = (end / SECOND as f64).max(1.0);
    for tick in every(step(seconds, TICKS).max(1.0), seconds) {
        let at = x(tick * SECOND as f64);
        let _ = write!(
            out,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick} s</text>",
            HEIGHT - 10.0
        );
    }
    let _ = write!(
        out,
        "<text x=\"4\" y=\"{}\">{}</text>",
        TOP + 8.0,
        chart.unit
    );
    for line in chart.lines {
        draw(
            &mut out,
            line,
            |i| x((i as f64 + 0.5) * chart.bucket as f64),
            &scale,
        );
    }
    out.push_str("</svg>");
    out
}

/// The line, in pieces where values are missing; a single value is a dot.
fn draw(out: &mut String, line: &Line, x: impl Fn(usize) -> f64, scale: &Scale) {
    let points: Vec<Option<(f64, f64)>> = line
        .values
        .iter()
        .enumerate()
        .map(|(i, v)| v.map(|v| (x(i), scale.y(v))))
        .collect();
    for piece in points.split(Option::is_none) {
        let piece: Vec<(f64, f64)> = piece.iter().flatten().copied().collect();
        if let [(x, y)] = piece[..] {
            let _ = write!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.5\" fill=\"{}\"/>",
                line.colour
            );
        } else if !piece.is_empty() {
            let list: Vec<String> = piece
                .iter()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = write!(
                out,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
                line.colour,
                list.join(" ")
            );
        }
    }
}

fn number(value: f64) -> String {
    if value >= 10.0 {
        return format!("{value:.0}");
    }
    let digits = format!("{value:.4}");
    digits.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round() {
        for (end, most, marks) in [
            (1513.0, 5.0, vec![0.0, 500.0, 1000.0, 1500.0]),
            (9.0, 5.0, vec![0.0, 2.0, 4.0, 6.0, 8.0]),
            (1.0, 5.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ] {
            let got = every(step(end, most), end);
            assert_eq!(got.len(), marks.len(), "{got:?}");
            assert!(got.iter().zip(&marks).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }

    #[test]
    fn missing_values_break_the_line_and_text_is_escaped() {
        let lines = [Line {
            name: "ok",
            colour: "green",
            values: vec![Some(1.0), Some(2.0), None, Some(3.0)],
        }];
        let spans = [Span {
            from: 0,
            to: SECOND,
            colour: "red",
            title: "<kill>".into(),
        }];
        for logarithmic in [false, true] {
            let svg = svg(&Chart {
                unit: "op/s",
                bucket: SECOND,
                lines: &lines,
                spans: &spans,
                logarithmic,
            });
            assert_eq!(svg.matches("<polyline").count(), 1);
            assert_eq!(svg.matches("<circle").count(), 1);
            assert!(svg.contains("&lt;kill&gt;") && !svg.contains("<kill>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let empty = svg(&Chart {
            unit: "ms",
            bucket: SECOND,
            lines: &[],
            spans: &[],
            logarithmic: true,
        });
        assert!(!empty.contains("NaN"), "{empty}");
    }
}
