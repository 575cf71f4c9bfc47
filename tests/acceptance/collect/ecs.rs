//! The APIs of an ECS, as `fixtures/collect/ecs.yml` has them, asked of a simulator.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::check;
use super::simulator::{Answer, Asked, Simulator};
use crate::support::{outrider, printed, repository, run};

const PASSWORD: &str = "not-a-real-password";
const OWNERS: &str = "[id:urn:storageos:OwnershipInfo:1_a_OB_5_128_0:, owner:127.0.0.1:9069, creationCompleted:true]\n\
                      [id:urn:storageos:OwnershipInfo:1_a_CT_6_128_1:, owner:127.0.0.1:9069, creationCompleted:true]\n";
const STATES: &str = "<result><entry><type>CT</type><NOT_LOADED>urn:storageos:OwnershipInfo:1_a_CT_6_128_1:</NOT_LOADED>\
                      </entry></result>";

/// An ECS: a token for a password, and answers to those who have it. A token is good for some requests only.
fn ecs() -> Simulator {
    let token = Mutex::new((0, 0));
    Simulator::start(move |asked| {
        if asked.is("GET /login") {
            // monitor:not-a-real-password
            let good = asked.header("authorization") == Some("Basic bW9uaXRvcjpub3QtYS1yZWFsLXBhc3N3b3Jk");
            let mut token = token.lock().unwrap();
            *token = (token.0 + 1, 0);
            let header = ("X-SDS-AUTH-TOKEN".to_owned(), format!("token-{}", token.0));
            return if good { Answer::With(200, vec![header], String::new()) } else { Answer::status(401) };
        }
        if asked.is("GET /diagnostic/DumpOwnershipInfo/") {
            return Answer::ok(OWNERS);
        }
        if asked.is("GET /stats/dt/DTInitStat/") {
            return Answer::ok(STATES);
        }
        let mut token = token.lock().unwrap();
        if asked.header("x-sds-auth-token") != Some(&format!("token-{}", token.0)) || token.1 >= 7 {
            return Answer::status(401);
        }
        token.1 += 1;
        says(asked)
    })
}

fn says(asked: &Asked) -> Answer {
    let path = asked.line.split('?').next().unwrap();
    let instances = |all: Value| json!({ "_embedded": { "_instances": all } });
    let current = |name: &str| json!({ "name": name, "_links": {}, "numGoodDisks": "3", "cpuCurrent": [{ "t": "100", "Percent": "1.5" }, { "t": "160", "Percent": "2.5" }] });
    let is_first = asked.query("marker").is_none();
    let answer = match path {
        "GET /object/vdcs/vdc/local.json" => json!({ "id": "urn:vdc:1", "name": "layton" }),
        // As every simulator is at this address, its nodes are one.
        "GET /vdc/nodes.json" => json!({ "node": [
            { "ip": "127.0.0.1", "nodeid": "i", "nodename": "supr01-r01", "version": "3.6.2.0" },
            { "ip": "10.9.9.9", "nodeid": "j", "nodename": "supr01-r02", "version": "3.7.0.0" },
        ] }),
        "GET /vdc/events.json" => json!({ "auditevent": [{ "id": "e1" }], "NextMarker": "" }),
        "GET /vdc/alerts.json" if is_first => {
            json!({ "alert": [{ "id": "a1", "acknowledged": "false" }], "NextMarker": "m" })
        }
        "GET /vdc/alerts.json" => json!({ "alert": [{ "id": "a2", "acknowledged": true }] }),
        "GET /vdc/alerts/latest.json" => json!({}),
        "GET /dashboard/zones/localzone" => current("zone"),
        "GET /dashboard/zones/localzone/nodes"
        | "GET /dashboard/zones/localzone/replicationgroups"
        | "GET /dashboard/zones/localzone/storagepools" => instances(json!([current("x"), { "name": "y" }])),
        "GET /dashboard/nodes/n-1/disks"
        | "GET /dashboard/nodes/n-2/disks"
        | "GET /dashboard/nodes/n-3/disks" => instances(json!([{ "of": path }])),
        "GET /dashboard/nodes/n-1/processes"
        | "GET /dashboard/nodes/n-2/processes"
        | "GET /dashboard/nodes/n-3/processes" => instances(json!([])),
        "GET /object/capacity.json" => json!({ "totalFree_gb": 7 }),
        "GET /object/namespaces.json" => {
            let from = if is_first { 0 } else { 150 };
            let all: Vec<_> = (from..from + 150).map(|it| json!({ "id": format!("ns{it}") })).collect();
            json!({ "namespace": all, "NextMarker": if is_first { "m" } else { "" } })
        }
        "POST /object/billing/namespace/info.json" | "POST /object/billing/namespace/sample.json" => {
            let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
            let Some(ids) = body["id"].as_array() else { return Answer::status(400) };
            let all: Vec<_> = ids.iter().map(|id| json!({ "namespace": id })).collect();
            let name = if path.contains("info") {
                "namespace_billing_infos"
            } else {
                "namespace_billing_sample_infos"
            };
            json!({ name: all })
        }
        _ => return Answer::status(404),
    };
    Answer::ok(answer.to_string())
}

/// The fixture with simulators in the place of its nodes: two in one VDC, one in another.
fn section(nodes: &[&Simulator; 3]) -> Value {
    let text = std::fs::read_to_string(repository().join("fixtures/collect/ecs.yml")).unwrap();
    let mut section = outrider_home::yaml::to_json(&text).unwrap();
    let node = |at: usize| json!({ "url": nodes[at].url(), "id": format!("n-{}", at + 1), "name": format!("node{at}") });
    let group = &mut section["apis"][0];
    group["systems"][0]["vdcs"][0]["nodes"] = json!([node(0), node(1)]);
    group["systems"][0]["vdcs"][1]["nodes"] = json!([node(2)]);
    let login = group["systems"][0]["login"].as_object_mut().unwrap();
    drop(login.remove("password_file"));
    drop(login.insert("password".into(), PASSWORD.into()));
    for api in group["apis"].as_array_mut().unwrap() {
        if api["name"] == "dtinfo" {
            // Each simulator answers on one port; any of them knows all tables.
            api["port"] = nodes[0].port().into();
        }
    }
    section
}

#[test]
fn the_fixture_is_asked_as_it_is_but_for_its_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [ecs(), ecs(), ecs()];
    let text = std::fs::read_to_string(repository().join("fixtures/collect/ecs.yml")).unwrap();
    // The last API is asked at a port that only a real one has.
    let mut text = text.split("      # The directory tables").next().unwrap().to_owned();
    for (address, node) in ["10.0.0.1:4443", "10.0.0.2:4443", "https://10.1.0.1:4443"].into_iter().zip(&nodes)
    {
        let address = format!("'{address}'");
        assert!(text.contains(&address));
        text = text.replace(&address, &format!("'{}'", node.url()));
    }
    // As the simulators call themselves.
    text = text.replace("id: node-", "id: n-");
    let config = dir.path().join("ecs.yml");
    std::fs::write(&config, &text).unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("ecs.password"), PASSWORD).unwrap();
    let check = || run(outrider(&root).args(["collect", "check", "--config"]).arg(&config));
    let checked = check();
    assert_eq!(checked.status.code(), Some(0), "{}", printed(&checked));
    let events = String::from_utf8(checked.stdout).unwrap();
    assert!(events.contains("nsbillingsample") && events.contains("auditevent"), "{events}");

    std::fs::write(&config, text.replace("kind: token\n", "kind: &a token\n")).unwrap();
    let refused = check();
    assert_eq!(refused.status.code(), Some(2), "{}", printed(&refused));
    assert!(printed(&refused).contains("line 13 has an anchor"), "{}", printed(&refused));
}

#[test]
fn every_api_of_the_fixture_brings_all_of_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [ecs(), ecs(), ecs()];
    let (events, told, code) = check(dir.path(), &section(&[&nodes[0], &nodes[1], &nodes[2]]));
    assert_eq!(code, Some(0), "{told}");
    let of = |name: &str| events.iter().filter(|it| it["event"] == name).collect::<Vec<_>>();
    let counts: Vec<_> = [
        ("auditevent", 2),
        ("alert", 4),
        ("latestalert", 0),
        ("localzone", 4),
        ("nodes", 6),
        ("replicationgroups", 6),
        ("storagepools", 6),
        ("disks", 3),
        ("processes", 0),
        ("capacity", 1),
        ("nsbilling", 300),
        ("nsbillingsample", 300),
        ("dtinfo", 2),
    ]
    .into_iter()
    .filter(|(name, count)| of(name).len() != *count)
    .map(|(name, count)| format!("{name}: {} for {count}", of(name).len()))
    .collect();
    assert!(counts.is_empty(), "{counts:?}\n{told}");

    // Pages after the first one; a text that is a boolean; history with its times and numbers.
    assert!(of("alert").iter().any(|it| it["fields"]["id"] == "a2"));
    assert!(of("alert").iter().all(|it| it["fields"]["acknowledged"].is_boolean()));
    let zone = of("localzone");
    let times: Vec<_> = zone.iter().map(|it| it["time"].as_str().unwrap()).collect();
    assert_eq!(times[..2], ["1970-01-01T00:01:40Z", "1970-01-01T00:02:40Z"]);
    let expected = json!({ "name": "zone", "numGoodDisks": 3, "cpuCurrent_Percent": 2.5 });
    assert_eq!(zone[1]["fields"], expected);
    assert_eq!(of("dtinfo")[1]["fields"]["dt-status"], "unready");
    // Common fields, and the node that an id in the path stands for.
    let mut disks: Vec<_> =
        of("disks").iter().map(|it| (it["tags"].clone(), it["fields"]["of"].clone())).collect();
    disks.sort_by_key(|it| it.1.to_string());
    assert_eq!(
        disks[2].0,
        json!({
            "system": "customer-a", "vdc": "vdc2", "node": "node2", "node_id": "n-3", "vdc_id": "urn:vdc:1",
            "vdc_name": "layton", "node_name": "supr01-r01", "node_version": "3.6.2.0",
        })
    );
    let alert = &of("alert")[0]["tags"];
    assert_eq!((&alert["vdc_id"], &alert["node_version"]), (&json!("urn:vdc:1"), &Value::Null), "of the VDC");
    for node in &nodes {
        assert!(node.of("GET /vdc/nodes.json").len() <= 2, "asked once for all APIs: {:?}", node.asked());
    }

    // Every POST had its body, also after a refused token; tokens were given back.
    let posts: Vec<_> = nodes.iter().flat_map(|it| it.of("POST ")).collect();
    assert!(posts.len() >= 6 && posts.iter().all(|it| it.body.starts_with("{\"id\":[\"ns")), "{posts:?}");
    let refused = nodes.iter().map(|it| it.of("GET /login").len()).max().unwrap();
    assert!(refused > 1, "a token that is refused is fetched anew");
    assert!(nodes.iter().any(|it| !it.of("GET /logout").is_empty()));
    for secret in [PASSWORD, "token-1"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn a_bad_node_and_a_bad_vdc_end_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (good, hanging, broken) = (
        ecs(),
        Simulator::start(|_| Answer::Hang),
        Simulator::start(|_| Answer::ok("<html>\nplease log in</html>")),
    );
    let mut section = section(&[&good, &hanging, &broken]);
    section["apis"][0]["timeout_ms"] = 1000.into();
    let (events, told, code) = check(dir.path(), &section);
    assert_eq!(code, Some(1), "{told}");
    let of = |name: &str| events.iter().filter(|it| it["event"] == name).collect::<Vec<_>>();
    assert_eq!((of("capacity").len(), of("dtinfo").len()), (1, 2), "the system has another VDC: {told}");
    assert_eq!(of("nodes").len(), 3, "the VDC has another node: {told}");
    assert!(of("nodes").iter().all(|it| it["tags"]["vdc"] == "vdc1"));
    let disks: Vec<_> = of("disks").iter().map(|it| it["tags"]["node"].clone()).collect();
    assert_eq!(disks, ["node0", "node1"], "another node of the VDC answers for the one that hangs");
    assert!(told.contains("ecs/customer-a/vdc2/facts: node2: "), "{told}");
    assert!(
        told.contains("ecs/customer-a/vdc2/nodes: node2: ") && told.contains("no header X-SDS-AUTH-TOKEN"),
        "{told}"
    );
    let asked = hanging.asked().len();
    assert!(asked <= 8, "it is left alone: {:?}", hanging.asked());
    // The other way round: the first VDC is bad as a whole.
    let mut turned = super::ecs::section(&[&hanging, &broken, &good]);
    turned["apis"][0]["timeout_ms"] = 1000.into();
    let (events, told, code) = check(dir.path(), &turned);
    assert_eq!(code, Some(1), "{told}");
    let of = |name: &str| events.iter().filter(|it| it["event"] == name).collect::<Vec<_>>();
    assert_eq!(of("capacity").len(), 1, "the system has another VDC: {told}");
    assert!(of("nodes").iter().all(|it| it["tags"]["vdc"] == "vdc2") && !of("nodes").is_empty(), "{told}");
    assert!(hanging.asked().len() <= asked + 8, "it is left alone: {:?}", hanging.asked());
}
