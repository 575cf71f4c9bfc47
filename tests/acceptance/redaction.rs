//! An integration that says its secrets in every way it can: they are in no channel that leaves its process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use outrider_backend::admin::{Command as Ordered, CommandState, OAuthRegistration};
use outrider_home::{Root, keys};
use outrider_protocol::action::{
    AgentConfig, ExportOrder, IntegrationConfig, OnboardOrder, Order, ValidateOrder,
};
use outrider_protocol::ids::CommandId;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{
    BACKEND, Running, Stack, edit_config, export, integration, outrider, printed, run, until, until_or,
};

/// A secret by its key; with what encodings differ in.
const TOKEN: &str = "s3cr3t/T0ken+with \"quotes\" & ümlaut";
/// A secret by the schema's word alone.
const PIN: &str = "by-the-schema-4711-0815";
/// A secret in a URL, and what it is without the URL's encoding.
const URL: &str = "https://ann:in%2Fthe%2Furl%2F0123456789@git.example.com/a.git";
const PASSWORD: &str = "in/the/url/0123456789";
/// What the mock stores with its sessions: it stays on the host, unless config.json says otherwise.
const CURSOR: &str = "the-cursor-of-the-leaking-session";

/// Each secret in each form in which it may turn up.
fn forms() -> Vec<(String, String)> {
    let mut forms = Vec::new();
    for (name, secret) in [("token", TOKEN), ("pin", PIN), ("password", PASSWORD)] {
        let json = serde_json::to_string(secret).unwrap();
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut add = |form: &str, text: String| forms.push((format!("{name} {form}"), text));
        add("plain", secret.to_owned());
        add("in a URL", utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string());
        add("as JSON", json[1..json.len() - 1].to_owned());
        add("as hex", hex);
        for user in ["u:", "us:", "ann:"] {
            add("as base64", STANDARD.encode(format!("{user}{secret}")));
            add("as URL-safe base64", URL_SAFE.encode(format!("{user}{secret}")));
        }
    }
    forms.push(("the url".to_owned(), URL.to_owned()));
    forms
}

/// Looks for secrets in what it is given.
struct Search {
    needles: Vec<(String, Vec<u8>)>,
    found: Vec<String>,
}

impl Search {
    /// Looks for the middle of each form, which neither the characters around it nor a cut reaches, and for the first half
    /// of a secret, which is left where a text was cut off.
    fn new() -> Self {
        let mut needles = Vec::new();
        for (name, form) in forms().into_iter().filter(|(name, _)| name != "the url") {
            let bytes = form.as_bytes();
            if name.ends_with("plain") {
                needles.push((format!("the first half of {name}"), bytes[..bytes.len() / 2].to_vec()));
            }
            needles.push((name, bytes[bytes.len() / 4..bytes.len() * 3 / 4].to_vec()));
        }
        Self { needles, found: Vec::new() }
    }

    fn look(&mut self, channel: &str, bytes: &[u8]) {
        for (name, needle) in &self.needles {
            if memchr::memmem::find(bytes, needle).is_some() {
                self.found.push(format!("{channel}: {name}"));
            }
        }
    }

    fn look_below(&mut self, channel: &str, folder: &Path) {
        for file in files(folder) {
            let name = file.strip_prefix(folder).unwrap().display().to_string();
            // The paths of sessions are keys there as the integration made them; the file never leaves the host.
            if name == "state/checkpoints.redb" {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap_or_default();
            self.look(&format!("{channel}/{name}"), &unzipped(&file, bytes));
        }
    }

    fn nothing_found(&self) {
        assert!(self.found.is_empty(), "secrets got out:\n{}", self.found.join("\n"));
    }
}

/// A page's text as a browser shows it.
fn unescaped(html: &str) -> String {
    html.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

pub(crate) fn unzipped(file: &Path, bytes: Vec<u8>) -> Vec<u8> {
    if file.extension().is_none_or(|it| it != "gz") {
        return bytes;
    }
    let mut text = Vec::new();
    Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&*bytes), &mut text).unwrap();
    text
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// The mock, saying everything, ending so. The texts stand in its configuration only where no one looks for them.
fn leaking(end: &str) -> Value {
    let texts: Vec<_> = forms().into_iter().map(|(_, text)| text).collect();
    json!({ "name": "mock", "config": {
        "token": TOKEN, "pin": PIN, "url": URL, "repos": 1, "pull_requests": 1,
        "leak": { "texts": texts, "end": end }
    }})
}

/// The same as a backend has it: all that is secret, here also the texts, encrypted for the root.
fn sealed(root: &Path, end: &str) -> IntegrationConfig {
    let secrets = ["/leak/texts", "/pin", "/token", "/url"].map(str::to_owned);
    keys::seal(&Root::at(root), &integration(&leaking(end)), &secrets).unwrap()
}

fn ended(stack: &Stack, id: &CommandId) -> Ordered {
    let end = || Some(stack.command(id)).filter(|it| it.summary.state.is_end());
    until_or("the end of a command", end, || {
        format!(
            "{}\nlog: {}\nservice: {}\nbackend: {}",
            serde_json::to_string_pretty(&stack.command(id)).unwrap(),
            stack.log(id).join("\n"),
            stack.service.printed(),
            stack.backend.printed()
        )
    })
}

fn orders(root: &Path) -> Vec<Order> {
    let agent = AgentConfig::default;
    let export = |end| {
        Order::Export(ExportOrder {
            agent: agent(),
            integrations: vec![sealed(root, end)],
            reprocess_historical: true,
        })
    };
    let validate = |end| {
        let integration = sealed(root, end);
        Order::ValidateConfig(ValidateOrder { agent: agent(), integration, seal: false })
    };
    let onboard =
        OnboardOrder { agent: agent(), integration: sealed(root, "go_on"), object_type: "users".into() };
    let exports = ["go_on", "fail", "panic", "misuse"].map(export);
    exports
        .into_iter()
        .chain([validate("go_on"), validate("fail"), Order::ExportOnboardData(onboard)])
        .collect()
}

#[test]
fn secrets_stay_out_of_everything_that_a_backend_and_its_agent_have() {
    let stack = Stack::start(&json!({}));
    let root = stack.root();
    let browser = Browser::log_in(&stack.login_link());
    let mut search = Search::new();
    let mut said = String::new();
    for order in orders(&root) {
        let action = order.action();
        let id = stack.order(order);
        let command = ended(&stack, &id);
        stack.until_uploaded();
        let told =
            serde_json::to_string(&command.report).unwrap() + &serde_json::to_string(&command.error).unwrap();
        search.look(&format!("what {action} answered"), told.as_bytes());
        let log = stack.log(&id).join("\n");
        search.look(&format!("the log of {action} at the backend"), log.as_bytes());
        said.push_str(&log);
        said.push_str(&told);
        for page in [format!("/commands/{id}"), format!("/agents/{}", stack.agent)] {
            let html = browser.get(&page);
            assert!(
                page.starts_with("/agents") || html.contains("***"),
                "{page} shows nothing of it: {html}"
            );
            search.look(&format!("{page} of {action}"), html.as_bytes());
            search.look(&format!("{page} of {action} as it is read"), unescaped(&html).as_bytes());
        }
        // A file of a log holds the last run only.
        search.look_below("the root", &root);
    }
    let status = run(outrider(&root).args(["status", "--json"]));
    search.look("outrider status", &both(&status));
    search.look("what the service printed", stack.service.printed().as_bytes());
    search.look("what the backend printed", stack.backend.printed().as_bytes());
    search.look_below("the backend's data", &stack.dir.path().join("backend"));
    search.nothing_found();

    // It did say it, in each way.
    for sentence in [
        "the secret is ***",
        "stderr: ***",
        "stderr: cut off ***",
        "stdout: ***",
        "the source refused ***",
        "the mock integration panics with ***",
        "a.git is not valid",
        "is open already as session",
    ] {
        assert!(said.contains(sentence), "nothing said {sentence:?}:\n{said}");
    }
}

#[test]
fn checkpoints_stay_on_the_host() {
    let stack = Stack::start(&json!({}));
    let id = stack.order(Order::Export(ExportOrder {
        agent: AgentConfig::default(),
        integrations: vec![sealed(&stack.root(), "go_on")],
        reprocess_historical: false,
    }));
    ended(&stack, &id);
    stack.until_uploaded();
    let has =
        |file: &PathBuf| memchr::memmem::find(&std::fs::read(file).unwrap(), CURSOR.as_bytes()).is_some();
    let at_backend: Vec<_> = files(&stack.dir.path().join("backend")).into_iter().filter(has).collect();
    assert_eq!(at_backend, [""; 0].map(PathBuf::from));
    let on_host: Vec<_> = files(&stack.root()).into_iter().filter(has).collect();
    assert_eq!(on_host, [stack.root().join("state/checkpoints.redb")]);
}

/// Starts all, with values shared as a person would by hand.
fn sharing() -> Stack {
    let stack = Stack::start(&json!({}));
    edit_config(&stack.root(), |config| config["share_last_processed"] = true.into());
    stack
}

/// Runs the backend's program on the stack's data.
fn backend(stack: &Stack, args: &[&str]) -> Output {
    run(Command::new(BACKEND).args(args).arg("--data").arg(stack.dir.path().join("backend")))
}

#[test]
fn checkpoints_go_to_the_backend_without_secrets_where_the_operator_says_so() {
    let stack = sharing();
    let id = stack.order(Order::Export(ExportOrder {
        agent: AgentConfig::default(),
        integrations: vec![sealed(&stack.root(), "go_on")],
        reprocess_historical: false,
    }));
    let command = serde_json::to_value(ended(&stack, &id)).unwrap();
    stack.until_uploaded();
    let shared = &command["report"]["integrations"][0]["last_processed"];
    let values = shared["values"].as_array().unwrap();
    // What is stored with the first text's inner session, and with the one around it, which is done later.
    let path = json!([["***", "***"], ["***", "***"]]);
    let inner = json!({ "cursor": CURSOR, "seen": ["***"], "***": 1 });
    assert_eq!((&values[0]["path"], &values[0]["value"]), (&path, &inner), "{shared}");
    assert_eq!((&values[1]["path"], &values[1]["value"]), (&json!([path[0]]), &json!(CURSOR)));
    assert!(values.iter().any(|it| it["path"][1][0] == "sourcecode.Repo"), "{shared}");

    let page = Browser::log_in(&stack.login_link()).get(&format!("/commands/{id}"));
    let folded = page.split("<details class=\"last-processed\"").nth(1).expect("a folded part");
    let folded = folded.split("</details>").next().unwrap();
    assert!(unescaped(folded).contains(&format!("*** *** / *** ***: {{\"cursor\":\"{CURSOR}\"")), "{folded}");
    let shown = printed(&backend(&stack, &["command", "show", id.as_str()]));
    assert!(shown.contains(" last-processed value(s)") && shown.contains(CURSOR), "{shown}");
    let as_json = printed(&backend(&stack, &["command", "show", id.as_str(), "--json"]));
    let as_json: Value = serde_json::from_str(&as_json).unwrap();
    assert_eq!(&as_json["report"]["integrations"][0]["last_processed"], shared);

    let mut search = Search::new();
    search.look("what the backend answered", command.to_string().as_bytes());
    search.look("the command's page", unescaped(&page).as_bytes());
    search.look_below("the root", &stack.root());
    search.look_below("the backend's data", &stack.dir.path().join("backend"));
    search.nothing_found();
    // The report is their only way.
    let progress = serde_json::to_string(&stack.progress(&id)).unwrap();
    let log = stack.log(&id).join("\n");
    let printed = stack.service.printed() + &stack.backend.printed();
    for (channel, text) in [("progress", progress), ("the log", log), ("what was printed", printed)] {
        assert!(!text.contains(CURSOR), "{channel}: {text}");
    }
    let in_logs = files(&stack.root().join("logs"));
    let in_logs: Vec<_> =
        in_logs.iter().filter(|it| std::fs::read_to_string(it).unwrap().contains(CURSOR)).collect();
    assert!(in_logs.is_empty(), "{in_logs:?}");
    // On the host they are as they were.
    let kept = printed_checkpoints(&stack.root());
    assert!(kept.contains(CURSOR) && kept.contains(PASSWORD) && !kept.contains("***"), "{kept}");
}

fn printed_checkpoints(root: &Path) -> String {
    printed(&run(outrider(root).args(["data", "checkpoints"])))
}

#[test]
fn no_order_makes_checkpoints_leave_the_host() {
    let stack = Stack::start(&json!({}));
    // By the program of the backend, and by hand on the host.
    let agent = r#"--agent-config-json={"share_last_processed":true}"#;
    let mock = r#"--integrations-json=[{"name":"mock","config":{"repos":1}}]"#;
    let by_hand = stack.dir.path().join("by-hand");
    for output in [
        backend(&stack, &["command", "export", agent, mock]),
        run(outrider(&by_hand).args(["export", agent, mock])),
    ] {
        assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
        assert!(printed(&output).contains("unknown field `share_last_processed`"), "{}", printed(&output));
    }
    // Over HTTP, where it may stand in each place of an order.
    let export = json!({ "action": "export", "integrations": [leaking("go_on")] });
    let ordered = |member: &str, setting: Value| {
        let mut order = export.clone();
        order[member] = setting;
        post_command(&stack, &json!({ "agent": stack.agent, "order": order }))
    };
    let refused = ordered("agent", json!({ "share_last_processed": true }));
    assert!(refused.contains("unknown field `share_last_processed`"), "{refused}");
    let as_limit = ordered("agent", json!({ "limits": { "share_last_processed": 1 } }));
    let ignored = ordered("share_last_processed", json!(true));
    for (answer, state) in [(as_limit, CommandState::Failed), (ignored, CommandState::Done)] {
        let command: Ordered = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let ended = ended(&stack, &command.summary.id);
        assert_eq!(ended.summary.state, state, "{ended:?}");
        assert!(!serde_json::to_string(&ended).unwrap().contains("\"last_processed\""), "{ended:?}");
    }
    stack.until_uploaded();
    let backend = files(&stack.dir.path().join("backend"));
    let holds =
        |file: &&PathBuf| memchr::memmem::find(&std::fs::read(file).unwrap(), CURSOR.as_bytes()).is_some();
    assert_eq!(backend.iter().filter(holds).count(), 0);
}

/// Posts a command to the backend's API as it is; answers with all that came back.
fn post_command(stack: &Stack, command: &Value) -> String {
    let token = std::fs::read_to_string(stack.dir.path().join("backend/admin-token")).unwrap();
    let address = stack.client.url().trim_start_matches("http://").trim_end_matches('/');
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let (body, token) = (command.to_string(), token.trim());
    write!(
        stream,
        "POST /admin/v1/commands HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn both(output: &Output) -> Vec<u8> {
    [output.stdout.as_slice(), &output.stderr].concat()
}

#[test]
fn secrets_stay_out_of_what_a_person_sees_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let mut search = Search::new();
    let runs = [
        ("export", "go_on"),
        ("export", "fail"),
        ("export", "panic"),
        ("export", "misuse"),
        ("validate-config", "go_on"),
        ("validate-config", "fail"),
        ("export-onboard-data", "go_on"),
    ];
    for (action, end) in runs {
        let (config, result) = (dir.path().join("config.json"), dir.path().join("result.json"));
        std::fs::write(&config, json!([leaking(end)]).to_string()).unwrap();
        let mut command = outrider(&root);
        command.arg(action).arg("--integrations-json").arg(format!("@{}", config.display()));
        command.arg("--output-file").arg(&result);
        if action == "export-onboard-data" {
            command.args(["--object-type", "users"]);
        }
        let output = run(&mut command);
        search.look(&format!("what {action} ({end}) printed"), &both(&output));
        search.look(&format!("the result of {action} ({end})"), &std::fs::read(&result).unwrap());
        search.look_below(&format!("the root after {action} ({end})"), &root);
        assert!(String::from_utf8_lossy(&both(&output)).contains("***"), "{action} ({end}) said nothing");
    }
    search.nothing_found();
}

/// What access tokens are made of: the first refresh token, and the one that the token server gives in its place.
const REFRESH: [&str; 2] = ["the-first-refresh-t0ken", "the-second-refresh-t0ken"];

/// Serves access tokens for as long as the test runs; answers with its address.
fn token_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut form = vec![0; length];
            stream.read_exact(&mut form).unwrap();
            let answer = json!({
                "access_token": "an-access-t0ken", "token_type": "bearer", "expires_in": 3600,
                "refresh_token": REFRESH[1],
            })
            .to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            write!(stream.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        }
    });
    url
}

#[test]
fn a_refresh_token_is_in_nothing_that_backend_and_agent_say_even_in_detail() {
    let mut stack = Stack::start(&json!({}));
    let (root, data) = (stack.root(), stack.dir.path().join("backend"));
    // Both again, and saying more.
    let listen = stack.client.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    stack.kill_service();
    stack.stop_backend();
    let mut serve = Command::new(BACKEND);
    serve.args(["serve", "--listen", &listen, "--data"]).arg(&data).env("OUTRIDER_LOG", "debug");
    stack.backend = Running::start(&mut serve, &stack.dir.path().join("backend.out"));
    let mut service = outrider(&root);
    service.env("OUTRIDER_LOG", "debug").arg("service-run");
    stack.service = Running::start(&mut service, &stack.dir.path().join("service.out"));
    until("the backend to answer", || stack.ask(stack.client.about()).ok());
    let registration = OAuthRegistration {
        token_url: token_server(),
        client_id: "client-1".to_owned(),
        client_secret: None,
        refresh_token: REFRESH[0].to_owned(),
        scopes: Vec::new(),
    };
    let mock = "mock".parse().unwrap();
    stack.ask(stack.client.register_oauth(&stack.agent, &mock, &registration)).unwrap();
    // The second is asked for with the second refresh token.
    let config = json!([{ "name": "mock", "config": { "access_tokens": 2, "repos": 1 } }]);
    let id = stack.order(export(&config));
    stack.until_state(&id, CommandState::Done);
    stack.until_uploaded();
    let browser = Browser::log_in(&stack.login_link());
    let mut said = vec![
        ("the backend printed", stack.backend.printed().into_bytes()),
        ("the service printed", stack.service.printed().into_bytes()),
        ("the log of the command", stack.log(&id).join("\n").into_bytes()),
        ("the command's page", browser.get(&format!("/commands/{id}")).into_bytes()),
        ("the agent's page", browser.get(&format!("/agents/{}", stack.agent)).into_bytes()),
    ];
    said.extend(files(&root).into_iter().map(|file| {
        let bytes = std::fs::read(&file).unwrap_or_default();
        ("a file of the root", unzipped(&file, bytes))
    }));
    for (channel, text) in &said {
        for token in REFRESH {
            assert!(memchr::memmem::find(text, token.as_bytes()).is_none(), "{channel} holds {token}");
        }
    }
    for (program, printed) in &said[..2] {
        assert!(memchr::memmem::find(printed, b"DEBUG").is_some(), "{program} no details");
    }
}
