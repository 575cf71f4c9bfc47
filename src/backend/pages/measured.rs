//! What an agent measured last, as small plots.

use std::collections::VecDeque;

use jiff::Timestamp;
use maud::{Markup, html};

use super::parts::{ago, bytes, count};
use crate::plots::Plotted;

/// The size of a plot, in its own units.
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;

type Points = VecDeque<(Timestamp, u64)>;

/// A card for each source; nothing where an agent measures nothing.
pub(super) fn plots(sources: &[Plotted]) -> Markup {
    html! {
        @if !sources.is_empty() {
            h2 { "Measured" }
            div.sources {
                @for it in sources {
                    section.source {
                        header { strong { (it.source) } " " span.dim { (ago(it.at)) } }
                        dl {
                            @for (name, points) in &it.metrics { (metric(name, points)) }
                        }
                    }
                }
            }
        }
    }
}

fn metric(name: &str, points: &Points) -> Markup {
    let last = points.back().map_or(0, |it| it.1);
    let most = points.iter().map(|it| it.1).max().unwrap_or_default();
    let (title, shown) = (title(name), |value| shown(name, value));
    let label = format!("{title}: {} now, at most {}", shown(last), shown(most));
    html! {
        div {
            dt title=(name) { (title) }
            dd.num { (shown(last)) }
            svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                title { (label) }
                polyline points=(line(points)) {}
            }
        }
    }
}

/// The points from left to right by their time, and from 0 at the bottom to the largest at the top.
#[expect(clippy::cast_precision_loss, reason = "a plot has a few hundred dots")]
fn line(points: &Points) -> String {
    let second = |it: &(Timestamp, u64)| it.0.as_millisecond() as f64;
    let (Some(first), Some(last)) = (points.front(), points.back()) else { return String::new() };
    let span = (second(last) - second(first)).max(1.0);
    let most = points.iter().map(|it| it.1).max().unwrap_or_default().max(1) as f64;
    let x = |it: &(Timestamp, u64)| (second(it) - second(first)) / span * WIDTH;
    // A line at the very edge would be cut off.
    let y = |it: &(Timestamp, u64)| HEIGHT - 1.0 - it.1 as f64 / most * (HEIGHT - 2.0);
    if points.len() == 1 {
        // A dot alone would not be seen.
        return format!("0.0,{0:.1} {WIDTH:.1},{0:.1}", y(first));
    }
    points.iter().map(|it| format!("{:.1},{:.1}", x(it), y(it))).collect::<Vec<_>>().join(" ")
}

fn title(name: &str) -> String {
    match name {
        "container.cpu.used" | "process.cpu.used" => "processors".into(),
        "container.memory.usage" | "process.memory.rss" => "memory".into(),
        "container.io.read.rate" => "read".into(),
        "container.io.write.rate" => "written".into(),
        "container.pids.current" => "tasks".into(),
        "process.threads" => "threads".into(),
        other => other.to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits after the point are shown")]
fn shown(name: &str, value: u64) -> String {
    if name.ends_with("cpu.used") {
        format!("{:.2}", value as f64 / 1000.0)
    } else if name.contains(".memory.") {
        bytes(value)
    } else if name.ends_with(".rate") {
        format!("{}/s", bytes(value))
    } else {
        count(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(i64, u64)]) -> Points {
        values.iter().map(|(second, value)| (Timestamp::from_second(*second).unwrap(), *value)).collect()
    }

    #[test]
    fn a_line_goes_from_edge_to_edge_in_time_and_from_nothing_to_the_most() {
        assert_eq!(line(&points(&[(0, 0), (10, 50), (40, 100)])), "0.0,27.0 30.0,14.0 120.0,1.0");
        assert_eq!(line(&points(&[(7, 3)])), "0.0,1.0 120.0,1.0");
        assert_eq!(line(&points(&[(0, 0), (1, 0)])), "0.0,27.0 120.0,27.0");
        assert_eq!(line(&points(&[])), "");
    }

    #[test]
    fn values_have_their_units() {
        assert_eq!(shown("container.cpu.used", 1500), "1.50");
        assert_eq!(shown("container.memory.usage", 3 << 20), "3.0 MiB");
        assert_eq!(shown("container.io.read.rate", 512), "512 B/s");
        assert_eq!(shown("container.pids.current", 1234), "1,234");
    }

    #[test]
    fn what_an_agent_calls_itself_is_text() {
        let source = Plotted {
            source: "<script>".into(),
            at: Timestamp::UNIX_EPOCH,
            metrics: [("a\"b".to_owned(), points(&[(0, 1)]))].into(),
        };
        let page = plots(&[source]).into_string();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
        assert!(page.contains("a&quot;b"), "{page}");
    }
}
