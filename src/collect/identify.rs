//! What a cgroup is, of its path alone: which container of which runtime, in which pod.
//!
//! Layouts that are known, of the cgroupfs driver and of systemd's:
//!
//! ```text
//! docker/ID                                     system.slice/docker-ID.scope
//! kubepods/burstable/podUID/ID                  kubepods.slice/…/kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope
//! NAMESPACE/ID (containerd)                     …/crio-ID.scope, nerdctl-ID.scope, SLICE:cri-containerd:ID
//! libpod_parent/libpod-ID                       machine.slice/libpod-ID.scope[/container]
//! lxc/NAME, lxc.payload.NAME                    NAME.service, NAME.scope, NAME.slice
//! ```

use std::borrow::Cow;

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container<'p> {
    /// Who runs it, as its cgroup is named.
    pub runtime: &'static str,
    /// Its id, or its name for a runtime that has no ids.
    pub id: &'p str,
    /// The pod of Kubernetes that it belongs to.
    pub pod: Option<Cow<'p, str>>,
}

/// The prefixes of names that hold an id.
const PREFIXES: [(&str, &str); 7] = [
    ("docker-", "docker"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("lxc.payload.", "lxc"),
];

/// The container whose own cgroup this is; none for what is above or below one, and for their helpers (`conmon`).
#[must_use]
pub fn container(path: &str) -> Option<Container<'_>> {
    let (above, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = named(name).or_else(|| nested(above, name))?;
    Some(Container { runtime, id, pod: pod(above) })
}

fn named(name: &str) -> Option<(&'static str, &str)> {
    if let Some((before, id)) = name.rsplit_once(':') {
        let runtime = if before.ends_with(":crio") { "cri-o" } else { "containerd" };
        return is_id(id).then_some((runtime, id));
    }
    let (prefix, runtime) = PREFIXES.into_iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let id = &name[prefix.len()..];
    (runtime == "lxc" || is_id(id)).then_some((runtime, id))
}

/// Names that are an id, in a folder that says of what.
fn nested<'p>(above: &'p str, name: &'p str) -> Option<(&'static str, &'p str)> {
    let parent = above.rsplit('/').next()?;
    match parent {
        "lxc" => Some(("lxc", name)),
        "docker" => Some(("docker", name)).filter(|_| is_id(name)),
        "libpod_parent" => Some(("podman", name)).filter(|_| is_id(name)),
        _ => (name.len() == 64 && is_id(name)).then_some(("containerd", name)),
    }
}

fn pod(above: &str) -> Option<Cow<'_, str>> {
    let parent = above.rsplit('/').next()?;
    if let Some(uid) = parent.strip_prefix("pod") {
        return Some(Cow::Borrowed(uid));
    }
    let slice = parent.strip_suffix(".slice")?;
    let uid = slice.strip_prefix("kubepods")?.rsplit_once("-pod")?.1;
    // systemd reads a dash as 'below', so the driver writes an underscore.
    Some(if uid.contains('_') { Cow::Owned(uid.replace('_', "-")) } else { Cow::Borrowed(uid) })
}

fn is_id(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Whether a cgroup is the container that a person asks for: by its whole id, by the first 12 or more of its characters,
/// or by a name that the runtime gave it.
#[must_use]
pub fn is_asked_for(path: &str, asked: &str) -> bool {
    if let Some(container) = container(path) {
        return container.id == asked || (asked.len() >= 12 && container.id.starts_with(asked));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(".scope").or_else(|| name.strip_suffix(".service")).unwrap_or(name);
    let bare = PREFIXES.into_iter().find_map(|(prefix, _)| name.strip_prefix(prefix)).unwrap_or(name);
    !asked.is_empty() && bare == asked
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn containers_are_found_in_every_layout() {
        let pod = Some("1f2e-33");
        for (path, runtime, pod) in [
            ("/docker/ID", "docker", None),
            ("/system.slice/docker-ID.scope", "docker", None),
            ("/kubepods/burstable/pod1f2e-33/ID", "containerd", pod),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f2e_33.slice/cri-containerd-ID.scope",
                "containerd",
                pod,
            ),
            ("/kubepods.slice/kubepods-pod1f2e_33.slice/crio-ID.scope", "cri-o", pod),
            ("/system.slice/kubepods-burstable-pod1.slice:cri-containerd:ID", "containerd", None),
            ("/default/ID", "containerd", None),
            ("/machine.slice/libpod-ID.scope", "podman", None),
            ("/libpod_parent/libpod-ID", "podman", None),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", "podman", None),
        ] {
            let path = path.replace("ID", ID);
            let found = container(&path).unwrap_or_else(|| panic!("{path} is no container"));
            assert_eq!((found.runtime, found.id, found.pod.as_deref()), (runtime, ID, pod), "{path}");
            assert!(
                is_asked_for(&path, ID) && is_asked_for(&path, &ID[..12]) && !is_asked_for(&path, &ID[..11])
            );
        }
        assert_eq!(container("/lxc.payload.web").unwrap().id, "web");
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "/",
            "/docker",
            "/system.slice/ssh.service",
            "/machine.slice/libpod-conmon-ID.scope",
            "/kubepods/burstable/pod1",
        ] {
            assert_eq!(container(&path.replace("ID", ID)), None, "{path}");
        }
        assert!(is_asked_for("/system.slice/ssh.service", "ssh"), "a service by its name");
        assert!(is_asked_for("/docker/c0ffee", "c0ffee"), "a short id as it stands");
        assert!(!is_asked_for("/docker/c0ffee", ""));
    }
}
