//! What a panic of an action's own process says: without the secrets that the action knows.
//!
//! The service looks for secrets in what an action writes to stderr as well. But what it has is the order, in which they may
//! be encrypted: what they are once they were decrypted, only the action knows.
//!
//! **Invariant:** what cannot be redacted is withheld.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;

use crate::context::Context;

/// From now on each panic of this process is told without the secrets of the context, also of those that it comes to know
/// later.
pub(crate) fn redact(context: &Context) {
    let context = context.clone();
    std::panic::set_hook(Box::new(move |info| {
        let told = told(info, |text| context.redact_at_once(text));
        // Where stderr is closed, nobody is left to be told.
        drop(std::io::stderr().write_all(told.as_bytes()));
    }));
}

/// The panic in the words in which Rust tells it, by which it is known for one.
fn told(info: &PanicHookInfo<'_>, redact: impl Fn(&str) -> Option<String>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let text = redact(info.payload_as_str().unwrap_or("(no text)"));
    let text = text.as_deref().unwrap_or("(its text is withheld: it could not be searched for secrets)");
    let backtrace = Backtrace::capture();
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("stack backtrace:\n{backtrace}"),
        _ => String::new(),
    };
    format!("\nthread '{name}' panicked at {place}:\n{text}\n{trace}")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::sync::{Arc, Mutex};

    use outrider_home::{Root, keys};
    use outrider_protocol::action::{AgentConfig, ExportOrder, IntegrationConfig, Order};
    use outrider_protocol::ids::ExportId;
    use outrider_supervisor::{Cause, Environment, Language, Spawn};

    use super::*;
    use crate::context::Run;
    use crate::{Cancel, Outlet};

    /// Says to this test that it is the process that panics, and in which root.
    const PANICS_IN: &str = "OUTRIDER_TEST_PANICS_IN";
    const SECRET: &str = "t0ken-of-the-source";

    /// An action with an integration of which the service has only ciphertext.
    fn prepared(root: Root) -> Context {
        let plain = r#"{"name":"mock","config":{"token":"t0ken-of-the-source","repos":1}}"#;
        let plain: IntegrationConfig = serde_json::from_str(plain).unwrap();
        let sealed = keys::seal(&root, &plain, &["/token".to_owned()]).unwrap();
        assert!(!serde_json::to_string(&sealed).unwrap().contains(SECRET));
        let (agent, integrations) = (AgentConfig::default(), vec![sealed]);
        let mut order = Order::Export(ExportOrder { agent, integrations, reprocess_historical: false });
        let outlet = Outlet::Hand(Arc::new(Mutex::new(std::io::sink())));
        let programs = root.path().to_owned();
        let run = Run { id: ExportId::new("e1").unwrap(), programs, outlet, cancel: Cancel::default() };
        Context::prepare(root, run, &mut order).unwrap()
    }

    #[tokio::test]
    async fn a_panic_that_quotes_what_was_decrypted_is_told_without_it() {
        if let Some(root) = std::env::var_os(PANICS_IN) {
            let context = prepared(Root::at(root));
            context.learn_secret("an-access-t0ken");
            panic!("no luck with {SECRET}\nand an-access-t0ken");
        }
        let root = tempfile::tempdir().unwrap();
        Root::at(root.path()).create().unwrap();
        let name = "panics::tests::a_panic_that_quotes_what_was_decrypted_is_told_without_it";
        let env = Environment::default().set(PANICS_IN, root.path());
        let this = std::env::current_exe().unwrap();
        let mut child = Spawn::new(this).args([name, "--exact", "--nocapture"]).env(env).start().unwrap();
        // What runs the test writes of it to stdout.
        let mut stdout = child.take_stdout().unwrap();
        tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await.unwrap();
        let ended = child.wait().await;
        assert_eq!(
            outrider_supervisor::cause(&ended),
            Some(Cause::Panic { language: Language::Rust }),
            "{ended:?}"
        );
        let said = ended.last_stderr.join("\n");
        assert!(said.contains("no luck with ***\nand ***") && !said.contains("t0ken"), "{said}");
        assert!(outrider_supervisor::detail(&ended).ends_with(": no luck with ***"), "{ended:?}");
    }

    #[test]
    fn what_cannot_be_redacted_is_withheld() {
        let root = tempfile::tempdir().unwrap();
        let root = Root::at(root.path());
        root.create().unwrap();
        let context = prepared(root);
        assert_eq!(context.redact_at_once(SECRET).as_deref(), Some("***"));
        let _writing = context.hold_learned();
        assert_eq!(context.redact_at_once(SECRET), None);
    }
}
