//! The directory tables of an ECS: who owns them, joined with those that are not ready. Pure.

use std::collections::HashMap;

use roxmltree::Document;
use serde_json::{Map, Value, json};

/// Who owns each table, as text.
pub const OWNERS: &str = "/diagnostic/DumpOwnershipInfo/";
/// Those that are not ready, as XML.
pub const STATES: &str = "/stats/dt/DTInitStat/";
/// Elements of an entry that list no tables.
const COUNTS: &[&str] = &["type", "level", "total_dt_num", "unready_dt_num", "unknown_dt_num"];
/// The list of tables whose owner did not answer.
const NO_ANSWER: &str = "ERROR_RPC_CLIENT_NO_RESPONSE";

/// An event for each table.
///
/// # Errors
/// When one of the two is not what it should be.
pub fn join(owners: &str, states: &str) -> Result<Vec<Map<String, Value>>, String> {
    let errors = errors(states)?;
    let tables: Vec<_> = owners.lines().filter_map(Owner::read).map(|it| event(&it, &errors)).collect();
    if tables.is_empty() {
        return Err("no line of DumpOwnershipInfo has [id:…, owner:…, creationCompleted:…]".to_owned());
    }
    Ok(tables)
}

struct Owner<'l> {
    id: &'l str,
    ip: &'l str,
    created: bool,
}

impl<'l> Owner<'l> {
    fn read(line: &'l str) -> Option<Self> {
        let inner = line.split_once("[id:")?.1.split_once(']')?.0;
        let (id, rest) = inner.split_once(',')?;
        let (owner, created) = rest.trim().strip_prefix("owner:")?.split_once(',')?;
        let created = created.trim().strip_prefix("creationCompleted:")?.trim() == "true";
        let ip = owner.trim().rsplit_once(':').map_or(owner.trim(), |it| it.0);
        Some(Self { id: id.trim().trim_end_matches(':'), ip, created })
    }
}

/// Tables that are not ready, with why.
fn errors(states: &str) -> Result<HashMap<String, String>, String> {
    let document =
        Document::parse(states).map_err(|err| format!("DTInitStat is no XML that can be read ({err})"))?;
    let mut errors = HashMap::new();
    for entry in document.descendants().filter(|it| it.has_tag_name("entry")) {
        for list in entry.children().filter(|it| it.is_element()) {
            let why = list.tag_name().name();
            if COUNTS.contains(&why) {
                continue;
            }
            let texts = list.descendants().filter_map(|it| it.is_text().then(|| it.text()).flatten());
            for id in texts.flat_map(|it| it.split([',', ' ', '\n', '\r', '\t'])) {
                let id = id.trim_end_matches(':');
                if !id.is_empty() {
                    errors.insert(id.to_owned(), why.to_owned());
                }
            }
        }
    }
    Ok(errors)
}

fn event(owner: &Owner<'_>, errors: &HashMap<String, String>) -> Map<String, Value> {
    let error = errors.get(owner.id).map_or("", String::as_str);
    let (status, ready, down) = match error {
        "" => ("ready", 1, 0),
        NO_ANSWER => ("unknown", 0, 0),
        _ => ("unready", 0, 1),
    };
    let parts: Vec<_> = owner.id.split('_').collect();
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let event = json!({
        "dt-id": owner.id,
        "dt-type": part(2),
        "dt-partition": part(3),
        "dt-level": part(5),
        "dt-type-level": format!("{}_{}", part(2), part(5)),
        "dt-owner-ip": owner.ip,
        "dt-created": owner.created,
        "dt-ready": ready,
        "dt-down": down,
        "dt-status": status,
        "dt-error": error,
    });
    match event {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: &str = "head\n\
        [id:urn:storageos:OwnershipInfo:1_a_OB_5_128_0:, owner:10.0.0.1:9069, creationCompleted:true]\n\
        [id:urn:storageos:OwnershipInfo:1_a_CT_6_128_1:, owner:10.0.0.2:9069, creationCompleted:false]\n\
        [id:urn:storageos:OwnershipInfo:1_a_LS_7_128_2:, owner:10.0.0.2:9069, creationCompleted:true]\n";
    const STATES: &str = "<?xml version=\"1.0\"?><result><entry><type>CT</type><level>1</level>\
        <total_dt_num>9</total_dt_num><NOT_LOADED>urn:storageos:OwnershipInfo:1_a_CT_6_128_1: </NOT_LOADED></entry>\
        <entry><type>LS</type><ERROR_RPC_CLIENT_NO_RESPONSE>\n urn:storageos:OwnershipInfo:1_a_LS_7_128_2:,urn:x\n\
        </ERROR_RPC_CLIENT_NO_RESPONSE></entry></result>";

    #[test]
    fn tables_are_ready_unless_they_are_listed() {
        let all = join(OWNERS, STATES).unwrap();
        let shown = |at: usize| {
            let it: &Map<String, Value> = &all[at];
            ["dt-type-level", "dt-partition", "dt-owner-ip", "dt-status", "dt-error"]
                .map(|name| it[name].as_str().unwrap())
        };
        assert_eq!(shown(0), ["OB_0", "5", "10.0.0.1", "ready", ""]);
        assert_eq!(shown(1), ["CT_1", "6", "10.0.0.2", "unready", "NOT_LOADED"]);
        assert_eq!(shown(2), ["LS_2", "7", "10.0.0.2", "unknown", NO_ANSWER]);
        let numbers: Vec<_> =
            all.iter().map(|it| (it["dt-ready"].as_u64(), it["dt-down"].as_u64())).collect();
        assert_eq!(numbers, [(Some(1), Some(0)), (Some(0), Some(1)), (Some(0), Some(0))]);
        assert_eq!(all[1]["dt-created"], false);
    }

    #[test]
    fn what_is_something_else_is_said() {
        assert!(join("<html>", STATES).unwrap_err().contains("DumpOwnershipInfo"));
        assert!(join(OWNERS, "{}").unwrap_err().contains("no XML"));
    }
}
