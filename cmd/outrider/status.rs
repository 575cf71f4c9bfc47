//! `outrider status`.

use outrider_home::Root;
use outrider_protocol::collect::{ApisReport, OutputReport};
use outrider_protocol::exit::Exit;
use outrider_protocol::upgrade::UpgradeReport;
use outrider_service::{CollectStatus, LinkStatus, ServiceStatus, Status};

use crate::args;
use crate::report::Error;
use crate::say::say;

/// Shows the agent's state. The exit status says whether it is one: 0 when enrolled, 1 when not.
pub(crate) fn status(root: &Root, flags: &args::Status) -> Result<Exit, Error> {
    let status = outrider_service::status(root);
    if flags.json {
        say(serde_json::to_string_pretty(&status).map_err(|err| Error::failure(&err))?);
    } else {
        say(tell(&status).trim_end());
    }
    Ok(if status.enrolled { Exit::Ok } else { Exit::Failure })
}

fn tell(status: &Status) -> String {
    let mut lines = vec![row("root", &status.root.display().to_string())];
    match (&status.agent, &status.config_error) {
        (Some(agent), _) => {
            lines.push(row("agent", agent.as_str()));
            lines.push(row("backend", status.backend.as_deref().unwrap_or("?")));
            lines.push(row("channel", status.channel.as_deref().unwrap_or("?")));
        }
        (None, Some(error)) => lines.push(row("config.json", &format!("not valid: {error}"))),
        (None, None) => lines.push(row("agent", "not enrolled: see `outrider enroll --help`")),
    }
    lines.push(row("service", &service(&status.service)));
    if let ServiceStatus::Running { link: Some(link), .. } = &status.service {
        lines.push(row("link", &told(link)));
    }
    if let Some(build) = &status.build {
        lines.push(row("build", &build.to_string()));
    }
    if let Some(it) = &status.upgrade {
        lines.push(row("upgrade", &format!("to {}: {}", it.to, it.state.word())));
    }
    if let Some(it) = &status.last_upgrade {
        lines.push(row("last upgrade", &ended(it)));
    }
    if status.state_kept {
        lines.push(row("state", "the one before is kept until the upgrade stays; orders wait for that"));
    }
    for it in &status.commands {
        let taken = it.taken_at.strftime("%Y-%m-%d %H:%M:%SZ");
        lines.push(row("command", &format!("{} {} {} since {taken}", it.command, it.action, it.stage)));
    }
    if status.unreported > 0 {
        lines.push(row("unreported", &format!("{} outcomes wait for the backend", status.unreported)));
    }
    if status.crashes > 0 {
        lines.push(row(
            "crashes",
            &format!("{} wait to be told to the backend: see state/crashes", status.crashes),
        ));
    }
    if let Some(it) = &status.collect {
        lines.extend(collect(it));
    }
    if let Some(it) = &status.collect_ordered {
        let idle = it.idle.map(|it| format!("; not in effect: {it}")).unwrap_or_default();
        let ordered = format!("by the backend at {:.0}, command {}{idle}", it.at, it.command);
        lines.push(row("ordered", &ordered));
    }
    if status.refused_files > 0 {
        let refused = format!(
            "{} files, which the backend refuses: see logs/service-run; `outrider data drop --export ID --refused` drops them",
            status.refused_files
        );
        lines.push(row("refused", &refused));
    }
    if status.lost_files > 0 {
        let lost = format!(
            "{} files, which the backend lost and which are no longer kept here: export again with reprocess_historical",
            status.lost_files
        );
        lines.push(row("lost", &lost));
    }
    lines.push(row(
        "spool",
        &format!("{} files, {} bytes wait for upload", status.spool_files, status.spool_bytes),
    ));
    lines.extend(status.unknown.iter().map(|it| row("unknown", it)));
    lines.concat()
}

/// How the last upgrade ended.
fn ended(it: &UpgradeReport) -> String {
    let to = it.to.as_ref().map(|to| format!("to {to}: ")).unwrap_or_default();
    let at = it.ended_at.strftime("%Y-%m-%d %H:%M:%SZ");
    let why = it.reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    format!("{to}{} at {at}{why}", it.state.word())
}

/// Whether collecting runs, and how each output is.
fn collect(status: &CollectStatus) -> Vec<String> {
    match status {
        CollectStatus::Waiting { source, since, error } => {
            let whose = source.word();
            vec![row(
                "collect",
                &format!("as {whose} says: ended at {since:.0}, and is started again: {error}"),
            )]
        }
        CollectStatus::Running { source, pid, since, report } => {
            let pid = pid.map(|it| format!(", process {it}")).unwrap_or_default();
            let trouble =
                report.trouble.as_ref().map(|it| format!("; not measured: {it}")).unwrap_or_default();
            let running = format!(
                "as {} says: running since {since:.0}{pid}: {} sources, {} samples{trouble}",
                source.word(),
                report.sources,
                report.samples
            );
            let outputs = report.outputs.iter().map(|it| row("", &output(it)));
            let apis = report.apis.as_ref().map(|it| row("", &apis(it)));
            std::iter::once(row("collect", &running)).chain(apis).chain(outputs).collect()
        }
    }
}

fn apis(it: &ApisReport) -> String {
    let ApisReport { polled, failing, polls, failed, late, events, beyond, trouble } = it;
    let beyond = if *beyond > 0 { format!(", {beyond} left out") } else { String::new() };
    let trouble = trouble.as_ref().filter(|_| *failing > 0).map(|it| format!("; last: {it}"));
    let trouble = trouble.unwrap_or_default();
    format!(
        "APIs: {polled} polled, {failing} of them failing; {events} events{beyond} of {polls} polls, {failed} \
         failed, {late} too late{trouble}"
    )
}

fn output(it: &OutputReport) -> String {
    let OutputReport { name, sent, dropped, refused, left_out, waiting, failing } = it;
    let refused = if *refused > 0 { format!(", {refused} refused") } else { String::new() };
    let left_out =
        if *left_out > 0 { format!(", {left_out} left out, without a number") } else { String::new() };
    let failing = failing
        .as_ref()
        .map(|it| format!("; failing since {:.0}: {}", it.since, it.error))
        .unwrap_or_default();
    format!("{name}: {sent} points sent, {waiting} wait, {dropped} dropped{refused}{left_out}{failing}")
}

fn service(status: &ServiceStatus) -> String {
    match status {
        ServiceStatus::Stopped => "stopped: start it with `outrider service-run`".into(),
        ServiceStatus::Running { pid, version, .. } => {
            let version = version.as_deref().map(|it| format!(", version {it}")).unwrap_or_default();
            let pid = pid.map(|it| format!(", process {it}")).unwrap_or_default();
            format!("running{version}{pid}")
        }
    }
}

fn told(link: &LinkStatus) -> String {
    match link {
        LinkStatus::Connecting => "connecting".into(),
        LinkStatus::Connected { since, polling: false } => format!("connected since {since:.0}"),
        LinkStatus::Connected { since, polling: true } => {
            format!("connected since {since:.0}, by long poll: something on the way holds streams back")
        }
        LinkStatus::Away { since, error, busy: true } => {
            format!("backend busy, or in trouble, since {since:.0}: {error}")
        }
        LinkStatus::Away { since, error, .. } => format!("backend out of reach since {since:.0}: {error}"),
        LinkStatus::Refused { since, error } => format!("token refused since {since:.0}: {error}"),
    }
}

fn row(name: &str, value: &str) -> String {
    format!("{name:<12} {value}\n")
}
