//! Where the hierarchies are mounted, and where a process is in them: `/proc/PID/mountinfo`, `/proc/PID/cgroup`.

use std::borrow::Cow;

use super::{Fault, lines};

/// A mount of a cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'t> {
    /// Which of the hierarchy's cgroups is seen at the mount point; `/` unless a container has its own view.
    pub root: Cow<'t, str>,
    /// Where.
    pub point: Cow<'t, str>,
    /// v1's controllers, with `name=systemd` and the like; none for the unified hierarchy.
    pub options: Option<&'t str>,
}

/// The mounts of type `cgroup` and `cgroup2` in a mountinfo; all others are passed.
///
/// # Errors
/// In each line that has not the fields of a mount.
pub fn mounts(text: &str) -> impl Iterator<Item = Result<Mount<'_>, Fault>> {
    lines(text).filter_map(|line| match line {
        Ok((at, line)) => match mount(line) {
            Some(mount) => mount.map(Ok),
            None => Some(Err(Fault::line(at, "the fields of a mount", line))),
        },
        Err(fault) => Some(Err(fault)),
    })
}

#[expect(clippy::option_option, reason = "of no form, of another type")]
fn mount(line: &str) -> Option<Option<Mount<'_>>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let kind = after.next()?;
    let options = match kind {
        "cgroup2" => None,
        "cgroup" => Some(after.nth(1)?),
        _ => return Some(None),
    };
    Some(Some(Mount { root: unescaped(root), point: unescaped(point), options }))
}

/// The kernel writes a space, tab, line end and backslash of a path as three octal digits.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|it| u8::from_str_radix(it, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Where a process is in one hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership<'t> {
    /// v1's controllers; empty for the unified hierarchy.
    pub controllers: &'t str,
    /// The cgroup.
    pub path: &'t str,
}

/// The lines of `/proc/PID/cgroup`.
///
/// # Errors
/// In each line of another form.
pub fn memberships(text: &str) -> impl Iterator<Item = Result<Membership<'_>, Fault>> {
    lines(text).map(|line| {
        let (at, line) = line?;
        let fields = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'));
        match fields {
            Some((controllers, path)) => Ok(Membership { controllers, path }),
            None => Err(Fault::line(at, "a number, controllers and a path", line)),
        }
    })
}
