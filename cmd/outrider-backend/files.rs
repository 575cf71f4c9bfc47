//! `files`: lists what agents have uploaded.

use outrider_backend::admin::FileFilter;
use outrider_backend::client::Client;
use outrider_protocol::exit::Exit;

use crate::args::Files;
use crate::connect::find_agent;
use crate::output::{Column, bytes, count, json, line, table};
use crate::report::Error;

pub(crate) async fn run(client: &Client, flags: Files) -> Result<Exit, Error> {
    let agent = match flags.agent {
        Some(agent) => Some(find_agent(client, Some(&agent)).await?),
        None => None,
    };
    let files = client.files(&FileFilter { agent, export: flags.export, limit: None }).await?;
    if flags.json {
        return json(&files);
    }
    let columns = [
        Column::Text("export"),
        Column::Text("integration"),
        Column::Text("model"),
        Column::Number("objects"),
        Column::Number("size"),
        Column::Text("received"),
        Column::Text("file"),
    ];
    let rows = files.into_iter().map(|file| {
        vec![
            file.export.into(),
            file.integration.into(),
            file.model.into(),
            count(file.objects),
            bytes(file.bytes),
            format!("{:.0}", file.received_at),
            file.path,
        ]
    });
    line(&table(&columns, rows.collect()));
    Ok(Exit::Ok)
}
