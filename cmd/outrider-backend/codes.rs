//! `code`: enrollment codes.

use outrider_backend::admin::{Code as StoredCode, CodeState, NewCode};
use outrider_backend::client::Client;
use outrider_protocol::exit::Exit;

use crate::args::Code;
use crate::output::{Column, json, line, table};
use crate::report::Error;

pub(crate) async fn run(client: &Client, command: Code) -> Result<Exit, Error> {
    match command {
        Code::Create { uses, expires, customer_id, note, json: as_json } => {
            let new = NewCode { uses, expires_in_s: expires.as_secs(), customer_id, note };
            let created = client.create_code(&new).await?;
            if as_json {
                return json(&created);
            }
            line(&created.code);
            let stored = created.stored;
            let times = if stored.uses == 1 { "once".into() } else { format!("{} times", stored.uses) };
            crate::output::note(&format!(
                "good {times} until {:.0}: outrider enroll {} --backend {}",
                stored.expires_at,
                created.code,
                client.url(),
            ));
            Ok(Exit::Ok)
        }
        Code::List { json: as_json } => {
            let codes = client.codes().await?;
            if as_json { json(&codes) } else { list(codes) }
        }
        Code::Revoke { id, json: as_json } => {
            let code = client.revoke_code(&id).await?;
            if as_json { json(&code) } else { list(vec![code]) }
        }
    }
}

fn list(codes: Vec<StoredCode>) -> Result<Exit, Error> {
    let columns = [
        Column::Text("id"),
        Column::Text("state"),
        Column::Number("used"),
        Column::Text("expires"),
        Column::Text("customer"),
        Column::Text("note"),
    ];
    let rows = codes.into_iter().map(|code| {
        vec![
            code.id,
            state(code.state).into(),
            format!("{}/{}", code.used, code.uses),
            format!("{:.0}", code.expires_at),
            code.customer_id.unwrap_or_default(),
            code.note.unwrap_or_default(),
        ]
    });
    line(&table(&columns, rows.collect()));
    Ok(Exit::Ok)
}

fn state(state: CodeState) -> &'static str {
    match state {
        CodeState::Active => "active",
        CodeState::UsedUp => "used up",
        CodeState::Expired => "expired",
        CodeState::Revoked => "revoked",
    }
}
