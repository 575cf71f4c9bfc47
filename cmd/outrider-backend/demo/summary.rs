//! The end of the demo: what was exported, and where everything lies.

use std::time::Duration;

use outrider_backend::admin::{Command, FileFilter};
use outrider_backend::client::Client;
use outrider_protocol::report::{ActionReport, ModelCount};

use super::orders::Done;
use super::stack::Stack;
use crate::output::{Column, count, line, note, table};
use crate::report::Error;

/// The longest time from the end of the export to the last file's arrival.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Shows everything. Answers whether all commands are done and all data has arrived.
pub(super) async fn show(stack: &Stack, done: &Done, stays: bool) -> Result<bool, Error> {
    let models = models(&done.export);
    let expected: u64 = models.iter().map(|model| model.objects).sum();
    let arrival = tokio::time::timeout(ARRIVAL, arrived(stack.client()?, &done.export, expected)).await;
    let arrived = match arrival {
        Ok(files) => files?,
        Err(_) => {
            note(&format!("not all files arrived at the backend within {} s", ARRIVAL.as_secs()));
            return Ok(false);
        }
    };
    line("");
    line(&model_table(&models));
    line("");
    line(&format!("page  {}", page(stack, stays)?));
    line(&format!("data  {} ({arrived} files)", exports(stack, &done.export).display()));
    line(&format!("logs  {} and {}", stack.root().join("logs").display(), stack.backend_log().display()));
    line("");
    Ok(done.all)
}

/// The address of the page, or how to get one when this backend ends now.
fn page(stack: &Stack, stays: bool) -> Result<String, Error> {
    if !stays {
        return Ok(format!("`outrider-backend serve --data {}` shows it again", stack.data().display()));
    }
    Ok(stack.login().unwrap_or(stack.client()?.url()).to_owned())
}

fn models(export: &Command) -> Vec<ModelCount> {
    match &export.report {
        Some(ActionReport::Export(report)) => {
            report.integrations.iter().flat_map(|integration| integration.models.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Waits until the files at the backend hold all objects. Answers how many files these are.
async fn arrived(client: &Client, export: &Command, expected: u64) -> Result<usize, Error> {
    let filter = FileFilter {
        agent: Some(export.summary.agent.clone()),
        export: Some(export.summary.id.clone().into()),
        limit: Some(u32::MAX),
    };
    loop {
        let files = client.files(&filter).await?;
        if files.iter().map(|file| file.objects).sum::<u64>() >= expected {
            return Ok(files.len());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn model_table(models: &[ModelCount]) -> String {
    let columns = [
        Column::Text("model"),
        Column::Number("objects"),
        Column::Number("bytes"),
        Column::Number("seconds"),
    ];
    let row = |name: String, objects: u64, bytes: u64, ms: u64| {
        vec![name, count(objects), count(bytes), format!("{}.{:02}", ms / 1000, ms % 1000 / 10)]
    };
    let mut rows: Vec<_> = models
        .iter()
        .map(|model| row(model.model.to_string(), model.objects, model.bytes, model.duration_ms))
        .collect();
    if rows.is_empty() {
        return "nothing new was exported".into();
    }
    let objects = models.iter().map(|model| model.objects).sum();
    let bytes = models.iter().map(|model| model.bytes).sum();
    let mut all = row("all".into(), objects, bytes, 0);
    all.pop();
    all.push(String::new());
    rows.push(all);
    table(&columns, rows)
}

fn exports(stack: &Stack, export: &Command) -> std::path::PathBuf {
    let command = &export.summary;
    stack.data().join("exports").join(command.agent.as_str()).join(command.id.as_str())
}
