//! Pictures of the last hour: a small one for a row of a table, a large one with axes.
//!
//! Plain SVG without style attributes, which the pages' policy would refuse. What a picture shows is
//! also said in words: in its title and description, and beside the large one in a table.

use std::fmt::Write as _;
use std::time::Duration;

use maud::{Markup, html};

use super::recent::Mark;
use super::shell::{figure, human};
use crate::cache::history::SPAN;

/// Width and height of the small picture.
const SMALL: (f64, f64) = (120.0, 26.0);

/// Steps of the small picture: one for each minute.
const SMALL_STEPS: usize = 60;

/// Width and height of the large picture, and the room for its axes: left, bottom.
const LARGE: (f64, f64) = (1200.0, 260.0);
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;

/// Lines across the large picture, as far as round numbers allow.
const LINES: f64 = 4.0;

/// So long after the last number a line ends: four default refresh intervals, or four of the metric's.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Where the hour's moments and numbers are in a picture.
struct Plane {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    low: f64,
    high: f64,
}

impl Plane {
    fn x(&self, ago: Duration) -> f64 {
        self.left + self.width * (1.0 - (ago.as_secs_f64() / SPAN.as_secs_f64()).min(1.0))
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }

    /// A path through the numbers, in steps: a number holds until the next. It ends where there was
    /// none for longer than `pause`.
    fn path(&self, marks: &[Mark], pause: Duration) -> String {
        let mut path = String::new();
        let mut last: Option<(Duration, f64)> = None;
        for mark in marks {
            let Some(value) = mark.value else { continue };
            let (x, y) = (self.x(mark.ago), self.y(value));
            // Writing to a string cannot fail.
            let _ = match last {
                Some((ago, _)) if ago.saturating_sub(mark.ago) <= pause => {
                    write!(path, "H{x:.1}V{y:.1}")
                }
                Some((ago, _)) => write!(path, "H{:.1}M{x:.1} {y:.1}", self.x(ago) + 1.0),
                None => write!(path, "M{x:.1} {y:.1}"),
            };
            last = Some((mark.ago, value));
        }
        if let Some((ago, _)) = last {
            let end = ago.saturating_sub(pause);
            let _ = write!(path, "H{:.1}", self.x(end).max(self.x(ago) + 1.0));
        }
        path
    }
}

/// The least and the largest number; none without any.
fn bounds(marks: &[Mark]) -> Option<(f64, f64)> {
    let mut values = marks.iter().filter_map(|mark| mark.value);
    let first = values.next()?;
    Some(values.fold((first, first), |(low, high), value| (low.min(value), high.max(value))))
}

/// The marks of each minute as one: the newest number and the newest trouble.
fn minutes(marks: &[Mark]) -> Vec<Mark> {
    let step = SPAN.as_secs() / SMALL_STEPS as u64;
    let mut all: Vec<Mark> = Vec::new();
    for mark in marks {
        match all.last_mut() {
            Some(last) if last.ago.as_secs() / step == mark.ago.as_secs() / step => {
                let (value, trouble) = (mark.value.or(last.value), mark.trouble.or(last.trouble));
                *last = Mark { value, trouble, ..*mark };
            }
            _ => all.push(*mark),
        }
    }
    all
}

/// How often a fetch failed.
fn failures(marks: &[Mark]) -> usize {
    marks.iter().filter(|mark| mark.trouble.is_some()).count()
}

/// What a picture shows, in a sentence.
fn sentence(marks: &[Mark]) -> String {
    let numbers = match bounds(marks) {
        Some((low, high)) => {
            let last = marks.iter().rev().find_map(|mark| mark.value).unwrap_or(high);
            format!("from {} to {}, last {}", figure(low), figure(high), figure(last))
        }
        None => "no single number".to_owned(),
    };
    match failures(marks) {
        0 => format!("last hour: {numbers}"),
        1 => format!("last hour: {numbers}; 1 failure"),
        many => format!("last hour: {numbers}; {many} failures"),
    }
}

/// The small picture; nothing where nothing was fetched.
pub(super) fn sparkline(marks: &[Mark], refresh: Duration) -> Markup {
    let steps = minutes(marks);
    let (low, high) = spread(bounds(marks).unwrap_or_default());
    let plane =
        Plane { left: 1.0, top: 2.0, width: SMALL.0 - 2.0, height: SMALL.1 - 8.0, low, high };
    html! {
        @if !marks.is_empty() {
            svg.spark role="img" viewBox={ "0 0 " (SMALL.0) " " (SMALL.1) } width=(SMALL.0) height=(SMALL.1) {
                title { (sentence(marks)) }
                path.line d=(plane.path(&steps, pause(refresh) + LONGEST_PAUSE)) {}
                @for mark in steps.iter().filter(|mark| mark.trouble.is_some()) {
                    path.fault d={ "M" (short(plane.x(mark.ago))) " " (short(SMALL.1 - 5.0)) "v5" } {}
                }
            }
        }
    }
}

fn pause(refresh: Duration) -> Duration {
    LONGEST_PAUSE.max(refresh * 4)
}

/// A number of an SVG attribute.
fn short(number: f64) -> String {
    format!("{number:.1}")
}

/// Bounds with some room between them, so that a constant is a line in the middle.
fn spread((low, high): (f64, f64)) -> (f64, f64) {
    if high - low > f64::EPSILON * high.abs().max(1.0) {
        return (low, high);
    }
    let room = (high.abs() / 2.0).max(1.0);
    (low - room, high + room)
}

/// The least round step (1, 2 or 5 times a power of ten) by which few lines span the numbers.
fn step(low: f64, high: f64) -> f64 {
    let rough = (high - low) / LINES;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= rough).unwrap_or(rough)
}

/// The large picture. `gaps` are the times without a value, from and to so long ago.
pub(super) fn chart(marks: &[Mark], gaps: &[(Duration, Duration)], refresh: Duration) -> Markup {
    let (low, high) = spread(bounds(marks).unwrap_or_default());
    let step = step(low, high);
    let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    let plane = Plane {
        left: LEFT,
        top: TOP,
        width: LARGE.0 - LEFT - RIGHT,
        height: LARGE.1 - TOP - BOTTOM,
        low,
        high,
    };
    let floor = plane.top + plane.height;
    let lines = std::iter::successors(Some(low), |line| Some(line + step))
        .take_while(|line| *line <= high + step / 2.0);
    html! {
        svg.chart role="img" aria-labelledby="chart-title chart-words" viewBox={ "0 0 " (LARGE.0) " " (LARGE.1) } {
            title id="chart-title" { "Values of the last hour" }
            desc id="chart-words" { (words(marks, gaps)) }
            @for (from, to) in gaps {
                @let (left, right) = (plane.x(*from), plane.x(*to));
                rect.gap x=(short(left)) y=(short(plane.top)) width=(short((right - left).max(1.0))) height=(short(plane.height)) {
                    title { "no value was served for " (human(from.saturating_sub(*to))) }
                }
            }
            @for line in lines {
                path.grid d={ "M" (short(LEFT)) " " (short(plane.y(line))) "H" (short(LARGE.0 - RIGHT)) } {}
                text.axis x=(short(LEFT - 8.0)) y=(short(plane.y(line) + 4.0)) text-anchor="end" { (tick(line, step)) }
            }
            @for minutes in [60, 45, 30, 15, 0] {
                @let x = short(plane.x(Duration::from_mins(minutes)));
                path.grid d={ "M" (x) " " (short(floor)) "v5" } {}
                text.axis x=(x) y=(short(LARGE.1 - 6.0)) text-anchor={ @if minutes == 0 { "end" } @else { "middle" } } {
                    @if minutes == 0 { "now" } @else { "−" (minutes) " min" }
                }
            }
            path.line d=(plane.path(marks, pause(refresh))) {}
            @for mark in marks.iter().filter(|mark| mark.trouble.is_some()) {
                // A cross, so that it is not told by its colour alone.
                path.fault d={ "M" (short(plane.x(mark.ago) - 3.0)) " " (short(floor + 9.0)) "l6 6m-6 0l6 -6" } {
                    title { (mark.trouble.unwrap_or_default()) ", " (human(mark.ago)) " ago" }
                }
            }
        }
    }
}

/// A number beside a line: as many digits as the step has.
fn tick(number: f64, step: f64) -> String {
    // A sum of steps misses zero by little.
    let number = if number.abs() < step / 1000.0 { 0.0 } else { number };
    if !(1e-6..1e12).contains(&step) {
        return format!("{number:e}");
    }
    let scales = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let scale = scales.into_iter().find(|(scale, _)| step >= *scale);
    let (divisor, unit) = scale.unwrap_or((1.0, ""));
    let digits = if step / divisor >= 1.0 { 0 } else { 6 };
    let text = format!("{:.digits$}", number / divisor);
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

fn words(marks: &[Mark], gaps: &[(Duration, Duration)]) -> String {
    let without: Duration = gaps.iter().map(|(from, to)| from.saturating_sub(*to)).sum();
    let served = match without {
        Duration::ZERO => "a value was served throughout".to_owned(),
        without => format!("no value was served for {} in all", human(without)),
    };
    format!("{}; {served}", sentence(marks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(ago: u64, value: Option<f64>) -> Mark {
        let (series, trouble) = match value {
            Some(_) => (Some(1), None),
            None => (None, Some("timeout")),
        };
        Mark { ago: Duration::from_secs(ago), value, age: Duration::ZERO, series, trouble }
    }

    #[test]
    fn a_line_steps_and_breaks_where_there_was_no_number() {
        let plane =
            Plane { left: 0.0, top: 0.0, width: 3600.0, height: 10.0, low: 0.0, high: 10.0 };
        let marks =
            [mark(600, Some(0.0)), mark(585, Some(10.0)), mark(570, None), mark(300, Some(5.0))];
        assert_eq!(
            plane.path(&marks, Duration::from_mins(1)),
            "M3000.0 10.0H3015.0V0.0H3016.0M3300.0 5.0H3360.0"
        );
        assert_eq!(plane.path(&[mark(1, None)], Duration::ZERO), "");
    }

    #[test]
    fn pictures_say_what_they_show() {
        let marks = [mark(600, Some(3.0)), mark(400, None), mark(0, Some(42.5))];
        let small = sparkline(&marks, Duration::from_secs(15)).into_string();
        assert!(small.contains("<title>last hour: from 3 to 42.50, last 42.50; 1 failure</title>"));
        let gaps = [(Duration::from_mins(8), Duration::from_secs(0))];
        let large = chart(&marks, &gaps, Duration::from_secs(15)).into_string();
        for text in
            ["1 failure; no value was served for 8m in all", ">timeout, 6m 40s ago<", ">now<"]
        {
            assert!(large.contains(text), "{text}: {large}");
        }
        assert!(!large.contains("style=") && !large.contains("NaN"), "{large}");
        assert_eq!(sparkline(&[], Duration::ZERO).into_string(), "");
        let failing = chart(&[mark(1, None)], &[], Duration::ZERO).into_string();
        assert!(failing.contains("no single number; 1 failure") && !failing.contains("NaN"));
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!((step(0.0, 42.0), step(0.0, 0.7), step(0.0, 100_000.0)), (20.0, 0.2, 50_000.0));
        let told = [(20.0, 20.0), (0.25, 0.05), (150_000.0, 50_000.0), (1e-17, 0.5)];
        assert_eq!(told.map(|(number, step)| tick(number, step)), ["20", "0.25", "150k", "0"]);
    }

    #[test]
    fn a_minute_is_one_step() {
        let marks: Vec<Mark> = (0..240).rev().map(|at| mark(at * 15, Some(1.0))).collect();
        assert_eq!(minutes(&marks).len(), SMALL_STEPS);
        let size = sparkline(&marks, Duration::from_secs(15)).into_string().len();
        assert!(size < 2000, "a page has a hundred of them: {size}");
    }
}
