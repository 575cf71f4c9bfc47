//! `outrider enroll` and `outrider unenroll`.

use std::ffi::OsString;

use outrider_home::{Config, Identity, LockError, Root};
use outrider_protocol::exit::Exit;
use outrider_service::{EnrollError, EnrollOptions, enroll as enroll_at};
use service_manager::{
    RestartPolicy, ServiceInstallCtx, ServiceLabel, ServiceLevel, ServiceManager, ServiceManagerKind,
    ServiceStartCtx, ServiceStopCtx, ServiceUninstallCtx,
};

use crate::args;
use crate::report::Error;
use crate::say::say;
use crate::service::runtime;
use crate::unit::unit;

/// The service's name in systemd, launchd and Windows.
const LABEL: &str = "outrider";

pub(crate) fn enroll(root: &Root, flags: args::Enroll) -> Result<Exit, Error> {
    let no_service = flags.no_service;
    if let Some(file) = &flags.releases_root {
        crate::install::trust(root, file)?;
    }
    let options = EnrollOptions {
        backend: flags.backend,
        code: flags.code,
        channel: flags.channel,
        ca_file: flags.ca_file,
        allow_http: flags.allow_http,
    };
    let enrolled = runtime()?.block_on(enroll_at(root, options)).map_err(|err| {
        let exit = match &err {
            EnrollError::InUse(_) => Exit::RootInUse,
            err if err.is_usage() => Exit::Usage,
            _ => Exit::Failure,
        };
        let hint = err.hint();
        let error = Error::of(exit, &err);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    let config = &enrolled.config;
    say(format_args!("enrolled as agent {} of {}", config.agent, config.backend));
    say(format_args!("root: {}", root.path().display()));
    if let Some(aside) = &enrolled.set_aside {
        say(format_args!(
            "what this root held of another backend or customer is kept in {}: it is neither uploaded nor gone on with",
            aside.display()
        ));
    }
    if let Some(version) = crate::install::from_package(root)? {
        say(format_args!("installed: {version}"));
    }
    if no_service {
        let launcher = root.path().join(crate::install::LAUNCHER);
        let run = match launcher.exists() {
            true => format!("{} service-run", launcher.display()),
            false => format!("outrider service-run --root {}", root.path().display()),
        };
        say(format_args!("run it with: {run}"));
        return Ok(Exit::Ok);
    }
    install(root)?;
    say(format_args!("it runs now, and starts with the system; logs: {}", root.logs().display()));
    Ok(Exit::Ok)
}

pub(crate) fn unenroll(root: &Root, flags: &args::Unenroll) -> Result<Exit, Error> {
    if !root.config_path().exists() {
        let message = format!(
            "{} is not enrolled: there is no {}",
            root.path().display(),
            root.config_path().display()
        );
        return Err(Error::usage(message));
    }
    uninstall(root)?;
    // Nobody may be writing into the root while it is taken apart.
    let lock = root.lock().map_err(|err| match err {
        LockError::InUse { .. } => Error::of(Exit::RootInUse, &err)
            .hint("a service runs on this root: stop it first (Ctrl-C where it was started by hand)"),
        _ => Error::failure(&err),
    })?;
    let waiting = outrider_service::status(root).spool_files;
    // A configuration that cannot be read has nothing to tell; the enrollment's own note stands.
    if let Ok(config) = Config::load(root)
        && !flags.purge
    {
        Identity::of(&config).remember(root, &lock).map_err(|err| Error::failure(&err))?;
    }
    std::fs::remove_file(root.config_path()).map_err(|err| Error::failure(&err))?;
    say(format_args!("unenrolled: the identity is gone from {}", root.path().display()));
    if flags.purge {
        std::fs::remove_dir_all(root.path()).map_err(|err| Error::failure(&err))?;
        say(format_args!("deleted {} ({waiting} files were not uploaded)", root.path().display()));
    } else if waiting > 0 {
        say(format_args!(
            "{waiting} files that were not uploaded are kept in {}: enroll this root at the same backend for the same \
             customer to upload them; an enrollment for another moves them aside",
            root.spool().display()
        ));
    }
    Ok(Exit::Ok)
}

/// The system's service manager: the whole system's for root, otherwise the user's own.
fn manager() -> Result<Box<dyn ServiceManager>, Error> {
    let mut manager = <dyn ServiceManager>::native().map_err(|err| no_manager(&err))?;
    let available = manager.available().map_err(|err| no_manager(&err))?;
    if !available {
        return Err(no_manager(&std::io::Error::other("it does not answer")));
    }
    if !privileged() {
        manager.set_level(ServiceLevel::User).map_err(|err| no_manager(&err))?;
    }
    Ok(manager)
}

#[cfg(unix)]
fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn privileged() -> bool {
    true
}

fn no_manager(err: &std::io::Error) -> Error {
    Error::usage(format!("find this system's service manager (systemd, launchd, Windows services): {err}"))
        .hint("leave the startup to something else with --no-service, and let it run `outrider service-run`")
}

fn label() -> Result<ServiceLabel, Error> {
    LABEL.parse().map_err(|err: std::io::Error| Error::failure(&err))
}

fn install(root: &Root) -> Result<(), Error> {
    let undone = |error: Error| {
        error.hint(
            "the agent is enrolled: run it with `outrider service-run`; enroll with --no-service on a system like this",
        )
    };
    let manager = manager().map_err(undone)?;
    let launcher = root.path().join(crate::install::LAUNCHER);
    let label = label()?;
    let root_args = ["--root".into(), OsString::from(root.path())];
    // One that was not installed from a package cannot be upgraded, and needs no launcher.
    let (program, args): (_, Vec<OsString>) = if launcher.exists() {
        (launcher, root_args.into_iter().chain(["service-run".into()]).collect())
    } else {
        let program = std::env::current_exe().map_err(|err| Error::failure(&err))?;
        (program, ["service-run".into()].into_iter().chain(root_args).collect())
    };
    let is_systemd = matches!(ServiceManagerKind::native(), Ok(ServiceManagerKind::Systemd));
    let contents = is_systemd.then(|| unit(&program, &args, root.path(), privileged()));
    let ctx = ServiceInstallCtx {
        label: label.clone(),
        program,
        args,
        contents,
        username: None,
        working_directory: Some(root.path().to_owned()),
        environment: None,
        autostart: true,
        restart_policy: RestartPolicy::Always { delay_secs: Some(1) },
    };
    let started = manager.install(ctx).and_then(|()| manager.start(ServiceStartCtx { label: label.clone() }));
    started.map_err(|err| {
        // What was installed by half would start at the next boot, or stand in the way of the next try.
        drop(manager.uninstall(ServiceUninstallCtx { label }));
        undone(Error::failed(format!("put the agent on the system's startup: {err}")))
    })?;
    std::fs::write(root.startup_path(), format!("{LABEL}\n")).map_err(|err| Error::failure(&err))
}

/// Takes the service off the startup, if this root was put there.
fn uninstall(root: &Root) -> Result<(), Error> {
    if !root.startup_path().exists() {
        return Ok(());
    }
    let manager = manager()?;
    // Stopping a service that does not run is an error of no interest.
    drop(manager.stop(ServiceStopCtx { label: label()? }));
    manager.uninstall(ServiceUninstallCtx { label: label()? }).map_err(|err| {
        Error::failed(format!("take the agent off the system's startup: {err}"))
            .hint(format!("the root {} was left as it is", root.path().display()))
    })?;
    std::fs::remove_file(root.startup_path()).map_err(|err| Error::failure(&err))
}
