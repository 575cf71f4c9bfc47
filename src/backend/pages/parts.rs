//! Small things that several pages show.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};
use outrider_protocol::report::Failure;

use crate::admin::{CommandState, CommandSummary};

/// A state in its colour.
pub(super) fn chip(state: CommandState) -> Markup {
    html! { span.chip.(state.as_str()) { (state) } }
}

/// A time: how long ago where scripts run, else the time itself.
pub(super) fn ago(time: Timestamp) -> Markup {
    html! { time datetime=(time) title=(format!("{time:.0}")) data-ago { (format!("{time:.0}")) } }
}

/// How long something ran, or has run until now.
pub(super) fn ran(started: Option<Timestamp>, ended: Option<Timestamp>) -> Markup {
    match (started, ended) {
        (Some(started), Some(ended)) => html! {
            (span(Duration::try_from(ended.duration_since(started)).unwrap_or_default()))
        },
        (Some(started), None) => {
            html! { time datetime=(started) data-since { "since " (format!("{started:.0}")) } }
        }
        _ => html! { span.dim { "–" } },
    }
}

/// A time span: `12 ms`, `4.2 s`, `3 min 20 s`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Bytes: `1.2 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(5);
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let value = bytes as f64 / 1024f64.powi(power.cast_signed());
    format!("{value:.1} {}", UNITS[power as usize - 1])
}

/// A count with its thousands apart: `12,345`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// So many of something: `1 file`, `12 files`.
pub(super) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// What failed, and what can be done about it.
pub(super) fn failure(failure: &Failure) -> Markup {
    html! {
        div.notice.bad {
            p { strong { (failure.message) } }
            @if let Some(hint) = &failure.hint { p { (hint) } }
            (last_lines(&failure.last_lines))
        }
    }
}

/// The last lines that a process wrote, folded away.
pub(super) fn last_lines(lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            details { summary { "last lines" } pre { (lines.join("\n")) } }
        }
    }
}

/// A time of the day, as the viewer's clock shows it where scripts run, else in UTC.
pub(super) fn clock(time: Timestamp) -> Markup {
    html! { time datetime=(time) title=(format!("{time:.0}")) data-clock { (time.strftime("%H:%M UTC")) } }
}

/// Commands as a table that becomes cards on a phone.
pub(super) fn commands(commands: &[CommandSummary], with_agent: bool) -> Markup {
    html! {
        @if commands.is_empty() {
            p.empty { "No commands yet. " code { "outrider-backend command export --integration git --config '{…}'" } }
        } @else {
            table.cards {
                thead { tr {
                    th { "Command" } th { "State" } th { "Integrations" }
                    @if with_agent { th { "Agent" } }
                    th { "Ordered" } th.num { "Ran" } th.num { "Objects" } th.num { "Size" }
                } }
                tbody {
                    @for command in commands { (command_row(command, with_agent)) }
                }
            }
        }
    }
}

fn command_row(command: &CommandSummary, with_agent: bool) -> Markup {
    let integrations: Vec<&str> = command.integrations.iter().map(|it| it.id.as_str()).collect();
    html! {
        tr {
            td.main { a href=(format!("/commands/{}", command.id)) { (command.action) " " span.id { (command.id) } } }
            td data-label="State" { (chip(command.state)) }
            td data-label="Integrations" { (integrations.join(", ")) }
            @if with_agent {
                td data-label="Agent" { a href=(format!("/agents/{}", command.agent)) { (command.agent) } }
            }
            td data-label="Ordered" { (ago(command.created_at)) }
            td.num data-label="Ran" { (ran(command.started_at, command.ended_at)) }
            td.num data-label="Objects" { (count(command.objects)) }
            td.num data-label="Size" { (bytes(command.bytes)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_500_000), "1.4 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(123), "123");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
