//! Who an image's `USER` is: names are looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::{fs::File, io::Read, path::Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{ContainerError, layout::at};

/// A container's user, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Groups besides the first.
    pub(super) groups: Vec<u32>,
    pub(super) home: Option<String>,
}

/// Resolves `user[:group]` (names or numbers; empty is root), as the OCI image configuration's `User` says.
///
/// # Errors
/// [`ContainerError::Start`] if the image does not know the name.
pub(super) fn resolve(rootfs: &Path, text: &str) -> Result<User, ContainerError> {
    let root = File::open(rootfs).map_err(at(rootfs))?;
    resolve_in(text, &read(&root, "etc/passwd"), &read(&root, "etc/group"))
}

/// A file of the image. Links in it cannot lead out of it; what is not there is empty.
fn read(root: &File, path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    ) {
        // An image may hold anything under this name; a device or a gigabyte is no list of users.
        let file = File::from(file);
        if file.metadata().is_ok_and(|meta| meta.is_file()) {
            let _ = file.take(4 << 20).read_to_end(&mut text);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn resolve_in(text: &str, passwd: &str, group: &str) -> Result<User, ContainerError> {
    let unknown = |kind: &str, name: &str| ContainerError::Start {
        reason: format!("the image has no {kind} `{name}`"),
    };
    let (name, wanted_group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    // name:password:uid:gid:comment:home:shell
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 6 && (fields[0] == name || (number.is_some() && fields[2].parse().ok() == number))
    });
    let uid = match &entry {
        Some(fields) => fields[2].parse().map_err(|_| unknown("user", name))?,
        None => number.ok_or_else(|| unknown("user", name))?,
    };
    let mut user = User {
        uid,
        gid: entry.as_ref().and_then(|fields| fields[3].parse().ok()).unwrap_or(0),
        groups: Vec::new(),
        home: entry.as_ref().map(|fields| fields[5].to_owned()).filter(|home| !home.is_empty()),
    };
    // name:password:gid:members
    let groups =
        || group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4);
    if let Some(wanted) = wanted_group.filter(|wanted| !wanted.is_empty()) {
        let named = groups().find(|fields| fields[0] == wanted).and_then(|fields| fields[2].parse().ok());
        user.gid = named.or_else(|| wanted.parse().ok()).ok_or_else(|| unknown("group", wanted))?;
    } else if let Some(fields) = &entry {
        // As login does it, and only where the image did not choose the group.
        let member = |members: &str| members.split(',').any(|one| one == fields[0]);
        user.groups =
            groups().filter(|group| member(group[3])).filter_map(|group| group[2].parse().ok()).collect();
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app,root\napp:x:1001:\nvideo:x:44:app\n";

    fn resolved(text: &str) -> Result<User, String> {
        resolve_in(text, PASSWD, GROUP).map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups() {
        let app = User { uid: 1000, gid: 1001, groups: vec![50, 44], home: Some("/srv/app".into()) };
        assert_eq!(resolved("app"), Ok(app.clone()));
        assert_eq!(resolved("1000"), Ok(app));
    }

    #[test]
    fn a_group_that_is_named_stands_alone() {
        let home = Some("/srv/app".to_owned());
        assert_eq!(resolved("app:staff"), Ok(User { uid: 1000, gid: 50, groups: vec![], home }));
        assert_eq!(resolved("4711:4712"), Ok(User { uid: 4711, gid: 4712, ..User::default() }));
    }

    #[test]
    fn empty_is_root_and_an_unknown_name_is_refused() {
        assert_eq!(resolved("").map(|user| user.uid), Ok(0));
        assert_eq!(resolve_in("", "", "").map(|user| user.uid).ok(), Some(0));
        assert_eq!(
            resolved("nobody"),
            Err("the container could not be started: the image has no user `nobody`".into())
        );
        assert!(resolved("app:nogroup").is_err());
    }
}
