//! `release`: makes, signs and renews the repository that agents take their upgrades from. It needs no backend.

use jiff::{SignedDuration, Timestamp};
use outrider_protocol::exit::Exit;
use outrider_releases::{
    About, Expiry, Keys, NewRelease, Release as Listed, Repository, RepositoryError, Role, RoleState, Target,
    Thresholds,
};
use serde::Serialize;

use crate::args::{
    AddRelease, InitReleases, Keygen, RefreshReleases, Release, ReleaseRepo, RotateRoot, Signing,
};
use crate::output::{Column, bytes, json, line, note, table};
use crate::report::Error;

pub(crate) fn run(command: Release) -> Result<Exit, Error> {
    match command {
        Release::Keygen(flags) => keygen(&flags),
        Release::Init(flags) => init(&flags),
        Release::Add(flags) => add(flags),
        Release::List { repo, json } => list(&repo, json),
        Release::Refresh(flags) => refresh(&flags),
        Release::RotateRoot(flags) => rotate_root(&flags),
        Release::ExportRoot { repo, out } => {
            let root = Repository::open(&repo.repo, Expiry::default())?.root()?;
            match out {
                Some(path) => std::fs::write(&path, root)
                    .map_err(|err| Error::failed(format!("write {}: {err}", path.display())))?,
                None => line(String::from_utf8_lossy(&root).trim_end()),
            }
            Ok(Exit::Ok)
        }
    }
}

impl From<RepositoryError> for Error {
    fn from(err: RepositoryError) -> Self {
        Self::failure(&err)
    }
}

fn keygen(flags: &Keygen) -> Result<Exit, Error> {
    let roles = if flags.role.is_empty() { Role::ALL.to_vec() } else { flags.role.clone() };
    for role in roles {
        let count = match role {
            Role::Root => flags.root_keys,
            Role::Targets => flags.targets_keys,
            Role::Snapshot | Role::Timestamp => 1,
        };
        for path in Keys::generate(&flags.folder, role, count).map_err(|err| Error::failure(&err))? {
            line(&path.display().to_string());
        }
    }
    note(
        "keep the keys of root and targets off the network, and copies of them: a lost majority of root keys ends the repository",
    );
    Ok(Exit::Ok)
}

fn init(flags: &InitReleases) -> Result<Exit, Error> {
    let thresholds = Thresholds { root: flags.root_threshold, targets: flags.targets_threshold };
    let signing = &flags.signing;
    let repo = &signing.repo.repo;
    let repository = Repository::init(repo, &keys(signing), thresholds, expiry(signing)?, Timestamp::now())?;
    line(&roles(&repository.roles()));
    Ok(Exit::Ok)
}

/// A file that was added.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    length: u64,
    sha256: &'a str,
    #[serde(flatten)]
    about: &'a About,
}

impl<'a> Shown<'a> {
    fn of(target: &'a Target, about: &'a About) -> Self {
        Self { name: &target.name, length: target.length, sha256: &target.sha256, about }
    }
}

fn add(flags: AddRelease) -> Result<Exit, Error> {
    let new = flags.files.into_iter().map(|archive| NewRelease {
        archive,
        channel: flags.channel.clone(),
        hash: flags.build.clone(),
        floor: flags.floor,
    });
    let new: Vec<NewRelease> = new.collect();
    let mut repository = open(&flags.signing)?;
    let added = repository.add(&new, &keys(&flags.signing), Timestamp::now())?;
    if flags.json {
        return json(&added.iter().map(|it| Shown::of(&it.target, &it.about)).collect::<Vec<_>>());
    }
    for it in &added {
        line(&format!(
            "{} is added: {}, SHA-256 {}",
            it.target.name,
            bytes(it.target.length),
            it.target.sha256
        ));
    }
    Ok(Exit::Ok)
}

/// A role, and until when it holds.
#[derive(Serialize)]
struct ShownRole<'a> {
    role: &'static str,
    version: u64,
    expires: Timestamp,
    threshold: u64,
    keys: &'a [String],
}

impl<'a> ShownRole<'a> {
    fn of(state: &'a RoleState) -> Self {
        let RoleState { role, version, expires, threshold, ref keys } = *state;
        Self { role: role.as_str(), version, expires, threshold, keys }
    }
}

fn list(repo: &ReleaseRepo, as_json: bool) -> Result<Exit, Error> {
    #[derive(Serialize)]
    struct All<'a> {
        releases: Vec<Shown<'a>>,
        roles: Vec<ShownRole<'a>>,
    }
    let repository = Repository::open(&repo.repo, Expiry::default())?;
    let (releases, states) = (repository.releases(), repository.roles());
    if as_json {
        let archives =
            releases.iter().flat_map(|it| it.archives.iter().map(|a| Shown::of(&a.target, &it.about)));
        return json(&All {
            releases: archives.collect(),
            roles: states.iter().map(ShownRole::of).collect(),
        });
    }
    if releases.is_empty() {
        line("no releases yet: `outrider-backend release add FILE…`");
    } else {
        let columns = [
            Column::Text("version"),
            Column::Text("os"),
            Column::Text("arch"),
            Column::Text("channel"),
            Column::Text("archive"),
            Column::Number("size"),
            Column::Text("hash"),
            Column::Text("floor"),
        ];
        line(&table(&columns, releases.iter().rev().flat_map(rows).collect()));
    }
    line("");
    line(&roles(&states));
    Ok(Exit::Ok)
}

fn rows(release: &Listed) -> impl Iterator<Item = Vec<String>> {
    let about = &release.about;
    release.archives.iter().map(move |archive| {
        vec![
            about.version.to_string(),
            about.os.clone(),
            about.arch.clone(),
            about.channel.clone(),
            archive.format.ending().to_owned(),
            bytes(archive.target.length),
            about.hash.chars().take(8).collect(),
            about.floor.map_or_else(|| "–".into(), |floor| floor.to_string()),
        ]
    })
}

fn refresh(flags: &RefreshReleases) -> Result<Exit, Error> {
    let mut repository = open(&flags.signing)?;
    let renewed = repository.refresh(&keys(&flags.signing), flags.targets, Timestamp::now())?;
    shown(&repository, flags.json, || {
        let names: Vec<&str> = renewed.roles.iter().map(|role| role.as_str()).collect();
        format!("signed anew: {}", names.join(", "))
    })
}

fn rotate_root(flags: &RotateRoot) -> Result<Exit, Error> {
    let mut repository = open(&flags.signing)?;
    let new = (!flags.new_keys.is_empty()).then(|| Keys::in_folders(&flags.new_keys));
    let rotation = repository.rotate_root(
        &keys(&flags.signing),
        new.as_ref(),
        flags.root_threshold,
        Timestamp::now(),
    )?;
    shown(&repository, flags.json, || {
        let names: Vec<&str> = rotation.changed.iter().map(|role| role.as_str()).collect();
        let changed = if names.is_empty() {
            "the same keys".into()
        } else {
            format!("new keys of {}", names.join(", "))
        };
        format!("root {} is signed, with {changed}", rotation.version)
    })
}

fn shown(repository: &Repository, as_json: bool, text: impl FnOnce() -> String) -> Result<Exit, Error> {
    let states = repository.roles();
    if as_json {
        return json(&states.iter().map(ShownRole::of).collect::<Vec<_>>());
    }
    line(&text());
    line(&roles(&states));
    Ok(Exit::Ok)
}

/// A table of roles; those that end soon say so.
fn roles(states: &[RoleState]) -> String {
    let columns = [
        Column::Text("role"),
        Column::Number("version"),
        Column::Text("expires"),
        Column::Number("days left"),
        Column::Text("keys"),
    ];
    let row = |state: &RoleState| {
        let left = state.expires.duration_since(Timestamp::now());
        let ids: Vec<String> = state.keys.iter().map(|id| id.chars().take(8).collect()).collect();
        vec![
            state.role.to_string(),
            state.version.to_string(),
            state.expires.to_string(),
            if left.is_positive() { (left.as_hours() / 24).to_string() } else { "expired".into() },
            format!("{} of {}", state.threshold, ids.join(" ")),
        ]
    };
    table(&columns, states.iter().map(row).collect())
}

fn keys(signing: &Signing) -> Keys {
    Keys::in_folders(&signing.keys)
}

fn open(signing: &Signing) -> Result<Repository, Error> {
    Ok(Repository::open(&signing.repo.repo, expiry(signing)?)?)
}

fn expiry(signing: &Signing) -> Result<Expiry, Error> {
    let of = |time: std::time::Duration| {
        SignedDuration::try_from(time)
            .map_err(|_| Error::usage("an expiry is too long to be written as a time"))
    };
    Ok(Expiry {
        root: of(signing.root_expires)?,
        targets: of(signing.targets_expires)?,
        snapshot: of(signing.snapshot_expires)?,
        timestamp: of(signing.timestamp_expires)?,
    })
}
