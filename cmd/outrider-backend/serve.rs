//! `serve`: runs a backend until Ctrl-C or SIGTERM.

use std::io::Write as _;
use std::net::SocketAddr;

use outrider_backend::{Backend, DataError, DataFolder, Settings, StartError, Tls, start};
use outrider_protocol::exit::Exit;
use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::args::Serve;
use crate::output::{line, note};
use crate::report::Error;

pub(crate) async fn run(data: DataFolder, flags: Serve) -> Result<Exit, Error> {
    log_to(flags.log, std::io::stderr);
    let mut settings = Settings::new(data.path().to_owned(), flags.listen);
    settings.tls = flags.tls_cert.clone().zip(flags.tls_key.clone()).map(|(cert, key)| Tls { cert, key });
    settings.releases.clone_from(&flags.releases);
    let tls = settings.tls.is_some();
    let stop = stop_signal().map_err(|err| Error::failure(&err))?;
    let backend = start(settings).await.map_err(|err| Error::of(exit_of(&err), &err))?;
    announce(&backend, &flags, tls).await?;
    backend.run_until(stop).await.map_err(|err| Error::failure(&err))?;
    Ok(Exit::Ok)
}

fn exit_of(err: &StartError) -> Exit {
    match err {
        StartError::Data(DataError::InUse { .. }) => Exit::RootInUse,
        _ => Exit::Failure,
    }
}

/// Says where the backend is.
async fn announce(backend: &Backend, flags: &Serve, tls: bool) -> Result<(), Error> {
    let url = backend.url();
    let login = backend.login_link().await;
    let data = backend.data();
    let ready = json!({
        "url": url,
        "pid": std::process::id(),
        "login": login,
        "data": data.path(),
        "admin_token_file": data.admin_token_file(),
    })
    .to_string();
    if let Some(path) = &flags.ready_file {
        write_ready(path, &ready)?;
    }
    if flags.json {
        line(&ready);
        return Ok(());
    }
    line(&format!("outrider-backend {} listens at {url}", env!("CARGO_PKG_VERSION")));
    line(&format!("  data    {}", data.path().display()));
    if let Some(login) = login {
        line(&format!("  page    {login}"));
        line("          (logs one browser in, once; `outrider-backend login` makes another link)");
    }
    line("  enroll  `outrider-backend code create` makes a code for an agent");
    if !tls && !is_loopback(backend.address()) {
        note("outrider-backend: without TLS, tokens and data can be read on the way; see --tls-cert");
    }
    Ok(())
}

/// The file appears whole: whoever waits for it never reads a half. It holds a login link, so it is this user's alone.
fn write_ready(path: &std::path::Path, ready: &str) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let next = std::path::PathBuf::from(name);
    // One that a run before left behind keeps its mode.
    drop(std::fs::remove_file(&next));
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&next)
        .and_then(|mut file| file.write_all(format!("{ready}\n").as_bytes()))
        .and_then(|()| std::fs::rename(&next, path))
        .map_err(|err| Error::failed(format!("--ready-file {}: {err}", path.display())))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().is_loopback()
}

/// The time of a log line, as in all logs of Outrider.
#[derive(Debug, Clone, Copy)]
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{:.3}", jiff::Timestamp::now())
    }
}

/// Sends this program's log to a writer, from now on.
pub(crate) fn log_to<W>(level: LevelFilter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(false)
        .with_timer(Utc)
        .with_target(false)
        .finish();
    // It fails only if there is one already, and then that one is as good.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Over when somebody wants the program to end.
#[cfg(unix)]
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Over when somebody wants the program to end.
#[cfg(not(unix))]
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler there is nothing to wait for: the system ends the program itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_ready_file_with_its_login_link_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        // What others could read before is not what they can read now.
        for name in ["ready.json", "ready.json.new"] {
            std::fs::write(dir.path().join(name), "old").unwrap();
        }
        super::write_ready(&path, "{}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
